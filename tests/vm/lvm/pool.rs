//! Thin pools that fill up.

use anyhow::Result;

use super::step;
use crate::guest::Guest;

pub(super) fn lvm_takes_nothing_new_into_a_pool_that_is_nearly_full(guest: &Guest) -> Result<()> {
    step(
        guest,
        "a small pool is filled beyond 80 %",
        r#"
        context ", devices: [${by}1], create: true, thin_pool: {name: pool, size: 400M}"
        healthy
        docker volume create -d lvm -o volume_group=fast -o size=380M big > /dev/null
        docker volume create -d lvm -o volume_group=fast -o size=64M small > /dev/null
        docker volume create -d lvm -o volume_group=fast -o size=300M greedy > /dev/null
        in_volume small 'echo fine > /data/f'
        in_volume big 'dd if=/dev/zero of=/data/f bs=1M count=330 2> /dev/null; sync'
        until_ok 60 shows 'context fast: .*pool: [89].*laz pool extend'
        "#,
    )?;
    guest.refused(
        "a new volume",
        "docker volume create -d lvm -o volume_group=fast -o size=64M new",
        &["fast/pool", "% full", "laz pool extend"],
    )?;
    guest.refused(
        "a snapshot",
        "laz volume snapshot big one",
        &["fast/pool", "% full"],
    )?;
    step(
        guest,
        "others are read and written",
        r#"
        same fine "$(in_volume small 'cat /data/f')" read
        in_volume small 'echo more >> /data/f'
        "#,
    )?;
    step(
        guest,
        "full to the last block: who writes hears of it, others read, and it is told",
        r#"
        same error "$(lvm lvs --noheadings -o lv_when_full fast/pool | tr -d ' ')" "what it does with writes when it is full"
        ! in_volume greedy 'dd if=/dev/zero of=/data/f bs=1M count=150 conv=fsync' 2> /tmp/said || fail "150 MB went into a full pool"
        grep -q -i -e 'no space' -e 'i/o error' -e 'input/output' -e 'read-only' /tmp/said || fail "the writer was not told why: $(cat /tmp/said)"
        until_ok 90 shows 'context fast: .*pool is full.*laz pool extend'
        same fine "$(in_volume small 'head -n 1 /data/f')" read
        in_volume big 'test -s /data/f'
        "#,
    )?;
    step(
        guest,
        "what is removed makes room",
        r#"
        until_ok 90 docker volume rm greedy
        again() { in_volume small 'echo again >> /data/f && sync'; }
        until_ok 90 again
        full() { shows 'pool is full'; }
        not_full() { ! full; }
        until_ok 60 not_full
        "#,
    )?;
    step(
        guest,
        "the operator gives it more",
        r#"
        laz pool extend --yes fast pool=pool size=200M
        until_ok 60 shows '^fast .* healthy '
        docker volume create -d lvm -o volume_group=fast -o size=64M new > /dev/null
        in_volume new true
        "#,
    )?;
    step(
        guest,
        "or says that it takes more by itself",
        r#"
        context ", devices: [${by}1], thin_pool: {name: pool}, autoextend: {threshold: 70, by: 50}"
        healthy
        in_volume big 'dd if=/dev/zero of=/data/g bs=1M count=20 2> /dev/null; sync'
        in_volume new 'dd if=/dev/zero of=/data/g bs=1M count=50 2> /dev/null; sync'
        docker volume create -d lvm -o volume_group=fast -o size=200M -o type=thin more > /dev/null
        in_volume more 'dd if=/dev/zero of=/data/g bs=1M count=120 2> /dev/null; sync'
        larger() { [ "$(lvm lvs --noheadings --nosuffix --units m -o lv_size fast/pool | cut -d . -f 1)" -gt 700 ]; }
        until_ok 60 larger
        "#,
    )?;
    Ok(())
}
