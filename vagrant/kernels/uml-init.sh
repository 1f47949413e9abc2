#!/bin/sh
# The first process of a User Mode Linux kernel (uml.sh): makes its own root, the host's file system read-only with changes
# kept in memory, and runs $START in it. $WRITABLE is a list of the host's folders, separated by colons, that stay writable.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb LANG=C.UTF-8
new=/mnt/root
end() {
	[ -z "$*" ] || echo "uml-init.sh: $*"
	busybox poweroff -f
}
mount -t tmpfs -o mode=755 tmpfs /mnt && mkdir /mnt/upper /mnt/work "$new"
mount -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work overlay "$new" || end "no overlay"
mount -t proc proc "$new/proc"
mount -t sysfs sysfs "$new/sys"
mount -t cgroup2 cgroup2 "$new/sys/fs/cgroup"
mount -t securityfs securityfs "$new/sys/kernel/security"
mount -t tracefs tracefs "$new/sys/kernel/tracing"
mount -t devtmpfs devtmpfs "$new/dev" && mkdir -p "$new/dev/pts" "$new/dev/shm"
mount -t devpts devpts "$new/dev/pts"
ln -s /proc/self/fd "$new/dev/fd"
mount -t tmpfs -o mode=1777 tmpfs "$new/dev/shm"
IFS=:
for folder in $WRITABLE; do
	mkdir -p "$new$folder" && mount -t hostfs -o "$folder" none "$new$folder"
done
unset IFS
cd "$new" || end
pivot_root . mnt || end "no pivot_root"
cd /
# not exec: this process must adopt orphans
sh "$START" </dev/null
end
