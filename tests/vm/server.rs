//! A server that goes away under mounted volumes, comes back, or comes back as another one.

use anyhow::Result;

use crate::guest::Guest;
use crate::{Case, cases};

pub(crate) const RESTORED: &[Case] = cases![Restored:
    case_02_03_04_05_a_server_that_is_gone_stops_only_its_own_io,
    a_restarted_server_gives_its_locks_back,
    case_06_a_replaced_export_is_found_and_healed,
];

fn case_02_03_04_05_a_server_that_is_gone_stops_only_its_own_io(guest: &Guest) -> Result<()> {
    guest.sh(
        "volumes in use and unused, and another context",
        r#"
        cat > /tmp/config.yml <<'END'
#cloud-config
lazarette:
  storage:
    contexts:
      scratch: {kind: hello, volumes: [one]}
END
        laz config set /tmp/config.yml
        until_ok 60 mounted /mnt/scratch/one
        docker volume create -d nfs -o server=nas.test -o export=/srv/media used > /dev/null
        docker volume create -d nfs -o server=nas.test -o export=/srv/home idle > /dev/null
        # Of another version each: clients of their own, whose unmount has a farewell for the server.
        docker volume create -d nfs -o server=nas.test -o export=/srv/home -o vers=4.1 lost > /dev/null
        docker run -d --name sleeper -v lost:/data busybox sleep 1000 > /dev/null
        laz attach nfs://nas/srv/home -o vers=4.0 --name borrowed > /dev/null
        writer w0 used
        until_ok 60 test -s /var/lib/lab/nas/srv/media/w0
        nas block
        sleep 3
        "#,
    )?;
    guest.sh(
        "everything that does not need the server answers",
        r#"
        for _ in 1 2 3; do
            within 10000 laz status > /dev/null
            within 10000 laz volume ls > /dev/null
            within 10000 docker volume ls > /dev/null
            within 10000 docker ps > /dev/null
        done
        within 10000 docker volume inspect used > /dev/null
        within 20000 docker run --rm -v /mnt/scratch/one:/data busybox touch /data/f
        within 10000 laz logs nas > /dev/null
        "#,
    )?;
    guest.sh(
        "what needs it says so in time",
        r#"
        unreachable() { laz status | grep '^nas ' | has unreachable; }
        until_ok 90 unreachable
        ! bounded 120 docker run --rm -v idle:/data busybox true 2> /tmp/said || fail "it ran without its server"
        grep -q nas /tmp/said || fail "the error does not name the server: $(cat /tmp/said)"
        within 60000 docker volume rm idle > /dev/null
        ! docker volume inspect idle > /dev/null 2>&1 || fail "the volume is still there"
        within 10000 laz status > /dev/null
        "#,
    )?;
    guest.sh(
        "what is mounted from it goes in time, too, and what waits for it does not pile up",
        r#"
        within 90000 docker rm -f sleeper > /dev/null
        within 60000 docker volume rm lost > /dev/null
        within 60000 laz detach borrowed > /dev/null
        ! docker volume inspect lost > /dev/null 2>&1 || fail "the volume is still there"
        ! laz status | grep -E '^(lost|borrowed) ' || fail "core still knows them"
        same 1 "$(view grep -c ' /run/lazarette/volumes/' /proc/thread-self/mountinfo)" "volumes in the view"
        ! view grep ' /mnt/nas/borrowed ' /proc/thread-self/mountinfo || fail "still mounted"
        [ "$(hanging)" -le 8 ] || fail "$(hanging) threads hang"
        within 10000 laz status > /dev/null
        within 20000 docker run --rm -v /mnt/scratch/one:/data busybox touch /data/f
        "#,
    )?;
    comes_back(guest)
}

/// The server is reached again: as if it had never been away.
fn comes_back(guest: &Guest) -> Result<()> {
    guest.sh(
        "it comes back: the writer goes on, nothing is lost",
        r#"
        nas unblock
        writes w0 /var/lib/lab/nas/srv/media/w0
        unharmed w0 /var/lib/lab/nas/srv/media/w0
        healthy() { laz status | grep '^nas ' | has healthy; }
        until_ok 90 healthy
        "#,
    )?;
    guest.sh(
        "new mounts of it work: those that failed or went meanwhile, and others",
        r#"
        again() { # NAME OPTIONS…: makes, uses and removes a volume
            local name=$1
            shift
            docker volume create -d nfs -o server=nas.test "$@" "$name" > /dev/null
            same $name "$(timeout 120 docker run --rm -v $name:/data busybox sh -c "echo $name > /data/$name; cat /data/$name")" "what was read"
            docker volume rm $name > /dev/null
        }
        again idle -o export=/srv/home
        again lost -o export=/srv/home -o vers=4.1
        again third -o export=/srv/home -o vers=3
        for name in idle lost third; do
            same $name "$(nas exec cat /srv/home/$name)" "what the server holds"
        done
        "#,
    )?;
    guest.sh(
        "nothing hangs about",
        r#"
        docker rm -f w0 > /dev/null
        within 60000 docker volume rm used > /dev/null
        same "" "$(view ls /run/lazarette/volumes)" "what is left in the view"
        quiet() { [ "$(hanging)" = 0 ]; }
        until_ok 240 quiet
        nothing_inside_but 2 nas
        "#,
    )?;
    Ok(())
}

fn a_restarted_server_gives_its_locks_back(guest: &Guest) -> Result<()> {
    guest.sh(
        "a lock and a writer outlive a restart of the server",
        r#"
        docker volume create -d nfs -o server=nas.test -o export=/srv/media -o vers=4.2 media > /dev/null
        docker run -d --name holder $flock -v media:/data busybox sh -c \
            'touch /data/lock; exec flock /data/lock sh -c "while sleep 0.2; do echo x >> /data/held || echo failed >> /errors; done"' > /dev/null
        writer w0 media
        until_ok 120 test -s /var/lib/lab/nas/srv/media/held
        nas restart
        writes w0 /var/lib/lab/nas/srv/media/w0
        unharmed w0 /var/lib/lab/nas/srv/media/w0
        sleep 12
        status=0; timeout 60 docker run --rm $flock -v media:/data busybox flock -n -E 9 /data/lock true || status=$?
        same 9 $status "the status of a second flock"
        ! docker cp holder:/errors - > /dev/null 2>&1 || fail "a write under the lock failed"
        docker rm -f holder w0 > /dev/null
        docker volume rm media > /dev/null
        "#,
    )?;
    Ok(())
}

fn case_06_a_replaced_export_is_found_and_healed(guest: &Guest) -> Result<()> {
    guest.sh(
        "the export's directory is replaced under a running container",
        r#"
        docker volume create -d nfs -o server=nas.test -o export=/srv/media -o vers=4.2 media > /dev/null
        docker run -d --name user -v media:/data busybox sleep 1000 > /dev/null
        docker exec user sh -c 'echo old > /data/f'
        nas stop
        mv /var/lib/lab/nas/srv/media /var/lib/lab/nas/srv/old
        mkdir /var/lib/lab/nas/srv/media
        echo new > /var/lib/lab/nas/srv/media/f
        rm -rf /var/lib/lab/nas/srv/old
        nas start
        "#,
    )?;
    guest.sh(
        "healed in the view and in the container, without a restart",
        r#"
        read_new() { [ "$(timeout 10 docker exec user cat /data/f)" = new ]; }
        until_ok 150 read_new
        same new "$(timeout 60 docker run --rm -v /mnt/nas/media:/data busybox cat /data/f)" "the declared one"
        docker exec user sh -c 'echo again > /data/g'
        same again "$(cat /var/lib/lab/nas/srv/media/g)" "what the server holds"
        same 1 "$(docker exec user grep -c ' /data ' /proc/mounts)" "mounts at /data"
        docker rm -f user > /dev/null
        docker volume rm media > /dev/null
        same "" "$(view ls /run/lazarette/volumes)" "what is left in the view"
        "#,
    )?;
    Ok(())
}
