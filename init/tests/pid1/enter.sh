#!/bin/sh
# Runs as PID 1 of its own namespaces: makes a small root and becomes laz-init in it.
# Usage: enter.sh ROOT OUT PROGRAM
set -eu
root=$1 out=$2 program=$3
[ $$ = 1 ] || { echo "not PID 1" >&2; exit 1; }

mount --make-rprivate /
mount -t tmpfs root "$root"
cd "$root"
mkdir -p dev proc sys run tmp etc out root old var/lib var/log usr
for name in bin sbin lib lib32 lib64 libx32; do
    if [ -L "/$name" ]; then cp -a "/$name" .
    elif [ -d "/$name" ]; then mkdir "$name"; mount --rbind "/$name" "$name"; fi
done
mount --bind /usr usr
mount -t tmpfs local usr/local
mkdir -p usr/local/sbin usr/local/share
mount -t tmpfs share usr/share
mkdir -p usr/share/lazarette/cloud-config.d
mount --bind "$out" out
cp "$program" usr/local/sbin/laz-init
[ ! -d out/programs ] || cp out/programs/* usr/local/sbin/
[ ! -d out/image ] || cp out/image/* usr/share/lazarette/cloud-config.d/

# A /dev of our own: the kernel's is the host's.
mount -t tmpfs dev dev
for name in null zero full random urandom; do
    touch "dev/$name"; mount --bind "/dev/$name" "dev/$name"
done

# The command line is the test's; mounted over /proc/cmdline, so /proc is there already.
mount -t proc proc proc
mount --bind out/cmdline proc/cmdline

# A cgroup of our own, whose parent hands no controllers down.
mkdir cgroup
mount -t cgroup2 cgroup2 cgroup
name=$(cat out/cgroup)
mkdir -p "cgroup/$name/inner"
echo $$ > "cgroup/$name/inner/cgroup.procs"
umount cgroup

[ ! -f out/before.sh ] || . ./out/before.sh

pivot_root . old
umount -l old
exec chroot . /usr/bin/unshare --cgroup /usr/local/sbin/laz-init
