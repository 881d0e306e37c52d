//! What is at work dies in the middle of it: core, the plugin host, a command of LVM's.

use anyhow::{Result, ensure};

use super::{TOOLS, step};
use crate::guest::Guest;
use crate::kills::KILLING;

/// What killing needs to know, and what must hold afterwards.
const OURS: &str = r#"
    CONTEXT=fast
    VOLUME=(--kind lvm -o volume_group=fast -o size=32M)
    serves() { shows '^fast .* healthy '; }
    there() { lvm lvs --noheadings -o lv_name fast | has -e "$2"; }
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
            "create tool 'lvm lvcreate' k5 -o type=linear
            create tool 'lvm lvcreate' k6
            snapshot tool 'lvm lvcreate' three
            remove tool 'lvm lvremove' k4",
        ),
    ] {
        let script = format!("{TOOLS}\n{OURS}\n{KILLING}\n{rounds}\nfine");
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
