# Runs a command on the host's kernel: first process of new mount, process, network, host name and IPC
# namespaces. Arguments: a directory of the run's own with the script "command" in it, the image's root, and
# the directories to share. Mounts vanish with the namespace; without -n they would enter the host's mtab.
set -eu
run=$1 image=$2
shift 2
mount --make-rprivate /
mkdir "$run/image" "$run/rw" "$run/root"
mount -n -t ext4 -o loop,ro,noload "$image" "$run/image"
mount -n -t tmpfs -o size=50% rw "$run/rw"
mkdir "$run/rw/upper" "$run/rw/work"
root=$run/root
mount -n -t overlay -o "lowerdir=$run/image,upperdir=$run/rw/upper,workdir=$run/rw/work" root "$root"
for dir in "$@"; do
	mkdir -p "$root$dir"
	mount -n --rbind "$dir" "$root$dir"
done
mount -n -t proc proc "$root/proc"
mount -n -t sysfs sys "$root/sys"
mount -n --rbind /dev "$root/dev"
mount -n -t tmpfs run "$root/run"
mkdir -p "$root/run/lock" "$root/run/netns"
cp "$run/command" "$root/command"
hostname vrgate-test
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 TERM=dumb
chroot "$root" ip link set lo up
# Not exec: this process reaps the orphans of the command, which a Go test does not.
status=0
chroot "$root" sh /command </dev/null || status=$?
exit $status
