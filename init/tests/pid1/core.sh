#!/bin/sh
# In place of laz-core: makes and pins a view, says ready, notes what happens to it.
note() { echo "core $*" >> /out/events; }
trap '[ -e /out/stubborn ] && note ignores || { note ends; exit 0; }' TERM
note "starts $$ $(readlink /proc/self/ns/mnt) $*"
view=/run/lazarette/view
if [ ! -e /out/no-view ] && [ ! -e $view/mnt ]; then
    mkdir -p $view
    mount -t tmpfs view $view
    mount --make-private $view
    touch $view/mnt
    # Since Linux 6.18 a namespace can be pinned only in one with a lower number, and each CPU
    # gives numbers from a range of its own: it works on one of them at least.
    cpu=0
    until taskset -c $cpu unshare --mount=$view/mnt --propagation private true; do
        cpu=$((cpu + 1))
        [ $cpu -lt "$(nproc)" ] || break
    done
fi
perl -MSocket -e 'socket(S, AF_UNIX, SOCK_DGRAM, 0); send(S, "READY=1", 0, sockaddr_un($ENV{NOTIFY_SOCKET}))'
while :; do sleep 0.05; done
