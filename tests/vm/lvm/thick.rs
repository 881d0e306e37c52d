//! Volumes that are not thin: each layout and file system, snapshots with space of their own,
//! sizes, and the group's devices.

use anyhow::Result;

use super::step;
use crate::guest::Guest;

/// A group of four disks, and what makes volumes in it.
pub(super) fn group_of_four(guest: &Guest) -> Result<()> {
    step(
        guest,
        "a group of four disks",
        r#"
        context ", devices: [${by}1, ${by}2, ${by}3, ${by}4], create: true"
        healthy
        "#,
    )
}

pub(super) fn lvm_volumes_of_each_layout_and_an_encrypted_one_hold_what_is_written(
    guest: &Guest,
) -> Result<()> {
    group_of_four(guest)?;
    step(
        guest,
        "linear, striped, raid1, raid5; ext4, xfs, btrfs",
        r#"
        make -o size=64M -o mkfs_options=reserved_percent=0 linear
        make -o size=320M -o type=striped -o stripes=3 -o stripe_size=32K -o fs=xfs striped
        make -o size=160M -o type=raid1 -o fs=btrfs raid1
        make -o size=64M -o type=raid5 -o stripes=2 -o tags=team/a raid5
        in_all() { docker run --rm -v linear:/a -v striped:/b -v raid1:/c -v raid5:/d busybox sh -c "$1" | xargs; }
        same "" "$(in_all 'ls -A /a /c /d | grep -v : ; for d in a b c d; do echo $d > /$d/f; done; echo seen-by-all > /a/g; sync')" "what new ones show"
        seen=$(in_all 'cat /a/f /b/f /c/f /d/f; grep -e " /[abcd] " /proc/mounts | sort -k 2 | cut -d " " -f 3')
        same "a b c d ext4 xfs btrfs ext4" "$seen" "what is in them, and as what"
        "#,
    )?;
    step(
        guest,
        "they are what was asked for",
        r#"
        lists() { lvm lvs --noheadings --units k --nosuffix -o "$1" fast | xargs -n 1 | sort | xargs; }
        same "linear raid,raid1 raid,raid5,raid5_ls striped" "$(lists lv_layout)" layouts
        lvm lvs --noheadings -o lv_layout,stripes,stripe_size --units k --nosuffix fast | has -e 'striped *3 *32.00'
        lvm lvs --noheadings -o lv_layout,stripes,lv_tags fast | grep raid5 | grep -e ' 3 ' | has team/a
        "#,
    )?;
    step(
        guest,
        "a cache on a device of one's choice, written through or not, and away again",
        r#"
        laz volume cache linear device=${by}4 size=64M | has -e writethrough
        cached() { laz pool ls | grep -e "cache.*$1"; }
        until_ok 60 cached writethrough
        lvm lvs -a --noheadings -o lv_name,devices fast | grep _cvol | has -e "${by}4"
        same a "$(in_volume linear 'cat /data/f')" "what was there before"
        laz volume resize linear 96M > /dev/null
        ! laz volume snapshot linear one 2> /tmp/said || fail "a snapshot of a cached volume was taken"
        grep -q 'laz volume uncache' /tmp/said || fail "$(cat /tmp/said)"
        laz volume cache raid5 device=${by}4 size=32M mode=writeback > /dev/null
        in_volume raid5 'dd if=/dev/urandom of=/data/large bs=1M count=20 2> /dev/null; md5sum /data/large > /data/sum; sync'
        until_ok 60 cached writeback
        laz volume uncache raid5 > /dev/null
        same "" "$(lvm lvs --noheadings -o cache_mode fast | grep writeback || true)" "what is written back later"
        in_volume raid5 'md5sum -c /data/sum' > /dev/null
        "#,
    )?;
    step(
        guest,
        "an encrypted one is opened with its key, and closed when it goes",
        r#"
        mkdir -p /etc/lazarette/secrets/fast
        chmod 700 /etc/lazarette/secrets/fast
        echo plain-and-known > /etc/lazarette/secrets/fast/secret
        make -o size=96M -o key=secret secret
        in_volume secret 'echo treasure-of-the-sea > /data/f; sync'
        same treasure-of-the-sea "$(in_volume secret 'cat /data/f')" "what is in it"
        kinds() { system-docker exec laz-context-fast dash -c 'for node in /dev/mapper/fast-lz*; do blkid -p -o value -s TYPE $node; done'; }
        same crypto_LUKS "$(kinds | grep LUKS)" "what is on it"
        found() { cat /dev/mapper/fast-lz* | grep -c -a -F "$1" || true; }
        [ "$(found seen-by-all)" -gt 0 ] || fail "what is not encrypted is not found either"
        same 0 "$(found treasure-of-the-sea)" "what can be read without the key"
        { laz status --json; laz volume inspect secret; laz logs fast; docker volume inspect secret; } > /tmp/told
        ! grep -q plain-and-known /tmp/told || fail "the key is told"
        "#,
    )?;
    step(
        guest,
        "removed, all is gone",
        r#"
        for volume in linear striped raid1 raid5 secret; do until_ok 60 docker volume rm $volume; done
        no_trace
        "#,
    )
}

pub(super) fn lvm_sizes_and_devices_change_under_users(guest: &Guest) -> Result<()> {
    group_of_four(guest)?;
    step(
        guest,
        "grown in use, shrunk only unused, refused where the file system cannot",
        r#"
        mkdir -p /etc/lazarette/secrets/fast
        chmod 700 /etc/lazarette/secrets/fast
        head -c 32 /dev/urandom > /etc/lazarette/secrets/fast/secret
        make -o size=64M ext
        make -o size=96M -o key=secret secret
        make -o size=320M -o fs=btrfs btr
        make -o size=300M -o fs=xfs xfs
        docker run -d --name busy -v ext:/ext -v secret:/secret -v btr:/btr busybox sh -c 'echo kept | tee /ext/f > /btr/f; sleep 1000' > /dev/null
        megabytes() { docker exec busy df -mP /$1 | awk 'END { print $2 }'; }
        laz volume resize ext 256M > /dev/null
        laz volume resize secret 192M > /dev/null
        [ "$(megabytes ext)" -gt 200 ] || fail "ext4 has $(megabytes ext) MB"
        [ "$(megabytes secret)" -gt 120 ] || fail "the encrypted one has $(megabytes secret) MB"
        ! laz volume resize ext 128M 2> /tmp/said || fail "a mounted ext4 was made smaller"
        grep -q 'shrinks only while it is not mounted' /tmp/said || fail "$(cat /tmp/said)"
        laz volume resize btr 288M > /dev/null
        same 288 "$(megabytes btr)" "the size of the btrfs, which shrinks while it is used"
        docker rm -f busy > /dev/null
        until_ok 60 laz volume resize ext 128M
        docker run -d --name busy -v ext:/ext -v btr:/btr busybox sleep 1000 > /dev/null
        same "kept kept" "$(docker exec busy cat /ext/f /btr/f | xargs)" "the content of what was shrunk"
        [ "$(megabytes ext)" -lt 128 ] || fail "ext4 still has $(megabytes ext) MB"
        for volume in xfs secret; do
            ! laz volume resize $volume 64M 2> /tmp/said || fail "$volume was made smaller"
            grep -q -e 'XFS cannot shrink' -e 'only made larger' -e 'at least' /tmp/said || fail "$(cat /tmp/said)"
        done
        "#,
    )?;
    step(
        guest,
        "a device is taken out under a user, and put in again",
        r#"
        lies() { lvm lvs --noheadings -o devices fast | grep -o 'virtio-disk.' | head -n 1; }
        disk=/dev/disk/by-id/$(lies)
        laz pool reduce --yes fast device=$disk
        laz pool devices fast > /tmp/devices
        ! grep $disk /tmp/devices || fail "it is still in"
        laz pool extend --yes fast devices=$disk
        laz pool devices fast | has $disk
        same kept "$(docker exec busy cat /ext/f)" "what was moved"
        docker rm -f busy > /dev/null
        "#,
    )?;
    step(
        guest,
        "tags are added and taken away, but not ours",
        r#"
        laz volume tag ext add=team/a,team/b > /dev/null
        laz volume tag ext remove=team/a > /dev/null
        tags() { lvm lvs --noheadings -o lv_tags fast | grep team; }
        tags | has team/b
        ! tags | grep team/a || fail "it was to be taken away"
        ! laz volume tag ext remove=lazarette.ready 2> /dev/null || fail "our own tag was taken away"
        until_ok 60 laz volume rm --yes ext
        until_ok 60 laz volume rm --yes secret
        until_ok 60 laz volume rm --yes xfs
        until_ok 60 laz volume rm --yes btr
        no_trace
        "#,
    )?;
    Ok(())
}
