#!/bin/sh
# Installs vrgate on a Debian server: ./deploy/install.sh BINARY
#
# DESTDIR puts everything below another directory, as packages want it; nothing
# of the running system is touched then. Idempotent; an existing configuration
# stays as it is, and a running daemon is not restarted, because that would end
# its sessions.
set -eu
umask 022

binary=${1:?usage: install.sh BINARY}
root=${DESTDIR:-}
here=$(cd "$(dirname "$0")" && pwd)

install -D -m 0755 "$binary" "$root/usr/sbin/vrgate"
install -D -m 0644 "$here/vrgate.service" "$root/lib/systemd/system/vrgate.service"
install -D -m 0644 "$here/modules-load.conf" "$root/usr/lib/modules-load.d/vrgate.conf"
install -D -m 0644 "$here/sysctl.conf" "$root/usr/lib/sysctl.d/60-vrgate.conf"
install -D -m 0644 "$here/schema/process.schema.json" "$root/usr/share/vrgate/process.schema.json"
install -D -m 0644 "$here/schema/router.schema.json" "$root/usr/share/vrgate/router.schema.json"
install -D -m 0644 "$here/configuration.md" "$root/usr/share/doc/vrgate/configuration.md"
for file in "$here"/examples/*/vrgate.yaml "$here"/examples/*/vr/*.yaml "$here"/examples/*/*.sh; do
	install -D -m 0644 "$file" "$root/usr/share/doc/vrgate/examples/${file#"$here"/examples/}"
done
install -d -m 0755 "$root/usr/share/bash-completion/completions"
"$binary" completion bash >"$root/usr/share/bash-completion/completions/vrgate"
install -d -m 0700 "$root/etc/vrgate" "$root/etc/vrgate/vr"

[ -z "$root" ] || exit 0

if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
	systemctl restart systemd-modules-load.service || echo "install.sh: not all kernel modules are there; see systemctl status systemd-modules-load" >&2
	/lib/systemd/systemd-sysctl 60-vrgate.conf || sysctl -q -p /usr/lib/sysctl.d/60-vrgate.conf
fi
if [ ! -e /etc/vrgate/vrgate.yaml ]; then
	cat <<-END
		vrgate is installed. Next:
		  cp -r /usr/share/doc/vrgate/examples/home-lab/. /etc/vrgate/
		  editor /etc/vrgate/vr/home.yaml && chmod 0600 /etc/vrgate/vr/home.yaml
		  vrgate check
		  systemctl enable --now vrgate
	END
elif [ -d /run/systemd/system ] && systemctl -q is-active vrgate; then
	echo "vrgate is installed; the running daemon is the old one until: systemctl restart vrgate"
fi
