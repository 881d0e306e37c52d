//! Copies that are interrupted.

use anyhow::Result;

use super::step;
use super::thick::group_of_four;
use crate::guest::Guest;

pub(super) fn lvm_a_copy_that_is_cut_off_is_finished_or_gone(guest: &Guest) -> Result<()> {
    group_of_four(guest)?;
    step(
        guest,
        "a copy goes on when the plugin host was killed, and is mounted beside its source",
        r#"
        make -o size=160M -o fs=btrfs source
        in_volume source 'dd if=/dev/urandom of=/data/f bs=1M count=40 2> /dev/null; md5sum < /data/f > /data/sum; sync'
        host=$(system-docker top laz-context-fast -o pid,args | awk '/laz-plugin-host serve/ { print $1 }')
        laz volume clone source copy > /tmp/out 2>&1 &
        cloning=$!
        until pgrep -x dd > /dev/null; do kill -0 $cloning || fail "nothing is copied: $(cat /tmp/out)"; done
        kill -9 $host
        wait $cloning || fail "it was given up: $(cat /tmp/out)"
        both() { docker run --rm -v source:/a -v copy:/b busybox sh -c 'cat /a/sum; md5sum < /a/f; md5sum < /b/f'; }
        same 1 "$(both | sort -u | wc -l)" "the sums of the source and of its copy"
        same "" "$(lvm lvs --noheadings -o lv_name fast | grep lzh || true)" "what the copy was made from"
        "#,
    )?;
    step(
        guest,
        "a copy that nobody was told of, for core was killed, leaves nothing",
        r#"
        laz volume clone source other > /tmp/out 2>&1 &
        cloning=$!
        until pgrep -x dd > /dev/null; do kill -0 $cloning || fail "nothing is copied: $(cat /tmp/out)"; done
        kill -9 "$(core_pid)"
        ! wait $cloning || fail "core was killed, and it was made: $(cat /tmp/out)"
        until_ok 60 laz status
        gone() { ! laz volume inspect other; }
        until_ok 90 gone
        same 2 "$(lvm lvs --noheadings -o lv_name fast | grep -c lz)" "logical volumes, the source and its copy"
        same 1 "$(docker run --rm -v source:/a busybox sh -c 'cat /a/sum; md5sum < /a/f' | sort -u | wc -l)" "the sums of the source"
        until_ok 60 docker volume rm source
        until_ok 60 docker volume rm copy
        no_trace
        "#,
    )
}
