#!/bin/sh
# Installs the Debian packages that the test machine and the unit tests (openssl) need on the host; says which, and does nothing when
# they are there. Called by `make deps`, and so by `make test`, `make demo` and `make bench`.
set -eu
# command:package
missing=
for pair in qemu-system-x86_64:qemu-system-x86 mmdebstrap:mmdebstrap mke2fs:e2fsprogs xz:xz-utils gcc:gcc openssl:openssl; do
	command -v "${pair%%:*}" >/dev/null || missing="$missing ${pair#*:}"
done
# The initramfs has no libraries, so a dynamic busybox will not do.
dpkg-query -W -f '${db:Status-Status}' busybox-static 2>/dev/null | grep -q '^installed$' || missing="$missing busybox-static"
dpkg-query -W -f '${db:Status-Status}' libc6-dev 2>/dev/null | grep -q '^installed$' || missing="$missing libc6-dev"
[ -n "$missing" ] || exit 0
echo "deps: installing$missing"
[ "$(id -u)" = 0 ] || { echo "deps: needs root" >&2; exit 1; }
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086 # a list of words
{ apt-get -q update && apt-get -qy install --no-install-recommends $missing; } >"$log" 2>&1 ||
	{ cat "$log" >&2; echo "deps: apt-get failed" >&2; exit 1; }
