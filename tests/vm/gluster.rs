//! A replicated Gluster volume on two servers: its bytes, and what happens when clients, bricks or
//! servers end, stop or vanish.

mod kills;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lazarette_core::volume::HealthState;

use crate::guest::{Guest, context};
use crate::{Case, cases};
use kills::gluster_a_kill_at_any_moment_leaves_nothing_half_made;

pub(crate) const RESTORED: &[Case] = cases![Restored:
    a_replicated_gluster_volume_serves_and_both_bricks_hold_its_bytes,
    case_13_a_gluster_volume_that_does_not_exist_freezes_nothing,
    case_14_a_dead_gluster_client_is_seen_at_once_and_running_containers_go_on,
    a_gluster_brick_that_ends_and_comes_back_stops_nobody,
    gluster_servers_that_are_gone_stop_only_their_own_io,
    gluster_a_kill_at_any_moment_leaves_nothing_half_made,
];

/// What the cases' scripts share. Nothing is piped into a program that may stop reading early: the
/// writer's end by SIGPIPE would count as a failure of the whole.
const TOOLS: &str = r#"
# The client of gv0, in its container.
client() { awk 'NR == 1' <<< "$(pgrep -f -- '[-]-volfile-id=gv0 .*/mnt/' || :)"; }
# mine NAME: a volume in a directory of its own.
mine() { docker volume create -d gluster -o servers=g1.test,g2.test -o volume=gv0 -o path="$1" "$1" > /dev/null; }
# The context that was made for such volumes.
made() { awk -F'"' '{ for (i = 2; i <= NF; i += 2) if ($i ~ /^gluster-[a-z0-9-]*$/) { print $i; exit } }' <<< "$(laz status --json)"; }
# Its line, and whether its health is that.
line() { awk -v name="$(made)" '$1 == name' <<< "$(laz status)"; }
is() { [[ $(line) == *" $1"* ]]; }
# logged WORDS: the log of that context has them.
logged() { grep -q -e "$1" <<< "$(laz logs "$(made)")"; }
# healed COMMAND…: it succeeds, if need be after a heal. What is written while a client has not found
# a brick, or has lost it for a moment, gets there by a heal only, and a heal that could not be done
# is tried again after ten minutes.
healed() {
    "$@" && return
    g1 exec gluster volume heal gv0 > /dev/null 2>&1 || :
    "$@"
}
# holds SERVER FILE TEXT: its brick has just that in the file.
holds() { [ "$(cat "/var/lib/lab/$1/gv0/$2" 2> /dev/null)" = "$3" ]; }
# whole SERVER NAME VOLUME: its brick gets all that the writer writes, and lacks nothing of it.
whole() ( writes "$2" "/var/lib/lab/$1/gv0/$3/$2" && unharmed "$2" "/var/lib/lab/$1/gv0/$3/$2" )
# pending: how much the bricks have noted as to be healed.
pending() { find /var/lib/lab/g[12]/gv0/.glusterfs/indices/xattrop -type f ! -name 'xattrop-*' | wc -l; }
clean() { [ "$(pending)" = 0 ]; }
"#;

fn sh(guest: &Guest, step: &str, script: &str) -> Result<String> {
    guest.sh(step, &format!("{TOOLS}\n{script}"))
}

fn a_replicated_gluster_volume_serves_and_both_bricks_hold_its_bytes(guest: &Guest) -> Result<()> {
    sh(
        guest,
        "a volume of Docker's, through a user's container",
        r#"
        docker volume create -d gluster -o servers=g1.test,g2.test -o volume=gv0 -o path=apps/db \
            -o mode=0770 -o uid=70 -o gid=71 -o on_remove=delete db > /dev/null
        row=$(docker run --rm -v db:/data busybox sh -c 'echo precious > /data/f; grep " /data " /proc/mounts')
        case $row in *"/data fuse.glusterfs "*) ;; *) fail "no Gluster mount: $row" ;; esac
        case $row in *nosuid,nodev*) ;; *) fail "not nosuid,nodev: $row" ;; esac
        for server in g1 g2; do
            until_ok 300 healed holds $server apps/db/f precious
            same "770 70 71" "$(stat -c '%a %u %g' /var/lib/lab/$server/gv0/apps/db)" "the directory on $server"
        done
        ! laz volume create --kind gluster -o servers=g1.test,g2.test -o volume=gv0 -o path=other db 2> /tmp/said ||
            fail "other options were taken"
        grep -q apps/db /tmp/said || fail "not told which: $(cat /tmp/said)"
        docker volume rm db > /dev/null
        deleted() { [ ! -e /var/lib/lab/g1/gv0/apps/db ] && [ ! -e /var/lib/lab/g2/gv0/apps/db ]; }
        until_ok 300 healed deleted || fail "left: $(ls /var/lib/lab/g1/gv0/apps /var/lib/lab/g2/gv0/apps | xargs)"
        # Nobody uses the context any longer: it goes, and the client with it.
        gone() { [ -z "$(client)" ] && [ -z "$(made)" ]; }
        until_ok 60 gone
        "#,
    )?;
    sh(
        guest,
        "a declared context: the whole volume below /mnt",
        r#"
        cat > /tmp/config.yml <<'END'
#cloud-config
lazarette:
  storage:
    contexts:
      big: {kind: gluster, servers: [g2.test, g1.test], volume: gv0}
    volumes:
      logs: {context: big, path: logs, mount: /mnt/logs}
END
        laz config set /tmp/config.yml
        until_ok 60 mounted /mnt/big/gv0
        until_ok 60 mounted /mnt/logs
        docker run --rm -v /mnt/logs:/data busybox sh -c 'echo line > /data/l'
        same line "$(docker run --rm -v /mnt/big:/data busybox cat /data/gv0/logs/l)" "the same file"
        until_ok 300 healed holds g2 logs/l line
        # One client for all volumes of a context.
        same 1 "$(pgrep -fc -- '[-]-volfile-id=gv0 .*/mnt/')" "clients"
        laz attach gluster://g2.test,g1.test/gv0/logs --name again
        until_ok 60 shows '^again .* mounted .* attached$'
        at=$(awk '$1 == "again" {print $4}' <<< "$(laz volume ls)")
        same line "$(docker run --rm -v "$at:/data" busybox cat /data/l)" "through the attached one"
        "#,
    )?;
    guest.until("it is healthy", Duration::from_secs(60), |status| {
        let big = context(status, "big").ok()?;
        (big.health == HealthState::Healthy).then_some(())
    })
}

fn case_13_a_gluster_volume_that_does_not_exist_freezes_nothing(guest: &Guest) -> Result<()> {
    sh(
        guest,
        "it is told in time, with the client's own reason; others work meanwhile",
        r#"
        mine near
        docker run --rm -v near:/data busybox touch /data/f
        try() { # NAME SERVERS VOLUME
            local status=0
            docker volume create -d gluster -o "servers=$2" -o "volume=$3" "$1" > /dev/null || return 0
            bounded 125 docker run --rm -v "$1:/data" busybox true || status=$?
            within 60000 docker volume rm -f "$1" > /dev/null
            [ $status -ne 0 ] || echo "it was mounted"
        }
        try absent g1.test,g2.test nosuch > /tmp/absent 2>&1 &
        try name nosuch.test gv0 > /tmp/name 2>&1 &
        try host 10.202.0.99 gv0 > /tmp/host 2>&1 &
        sleep 1
        for _ in 1 2 3; do
            within 10000 laz status > /dev/null
            within 10000 docker volume ls > /dev/null
            within 90000 docker run --rm -v near:/data busybox touch /data/f
        done
        wait
        told() { grep -q -e "$2" "/tmp/$1" || fail "$1: '$2' is not in: $(cat "/tmp/$1")"; }
        told absent 'failed to fetch volume file (key:nosuch)'
        told absent 'gluster volume list'
        told name nosuch.test
        told host 10.202.0.99
        ! grep 'it was mounted' /tmp/absent /tmp/name /tmp/host || fail "mounted"
        ! grep 'did not end' /tmp/absent /tmp/name /tmp/host || fail "it hangs"
        docker volume rm near > /dev/null
        same "" "$(view ls /run/lazarette/volumes)" "what is left in the view"
        "#,
    )
    .map(drop)
}

fn case_14_a_dead_gluster_client_is_seen_at_once_and_running_containers_go_on(
    guest: &Guest,
) -> Result<()> {
    let text = sh(
        guest,
        "killed: the same container reads and writes again",
        r#"
        mine one
        mine two
        docker run -d --name user -v one:/data busybox sleep 1000 > /dev/null
        docker run -d --name other -v two:/data busybox sleep 1000 > /dev/null
        docker exec user sh -c 'echo before > /data/f'
        docker exec other sh -c 'echo before > /data/g'
        until_ok 300 healed holds g1 one/f before
        until_ok 300 healed holds g2 two/g before
        context=$(made)
        old=$(client)
        killed=$(date +%s%N)
        kill -KILL "$old"
        until_ok 60 logged "the Gluster client .* has ended"
        reads() { [ "$(timeout 10 docker exec "$1" cat "/data/$2")" = before ]; }
        until_ok 120 reads user f
        until_ok 120 reads other g
        echo "took $((($(date +%s%N) - killed) / 1000000))" >&2
        docker exec user sh -c 'echo after > /data/f'
        docker exec other sh -c 'echo after > /data/g'
        until_ok 300 healed holds g1 one/f after
        until_ok 300 healed holds g2 two/g after
        for name in user other; do
            same 1 "$(docker exec $name grep -c ' /data ' /proc/mounts)" "mounts at /data in $name"
            same "running 0" "$(docker inspect -f '{{.State.Status}} {{.RestartCount}}' $name)" "$name"
        done
        [ "$(client)" != "$old" ] || fail "the same client"
        # Both clocks are the machine's.
        at=$(awk '/the Gluster client .* has ended/ { print $1; exit }' <<< "$(system-docker logs -t "laz-context-$context" 2>&1)")
        echo $((($(date -d "$at" +%s%N) - killed) / 1000000))
        "#,
    )?;
    let noticed: u64 = text.lines().last().context("no time")?.parse()?;
    // On the host it takes less than a second; here that much of a machine which is emulated.
    let limit = guest.machine().patience(Duration::from_secs(1));
    ensure!(
        u128::from(noticed) < limit.as_millis(),
        "the death was noticed after {noticed} ms"
    );
    println!("the death of a Gluster client: noticed after {noticed} ms");
    sh(
        guest,
        "stopped: ended and replaced",
        r#"
        old=$(client)
        from=$(date +%s%N)
        kill -STOP "$old"
        reads() { [ "$(timeout 10 docker exec user cat /data/f)" = after ]; }
        until_ok 120 reads
        echo "after $((($(date +%s%N) - from) / 1000000)) ms" >&2
        logged "was stopped and had to be ended" || fail "the log does not say so"
        [ "$(client)" != "$old" ] || fail "the same client"
        docker exec user sh -c 'echo again > /data/f'
        until_ok 300 healed holds g1 one/f again
        "#,
    )?;
    sh(
        guest,
        "the plugin host's death: no error, the same client",
        r#"
        writer w0 one
        until_ok 300 healed whole g1 w0 one
        old=$(client)
        host=$(awk '/laz-plugin-host serve/ {print $1}' <<< "$(system-docker top "laz-context-$(made)" -o pid,args)")
        kill -KILL "$host"
        writes w0 /var/lib/lab/g1/gv0/one/w0
        until_ok 120 logged "found the client"
        unharmed w0 /var/lib/lab/g1/gv0/one/w0
        same "$old" "$(client)" "the client"
        "#,
    )?;
    sh(
        guest,
        "the whole container's death",
        r#"
        system-docker kill "laz-context-$(made)" > /dev/null
        reads() { [ "$(timeout 10 docker exec user cat /data/f)" = again ]; }
        until_ok 120 reads
        docker rm -f user other w0 > /dev/null
        within 60000 docker volume rm one two > /dev/null
        same "" "$(view ls /run/lazarette/volumes)" "what is left in the view"
        "#,
    )?;
    Ok(())
}

fn a_gluster_brick_that_ends_and_comes_back_stops_nobody(guest: &Guest) -> Result<()> {
    sh(
        guest,
        "a writer, and both bricks get all of it",
        r#"
        mine one
        writer w0 one
        # A client that has found only one brick so far writes to it alone: if just that one is killed,
        # there is no good copy left. So both must have everything, and nothing to say of each other.
        until_ok 300 healed whole g1 w0 one
        until_ok 300 healed whole g2 w0 one
        until_ok 300 healed clean
        until_ok 120 is healthy
        "#,
    )?;
    sh(
        guest,
        "a brick is killed: I/O goes on, and it is told which is away",
        r#"
        g2 kill-brick
        told() { is degraded && grep -qF g2.test:/bricks/gv0 <<< "$(laz status)"; }
        until_ok 120 told
        writes w0 /var/lib/lab/g1/gv0/one/w0
        unharmed w0 /var/lib/lab/g1/gv0/one/w0
        "#,
    )?;
    sh(
        guest,
        "it is back: healed, and both hold the same",
        r#"
        g1 exec gluster volume start gv0 force > /dev/null
        back() { ! grep -qF g2.test:/bricks/gv0 <<< "$(laz status)"; }
        until_ok 300 back
        writes w0 /var/lib/lab/g1/gv0/one/w0
        until_ok 300 healed whole g2 w0 one
        docker stop -t 1 w0 > /dev/null
        alike() { cmp /var/lib/lab/g1/gv0/one/w0 /var/lib/lab/g2/gv0/one/w0; }
        until_ok 300 healed alike
        until_ok 300 healed clean
        until_ok 120 is healthy
        unharmed w0 /var/lib/lab/g2/gv0/one/w0
        docker rm -f w0 > /dev/null
        docker volume rm one > /dev/null
        "#,
    )?;
    Ok(())
}

fn gluster_servers_that_are_gone_stop_only_their_own_io(guest: &Guest) -> Result<()> {
    sh(
        guest,
        "both servers stop",
        r#"
        mine one
        docker run -d --name user -v one:/data busybox sleep 1000 > /dev/null
        docker exec user sh -c 'echo x > /data/f'
        # A copy that only one of them has is out of reach until that one is back.
        until_ok 300 healed holds g1 one/f x
        until_ok 300 healed holds g2 one/f x
        g1 stop
        g2 stop
        until_ok 120 is unreachable
        for _ in 1 2 3; do
            within 10000 laz status > /dev/null
            within 10000 docker volume ls > /dev/null
            within 10000 docker ps > /dev/null
        done
        within 10000 docker volume inspect one > /dev/null
        ! bounded 125 docker run --rm -v one:/data busybox touch /data/g 2> /tmp/said || fail "it wrote without a server"
        docker volume create -d nfs -o server=nas.test -o export=/srv/media near > /dev/null
        within 90000 docker run --rm -v near:/data busybox touch /data/f
        "#,
    )?;
    sh(
        guest,
        "they come back",
        r#"
        g1 start
        g2 start
        reads() { [ "$(timeout 10 docker exec user cat /data/f)" = x ]; }
        until_ok 300 reads
        until_ok 300 healed is healthy
        docker exec user sh -c 'echo y > /data/f'
        docker rm -f user > /dev/null
        within 60000 docker volume rm one near > /dev/null
        same "" "$(view ls /run/lazarette/volumes)" "what is left in the view"
        "#,
    )?;
    Ok(())
}
