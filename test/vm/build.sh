#!/bin/sh
# Builds the test machine's files into the empty directory $1:
#
#	root.ext4              Debian root with the packages named in $2 and the modules of every kernel
#	kernels/RELEASE/vmlinuz
#	kernels/RELEASE/modules/NN-NAME.ko   what the initramfs loads, in that order
#	packages.list          what was installed, with versions
#
# $3 is an APT sources file; it must offer bookworm, and bookworm-backports (or trixie) for the second kernel.
# $4 and following are the suites to take a kernel from. Runs as root; called by `go run ./test/vm`.
#
# Kernels are unpacked, not installed: their maintainer scripts want an initramfs and a boot loader, and
# only one version of the linux-image-amd64 meta package could be installed at a time.
set -eu
out=$1 packages=$2 sources=$3
shift 3
root=$out/root

# Drivers that no virtual machine has; they are two thirds of the modules' size.
hardware='sound drivers/gpu drivers/media drivers/infiniband drivers/staging drivers/iio drivers/hid
	drivers/usb drivers/scsi drivers/isdn drivers/input drivers/hwmon drivers/net/ethernet drivers/net/wireless
	drivers/md drivers/ata drivers/bluetooth drivers/mtd drivers/platform drivers/thunderbolt
	fs/btrfs fs/xfs fs/ocfs2 fs/gfs2 fs/f2fs fs/bcachefs fs/ceph fs/smb net/bluetooth net/wireless net/mac80211'

mmdebstrap --quiet --variant=minbase --mode=root --format=directory \
	--aptopt='Acquire::Languages "none"' --aptopt='Acquire::Retries "3"' \
	--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
	--dpkgopt='path-exclude=/usr/share/locale/*' \
	--include="$packages" --skip=cleanup/apt/lists \
	bookworm "$root" - <"$sources"

for suite in "$@"; do
	# The meta package's dependency names the suite's current kernel.
	image=$(chroot "$root" apt-cache show "linux-image-amd64/$suite" |
		sed -n 's/^Depends: *\(linux-image-[^ ,]*\).*/\1/p' | head -n 1)
	[ -n "$image" ] || { echo "build.sh: suite $suite offers no linux-image-amd64" >&2; exit 1; }
	release=${image#linux-image-}
	mkdir "$root/k"
	chroot "$root" sh -c "cd /k && apt-get -qq -o APT::Sandbox::User=root download $image/$suite"
	dpkg -x "$root"/k/*.deb "$out/k"
	rm -r "$root/k"
	for d in $hardware; do
		rm -rf "$out/k/lib/modules/$release/kernel/$d"
	done
	mkdir -p "$root/lib/modules" "$out/kernels/$release/modules"
	mv "$out/k/lib/modules/$release" "$root/lib/modules/"
	mv "$out/k/boot/vmlinuz-$release" "$out/kernels/$release/vmlinuz"
	rm -r "$out/k"
	chroot "$root" depmod "$release"
	# crc32c is what ext4 asks the crypto API for by name; modprobe does not list it as a dependency.
	n=10
	for m in virtio_pci virtio_blk crc32c_generic ext4 overlay; do
		for f in $(chroot "$root" modprobe -S "$release" --show-depends "$m" 2>/dev/null | sed -n 's/^insmod *\([^ ]*\).*/\1/p'); do
			b=$(basename "$f" .xz)
			[ -z "$(find "$out/kernels/$release/modules" -name "*-$b")" ] || continue
			case $f in
			*.xz) xz -dc "$root$f" ;;
			*) cat "$root$f" ;;
			esac >"$out/kernels/$release/modules/$n-$b"
			n=$((n + 1))
		done
	done
done

chroot "$root" dpkg-query -W >"$out/packages.list"
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*
# No daemon of a package starts by itself here: the init of the test machine runs one command and nothing else.
mke2fs -q -t ext4 -d "$root" -m 0 -O ^has_journal,^metadata_csum -E lazy_itable_init=1 "$out/root.ext4" 3g
rm -r "$root"
