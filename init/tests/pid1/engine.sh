#!/bin/sh
# In place of dockerd: says ready, notes what happens to it, ends when asked.
me=system
for word; do [ "$word" != unix:///run/docker.sock ] || me=user; done
note() { echo "$me $*" >> /out/events; }
trap '[ -e /out/stubborn ] && note ignores || { note ends; exit 0; }' TERM
note "starts $$ $(readlink /proc/self/ns/mnt) $*"
# An orphan that ends at once, and one that ends later.
(sleep 0.1 & (exit 3) &)
perl -MSocket -e 'socket(S, AF_UNIX, SOCK_DGRAM, 0); send(S, "STATUS=answers\nREADY=1", 0, sockaddr_un($ENV{NOTIFY_SOCKET}))'
while :; do sleep 0.05; done
