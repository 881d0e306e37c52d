//! What is rare: copies that are interrupted, snapshots that run full, space that is overwritten,
//! raid6, devices that are replaced and given up.

use anyhow::Result;

use super::step;
use crate::guest::Guest;

/// In a group of four disks with nothing in it.
pub(super) fn rare_things(guest: &Guest) -> Result<()> {
    step(
        guest,
        "a copy goes on when the plugin host was killed, and is mounted beside its source",
        r#"
        make -o size=160M -o fs=btrfs source
        in_volume source 'dd if=/dev/urandom of=/data/f bs=1M count=40 2> /dev/null; md5sum < /data/f > /data/sum; sync'
        host=$(system-docker top laz-context-fast -o pid,args | awk '/laz-plugin-host serve/ { print $1 }')
        laz volume clone source copy > /tmp/out 2>&1 &
        cloning=$!
        sleep 2
        kill -9 $host
        wait $cloning || true
        # What was asked for is an intent of core's: it is finished without being asked again.
        both() { docker run --rm -v source:/a -v copy:/b busybox sh -c 'cat /a/sum; md5sum < /a/f; md5sum < /b/f'; }
        until_ok 180 both
        same 1 "$(both | sort -u | wc -l)" "the sums of the source and of its copy"
        left() { ! lvm lvs --noheadings -o lv_name fast | grep lzh; }
        until_ok 60 left
        until_ok 60 docker volume rm source
        until_ok 60 docker volume rm copy
        "#,
    )?;
    step(
        guest,
        "a snapshot that ran full is told, and the volume goes on; what was in a volume is overwritten",
        r#"
        make -o size=64M -o snapshot_size=8M -o wipe_on_remove=true small
        laz volume snapshot small one > /dev/null
        in_volume small 'dd if=/dev/urandom of=/data/f bs=1M count=30 2> /dev/null; echo sunken-galleon > /data/g; sync'
        until_ok 90 shows 'context fast: .*ran full and is lost'
        same sunken-galleon "$(in_volume small 'cat /data/g')" "what is in the volume"
        until_ok 60 laz volume rm --yes small@one
        healthy
        where=$(lvm lvs --noheadings -o devices fast | tr -d ' ')
        number=${where#*\(}
        # Past the page cache, which knows nothing of what the device mapper writes.
        found() { dd if="${where%\(*}" iflag=direct bs=1M skip=$((${number%\)} * 4 + 1)) count=64 status=none | grep -c -a sunken-galleon || true; }
        [ "$(found)" -gt 0 ] || fail "the place is not known: $where"
        until_ok 60 docker volume rm small
        same 0 "$(found)" "what is left of it on the device"
        "#,
    )?;
    step(
        guest,
        "raid6 on five of seven devices; one is replaced",
        r#"
        modprobe loop
        for n in 1 2 3 4; do
            truncate -s 200M /var/tmp/pv$n
            losetup -f --show /var/tmp/pv$n > /tmp/loop$n
        done
        laz pool extend --yes fast "devices=$(cat /tmp/loop1),$(cat /tmp/loop2),$(cat /tmp/loop3)" > /dev/null
        make -o type=raid6 -o stripes=3 -o size=90M six
        in_volume six 'dd if=/dev/urandom of=/data/f bs=1M count=30 2> /dev/null; md5sum < /data/f > /data/sum; sync'
        whole() { in_volume six 'md5sum < /data/f | cmp - /data/sum'; }
        synced() { lvm lvs --noheadings -o sync_percent fast | grep 100.00; }
        until_ok 120 synced
        lies_on() { lvm lvs -a --noheadings -o lv_name,devices fast | grep rimage | grep -o '/dev/[^(]*' | sort -u; }
        same 5 "$(lies_on | wc -l)" "devices that it lies on"
        old=$(lies_on | grep virtio-disk | sed -n 1p)
        laz pool replace --yes fast device=$old with="$(cat /tmp/loop4)" > /dev/null
        ! lvm pvs --noheadings -o pv_name | grep $old || fail "$old is still in"
        whole
        "#,
    )?;
    step(
        guest,
        "one is lost and given up: the volume is made whole on the others",
        r#"
        synced() { lvm lvs --noheadings -o sync_percent fast | grep 100.00; }
        lost=$(lvm lvs -a --noheadings -o lv_name,devices fast | grep rimage | grep -o '/dev/[^(]*virtio-disk.' | sort -u | sed -n 1p)
        disk=$(basename "$(readlink -f $lost)")
        basename "$(readlink -f /sys/block/$disk/device)" > /sys/bus/virtio/drivers/virtio_blk/unbind
        until_ok 120 shows "context fast: .*missing devices: .*$lost"
        in_volume six 'md5sum < /data/f | cmp - /data/sum; echo meanwhile > /data/g; sync'
        laz pool repair --yes fast > /dev/null
        until_ok 120 shows '^fast .* healthy '
        same "" "$(lvm pvs --noheadings -o pv_name | grep unknown || true)" "missing devices"
        until_ok 120 synced
        same meanwhile "$(in_volume six 'md5sum < /data/f | cmp - /data/sum && cat /data/g')" "what is in it"
        until_ok 60 docker volume rm six
        no_trace
        "#,
    )
}
