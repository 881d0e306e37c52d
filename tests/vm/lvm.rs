//! LVM on real disks: volumes, what is refused, devices that are lost.

mod copies;
mod kills;
mod pool;
mod rare;
mod takeover;
mod thick;

use anyhow::Result;

use crate::guest::Guest;
use crate::{Case, cases};
use copies::lvm_a_copy_that_is_cut_off_is_finished_or_gone;
use kills::lvm_a_kill_at_any_moment_leaves_nothing_half_made;
use pool::lvm_takes_nothing_new_into_a_pool_that_is_nearly_full;
use rare::lvm_overfull_snapshots_wiped_space_and_lost_devices_of_raid6;
use takeover::lvm_takes_over_what_exists_and_leaves_it;
use thick::{
    lvm_sizes_and_devices_change_under_users,
    lvm_volumes_of_each_layout_and_an_encrypted_one_hold_what_is_written,
};

pub(crate) const RESTORED: &[Case] = cases![Restored:
    case_18_lvm_volumes_are_made_without_udev_and_removed_without_a_trace,
    lvm_makes_groups_on_blank_devices_only_and_refuses_copies,
    lvm_goes_on_without_a_device_and_names_it,
    lvm_volumes_of_each_layout_and_an_encrypted_one_hold_what_is_written,
    lvm_sizes_and_devices_change_under_users,
    lvm_takes_nothing_new_into_a_pool_that_is_nearly_full,
    lvm_takes_over_what_exists_and_leaves_it,
    lvm_a_kill_at_any_moment_leaves_nothing_half_made,
    lvm_a_copy_that_is_cut_off_is_finished_or_gone,
    lvm_overfull_snapshots_wiped_space_and_lost_devices_of_raid6,
];

/// The tools of the storage container, and waiting for the context `fast`.
const TOOLS: &str = r#"
    by=/dev/disk/by-id/virtio-disk
    # lvm COMMAND…: in the context's own container.
    lvm() { system-docker exec -e LVM_SYSTEM_DIR=/run/lazarette-lvm laz-context-fast lvm "$@"; }
    # tool COMMAND…: where there is no context.
    tool() {
        system-docker run --rm --privileged -v /dev:/dev -v /run/lock/lvm:/run/lock/lvm -v /run/lvm:/run/lvm \
            --entrypoint "/usr/sbin/$1" lazarette/lvm "${@:2}"
    }
    # bare COMMAND…: of LVM, as somebody else would give it.
    bare() { modprobe dm_mod; tool lvm "$1" --config 'activation{udev_sync=0 udev_rules=0} devices{obtain_device_list_from_udev=0 use_devicesfile=0}' "${@:2}"; }
    # context OPTIONS: the context `fast`, as YAML.
    context() {
        printf '#cloud-config\nlazarette: {storage: {contexts: {fast: {kind: lvm, volume_group: fast%s}}}}\n' "$1" > /tmp/fast.yml
        laz config set /tmp/fast.yml > /dev/null
    }
    healthy() { until_ok 150 shows '^fast .* healthy '; }
    in_volume() { docker run --rm -v "$1:/data" busybox sh -c "$2"; }
    # make OPTION… NAME: a volume of the group fast.
    make() { docker volume create -d lvm -o volume_group=fast "$@" > /dev/null; }
    # Nothing of ours is left in the kernel, in LVM or in /dev.
    no_trace() {
        same "" "$(lvm lvs --noheadings -o lv_name fast | grep -e lz || true)" "logical volumes"
        same "" "$(ls /dev/mapper | grep -e lz -e lazarette || true)" "nodes"
        same "" "$(system-docker exec laz-context-fast dmsetup ls | grep -e lz -e lazarette || true)" "devices"
        same "" "$(grep -h -o -e '/dev/mapper/fast-lz[^ ]*' /proc/[0-9]*/mountinfo | sort -u || true)" "mounts"
        same "" "$(view ls /run/lazarette/volumes)" "volumes in the view"
    }
"#;

fn step(guest: &Guest, what: &str, script: &str) -> Result<()> {
    guest.sh(what, &format!("{TOOLS}\n{script}")).map(drop)
}

/// Case 18: thin, XFS; clones and snapshots have the UUID of their origin.
fn case_18_lvm_volumes_are_made_without_udev_and_removed_without_a_trace(
    guest: &Guest,
) -> Result<()> {
    step(
        guest,
        "a group is made on two blank disks",
        r#"
        context ", devices: [${by}1, ${by}2], create: true, thin_pool: {name: pool, size: 90%}"
        healthy
        same 2 "$(lvm vgs --noheadings -o pv_count fast | tr -d ' ')" "devices of the group"
        "#,
    )?;
    step(
        guest,
        "a volume is made without udev, soon, and its node is there",
        r#"
        within 120000 docker volume create -d lvm -o volume_group=fast -o size=400M -o fs=xfs -o label=db db > /dev/null
        ls /dev/mapper/fast-lz* > /dev/null
        same before "$(in_volume db 'echo before > /data/f; cat /data/f')" read
        in_volume db "grep ' /data ' /proc/mounts" | has '^/dev/mapper/fast-lz.* xfs .*nosuid,nodev'
        used() { lvm lvs --noheadings -o data_percent fast/pool | tr -d ' .'; }
        in_volume db 'dd if=/dev/zero of=/data/large bs=1M count=60 2> /dev/null; sync; rm /data/large; sync'
        before=$(used)
        laz volume trim db > /dev/null
        freed() { [ "$(used)" -lt "$before" ]; }
        until_ok 30 freed
        same AlreadyThere "$(laz volume create --kind lvm -o volume_group=fast -o size=400M -o fs=xfs -o label=db db > /dev/null && echo AlreadyThere)" repeated
        "#,
    )?;
    guest.refused(
        "the same name with another size",
        "laz volume create --kind lvm -o volume_group=fast -o size=500M -o fs=xfs -o label=db db",
        &["db", "size"],
    )?;
    step(
        guest,
        "a snapshot under a writer, brought back when nobody uses it",
        r#"
        docker run -d --name busy -v db:/data busybox sh -c 'while :; do date >> /data/log; sleep 0.1; done' > /dev/null
        laz volume snapshot db one > /dev/null
        ! laz volume rollback --yes db one 2> /tmp/said || fail "it was brought back under a container"
        docker rm -f busy > /dev/null
        in_volume db 'echo after > /data/f; sync'
        until_ok 30 laz volume rollback --yes db one
        same before "$(in_volume db 'cat /data/f')" "after the rollback"
        in_volume db 'echo again > /data/f'
        until_ok 30 laz volume rollback --yes db one
        same before "$(in_volume db 'cat /data/f')" "the snapshot is still there"
        "#,
    )?;
    step(
        guest,
        "clones, of the volume and of the snapshot, mounted beside it",
        r#"
        in_volume db 'echo now > /data/f'
        laz volume clone db twin > /dev/null
        laz volume clone db@one past > /dev/null
        seen=$(docker run --rm -v db:/db -v twin:/twin -v past:/past busybox sh -c \
            'echo twin >> /twin/f; cat /db/f /twin/f /past/f | tr "\n" " "')
        same "now now twin before " "$seen" "the three"
        "#,
    )?;
    step(
        guest,
        "it grows while a container uses it, and XFS does not shrink",
        r#"
        docker run -d --name busy -v db:/data busybox sleep 1000 > /dev/null
        laz volume resize db 600M > /dev/null
        size=$(docker exec busy df -mP /data | awk 'END { print $2 }')
        [ "$size" -gt 500 ] || fail "the file system has $size MB"
        ! laz volume resize db 300M 2> /tmp/said || fail "it was made smaller"
        grep -q 'XFS cannot shrink' /tmp/said || fail "$(cat /tmp/said)"
        docker rm -f busy > /dev/null
        "#,
    )?;
    step(
        guest,
        "removed, all is gone; removed with its context, the group is not active",
        r#"
        ! laz volume rm --yes db 2> /tmp/said || fail "a volume with snapshots was removed"
        grep -q one /tmp/said || fail "the snapshot is not named: $(cat /tmp/said)"
        until_ok 30 laz volume rm --yes --snapshots db
        until_ok 30 docker volume rm twin
        until_ok 30 docker volume rm past
        no_trace
        printf '#cloud-config\n' > /tmp/none.yml
        laz config set /tmp/none.yml > /dev/null
        inactive() { ! ls /dev/mapper | has fast; }
        until_ok 60 inactive
        "#,
    )?;
    Ok(())
}

fn lvm_makes_groups_on_blank_devices_only_and_refuses_copies(guest: &Guest) -> Result<()> {
    step(
        guest,
        "a disk with a file system is refused, and what is on it is said",
        r#"
        mkfs.ext4 -q -L precious ${by}1
        context ", devices: [${by}1, ${by}2], create: true"
        until_ok 90 shows 'context fast: .*ext4 .*precious.*wipe: true'
        test "$(tool blkid -p -o value -s TYPE ${by}1)" = ext4
        "#,
    )?;
    step(
        guest,
        "and so is one with data of an unknown kind",
        r#"
        dd if=/dev/urandom of=${by}3 bs=4k count=8 seek=4 status=none
        context ", devices: [${by}3], create: true"
        until_ok 90 shows 'context fast: .*unknown kind.*wipe: true'
        "#,
    )?;
    step(
        guest,
        "unless it is named with wipe",
        r#"
        context ", devices: [${by}1, ${by}2], create: true, wipe: true"
        healthy
        docker volume create -d lvm -o volume_group=fast -o size=64M db > /dev/null
        in_volume db 'echo x > /data/f'
        printf '#cloud-config\n' > /tmp/none.yml
        until_ok 30 docker volume rm db
        "#,
    )?;
    step(
        guest,
        "a copy of a device is refused, unless it is said which is the right one",
        r#"
        laz config set /tmp/none.yml > /dev/null
        inactive() { ! system-docker ps -aq --filter name=laz-context-fast | has .; }
        until_ok 60 inactive
        dd if=${by}1 of=${by}4 bs=1M count=8 status=none
        context ""
        until_ok 90 shows 'context fast: .*there twice.*virtio-disk1.*virtio-disk4'
        laz scan lvm | grep 'fast ' | has 'there twice'
        context ", devices: [${by}1, ${by}2]"
        healthy
        # It says who has it, and offers nobody what would be refused.
        dd if=/dev/zero of=${by}4 bs=1M count=8 status=none
        laz scan lvm > /tmp/scan
        grep 'fast ' /tmp/scan | has 'context fast has it' || fail "$(cat /tmp/scan)"
        ! grep -q 'lvm:fast' /tmp/scan || fail "$(cat /tmp/scan)"
        "#,
    )?;
    Ok(())
}

fn lvm_goes_on_without_a_device_and_names_it(guest: &Guest) -> Result<()> {
    step(
        guest,
        "a mirror over two disks, and one volume on each",
        r#"
        context ", devices: [${by}1, ${by}2], create: true"
        healthy
        docker volume create -d lvm -o volume_group=fast -o size=64M -o type=raid1 mirror > /dev/null
        docker volume create -d lvm -o volume_group=fast -o size=1800M -o type=linear first > /dev/null
        docker volume create -d lvm -o volume_group=fast -o size=1500M -o type=linear second > /dev/null
        for volume in mirror first second; do in_volume $volume "echo $volume > /data/f"; done
        synced() { lvm lvs --noheadings -o sync_percent fast | has 100.00; }
        until_ok 60 synced
        for volume in mirror first second; do
            docker run -d --name on-$volume -v $volume:/data busybox sh -c \
                'while :; do date >> /data/log && sync /data/log || echo failed >> /errors; sleep 0.1; done' > /dev/null
        done
        "#,
    )?;
    step(
        guest,
        "a disk is gone under load: the rest serves, and the disk is named",
        r#"
        lies() { lvm lvs --noheadings --units m --nosuffix -o lv_size,devices fast | grep "^ *$1" | has virtio-disk1; }
        if lies 1800; then lost=first; else lost=second; fi
        echo $lost > /tmp/lost
        disk=$(basename "$(readlink -f ${by}1)")
        basename "$(readlink -f /sys/block/$disk/device)" > /tmp/device
        cat /tmp/device > /sys/bus/virtio/drivers/virtio_blk/unbind
        until_ok 120 shows 'context fast: .*missing devices: .*virtio-disk1'
        shows '^fast .* degraded '
        shows "^nas .* healthy "
        kept=$([ $lost = first ] && echo second || echo first)
        failed() { docker cp on-$1:/errors - > /dev/null 2>&1; }
        until_ok 60 failed $lost
        for volume in mirror $kept; do
            ! failed $volume || fail "a write to $volume failed"
            lines() { docker exec on-$volume wc -l /data/log | cut -d ' ' -f 1; }
            before=$(lines)
            more() { [ "$(lines)" -gt "$before" ]; }
            until_ok 30 more
            same $volume "$(docker exec on-$volume cat /data/f)" "what was there"
        done
        docker rm -f on-mirror on-first on-second > /dev/null
        ! timeout 100 docker run --rm -v $lost:/data busybox true 2> /tmp/said || fail "a volume on a missing disk was mounted"
        "#,
    )?;
    guest.refused(
        "nothing new meanwhile",
        "docker volume create -d lvm -o volume_group=fast -o size=64M new",
        &["missing"],
    )?;
    step(
        guest,
        "the disk comes back, and so does everything",
        r#"
        cat /tmp/device > /sys/bus/virtio/drivers/virtio_blk/bind
        system-docker exec udev udevadm settle
        until_ok 120 shows '^fast .* healthy '
        for volume in first second mirror; do same $volume "$(in_volume $volume 'cat /data/f')" $volume; done
        "#,
    )?;
    Ok(())
}
