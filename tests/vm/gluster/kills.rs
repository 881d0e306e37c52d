//! Core and the plugin host die while directories are made and deleted.

use anyhow::Result;

use super::sh;
use crate::guest::Guest;
use crate::kills::KILLING;

/// What killing needs to know, and what must hold afterwards.
const OURS: &str = r#"
CONTEXT=big
VOLUME=(--context big -o on_remove=delete)
serves() { shows '^big .* healthy '; }
there() { [ -e "/var/lib/lab/g1/gv0/$1" ] || [ -e "/var/lib/lab/g2/gv0/$1" ]; }
# part PERCENT: of the time that a create takes when nobody disturbs it.
part() { awk -v took="$(cat /tmp/took)" "BEGIN { print took * $1 / 100000 }"; }
fuse() { grep ' - fuse.glusterfs ' | cut -d ' ' -f 4,5 | sort; }
# All that Gluster, the storage container and the view have of ours.
has_all() {
    ls -A /var/lib/lab/g1/gv0
    echo second
    ls -A /var/lib/lab/g2/gv0
    echo mounts
    system-docker exec laz-context-big cat /proc/self/mountinfo | fuse
    view cat /proc/thread-self/mountinfo | fuse
    view ls /run/lazarette/volumes
}
# agree DIRECTORY…: besides what was there at first there is a directory of each volume, and no other.
agree() (
    same "$*" "$(laz volume ls -q | grep -E '^k' | sort | xargs)" "volumes"
    for server in g1 g2; do
        same "$(printf '%s\n' "$@" | sort - "/tmp/$server" | xargs)" "$(ls -A /var/lib/lab/$server/gv0 | sort | xargs)" "the directories on $server"
    done
)
fine() {
    until_ok 120 healed agree "$@"
    docker exec writing cat /data/writing > /tmp/written
    unharmed writing /tmp/written
}
"#;

pub(super) fn gluster_a_kill_at_any_moment_leaves_nothing_half_made(guest: &Guest) -> Result<()> {
    let script = |rounds: &str| format!("{OURS}\n{KILLING}\n{rounds}");
    let begin = r#"
        cat > /tmp/config.yml <<'END'
#cloud-config
lazarette:
  storage:
    contexts:
      big: {kind: gluster, servers: [g1.test, g2.test], volume: gv0}
END
        laz config set /tmp/config.yml
        until_ok 60 mounted /mnt/big/gv0
        until_ok 60 serves
        view sh -c 'echo both > /mnt/big/gv0/both'
        until_ok 300 healed holds g1 both both
        until_ok 300 healed holds g2 both both
        for server in g1 g2; do ls -A /var/lib/lab/$server/gv0 > /tmp/$server; done
        has_all > /tmp/first
        from=$(date +%s%N)
        laz volume create "${VOLUME[@]}" -o path=kept kept > /dev/null
        echo $((($(date +%s%N) - from) / 1000000)) > /tmp/took
        writer writing kept
        "#;
    sh(guest, "a volume under a writer", &script(begin))?;
    let core = r#"
        create core "$(part 30)" k1 -o path=k1
        create core "$(part 70)" k2 -o path=k2
        fill() { docker run --rm -v "$1:/data" busybox sh -c 'for i in $(seq 40); do echo $i > /data/$i; done'; }
        fill k1
        fill k2
        remove core "$(part 100)" k1
        fine k2 kept
        "#;
    sh(guest, "core is killed", &script(core))?;
    let host = r#"
        create host "$(part 50)" k3 -o path=k3
        same k3 "$(docker run --rm -v k3:/data busybox sh -c 'echo k3 > /data/f; cat /data/f')" "what is in it"
        remove host "$(part 100)" k2
        fine k3 kept
        "#;
    sh(guest, "the plugin host is killed", &script(host))?;
    let left = r#"
        same k3 "$(docker run --rm -v k3:/data busybox cat /data/f)" "what is in it"
        docker rm -f writing > /dev/null
        for volume in k3 kept; do until_ok 60 laz volume rm --yes $volume; done
        alike() { has_all | cmp - /tmp/first; }
        until_ok 120 healed alike || fail "left: $(has_all | diff /tmp/first -)"
        "#;
    sh(guest, "all goes without a trace", &script(left)).map(drop)
}
