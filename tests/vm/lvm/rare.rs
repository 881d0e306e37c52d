//! What is rare: snapshots that run full, space that is overwritten, raid6 that loses devices.

use anyhow::Result;

use super::step;
use crate::guest::Guest;

pub(super) fn lvm_overfull_snapshots_wiped_space_and_lost_devices_of_raid6(
    guest: &Guest,
) -> Result<()> {
    step(
        guest,
        "a group of four disks and two smaller devices",
        r#"
        modprobe loop
        for n in 1 2 3; do
            truncate -s 100M /var/tmp/pv$n
            losetup -f --show /var/tmp/pv$n > /tmp/loop$n
        done
        context ", devices: [${by}1, ${by}2, ${by}3, ${by}4, $(cat /tmp/loop1), $(cat /tmp/loop2)], create: true"
        healthy
        "#,
    )?;
    full_and_wiped(guest)?;
    raid6(guest)
}

fn full_and_wiped(guest: &Guest) -> Result<()> {
    step(
        guest,
        "a snapshot that ran full is told, the volume goes on, and the snapshot can be removed",
        r#"
        make -o size=64M -o snapshot_size=8M -o wipe_on_remove=true small
        laz volume snapshot small one > /dev/null
        in_volume small 'dd if=/dev/urandom of=/data/f bs=1M count=30 2> /dev/null; echo sunken-galleon > /data/g; sync'
        until_ok 90 shows 'context fast: .*the snapshot small@one ran full and is lost: remove it'
        same sunken-galleon "$(in_volume small 'cat /data/g')" "what is in the volume"
        ! laz volume rollback --yes small one 2> /tmp/said || fail "it was brought back to what is lost"
        grep -q 'ran full' /tmp/said || fail "$(cat /tmp/said)"
        until_ok 60 laz volume rm --yes small@one
        healthy
        same sunken-galleon "$(in_volume small 'cat /data/g')" "what is in the volume"
        "#,
    )?;
    step(
        guest,
        "what was in a volume is overwritten before its space is given back",
        r#"
        where=$(lvm lvs --noheadings -o devices fast | tr -d ' ')
        number=${where#*\(}
        first=$(lvm pvs --noheadings --nosuffix --units m -o pe_start "${where%\(*}" | tr -d ' ')
        # Past the page cache, which knows nothing of what the device mapper writes.
        found() {
            dd if="${where%\(*}" iflag=direct bs=1M skip=$((${number%\)} * 4 + ${first%.*})) count=64 status=none > /tmp/raw
            grep -c -a sunken-galleon /tmp/raw || true
        }
        [ "$(found)" -gt 0 ] || fail "the place is not known: $where"
        until_ok 60 docker volume rm small
        same 0 "$(found)" "what is left of it on the device"
        same 0 "$(tr -d '\0' < /tmp/raw | wc -c)" "bytes of it that are not zero"
        "#,
    )
}

fn raid6(guest: &Guest) -> Result<()> {
    step(
        guest,
        "raid6 on five devices is brought into step",
        r#"
        make -o type=raid6 -o stripes=3 -o size=60M six
        in_volume six 'dd if=/dev/urandom of=/data/f bs=1M count=20 2> /dev/null; md5sum < /data/f > /data/sum; sync'
        lvm lvs --noheadings -o lv_layout,stripes fast | has -e 'raid6.* 5 *$'
        synced() { lvm lvs --noheadings -o sync_percent fast | has 100.00; }
        until_ok 120 synced
        lvm lvs -a --noheadings -o lv_name,devices fast | grep rimage | grep -o '/dev/[^(]*' | sort -u > /tmp/lies-on
        same 5 "$(wc -l < /tmp/lies-on)" "devices that it lies on"
        "#,
    )?;
    step(
        guest,
        "two of them are lost under a writer: it goes on, and they are named",
        r#"
        writer writing six
        grep virtio-disk /tmp/lies-on | head -n 2 > /tmp/lost
        for lost in $(cat /tmp/lost); do
            disk=$(basename "$(readlink -f $lost)")
            basename "$(readlink -f /sys/block/$disk/device)" > /sys/bus/virtio/drivers/virtio_blk/unbind
        done
        for lost in $(cat /tmp/lost); do until_ok 120 shows "context fast: .*missing devices: .*$lost"; done
        shows '^fast .* degraded '
        six() { docker exec writing "$@"; }
        six cat /data/writing > /tmp/written
        more() { [ "$(six wc -l /data/writing | cut -d ' ' -f 1)" -gt "$(wc -l < /tmp/written)" ]; }
        until_ok 30 more
        echo 3 > /proc/sys/vm/drop_caches
        same "$(six cat /data/sum)" "$(six md5sum /data/f | sed 's, .*,  -,')" "the sum of what was there"
        "#,
    )?;
    step(
        guest,
        "one is replaced, the other one was to spare: the volume is whole again",
        r#"
        laz pool replace --yes fast device="$(head -n 1 /tmp/lost)" with="$(cat /tmp/loop3)" > /dev/null
        until_ok 120 shows '^fast .* healthy '
        same "" "$(lvm pvs --noheadings -o pv_name | grep -i unknown || true)" "missing devices"
        synced() { lvm lvs --noheadings -o sync_percent fast | has 100.00; }
        until_ok 120 synced
        lvm lvs -a --noheadings -o lv_name,devices fast | grep rimage | grep -o '/dev/[^(]*' | sort -u > /tmp/lies-on
        same 5 "$(wc -l < /tmp/lies-on)" "devices that it lies on"
        docker exec writing cat /data/writing > /tmp/written
        unharmed writing /tmp/written
        docker rm -f writing > /dev/null
        echo 3 > /proc/sys/vm/drop_caches
        same whole "$(in_volume six 'md5sum < /data/f | cmp - /data/sum && echo whole')" "what is in it"
        until_ok 60 docker volume rm six
        no_trace
        "#,
    )
}
