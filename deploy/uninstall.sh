#!/bin/sh
# Removes what install.sh installed: ./deploy/uninstall.sh [--purge]
#
# Configuration and state stay unless --purge is given. DESTDIR as for install.sh.
set -eu

root=${DESTDIR:-}
purge=${1:-}

if [ -z "$root" ] && [ -d /run/systemd/system ]; then
	# Ends all sessions politely and waits for it.
	systemctl disable --now vrgate.service 2>/dev/null || true
fi
rm -f "$root/usr/sbin/vrgate" \
	"$root/lib/systemd/system/vrgate.service" \
	"$root/usr/lib/modules-load.d/vrgate.conf" \
	"$root/usr/lib/sysctl.d/60-vrgate.conf" \
	"$root/usr/share/bash-completion/completions/vrgate"
rm -rf "$root/usr/share/vrgate" "$root/usr/share/doc/vrgate"
if [ "$purge" = --purge ]; then
	rm -rf "$root/etc/vrgate" "$root/var/lib/vrgate"
else
	rmdir "$root/etc/vrgate/vr" "$root/etc/vrgate" 2>/dev/null || true
fi
if [ -z "$root" ] && [ -d /run/systemd/system ]; then
	systemctl daemon-reload
fi
