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
# The control socket: one frame in, one frame out.
perl -MSocket -e '
    unlink $ARGV[0];
    socket(S, AF_UNIX, SOCK_STREAM, 0) && bind(S, sockaddr_un($ARGV[0])) && listen(S, 5) or die $!;
    while (accept(C, S)) {
        sysread(C, $head, 4) == 4 && sysread(C, $body, unpack("V", $head)) or next;
        open(E, ">>", "/out/events"); print E "core hears $body\n"; close(E);
        sleep 1 while -e "/out/stubborn";
        $answer = q({"response":"done","value":null});
        syswrite(C, pack("V", length $answer) . $answer);
    }' /run/lazarette/core.sock &
until [ -S /run/lazarette/core.sock ]; do sleep 0.02; done
perl -MSocket -e 'socket(S, AF_UNIX, SOCK_DGRAM, 0); send(S, "READY=1", 0, sockaddr_un($ENV{NOTIFY_SOCKET}))'
while :; do sleep 0.05; done
