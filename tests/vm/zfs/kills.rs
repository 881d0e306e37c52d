//! What is at work dies in the middle of it: core, the plugin host, a command of ZFS's.

use anyhow::{Result, ensure};

use super::sh;
use crate::guest::Guest;
use crate::kills::KILLING;

/// What killing needs to know, and what must hold afterwards.
const OURS: &str = r#"
CONTEXT=tank
VOLUME=(--kind zfs -o pool=tank)
serves() { shows '^tank .* healthy '; }
all() { in_tank zfs list -H -o name -t all -r tank; }
there() { all | has -e "$2"; }
# mounts IDS: in the storage container and in the view these and no others are mounted, and there is
# no directory for another one.
mounts() (
    ids=$1
    same "$ids" "$(in_tank cat /proc/self/mountinfo | grep ' - zfs ' | grep -o ' tank/lazarette/[^ ]*' | cut -d / -f 3 | sort | xargs)" "mounts in the container"
    same "$ids" "$(view grep ' - zfs ' /proc/thread-self/mountinfo | grep -o ' tank/lazarette/[^ ]*' | cut -d / -f 3 | sort | xargs)" "mounts in the view"
    same "$ids" "$(in_tank ls /mnt | xargs)" "directories in the container"
    same "$ids" "$(view ls /run/lazarette/volumes | xargs)" "directories in the view"
)
# What laz knows and what ZFS has are the same, and there is nothing else.
agree() (
    laz volume ls --json > /tmp/known
    all > /tmp/all
    for one in $(sed -n 's,^tank/lazarette/,,p' /tmp/all); do
        id=${one#*@}
        id=${id#lz-}
        case $id in
            # Goes with the clone that stands on it.
            clone-*) id=${id#clone-}; same on "$(in_tank zfs get -H -o value defer_destroy "tank/lazarette/$one")" "whether $one goes" ;;
        esac
        grep -q -e "$id" /tmp/known || fail "$one is nobody's"
    done
    for name in $(laz volume ls -q | grep -E '^[ck]'); do
        grep -q -x -e "tank/lazarette/$(of "$name")" /tmp/all || fail "$name is not there"
    done
    same "$(laz volume snapshots -q kept | wc -l)" "$(grep @lz- /tmp/all | grep -c -v clone || true)" snapshots
)
fine() {
    until_ok 90 agree
    until_ok 60 mounts "$(of kept)"
    docker exec writing cat /data/writing > /tmp/written
    unharmed writing /tmp/written
}
"#;

pub(super) fn zfs_a_kill_at_any_moment_leaves_nothing_half_made(guest: &Guest) -> Result<()> {
    sh(
        guest,
        "a volume under a writer",
        r#"
        tank
        laz volume create --kind zfs -o pool=tank kept > /dev/null
        writer writing kept
        begun() { docker exec writing test -s /data/writing; }
        until_ok 60 begun
        "#,
    )?;
    for (what, rounds) in [
        (
            "core",
            "create core 'zfs create' k1
            snapshot core 'zfs snapshot' one
            duplicate core 'zfs clone' kept c1
            create core 0.3 k2
            remove core 'zfs destroy' k1",
        ),
        (
            "the plugin host",
            "create host 'zfs create' k3
            snapshot host 'zfs snapshot' two
            duplicate host 'zfs snapshot' kept c2
            duplicate host 'zfs clone' kept@one c3
            remove host 'zfs destroy' k2",
        ),
        (
            "a command of ZFS's",
            "create tool 'zfs create' k4
            remove tool 'zfs destroy' k3",
        ),
    ] {
        let script = format!("{OURS}\n{KILLING}\n{rounds}\nfine");
        sh(guest, &format!("{what} is killed"), &script)?;
    }
    let hits = sh(guest, "how many were", "cat /tmp/hits 2> /dev/null | wc -l")?;
    ensure!(
        hits.trim() != "0",
        "nothing was killed in a command of ZFS's"
    );
    let script = format!("{OURS}\n{KILLING}\n{LEFT}");
    sh(
        guest,
        "all that is left works, and goes without a trace",
        &script,
    )
    .map(drop)
}

const LEFT: &str = r#"
same k4 "$(run k4 'echo k4 > /data/f; cat /data/f')" "what is in it"
docker exec writing cat /data/writing > /tmp/written
writes() { docker exec writing cat /data/writing > /tmp/now; [ "$(wc -l < /tmp/now)" -gt "$(wc -l < /tmp/written)" ]; }
until_ok 60 writes
unharmed writing /tmp/now
docker run --rm -v c1:/c1 -v c2:/c2 -v c3:/c3 busybox sh -c 'for c in c1 c2 c3; do wc -l < /$c/writing; md5sum < /$c/writing; done' > /tmp/copies
while read -r lines && read -r sum _; do
    [ "$lines" -gt 0 ] || fail "a clone is empty"
    same "$(seq "$lines" | md5sum)" "$sum  -" "what a clone has"
done < /tmp/copies
docker rm -f writing > /dev/null
for volume in k4 c1 c2 c3; do until_ok 60 laz volume rm --yes $volume; done
same 2 "$(all | grep -c @lz-)" "snapshots that are left"
until_ok 60 laz volume rm --yes --snapshots kept
same "tank tank/lazarette" "$(all | xargs)" "what is left"
until_ok 60 mounts ""
"#;
