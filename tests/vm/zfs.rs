//! ZFS on real disks: pools, datasets, zvols.

mod faults;
mod kills;
mod layouts;
mod pools;

use anyhow::Result;

use crate::guest::Guest;
use crate::{Case, cases};

use faults::{
    case_24_the_zfs_module_is_built_once_and_says_why_if_it_cannot_be,
    zfs_a_pool_waits_for_its_only_disk_and_goes_on,
};
use kills::zfs_a_kill_at_any_moment_leaves_nothing_half_made;
use layouts::{
    zfs_a_spare_stands_in_for_a_lost_disk, zfs_layouts_and_classes_of_devices_are_made_and_kept,
};
use pools::{
    case_20_a_pool_of_another_host_is_refused_and_taken_over_on_request,
    zfs_pools_are_taken_over_and_nothing_on_a_disk_is_lost,
};

pub(crate) const BOOTS: &[Case] = cases![Boots:
    zfs_a_pool_waits_for_its_only_disk_and_goes_on,
];
pub(crate) const RESTORED: &[Case] = cases![Restored:
    zfs_volumes_on_a_mirror_come_work_and_go_without_a_trace,
    zfs_lost_disks_are_told_and_survived,
    zfs_keys_quotas_and_full_pools_are_told_and_survived,
    zfs_pools_are_taken_over_and_nothing_on_a_disk_is_lost,
    zfs_layouts_and_classes_of_devices_are_made_and_kept,
    zfs_a_spare_stands_in_for_a_lost_disk,
    case_20_a_pool_of_another_host_is_refused_and_taken_over_on_request,
    case_24_the_zfs_module_is_built_once_and_says_why_if_it_cannot_be,
    zfs_a_kill_at_any_moment_leaves_nothing_half_made,
];

/// Helpers of these scripts.
const ZFS: &str = r#"
disk=/dev/disk/by-id/virtio-disk
# zpool and zfs as the context tank has them.
in_tank() { system-docker exec laz-context-tank "$@"; }
# configure CONTEXTS: the lab's configuration with these contexts.
configure() {
    echo '#cloud-config' > /tmp/zfs.yml
    if [ $# -gt 0 ]; then
        printf 'lazarette:\n  storage:\n    contexts:\n' >> /tmp/zfs.yml
        printf '      %s\n' "$@" >> /tmp/zfs.yml
    fi
    laz config set /tmp/zfs.yml > /dev/null
}
mirror="tank: {kind: zfs, pool: tank, create: {layout: mirror, devices: [${disk}1, ${disk}2]}}"
# The first import or create loads modules and waits for udev, all on an emulated processor.
up() { until_ok 240 shows "^$1 .* healthy"; }
tank() { configure "$mirror"; up tank; }
# pull NUMBER: the disk is gone, as if pulled out.
pull() {
    local name virtio
    name=$(basename "$(readlink -f "${disk}$1")")
    virtio=$(basename "$(readlink -f "/sys/block/$name/device")")
    echo "$virtio" > "/tmp/pulled$1"
    echo "$virtio" > /sys/bus/virtio/drivers/virtio_blk/unbind
}
# plug NUMBER…: the disks are back, in this order.
plug() {
    local number
    for number in "$@"; do
        cat "/tmp/pulled$number" > /sys/bus/virtio/drivers/virtio_blk/bind
    done
    for number in "$@"; do
        until_ok 60 test -b "${disk}$number"
    done
}
# The tools in a container of their own: what another machine would do.
tools() {
    system-docker run --rm --privileged -v /dev:/dev -v /run/udev:/run/udev \
        --entrypoint "/usr/sbin/$1" lazarette/zfs "${@:2}"
}
imported() { test -e "/proc/spl/kstat/zfs/$1"; }
exported() { ! imported "$1"; }
# record NAME COMMAND…: prints what the command prints, for fixtures.
record() {
    echo "=== $1"
    "${@:2}" || true
    echo "=== end"
}
run() { docker run --rm -v "$1:/data" busybox sh -c "$2"; }
"#;

/// Runs a step. What it prints is what fixtures of our parsers are made of: shown if
/// `LAZARETTE_VERBOSE` is set.
fn sh(guest: &Guest, step: &str, script: &str) -> Result<String> {
    let said = guest.sh(step, &format!("{ZFS}\n{script}"))?;
    if !said.is_empty() && std::env::var_os("LAZARETTE_VERBOSE").is_some() {
        eprintln!("{said}");
    }
    Ok(said)
}

fn zfs_volumes_on_a_mirror_come_work_and_go_without_a_trace(guest: &Guest) -> Result<()> {
    sh(
        guest,
        "a pool is made of blank disks; a volume is a dataset with its options",
        r#"
        tank
        same mirror-0 "$(in_tank zpool status tank | awk '/mirror/ {print $1}')" "the layout"
        docker volume create -d zfs -o pool=tank -o size=100M -o compression=zstd db > /dev/null
        run db 'echo one > /data/f'
        same one "$(run db 'cat /data/f')" read
        dataset=$(in_tank zfs list -H -o name -r tank/lazarette | tail -n 1)
        same "104857600 zstd" "$(in_tank zfs get -Hp -o value refquota,compression "$dataset" | xargs)" properties
        same "$dataset" "tank/lazarette/$(in_tank zfs get -H -o value lazarette:id "$dataset")" "the stamp"
        ! laz volume create --kind zfs -o pool=tank -o size=200M db 2> /tmp/said || fail "other options"
        "#,
    )?;
    sh(
        guest,
        "snapshot, clone of it and of now, rollback",
        r#"
        laz volume snapshot db first > /dev/null
        run db 'echo two > /data/f'
        laz volume clone db@first old > /dev/null
        laz volume clone db now > /dev/null
        same one "$(run old 'cat /data/f')" "the snapshot's clone"
        same two "$(run now 'cat /data/f')" "the clone"
        run old 'echo three > /data/f'
        same two "$(run db 'cat /data/f')" "the source of the clone"
        ! laz volume rollback --yes db first 2> /tmp/said || fail "the clone's snapshot is later"
        # What has grown to its size is cloned only into more.
        run db 'dd if=/dev/urandom of=/data/much bs=1M count=120 2> /dev/null' || true
        ! laz volume clone db full 2> /tmp/said || fail "a clone that holds more than its size"
        grep -q -e '-o size=' /tmp/said || fail "$(cat /tmp/said)"
        laz volume clone -o size=150M db full > /dev/null
        run full 'echo more > /data/f'
        laz volume rm --yes full > /dev/null
        run db 'rm /data/much'
        laz volume rm --yes now > /dev/null
        laz volume rollback --yes db first > /dev/null
        same one "$(run db 'cat /data/f')" "rolled back"
        ! laz volume rm --yes db@first 2> /tmp/said || fail "a snapshot that a clone needs was removed"
        "#,
    )?;
    sh(
        guest,
        "resized in use; a zvol with a file system grows too",
        r#"
        docker run -d --name user -v db:/data busybox sleep 1000 > /dev/null
        laz volume resize db 200M > /dev/null
        same 204800 "$(docker exec user df -kP /data | awk 'END {print $2}')" "the new size"
        docker rm -f user > /dev/null
        docker volume create -d zfs -o pool=tank -o type=zvol -o size=64M zv > /dev/null
        run zv 'echo z > /data/f'
        laz volume resize zv 128M > /dev/null
        [ "$(run zv 'df -kP /data' | awk 'END {print $2}')" -gt 100000 ] || fail "the file system did not grow"
        laz volume snapshot zv s > /dev/null
        laz volume clone zv@s zc > /dev/null
        same z "$(run zc 'cat /data/f')" "the zvol's clone"
        ! laz volume resize zv 64M 2> /tmp/said || fail "a zvol was made smaller"
        grep -q 'cannot be made smaller' /tmp/said || fail "$(cat /tmp/said)"
        "#,
    )?;
    sh(
        guest,
        "send and receive, set, scrub, status",
        r#"
        ! laz volume send db file=x.zfs snapshot=none 2> /tmp/said || fail "a snapshot that is not there"
        grep -q 'it has: first' /tmp/said || fail "$(cat /tmp/said)"
        laz volume send old file=old.zfs > /dev/null
        test -s /var/lib/lazarette/streams/old.zfs
        laz volume create --kind zfs -o pool=tank back > /dev/null
        laz volume receive --yes back file=old.zfs > /dev/null
        same three "$(run back 'cat /data/f')" received
        laz volume send old dataset=tank/kept > /dev/null
        same "-" "$(in_tank zfs get -H -o value lazarette:id tank/kept)" "the sent dataset's stamp"
        in_tank zfs destroy -r tank/kept
        laz volume set back property=atime value=off > /dev/null
        laz pool scrub tank | has 'scrub begun'
        laz pool status tank > /tmp/said
        same "DEVICE CLASS STATE" "$(head -n 1 /tmp/said | awk '{print $1, $2, $3}')" "the first columns"
        has virtio-disk2 < /tmp/said
        finished() { laz pool status tank | has FINISHED; }
        until_ok 30 finished
        "#,
    )?;
    streams_between_pools(guest)?;
    sh(
        guest,
        "removed, nothing is left but the pool",
        r#"
        laz volume rm --yes zc > /dev/null
        laz volume rm --yes --snapshots zv > /dev/null
        laz volume rm --yes back > /dev/null
        laz volume rm --yes old > /dev/null
        laz volume rm --yes --snapshots db > /dev/null
        same "tank tank/lazarette" "$(in_tank zfs list -H -o name -t all -r tank | xargs)" "what is left"
        ! view grep -q ' - zfs ' /proc/thread-self/mountinfo || fail "a mount is left in the view"
        same "" "$(in_tank cat /proc/self/mountinfo | grep ' - zfs ')" "mounts in the container"
        "#,
    )?;
    Ok(())
}

fn streams_between_pools(guest: &Guest) -> Result<()> {
    sh(
        guest,
        "to another pool and from there: raw, only what has changed, and the other way",
        r#"
        backup="backup: {kind: zfs, pool: backup, create: {layout: stripe, devices: [${disk}3]}}"
        configure "$mirror" "$backup"
        up backup
        laz volume send db dataset=backup/db snapshot=first raw=true > /dev/null
        run db 'echo later > /data/f'
        laz volume snapshot db second > /dev/null
        laz volume send db dataset=backup/db snapshot=second from=first > /dev/null
        docker volume create -d zfs -o pool=backup -o dataset=db copy > /dev/null
        same later "$(run copy 'cat /data/f')" "in the other pool"
        run copy 'echo changed > /data/f'
        laz volume receive --yes back from=backup/db > /dev/null
        same changed "$(run back 'cat /data/f')" "from the other pool"
        same "" "$(in_tank zfs list -H -o name -t snapshot | grep lz-send)" "snapshots of a moment"
        docker volume rm copy > /dev/null
        laz volume rm --yes db@second > /dev/null
        configure "$mirror"
        until_ok 120 exported backup
        "#,
    )
    .map(drop)
}

fn zfs_lost_disks_are_told_and_survived(guest: &Guest) -> Result<()> {
    sh(
        guest,
        "one of two: degraded, I/O goes on, replaced",
        r#"
        tank
        docker volume create -d zfs -o pool=tank db > /dev/null
        writer grower db
        pull 2
        until_ok 180 shows '^tank .* degraded'
        laz status | has 'virtio-disk2.* is ' || fail "$(laz status)"
        docker exec grower sh -c 'wc -l < /data/grower' > /tmp/before
        sleep 2
        [ "$(docker exec grower sh -c 'wc -l < /data/grower')" -gt "$(cat /tmp/before)" ] || fail "the writer waits"
        old=$(laz pool status tank | grep -o '/dev/disk/by-id/virtio-disk2[^" ]*' | head -n 1)
        laz pool replace --yes tank old="$old" new=${disk}3 > /dev/null
        up tank
        laz pool status tank | has virtio-disk3
        docker rm -f grower > /dev/null
        "#,
    )?;
    Ok(())
}

fn zfs_keys_quotas_and_full_pools_are_told_and_survived(guest: &Guest) -> Result<()> {
    sh(
        guest,
        "an absent key is told, a key that is there unlocks, also after an export",
        r#"
        tank
        ! docker volume create -d zfs -o pool=tank -o encryption=on -o key=vault vault 2> /tmp/said || fail "no key"
        grep -q 'is locked' /tmp/said || fail "$(cat /tmp/said)"
        mkdir -p /etc/lazarette/secrets/tank
        printf 'correct horse' > /etc/lazarette/secrets/tank/vault
        docker volume create -d zfs -o pool=tank -o encryption=on -o key=vault vault > /dev/null
        run vault 'echo secret > /data/f'
        mv /etc/lazarette/secrets/tank/vault /tmp/vault
        # Its end closes the context, so the pool is exported; core starts it anew.
        started() { system-docker inspect -f '{{.Id}} {{.State.StartedAt}}' laz-context-tank; }
        old=$(started)
        system-docker stop -t 60 laz-context-tank > /dev/null
        new() { [ "$(started)" != "$old" ]; }
        until_ok 60 new
        up tank
        ! docker run --rm -v vault:/data busybox true 2> /tmp/said || fail "mounted without its key"
        grep -q 'is locked' /tmp/said || fail "$(cat /tmp/said)"
        printf 'wrong horse' > /etc/lazarette/secrets/tank/vault
        ! docker run --rm -v vault:/data busybox true 2> /tmp/said || fail "mounted with a wrong key"
        mv /tmp/vault /etc/lazarette/secrets/tank/vault
        same secret "$(run vault 'cat /data/f')" unlocked
        ! laz status --json | has 'horse' || fail "the key is shown"
        ! system-docker logs laz-context-tank 2>&1 | has horse || fail "the key is logged"
        "#,
    )?;
    sh(
        guest,
        "a full volume and a full pool say so to the writer, and deleting works",
        r#"
        docker volume create -d zfs -o pool=tank -o size=20M small > /dev/null
        ! run small 'dd if=/dev/urandom of=/data/f bs=1M count=30 2> /tmp/e || { cat /tmp/e >&2; false; }' 2> /tmp/said || fail "over its size"
        grep -qi 'space\|quota' /tmp/said || fail "$(cat /tmp/said)"
        run small 'rm /data/f'
        available=$(in_tank zfs get -Hp -o value available tank)
        docker volume create -d zfs -o pool=tank -o reservation=$((available / 1048576 - 40))M big > /dev/null
        docker volume create -d zfs -o pool=tank rest > /dev/null
        ! run rest 'dd if=/dev/urandom of=/data/f bs=1M count=60 2> /tmp/e || { cat /tmp/e >&2; false; }' 2> /tmp/said || fail "over the pool's size"
        grep -qi 'space' /tmp/said || fail "$(cat /tmp/said)"
        ! docker volume create -d zfs -o pool=tank -o reservation=1G more 2> /tmp/said || fail "more than there is"
        docker volume rm rest big > /dev/null
        run small 'echo again > /data/f'
        "#,
    )?;
    Ok(())
}
