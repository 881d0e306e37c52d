//! Groups and logical volumes that were there before: looked at, taken over, left as they were.

use anyhow::Result;

use super::step;
use crate::guest::Guest;

pub(super) fn lvm_takes_over_what_exists_and_leaves_it(guest: &Guest) -> Result<()> {
    step(
        guest,
        "a group of somebody else's",
        r#"
        bare vgcreate --yes fast ${by}1 > /dev/null
        for name in home data; do
            bare lvcreate --yes -L 64M -n $name fast > /dev/null
            mkfs.ext4 -q /dev/mapper/fast-$name
        done
        bare lvcreate --yes -L 64M -n raw fast > /dev/null
        mkdir /tmp/m
        mount /dev/mapper/fast-home /tmp/m
        echo old > /tmp/m/f
        umount /tmp/m
        bare vgchange -an fast > /dev/null
        "#,
    )?;
    step(
        guest,
        "laz scan shows it, and the blank disks",
        r#"
        laz scan lvm > /tmp/scan
        grep -q 'lvm:fast' /tmp/scan || fail "$(cat /tmp/scan)"
        grep 'blank disk' /tmp/scan | has virtio-disk2 || fail "$(cat /tmp/scan)"
        ! grep 'blank disk' /tmp/scan | grep virtio-disk1 || fail "a disk that is in use is shown as blank"
        ! ls /dev/mapper | grep fast || fail "looking has activated it"
        "#,
    )?;
    step(
        guest,
        "attached as a whole, what has a file system is below /mnt",
        r#"
        laz attach lvm:fast > /dev/null
        until_ok 90 view test -e /mnt/fast/home/f
        same old "$(docker run --rm -v /mnt/fast/home:/data busybox cat /data/f)" "what was there"
        until_ok 30 view test -d /mnt/fast/data
        ! view test -e /mnt/fast/raw || fail "what has no file system is mounted"
        until_ok 60 laz detach fast
        inactive() { ! ls /dev/mapper | has fast; }
        until_ok 60 inactive
        "#,
    )?;
    step(
        guest,
        "taken over as a volume, it stays when the volume goes",
        r#"
        context ""
        healthy
        docker volume create -d lvm -o volume_group=fast -o logical_volume=home mine > /dev/null
        same old "$(in_volume mine 'cat /data/f; echo new > /data/f')" "what was there"
        laz volume snapshot mine one > /dev/null
        in_volume mine 'echo newer > /data/f; sync'
        until_ok 60 laz volume rollback --yes mine one
        same new "$(in_volume mine 'cat /data/f')" "after the rollback"
        until_ok 30 laz volume rm --yes --snapshots mine
        same "home" "$(lvm lvs --noheadings -o lv_name,lv_tags fast/home | xargs)" "its tags"
        no_trace
        "#,
    )?;
    guest.refused(
        "what is not there",
        "docker volume create -d lvm -o volume_group=fast -o logical_volume=nonsense nonsense",
        &["fast/nonsense"],
    )?;
    guest.refused(
        "what is no file system",
        "docker volume create -d lvm -o volume_group=fast -o logical_volume=raw raw",
        &["no file system"],
    )?;
    step(
        guest,
        "unless it is said that it goes",
        r#"
        docker volume create -d lvm -o volume_group=fast -o logical_volume=data -o on_remove=delete gone > /dev/null
        in_volume gone true
        until_ok 30 docker volume rm gone
        ! lvm lvs fast/data 2> /dev/null || fail "it is still there"
        lvm lvs fast/home > /dev/null
        "#,
    )?;
    namesakes(guest)
}

/// A second group of the name, after the context was open with the first.
fn namesakes(guest: &Guest) -> Result<()> {
    step(
        guest,
        "a second context for the same group is refused",
        r#"
        printf '#cloud-config\nlazarette: {storage: {contexts: {fast: {kind: lvm, volume_group: fast}, other: {kind: lvm, volume_group: fast}}}}\n' > /tmp/two.yml
        laz config set /tmp/two.yml > /dev/null
        until_ok 60 shows 'context other: .*belongs to context .*fast'
        shows '^fast .* healthy '
        printf '#cloud-config\n' > /tmp/none.yml
        laz config set /tmp/none.yml > /dev/null
        closed() { ! ls /dev/mapper | grep fast && ! system-docker ps -aq --filter name=laz-context-fast | grep .; }
        until_ok 90 closed
        "#,
    )?;
    step(
        guest,
        "of two groups of one name the UUID says which is meant",
        r#"
        bare vgcreate --yes --devices ${by}2 fast ${by}2 > /dev/null
        context ""
        until_ok 90 shows 'context fast: .*several of that name.*uuid'
        bare pvs --noheadings -o vg_uuid ${by}1 2> /dev/null | tr -d ' ' > /tmp/uuid
        context ", uuid: $(cat /tmp/uuid), volumes: [home]"
        healthy
        until_ok 90 view test -e /mnt/fast/home/f
        same new "$(view cat /mnt/fast/home/f)" "what is in it"
        same 1 "$(lvm pvs --noheadings -o pv_name | wc -l)" "the devices that are looked at"
        "#,
    )?;
    step(
        guest,
        "and goes on meaning it when the disks have changed their names",
        r#"
        laz config set /tmp/none.yml > /dev/null
        closed() { ! ls /dev/mapper | grep fast && ! system-docker ps -aq --filter name=laz-context-fast | grep .; }
        until_ok 90 closed
        device() { basename "$(readlink -f "/sys/block/$(basename "$(readlink -f ${by}$1)")/device")"; }
        before=$(readlink -f ${by}1)
        one=$(device 1)
        two=$(device 2)
        cd /sys/bus/virtio/drivers/virtio_blk
        for disk in $one $two; do echo $disk > unbind; done
        for disk in $two $one; do echo $disk > bind; done
        system-docker exec udev udevadm settle
        for n in 1 2; do until_ok 60 test -b ${by}$n; done
        renamed() { [ "$(readlink -f ${by}1)" != "$before" ]; }
        until_ok 60 renamed
        context ", uuid: $(cat /tmp/uuid), volumes: [home]"
        healthy
        until_ok 90 view test -e /mnt/fast/home/f
        same new "$(view cat /mnt/fast/home/f)" "what is in it"
        "#,
    )
}
