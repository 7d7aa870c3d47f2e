#!/bin/sh
# First process of the test machine: finds the root and goes there. Runs in the initramfs, on busybox.
# Modules are loaded by their numbers, which build.sh gave them in the order of their dependencies.
for m in /modules/*.ko; do
	insmod "$m" || echo "init: cannot load $m"
done
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
i=0
until [ -b /dev/vda ]; do
	i=$((i + 1))
	[ $i -lt 100 ] || { echo "init: no disk"; poweroff -f; }
	sleep 0.1
done
mount -t ext4 -o ro /dev/vda /image || { echo "init: cannot mount the image"; poweroff -f; }
mount -t tmpfs -o size=75% overlay /rw
mkdir /rw/upper /rw/work
mount -t overlay -o lowerdir=/image,upperdir=/rw/upper,workdir=/rw/work root /root
cp /guest.sh /root/guest.sh
mount --move /proc /root/proc
mount --move /sys /root/sys
mount --move /dev /root/dev
exec switch_root /root /bin/sh /guest.sh
