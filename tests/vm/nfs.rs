//! The versions of NFS, locks, and what a server refuses.

use anyhow::Result;

use crate::guest::Guest;
use crate::{Case, cases};

pub(crate) const RESTORED: &[Case] = cases![Restored:
    versions_3_40_41_and_42_mount_and_hold_the_same_bytes,
    case_17_locks_on_version_3_are_the_servers,
    case_01_13_what_the_server_refuses_is_told_in_time,
];

fn versions_3_40_41_and_42_mount_and_hold_the_same_bytes(guest: &Guest) -> Result<()> {
    guest.sh(
        "each version",
        r#"
        for vers in 3 4.0 4.1 4.2; do
            docker volume create -d nfs -o server=nas.test -o export=/srv/media -o path=versions -o vers=$vers v$vers > /dev/null
            row=$(docker run --rm -v v$vers:/data busybox sh -c "echo $vers >> /data/f; grep ' /data ' /proc/mounts")
            case $row in *",vers=$vers,"*) ;; *) fail "version $vers: $row" ;; esac
            case $row in *,nolock,*|*local_lock=all*) fail "version $vers without the server's locks: $row" ;; esac
        done
        same "3 4.0 4.1 4.2" "$(nas exec cat /srv/media/versions/f | tr '\n' ' ' | sed 's/ $//')" "what the server holds"
        docker volume rm v3 v4.0 v4.1 v4.2 > /dev/null
        "#,
    )?;
    guest.sh(
        "options are those of nfs(5)",
        r#"
        docker volume create -d nfs -o server=nas.test -o export=/srv/media -o rsize=65536 -o wsize=32768 \
            -o actimeo=1 -o soft -o timeo=100 -o retrans=3 tuned > /dev/null
        row=$(docker run --rm -v tuned:/data busybox grep ' /data ' /proc/mounts)
        for option in rsize=65536 wsize=32768 acregmin=1 soft timeo=100 retrans=3; do
            case ",${row// /,}," in *",$option,"*) ;; *) fail "$option is missing: $row" ;; esac
        done
        docker volume rm tuned > /dev/null
        "#,
    )?;
    Ok(())
}

fn case_17_locks_on_version_3_are_the_servers(guest: &Guest) -> Result<()> {
    guest.sh(
        "a lock held in one container keeps another out, and the server knows it",
        r#"
        docker volume create -d nfs -o server=nas.test -o export=/srv/media -o vers=3 locks > /dev/null
        docker run -d --name holder $flock -v locks:/data busybox sh -c 'touch /data/lock; exec flock /data/lock sleep 1000' > /dev/null
        # Once for the client, once for the server: both are this kernel.
        held() { [ "$(grep -c ":$(stat -c %i /var/lib/lab/nas/srv/media/lock) " /proc/locks)" -ge 2 ]; }
        until_ok 60 held
        status=0; timeout 60 docker run --rm $flock -v locks:/data busybox flock -n -E 9 /data/lock true || status=$?
        same 9 $status "the status of a second flock"
        nas exec ls /var/lib/nfs/sm | has . || fail "the server's statd watches no client"
        docker rm -f holder > /dev/null
        timeout 60 docker run --rm $flock -v locks:/data busybox flock /data/lock true
        docker volume rm locks > /dev/null
        "#,
    )?;
    Ok(())
}

/// What the server lacks or refuses is mounted once it does so no longer: nobody has to do anything
/// on this machine.
fn appears_later(guest: &Guest) -> Result<()> {
    guest.sh(
        "an export that is not there, one that is denied",
        r#"
        cat > /tmp/config.yml <<'END'
#cloud-config
lazarette:
  storage:
    volumes:
      later: {context: nas, export: /srv/later}
      denied: {context: nas, export: /srv/private}
END
        laz config set /tmp/config.yml
        until_ok 120 shows 'volume later.*/srv/later'
        until_ok 120 shows 'volume denied.*denied'
        [ -z "$(mounted /mnt/nas/later)$(mounted /mnt/nas/denied)" ] || fail "something is mounted"
        "#,
    )?;
    guest.sh(
        "the server exports both, and they are mounted by themselves",
        r#"
        options=rw,no_root_squash,no_subtree_check,insecure
        nas exec mkdir -p /srv/later
        nas exec exportfs -o $options,fsid=4 '*:/srv/later'
        nas exec exportfs -o $options,fsid=3 '*:/srv/private'
        until_ok 240 mounted /mnt/nas/later
        until_ok 240 mounted /mnt/nas/denied
        docker run --rm -v /mnt/nas/later:/later -v /mnt/nas/denied:/denied busybox \
            sh -c 'echo l > /later/f; echo d > /denied/f'
        same "l d" "$(nas exec cat /srv/later/f /srv/private/f | xargs)" "what the server holds"
        "#,
    )?;
    guest.sh(
        "as it was",
        r#"
        printf '#cloud-config\nlazarette: {}\n' > /tmp/config.yml
        laz config set /tmp/config.yml
        gone() { ! mounted /mnt/nas/later && ! mounted /mnt/nas/denied; }
        until_ok 60 gone
        nas exec exportfs -u '*:/srv/private'
        "#,
    )?;
    Ok(())
}

fn case_01_13_what_the_server_refuses_is_told_in_time(guest: &Guest) -> Result<()> {
    appears_later(guest)?;
    guest.sh(
        "a context that waits for nobody",
        "docker volume create -d nfs -o server=10.201.0.9 -o export=/srv/media slow > /tmp/slow 2>&1 & sleep 1
        docker volume create -d nfs -o server=nas.test -o export=/srv/media near > /dev/null
        timeout 60 docker run --rm -v near:/data busybox touch /data/f
        docker volume rm near > /dev/null
        wait || true
        docker volume rm -f slow > /dev/null 2>&1",
    )?;
    // Side by side, for core waits in case the network is only late.
    guest.sh(
        "no such export, no right, no such name, no such host",
        r#"
        try() {
            local name=$1 status=0
            shift
            docker volume create -d nfs "$@" "$name" > /dev/null || return 0
            bounded 125 docker run --rm -v "$name:/data" busybox true || status=$?
            within 30000 docker volume rm -f "$name" > /dev/null
            [ $status -ne 0 ] || echo "it was mounted"
        }
        try export -o server=nas.test -o export=/srv/nothing > /tmp/export 2>&1 &
        try right -o server=nas.test -o export=/srv/private -o vers=3 > /tmp/right 2>&1 &
        try name -o server=nosuch.test -o export=/srv/media > /tmp/name 2>&1 &
        try host -o server=10.201.0.9 -o export=/srv/media > /tmp/host 2>&1 &
        wait
        told() { grep -q -e "$2" "/tmp/$1" || fail "$1: '$2' is not in: $(cat "/tmp/$1")"; }
        told export /srv/nothing
        told right denied
        told name nosuch.test
        told host 10.201.0.9
        ! grep 'it was mounted' /tmp/export /tmp/right /tmp/name /tmp/host || fail "mounted"
        ! grep 'did not end' /tmp/export /tmp/right /tmp/name /tmp/host || fail "it hangs"
        "#,
    )?;
    guest.sh(
        "the server serves version 3 only",
        "nas exec rpc.nfsd 0; nas exec rpc.nfsd --no-nfs-version 4 4",
    )?;
    guest.refused(
        "version",
        "docker volume create -d nfs -o server=nas.test -o export=/srv/media -o vers=4.1 bad && \
         bounded 125 docker run --rm -v bad:/data busybox true",
        &["nas.test:/srv/media", "NFS 4.1", "not supported"],
    )?;
    guest.sh(
        "laz status says the same",
        r"until_ok 60 shows 'volume bad: .*nas\.test:/srv/media with NFS 4\.1: .*not supported'",
    )?;
    guest.sh(
        "nothing is left, and other volumes work",
        r#"
        docker volume rm -f bad > /dev/null
        same "" "$(docker volume ls -q | grep -v '^nas\.' || true)" "volumes"
        docker volume create -d nfs -o server=nas.test -o export=/srv/media -o vers=3 good > /dev/null
        docker run --rm -v good:/data busybox touch /data/f
        "#,
    )?;
    Ok(())
}
