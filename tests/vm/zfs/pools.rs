//! Pools: where they come from, whose they are, what they are made of.

use anyhow::Result;

use super::sh;
use crate::guest::Guest;

pub(super) fn zfs_pools_are_taken_over_and_nothing_on_a_disk_is_lost(guest: &Guest) -> Result<()> {
    sh(
        guest,
        "a context that goes exports its pool; scan finds it, and blank disks",
        r#"
        tank
        in_tank zfs create -u -p -o mountpoint=/elsewhere tank/media/photos
        docker volume create -d zfs -o pool=tank -o dataset=media/photos photos > /dev/null
        run photos 'echo sunset > /data/p'
        docker volume rm photos > /dev/null
        same tank/media/photos "$(in_tank zfs list -H -o name tank/media/photos)" "the dataset taken over"
        guid=$(in_tank zpool get -H -o value guid tank)
        echo "$guid" > /tmp/guid
        configure
        until_ok 90 exported tank
        laz scan zfs > /tmp/scan
        grep -q "pool .*tank.*$guid" /tmp/scan || fail "$(cat /tmp/scan)"
        grep -q "blank disk.*${disk}3" /tmp/scan || fail "$(cat /tmp/scan)"
        ! grep -q "blank disk.*${disk}1" /tmp/scan || fail "$(cat /tmp/scan)"
        "#,
    )?;
    sh(
        guest,
        "attached as a whole, and let go of",
        r#"
        laz attach zfs:tank -o mount=all > /dev/null
        until_ok 120 view test -e /mnt/tank/media.photos/p
        same sunset "$(docker run --rm -v /mnt/tank/media.photos:/data busybox cat /data/p)" "what was there"
        until_ok 120 laz detach tank
        until_ok 120 exported tank
        "#,
    )?;
    sh(
        guest,
        "imported by its GUID from renumbered disks, with everything; a second context is refused",
        r#"
        node() { readlink -f "${disk}$1"; }
        before="$(node 1) $(node 2)"
        pull 1
        pull 2
        plug 2 1
        same "$before" "$(node 2) $(node 1)" "the disks' new names"
        configure "tank: {kind: zfs, pool: tank, guid: \"$(cat /tmp/guid)\", mount: all}"
        up tank
        until_ok 60 view test -e /mnt/tank/media.photos/p
        same sunset "$(view cat /mnt/tank/media.photos/p)" "the pool's own dataset"
        configure "tank: {kind: zfs, pool: tank, guid: \"$(cat /tmp/guid)\", mount: all}" "tank2: {kind: zfs, pool: tank}"
        until_ok 120 shows '^  context tank2: .*pool "tank" belongs to context "tank"'
        ! shows '^tank2 .* healthy' || fail "two contexts have the pool"
        shows '^tank .* healthy'
        "#,
    )?;
    sh(
        guest,
        "disks that are not blank are refused, saying what is on them; wiped on request",
        r#"
        mkfs.ext4 -q -F ${disk}3
        configure "other: {kind: zfs, pool: other, create: {layout: stripe, devices: [${disk}3]}}"
        refused() { laz status | has 'virtio-disk3 is not blank: ext4'; }
        until_ok 120 refused
        same ext4 "$(blkid -p -s TYPE -o value ${disk}3)" "what is on the disk"
        # Without a signature, bytes of which no tool knows what they are.
        wipefs -q --all ${disk}3
        before=$(dd if=${disk}3 bs=1M count=1 iflag=direct 2> /dev/null | md5sum)
        configure "other: {kind: zfs, pool: other, create: {layout: stripe, devices: [${disk}3], ashift: 12}}"
        refused() { laz status | has 'virtio-disk3 is not blank: data of an unknown kind'; }
        until_ok 120 refused
        same "$before" "$(dd if=${disk}3 bs=1M count=1 iflag=direct 2> /dev/null | md5sum)" "what is on the disk"
        laz scan zfs > /tmp/scan
        ! grep -q "blank disk.*${disk}3" /tmp/scan || fail "$(cat /tmp/scan)"
        configure "other: {kind: zfs, pool: other, create: {layout: stripe, devices: [${disk}3], wipe: true}}"
        up other
        "#,
    )?;
    sh(
        guest,
        "a context gets another pool once nothing uses the one it has",
        r#"
        docker volume create -d zfs -o pool=other vol > /dev/null
        writer user vol
        configure "other: {kind: zfs, pool: third, create: {layout: stripe, devices: [${disk}4]}}"
        until_ok 120 shows 'still has the pool other'
        imported other || fail "the pool in use is gone"
        ! imported third || fail "two pools in one context"
        before=$(docker exec user cat /data/user | wc -l)
        more() { [ "$(docker exec user cat /data/user | wc -l)" -gt "$before" ]; }
        until_ok 60 more
        ! docker exec user test -e /errors || fail "a write failed"
        docker rm -f user > /dev/null
        third() { imported third && exported other; }
        until_ok 180 third
        "#,
    )?;
    Ok(())
}

pub(super) fn case_20_a_pool_of_another_host_is_refused_and_taken_over_on_request(
    guest: &Guest,
) -> Result<()> {
    sh(
        guest,
        "the machine has an ID of its own, and so has its pool",
        r#"
        same 4 "$(stat -c %s /etc/hostid)" "the size of the ID"
        id=$(od -An -tu4 /etc/hostid | tr -d ' ')
        [ "$id" -gt 0 ] || fail "the ID is $id"
        tank
        same "$id" "$(in_tank zdb -l ${disk}1-part1 | awk '$1 == "hostid:" {print $2}')" "the pool's ID"
        "#,
    )?;
    sh(
        guest,
        "a pool that another machine has not exported is refused, naming that machine",
        r#"
        echo 3405691582 > /sys/module/spl/parameters/spl_hostid
        tools zpool create -o cachefile=none -O mountpoint=none far ${disk}3
        tools zfs create far/kept
        tools zpool sync far
        echo 0 > /sys/module/spl/parameters/spl_hostid
        # What a machine leaves that loses its power.
        dd if=${disk}3 of=${disk}4 bs=4M conv=sparse iflag=direct oflag=direct 2> /dev/null
        tools zpool destroy far
        blockdev --rereadpt ${disk}4
        until_ok 60 test -e ${disk}4-part1
        configure "$mirror" "far: {kind: zfs, pool: far, devices: [${disk}4]}"
        refused() { shows 'context far: .*cafebabe'; }
        until_ok 120 refused
        shows 'force_import: true' || fail "$(laz status)"
        ! imported far || fail "imported all the same"
        record foreign.txt tools zpool import -d ${disk}4-part1
        shows '^tank .* healthy'
        "#,
    )?;
    sh(
        guest,
        "taken over on request; from then on it is this machine's",
        r#"
        configure "$mirror" "far: {kind: zfs, pool: far, devices: [${disk}4], force_import: true}"
        up far
        system-docker exec laz-context-far zfs list -H -o name far/kept > /dev/null
        configure "$mirror" "far: {kind: zfs, pool: far, devices: [${disk}4]}"
        up far
        docker volume create -d zfs -o pool=far vol > /dev/null
        run vol 'echo x > /data/f'
        "#,
    )?;
    Ok(())
}
