//! What is at work dies in the middle of it: core, the plugin host, a command of LVM's.

use anyhow::{Result, ensure};

use super::{TOOLS, step};
use crate::guest::Guest;

/// Killing, and what must hold afterwards.
const KILLING: &str = r#"
    # attempt VICTIM DELAY COMMAND…: kills it so many seconds after the command began, or, if it is a
    # command of LVM's, as soon as that is seen. Says whether the command has succeeded all the same.
    attempt() {
        local victim=$1 delay=$2 running
        shift 2
        serving() {
            host=$(system-docker top laz-context-fast -o pid,args | awk '/laz-plugin-host serve/ { print $1 }')
            [ -n "$host" ]
        }
        until_ok 60 serving
        "$@" > /tmp/out 2>&1 &
        running=$!
        case $victim in
            core) sleep "$delay"; kill -9 "$(core_pid)";;
            host) sleep "$delay"; kill -9 "$host";;
            *)
                while kill -0 $running 2> /dev/null; do
                    if pkill -KILL -f "/sbin/[l]vm $victim"; then echo "$victim" >> /tmp/hits; break; fi
                done;;
        esac
        acknowledged=no
        wait $running && acknowledged=yes
        echo "$victim $delay: $* acknowledged: $acknowledged" >&2
        until_ok 60 laz status
        until_ok 150 shows '^fast .* healthy '
    }
    of() { laz volume inspect "$1" | grep -o -E '[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}' | sed -n 1p; }
    # create VICTIM DELAY NAME OPTION…
    create() {
        local name=$3
        local make=(laz volume create --kind lvm -o volume_group=fast -o size=32M "${@:4}" "$name")
        attempt "$1" "$2" "${make[@]}"
        [ $acknowledged = no ] || laz volume inspect "$name" > /dev/null || fail "$name was acknowledged and is not known"
        until_ok 90 "${make[@]}"
    }
    # snapshot VICTIM DELAY SNAPSHOT: of the volume kept, to which somebody writes.
    snapshot() {
        local name=$3
        known() { laz volume snapshots -q kept | grep -x "$name"; }
        attempt "$1" "$2" laz volume snapshot kept "$name"
        [ $acknowledged = no ] || known > /dev/null || fail "the snapshot $name was acknowledged and is not known"
        again() { known || laz volume snapshot kept "$name"; }
        until_ok 90 again
    }
    # remove VICTIM DELAY NAME
    remove() {
        local name=$3 id
        id=$(of "$name")
        attempt "$1" "$2" laz volume rm --yes "$name"
        if [ $acknowledged = yes ]; then
            ! lvm lvs --noheadings -o lv_name fast | grep -e "$id" || fail "$name was removed and is still there"
        fi
        gone() { ! laz volume inspect "$name" || laz volume rm --yes "$name"; }
        until_ok 90 gone
        ! lvm lvs --noheadings -o lv_name fast | grep -e "$id" || fail "$name is still there"
    }
    # What laz knows and what LVM has are the same, and there is nothing else of ours.
    agree() {
        local there one name
        laz volume ls --json > /tmp/known
        there=$(lvm lvs --noheadings -o lv_name,lv_tags fast | grep -e lz || true)
        for one in $(grep -o -E 'lz[a-z]?-[0-9a-f-]{36}' <<< "$there" || true); do
            case $one in
                lz-* | lzs-*) grep -q -e "${one#*-}" /tmp/known || { echo "$one is nobody's" >&2; return 1; };;
                *) echo "$one is left" >&2; return 1;;
            esac
        done
        [ "$(laz volume snapshots -q kept | wc -l)" = "$(grep -c -e lzs- <<< "$there" || true)" ] || { echo "snapshots: $there" >&2; return 1; }
        for name in $(laz volume ls -q | grep -E '^k' || true); do
            grep -e "lz-$(of "$name")" <<< "$there" | has lazarette.ready || { echo "$name is not there" >&2; return 1; }
        done
    }
    # No device is suspended, belongs to nothing, or waits for udev; no node is without a device.
    tidy() {
        local mapped known one
        dm() { system-docker exec laz-context-fast dmsetup "$@"; }
        ! dm info -c --noheadings -o name,suspended | grep -i -e suspended >&2 || return 1
        mapped=$(dm info -c --noheadings -o uuid | sed -n 's/^LVM-.\{32\}\(.\{32\}\).*/\1/p' | sort -u)
        known=$(lvm lvs -a --noheadings -o lv_uuid fast | tr -d ' -')
        for one in $mapped; do grep -q -e "$one" <<< "$known" || { echo "$one is mapped" >&2; return 1; }; done
        for one in $(cd /dev/mapper && ls | grep -e '^fast-' || true); do
            dm info -c --noheadings -o name "$one" > /dev/null || { echo "$one is a node" >&2; return 1; }
        done
        ! dm udevcookies 2> /dev/null | grep -e '^0x' >&2 || return 1
    }
    fine() {
        until_ok 90 agree
        until_ok 90 tidy
        docker exec writing cat /data/writing > /tmp/written
        unharmed writing /tmp/written
    }
"#;

pub(super) fn lvm_a_kill_at_any_moment_leaves_nothing_half_made(guest: &Guest) -> Result<()> {
    step(
        guest,
        "a volume under a writer",
        r#"
        context ", devices: [${by}1, ${by}2], create: true, thin_pool: {name: pool, size: 40%}"
        healthy
        losetup -a > /tmp/loops 2>&1 || true
        make -o type=linear -o size=64M -o snapshot_size=16M kept
        writer writing kept
        "#,
    )?;
    for (what, rounds) in [
        (
            "core",
            "create core 0.3 k1
            create core 1.5 k2 -o type=linear
            snapshot core 0.4 one
            remove core 0.5 k1",
        ),
        (
            "the plugin host",
            "create host 0.4 k3 -o type=linear
            create host 1.2 k4
            snapshot host 0.5 two
            remove host 0.4 k2",
        ),
        (
            "a command of LVM's",
            "create lvcreate 0 k5 -o type=linear
            create lvcreate 0 k6
            snapshot lvcreate 0 three
            remove lvremove 0 k4",
        ),
    ] {
        let script = format!("{TOOLS}\n{KILLING}\n{rounds}\nfine");
        guest.sh(&format!("{what} is killed"), &script)?;
    }
    let hits = guest.sh("how many were", "cat /tmp/hits 2> /dev/null | wc -l")?;
    ensure!(hits.trim() != "0", "no command of LVM's was killed");
    step(
        guest,
        "all that is left works, and goes without a trace",
        r#"
        for volume in k3 k5 k6; do same $volume "$(in_volume $volume "echo $volume > /data/f; cat /data/f")" "what is in it"; done
        docker exec writing cat /data/writing > /tmp/written
        writes() { docker exec writing cat /data/writing > /tmp/now; [ "$(wc -l < /tmp/now)" -gt "$(wc -l < /tmp/written)" ]; }
        until_ok 60 writes
        unharmed writing /tmp/now
        docker rm -f writing > /dev/null
        for volume in k3 k5 k6 kept; do until_ok 60 laz volume rm --yes --snapshots $volume; done
        until_ok 60 no_trace
        same "$(cat /tmp/loops)" "$(losetup -a 2>&1 || true)" "loop devices"
        "#,
    )
}
