//! Parts that die while containers do I/O: nobody's I/O fails, everything is put in order, and
//! afterwards volumes can be removed and leave nothing.

use anyhow::Result;

use crate::guest::Guest;
use crate::{Case, cases};

pub(crate) const RESTORED: &[Case] = cases![Restored:
    case_08_09_11_12_io_goes_on_when_any_part_is_killed,
    case_12_21_the_nfs_container_is_removed_and_comes_back,
];

/// For scripts that kill what is at work while volumes are made, copied and removed.
pub(crate) const KILLING: &str = include_str!("killing.sh");

/// A writer on a Docker volume and one on a declared export.
const WRITERS: &str = r#"
    docker volume create -d nfs -o server=nas.test -o export=/srv/media -o path=w media > /dev/null
    writer w1 media
    writer w2 /mnt/nas/home
    until_ok 30 test -s /var/lib/lab/nas/srv/media/w/w1
    until_ok 30 test -s /var/lib/lab/nas/srv/home/w2
"#;

/// Both still write, no write failed, core is in order, and a new container has the volume, too.
const FINE: &str = r#"
    writes w1 /var/lib/lab/nas/srv/media/w/w1
    writes w2 /var/lib/lab/nas/srv/home/w2
    unharmed w1 /var/lib/lab/nas/srv/media/w/w1
    unharmed w2 /var/lib/lab/nas/srv/home/w2
    in_order() {
        local text
        text=$(laz status)
        grep -q '^nas .* healthy ' <<< "$text" && grep -q '^media .* mounted ' <<< "$text" &&
            grep -q '^nas.home .* mounted ' <<< "$text" && grep -q '^media .* w1 ' <<< "$text"
    }
    until_ok 60 in_order
    timeout 60 docker run --rm -v media:/data -v /mnt/nas/home:/home busybox cat /data/w1 /home/w2 > /dev/null
"#;

/// Nothing is left of them.
const REMOVED: &str = r#"
    docker rm -f w1 w2 > /dev/null
    until_ok 60 docker volume rm media
    same "" "$(view ls /run/lazarette/volumes)" "what is left in the view"
    same "" "$(docker volume ls -q | grep -v '^nas\.' || true)" "Docker's volumes"
    same laz-context-nas "$(system-docker ps -a --filter name=laz-context --format '{{.Names}}')" "storage containers"
    same 2 "$(view grep -c ' - nfs4 ' /proc/thread-self/mountinfo)" "NFS mounts in the view"
    nothing_inside_but 2 nas
"#;

fn case_08_09_11_12_io_goes_on_when_any_part_is_killed(guest: &Guest) -> Result<()> {
    guest.sh("two writers", WRITERS)?;
    for (what, kill) in [
        (
            "core",
            r#"old=$(core_pid); kill -9 $old
            another() { new=$(core_pid) && [ "$new" != $old ] && laz status > /dev/null; }
            until_ok 30 another"#,
        ),
        (
            "the plugin host",
            r#"host() { pgrep -f 'laz-plugin-host serve' | head -n 1; }
            old=$(host); kill -9 $old
            another() { new=$(host) && [ -n "$new" ] && [ "$new" != "$old" ]; }
            until_ok 15 another"#,
        ),
        (
            "user Docker",
            r#"old=$(engine_pid docker); kill -9 $old
            another() { [ "$(engine_pid docker)" != $old ] && docker version; }
            until_ok 90 another"#,
        ),
        (
            "system Docker",
            r#"old=$(engine_pid system-docker); kill -9 $old
            another() { [ "$(engine_pid system-docker)" != $old ] && system-docker version; }
            until_ok 90 another"#,
        ),
    ] {
        guest.sh(&format!("{what} is killed and comes back"), kill)?;
        guest.sh(&format!("after {what} was killed"), FINE)?;
    }
    guest.sh("removed", REMOVED)?;
    Ok(())
}

fn case_12_21_the_nfs_container_is_removed_and_comes_back(guest: &Guest) -> Result<()> {
    guest.sh("two writers", WRITERS)?;
    guest.sh(
        "the container is removed",
        r#"
        old=$(system-docker inspect -f '{{.Id}}' laz-context-nas)
        system-docker rm -f laz-context-nas > /dev/null
        another() { new=$(system-docker inspect -f '{{.Id}}' laz-context-nas) && [ "$new" != $old ]; }
        until_ok 60 another
        "#,
    )?;
    guest.sh("after the container was removed", FINE)?;
    guest.sh(
        "core, the container and user Docker at once",
        r#"
        kill -9 "$(core_pid)" "$(engine_pid docker)"
        system-docker rm -f laz-context-nas > /dev/null
        until_ok 90 docker version
        "#,
    )?;
    guest.sh("after all three were gone", FINE)?;
    guest.sh("removed", REMOVED)?;
    Ok(())
}
