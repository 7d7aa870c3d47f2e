# Second half of the test machine's init, on the Debian root: readies the machine, runs the command that the
# host left in the control folder, hands its exit status back, and switches off.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 TERM=dumb
off() {
	sync
	echo 1 >/proc/sys/kernel/sysrq
	echo o >/proc/sysrq-trigger
	while :; do sleep 1; done
}
echo 1 >/proc/sys/kernel/panic_on_oops
mkdir -p /dev/pts /dev/shm /dev/net
mount -t devpts -o newinstance,ptmxmode=666 devpts /dev/pts
ln -sf pts/ptmx /dev/ptmx
ln -sf /proc/self/fd /dev/fd
ln -sf /proc/self/fd/0 /dev/stdin
ln -sf /proc/self/fd/1 /dev/stdout
ln -sf /proc/self/fd/2 /dev/stderr
mount -t tmpfs shm /dev/shm
mount -t tmpfs run /run
mkdir -p /run/lock /run/netns
mount -t cgroup2 cgroup /sys/fs/cgroup
mount -t debugfs debugfs /sys/kernel/debug
mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null
# The nodes that udev's static list would make: opening them loads the module, as on any Debian system.
[ -e /dev/ppp ] || mknod -m 600 /dev/ppp c 108 0
[ -e /dev/net/tun ] || mknod -m 666 /dev/net/tun c 10 200
hostname vrgate-test
ip link set lo up
modprobe -a 9pnet_virtio 9p virtio_console || off
mkdir /control
mount -t 9p -o trans=virtio,version=9p2000.L,msize=1048576 control /control || { echo "guest: no control folder"; off; }

n=0
while IFS= read -r dir; do
	mkdir -p "$dir"
	mount -t 9p -o trans=virtio,version=9p2000.L,msize=1048576,cache=mmap "share$n" "$dir" || { echo "guest: cannot mount $dir"; off; }
	n=$((n + 1))
done </control/shares

# A port can be opened once only, so what the command and its children write goes through a pipe.
for p in /sys/class/virtio-ports/*; do
	name=$(cat "$p/name")
	[ -n "$name" ] || continue
	mkfifo "/run/$name"
	cat <"/run/$name" >"/dev/${p##*/}" &
	pids="$pids $!"
done
cut -d' ' -f1 /proc/uptime >/control/started.new
mv /control/started.new /control/started
setsid sh /control/command </dev/null >/run/stdout 2>/run/stderr
status=$?
# A daemon that the command left behind may hold the pipes open: then a second is enough for what is in them.
(sleep 1; kill $pids) 2>/dev/null &
wait $pids 2>/dev/null
echo $status >/control/status
off
