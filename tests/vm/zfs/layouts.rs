//! Layouts and classes of devices, what is done to pools of them, and spares.

use anyhow::Result;

use super::sh;
use crate::guest::Guest;

/// Helpers of these scripts.
const LAYOUTS: &str = r#"
# loops FROM TO: the loop devices of these numbers, as a list.
loops() { sed -n "$1,$2p" /tmp/loops | paste -sd, -; }
in_pool() { system-docker exec "laz-context-$1" "${@:2}"; }
# row POOL DEVICE WORD: the pool's status has a row for the device with that word.
row() {
    laz pool status "$1" > /tmp/row
    grep -e "$2" /tmp/row | has -w -e "$3"
}
# leaf POOL NUMBER: the pool's device of that number, as zpool names it.
leaf() { in_pool "$1" zpool status -P "$1" | awk '$1 ~ "^/dev/loop"  {print $1}' | sed -n "$2p"; }
# status POOL: as the plugin asks for it.
status() { in_pool "$1" zpool status -j --json-int -P -- "$1"; }
# importable: all pools on the loop devices.
importable() { tools zpool import $(lsblk -lnpo NAME $(cat /tmp/loops) | sed 's/^/-d /'); }
activity() {
    laz status --json | tr -d ' \n' > /tmp/activity
    grep -q -e "$1" /tmp/activity
}
"#;

fn step(guest: &Guest, what: &str, script: &str) -> Result<()> {
    sh(guest, what, &format!("{LAYOUTS}\n{script}")).map(drop)
}

pub(super) fn zfs_layouts_and_classes_of_devices_are_made_and_kept(guest: &Guest) -> Result<()> {
    step(
        guest,
        "raidz1 with log, cache, special and spare; raidz2, raidz3, draid",
        r#"
        modprobe loop
        for number in $(seq 25); do
            truncate -s 128M "/var/tmp/loop$number"
            losetup --partscan --find --show "/var/tmp/loop$number" >> /tmp/loops
        done
        configure \
            "z1: {kind: zfs, pool: z1, create: {layout: raidz1, devices: [$(loops 1 3)], log: [$(loops 4 4)], cache: [$(loops 5 5)], special: [$(loops 6 7)], spares: [$(loops 8 8)], ashift: 12, properties: {comment: made}, dataset_properties: {atime: \"off\"}}}" \
            "z2: {kind: zfs, pool: z2, create: {layout: raidz2, devices: [$(loops 9 12)]}}" \
            "z3: {kind: zfs, pool: z3, create: {layout: raidz3, devices: [$(loops 13 17)]}}" \
            "dr: {kind: zfs, pool: dr, create: {layout: \"draid1:2d:5c:1s\", devices: [$(loops 18 22)]}}"
        for pool in z1 z2 z3 dr; do
            up $pool
        done
        row z1 raidz1-0 data || fail "$(laz pool status z1)"
        row z1 mirror- special || fail "$(laz pool status z1)"
        for class in logs l2cache spares; do
            row z1 /dev/loop $class || fail "no $class: $(laz pool status z1)"
        done
        same "12 made" "$(in_pool z1 zpool get -H -o value ashift,comment z1 | xargs)" "the pool's properties"
        same off "$(in_pool z1 zfs get -H -o value atime z1)" "the datasets' properties"
        row z2 raidz2-0 ONLINE
        row z3 raidz3-0 ONLINE
        row dr draid1:2d:5c:1s-0 ONLINE
        row dr draid1-0-0 AVAIL
        record classes.json status z1
        "#,
    )?;
    step(
        guest,
        "added to, trimmed, a device taken out and in again; scrubs pause, go on and stop",
        r#"
        laz pool add --yes z1 layout=raidz1 devices=$(loops 23 25) > /dev/null
        same 2 "$(laz pool status z1 | grep -c 'raidz1-')" "groups after adding one"
        laz pool trim z1 > /dev/null
        one=$(leaf z2 1)
        laz pool offline --yes z2 device="$one" > /dev/null
        until_ok 120 shows '^z2 .* degraded'
        laz pool online z2 device="$one" > /dev/null
        up z2
        # What the device has missed is copied to it meanwhile; until that has ended nothing is scrubbed.
        in_pool z2 zpool wait -t resilver z2
        # Without this, a scrub of so little has ended before anybody looks.
        echo 1 > /sys/module/zfs/parameters/zfs_scan_suspend_progress
        laz pool scrub z2 > /dev/null
        until_ok 60 activity '"name":"scrub"'
        laz pool scrub z2 pause=true > /dev/null
        until_ok 60 activity '"detail":"paused'
        laz pool scrub z2 > /dev/null
        laz pool scrub z2 stop=true > /dev/null
        until_ok 60 row z2 'scrub CANCELED' z2
        ! laz pool scrub z2 stop=true 2> /tmp/said || fail "stopped what did not run"
        grep -q 'no active scrub' /tmp/said || fail "$(cat /tmp/said)"
        echo 0 > /sys/module/zfs/parameters/zfs_scan_suspend_progress
        "#,
    )?;
    step(
        guest,
        "a draid's own spare stands in for a device that has failed; volumes with all their options",
        r#"
        in_pool dr zpool offline -f dr "$(leaf dr 2)"
        docker volume create -d zfs -o pool=z2 -o quota=20M -o recordsize=16K -o properties='atime=off copies=2' small > /dev/null
        dataset=$(in_pool z2 zfs list -H -o name -r z2/lazarette | tail -n 1)
        same "20971520 16384 off 2" "$(in_pool z2 zfs get -Hp -o value quota,recordsize,atime,copies "$dataset" | xargs)" "the volume's properties"
        ! run small 'dd if=/dev/urandom of=/data/f bs=1M count=30 2> /tmp/e || { cat /tmp/e >&2; false; }' 2> /tmp/said || fail "over its quota"
        grep -qi 'quota\|space' /tmp/said || fail "$(cat /tmp/said)"
        until_ok 240 shows 'context dr: .*the spare draid1-0-0 stands in'
        laz logs dr > /tmp/said
        grep -q 'draid1-0-0 stands in' /tmp/said || fail "$(cat /tmp/said)"
        record draid-spare.json status dr
        docker volume rm small > /dev/null
        "#,
    )?;
    step(
        guest,
        "exported, and found again: whole, without some devices, without too many",
        r#"
        configure
        for pool in z1 z2 z3 dr; do
            until_ok 120 exported $pool
        done
        importable > /tmp/found
        cat /tmp/found
        same 4 "$(grep -c '  pool: ' /tmp/found)" "pools that can be imported"
        # z1 lacks its log, z2 one of its redundant devices, z3 too many.
        for number in 4 9 13 14 15 16; do
            losetup --detach "$(sed -n ${number}p /tmp/loops)"
        done
        importable > /tmp/found
        cat /tmp/found
        grep -A 1 ' id: ' /tmp/found | has 'state: DEGRADED' || fail "$(cat /tmp/found)"
        "#,
    )?;
    Ok(())
}

pub(super) fn zfs_a_spare_stands_in_for_a_lost_disk(guest: &Guest) -> Result<()> {
    step(
        guest,
        "the disk is lost, the spare takes its place, and nothing that is written is lost",
        r#"
        configure "tank: {kind: zfs, pool: tank, create: {layout: mirror, devices: [${disk}1, ${disk}2], spares: [${disk}3]}}"
        up tank
        docker volume create -d zfs -o pool=tank db > /dev/null
        writer user db
        pull 2
        until_ok 300 shows 'context tank: .*virtio-disk2.* is .*the spare .*virtio-disk3.* stands in'
        until_ok 60 row tank virtio-disk3 INUSE
        record spare.json status tank
        "#,
    )?;
    step(
        guest,
        "the lost one replaced, the spare is free again",
        r#"
        lost=$(in_pool tank zpool status -g tank | awk '$2 ~ /UNAVAIL|REMOVED|FAULTED/ {print $1; exit}')
        laz pool replace --yes tank old="$lost" new=${disk}4 > /dev/null
        up tank
        until_ok 120 row tank virtio-disk3 AVAIL
        docker exec user cat /data/user > /tmp/w
        unharmed user /tmp/w
        docker rm -f user > /dev/null
        "#,
    )?;
    step(
        guest,
        "an encrypted zvol with xfs",
        r#"
        mkdir -p /etc/lazarette/secrets/tank
        printf 'correct horse' > /etc/lazarette/secrets/tank/vault
        docker volume create -d zfs -o pool=tank -o type=zvol -o fs=xfs -o size=320M -o encryption=on -o key=vault zx > /dev/null
        run zx 'echo secret > /data/f'
        same xfs "$(run zx 'grep " /data " /proc/mounts' | cut -d' ' -f3)" "the file system"
        dataset=$(in_pool tank zfs list -H -t volume -o name -r tank)
        same "aes-256-gcm available" "$(in_pool tank zfs get -H -o value encryption,keystatus "$dataset" | xargs)" "the encryption"
        same secret "$(run zx 'cat /data/f')" read
        "#,
    )?;
    Ok(())
}
