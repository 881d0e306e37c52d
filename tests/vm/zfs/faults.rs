//! What fails, and what is left of it.

use anyhow::Result;
use lazarette_tests::lab::Lab;
use lazarette_tests::vm::{Machine, Options};

use super::sh;
use crate::guest::Guest;

pub(super) fn case_24_the_zfs_module_is_built_once_and_says_why_if_it_cannot_be(
    guest: &Guest,
) -> Result<()> {
    sh(
        guest,
        "the builder's own words are the context's reason, and nothing else is held up",
        r#"
        mv /lib/modules/"$(uname -r)"/extra /tmp/extra
        depmod
        configure "$mirror"
        why() { shows "context tank: .*headers of the kernel $(uname -r) are neither"; }
        until_ok 240 why
        shows "linux-headers-$(uname -r)" || fail "$(laz status)"
        ! shows '^tank .* healthy' || fail "healthy without its module"
        within 10000 laz status > /dev/null
        "#,
    )?;
    sh(
        guest,
        "with a builder that can, it is built and loaded by itself",
        r#"
        # Stands in for the compiler, which takes an hour on an emulated processor.
        mkdir -p /tmp/builder/bin
        cp "$(command -v busybox)" /tmp/builder/bin/busybox
        for name in sh cp uname; do
            ln -s busybox /tmp/builder/bin/$name
        done
        find /tmp/extra -name '*.ko' -exec cp {} /tmp/builder/ \;
        cat > /tmp/builder/build << 'END'
#!/bin/sh
set -e
[ "$KERNEL" = "$(uname -r)" ]
cp /spl.ko /zfs.ko /output/
printf 'spl.ko\nzfs.ko\n' > /output/order
END
        chmod 755 /tmp/builder/build
        busybox tar -C /tmp/builder -cf - . |
            system-docker import -c 'ENTRYPOINT ["/build"]' - lazarette/zfs-module > /dev/null
        up tank
        ls /var/lib/lazarette/modules/"$(uname -r)"/*/.complete > /tmp/built
        same 1 "$(wc -l < /tmp/built)" "what was built"
        same "" "$(system-docker ps -aq --filter name=laz-module-builder)" "the builder's container"
        docker volume create -d zfs -o pool=tank db > /dev/null
        run db 'echo kept > /data/f'
        "#,
    )?;
    sh(
        guest,
        "the second time what was built is loaded, and nothing is built",
        r#"
        stamp() { stat -c '%i %Y %Z' "$(dirname "$(cat /tmp/built)")"/{order,spl.ko,zfs.ko,.complete}; }
        before=$(stamp)
        docker volume rm db > /dev/null
        configure
        until_ok 120 exported tank
        unload() {
            local module
            for module in zfs spl; do
                [ ! -e /sys/module/$module ] || rmmod $module || return 1
            done
        }
        until_ok 120 unload
        configure "$mirror"
        up tank
        test -e /sys/module/zfs
        same "$before" "$(stamp)" "what was built before"
        "#,
    )?;
    Ok(())
}

/// ZFS writes again and again what its only disk did not take, before it suspends the pool, and leaves
/// a single processor to nobody else meanwhile: this machine has two.
pub(super) fn zfs_a_pool_waits_for_its_only_disk_and_goes_on(lab: &Lab) -> Result<()> {
    let options = Options {
        processors: Some(2),
        ..Options::default()
    };
    Guest::with(Machine::boot(lab, &options)?, waits_for_its_disk).map(drop)
}

fn waits_for_its_disk(guest: &Guest) -> Result<()> {
    sh(guest, "booted", "until_ok 300 docker version")?;
    sh(
        guest,
        "suspended is told at once, without harm to others",
        r#"
        configure "$mirror" "single: {kind: zfs, pool: single, create: {layout: stripe, devices: [${disk}4]}}"
        up single
        up tank
        docker volume create -d zfs -o pool=tank db > /dev/null
        docker volume create -d zfs -o pool=single solo > /dev/null
        writer user solo
        begun() { docker exec user test -s /data/user; }
        until_ok 60 begun
        pull 4
        suspended() { shows 'context single: unreachable: the pool single is suspended'; }
        until_ok 240 suspended
        within 10000 laz status > /dev/null
        shows '^tank .* healthy'
        run db 'echo on > /data/on'
        ! bounded 60 docker volume create -d zfs -o pool=single more 2> /tmp/said || fail "made on a suspended pool"
        grep -q suspended /tmp/said || fail "$(cat /tmp/said)"
        "#,
    )?;
    sh(
        guest,
        "with its disk back it goes on, and what waited was written",
        r#"
        plug 4
        until_ok 60 test -e ${disk}4-part1
        laz pool clear single > /dev/null
        imported single
        up single
        before=$(docker exec user cat /data/user | wc -l)
        more() { [ "$(docker exec user cat /data/user | wc -l)" -gt "$before" ]; }
        until_ok 60 more
        docker exec user cat /data/user > /tmp/w
        unharmed user /tmp/w
        "#,
    )?;
    Ok(())
}
