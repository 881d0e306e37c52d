//! What a boot brings up, in which order, and what it makes of servers that are late or away.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lazarette_core::control::Status;
use lazarette_core::control::VolumePhase;
use lazarette_core::volume::HealthState;
use lazarette_tests::lab::Lab;
use lazarette_tests::vm::{Machine, Options};
use serde_json::Value;

use crate::guest::{Guest, context, volume};
use crate::{Case, cases};

pub(crate) const RESTORED: &[Case] = cases![Restored:
    boot_brings_up_all_parts_with_init_as_pid_1,
    case_21_nothing_that_speaks_nfs_is_outside_its_container,
    the_doctor_the_logs_and_the_kinds_answer,
];

pub(crate) const BOOTS: &[Case] = cases![Boots:
    case_07_10_user_docker_waits_for_a_required_volume,
    case_19_user_docker_waits_for_its_data_root_and_fills_no_empty_directory,
    case_01_11_22_23_what_is_bad_or_away_at_boot_fails_alone,
];

fn boot_brings_up_all_parts_with_init_as_pid_1(guest: &Guest) -> Result<()> {
    guest.sh(
        "init is PID 1 and reaps",
        r#"
        same /usr/lib/lazarette/laz-init "$(readlink /proc/1/exe)" "PID 1"
        (sleep 0.1 & exec true)
        sleep 0.5
        for stat in /proc/[0-9]*/stat; do
            read -r pid name state parent _ < "$stat" 2> /dev/null || continue
            [ "$state $parent" != "Z 1" ] || fail "$name ($pid) is not reaped"
        done
        "#,
    )?;
    let record = guest.sh("the record of the boot", "cat /run/lazarette/boot.json")?;
    let record: Value = serde_json::from_str(&record)?;
    let phases = record["phases"].as_array().context("phases")?;
    for phase in phases {
        let done = matches!(phase["state"].as_str(), Some("done" | "skipped"));
        ensure!(done, "a phase of the boot was not done: {phase}");
    }
    for name in [
        "early-mounts",
        "system-docker",
        "devices",
        "core",
        "user-docker",
    ] {
        let found = phases
            .iter()
            .any(|p| p["name"] == name && p["state"] == "done");
        ensure!(found, "phase {name} is missing: {record}");
    }
    disks_have_their_names_before_contexts_open(guest, phases)?;
    let status = guest.status()?;
    ensure!(status.ready && status.problems.is_empty(), "{status:?}");
    ensure!(
        status.engines.iter().filter(|e| e.reachable).count() == 2,
        "{status:?}"
    );
    ensure!(
        context(&status, "nas")?.health == HealthState::Healthy,
        "{status:?}"
    );
    for name in ["media", "home"] {
        let target = format!("/mnt/nas/{name}");
        let found = volume(&status, &format!("nas.{name}"))?;
        ensure!(found.mountpoint.as_ref() == Some(&target), "{found:?}");
        ensure!(found.phase == VolumePhase::Mounted, "{found:?}");
    }
    guest.sh(
        "user Docker runs in the view, where the exports are; nobody else sees them",
        r#"
        same "$(stat -L -c %i /run/lazarette/view/mnt)" \
            "$(stat -L -c %i "/proc/$(engine_pid docker)/ns/mnt")" "user Docker's mount namespace"
        for name in media home; do
            mounted /mnt/nas/$name | has " - nfs4 nas.test:/srv/$name "
        done
        ! grep /mnt/nas /proc/1/mountinfo || fail "the host sees the exports"
        same hello "$(command docker run --rm busybox echo hello)" "a container's output"
        laz status | has '^nas.media  *nas  *mounted  */mnt/nas/media'
        "#,
    )?;
    Ok(())
}

fn disks_have_their_names_before_contexts_open(guest: &Guest, phases: &[Value]) -> Result<()> {
    let start = |name: &str| {
        let found = phases.iter().find(|p| p["name"] == name);
        found.and_then(|p| p["start"].as_f64()).context("a start")
    };
    let devices = phases.iter().find(|p| p["name"] == "devices");
    let took = devices.and_then(|p| p["seconds"].as_f64());
    let end = start("devices")? + took.context("a length")?;
    ensure!(end <= start("core")?, "core did not wait: {phases:?}");
    guest.sh(
        "every disk has its name, and again when udev was dead while one lost it",
        r#"
        for disk in 1 2 3 4; do test -b /dev/disk/by-id/virtio-disk$disk; done
        same /run/udev/lazarette-settled "$(ls /run/udev/lazarette-settled)" "what udev left"
        rm /dev/disk/by-id/virtio-disk3
        pkill -KILL -x systemd-udevd
        until_ok 90 test -b /dev/disk/by-id/virtio-disk3
        same true "$(system-docker inspect -f '{{.State.Running}}' udev)" "udev runs"
        "#,
    )?;
    Ok(())
}

fn case_21_nothing_that_speaks_nfs_is_outside_its_container(guest: &Guest) -> Result<()> {
    guest.sh(
        "no program of NFS is in the OS",
        r#"
        for program in mount.nfs mount.nfs4 umount.nfs rpcbind rpc.statd rpc.mountd nfsdcld exportfs sm-notify; do
            found=$(find / -xdev -name "$program" -not -path '/var/lib/*docker/*' -print -quit)
            [ -z "$found" ] || fail "$found is in the OS"
        done
        ! grep -E '^Package: (nfs-common|nfs-kernel-server|rpcbind)$' /var/lib/dpkg/status || fail "a package of NFS's is in the OS"
        "#,
    )?;
    guest.sh(
        "and yet its exports are there for user Docker's containers, and the server has the bytes",
        r#"
        same x "$(docker run --rm -v /mnt/nas/media:/data busybox sh -c 'echo x > /data/f; cat /data/f')" "what was read"
        same x "$(nas exec cat /srv/media/f)" "what the server holds"
        row=$(docker run --rm -v /mnt/nas/media:/data busybox grep ' /data ' /proc/mounts)
        case $row in "nas.test:/srv/media /data nfs4 "*) ;; *) fail "the mount in the container: $row" ;; esac
        for option in nosuid nodev hard vers=4.2; do
            case ",${row// /,}," in *",$option,"*) ;; *) fail "$option is missing: $row" ;; esac
        done
        "#,
    )?;
    guest.refused(
        "a path that is not mounted gives no empty directory",
        "docker run --rm -v /mnt/nas/nothing:/data busybox true",
        &["read-only file system"],
    )?;
    guest.sh(
        "the NFS container is not privileged and its root is read-only",
        r#"
        facts=$(system-docker inspect -f \
            '{{.HostConfig.Privileged}} {{.HostConfig.ReadonlyRootfs}} {{.HostConfig.NetworkMode}}' laz-context-nas)
        same "false true host" "$facts" "the container"
        ! system-docker inspect -f '{{range .Mounts}}{{.Source}} {{end}}' laz-context-nas | grep docker.sock ||
            fail "it has an engine's socket"
        "#,
    )?;
    Ok(())
}

fn the_doctor_the_logs_and_the_kinds_answer(guest: &Guest) -> Result<()> {
    guest.sh("laz doctor finds all that is needed", "laz doctor")?;
    guest.sh("laz logs tells something", "[ -n \"$(laz logs nas)\" ]")?;
    guest.sh(
        "laz kinds",
        r#"laz kinds | has '^nfs'; laz kinds nfs | has rsize; laz config schema | has '"rsize"'"#,
    )?;
    guest.refused(
        "laz logs of nothing",
        "laz logs nothing",
        &["nothing", "laz status"],
    )?;
    Ok(())
}

/// Boots with `cloud_config` and without test servers.
fn boot(lab: &Lab, cloud_config: &str) -> Result<Machine> {
    let options = Options {
        cloud_config: Some(cloud_config.to_owned()),
        disks: Vec::new(),
        ..Options::default()
    };
    Machine::boot(lab, &options)
}

fn is_mounted(status: &Status, name: &str) -> Option<()> {
    let found = status.volumes.iter().find(|v| v.name.as_str() == name)?;
    (found.phase == VolumePhase::Mounted).then_some(())
}

/// The server comes up while user Docker's start waits for it.
fn case_07_10_user_docker_waits_for_a_required_volume(lab: &Lab) -> Result<()> {
    let machine = boot(
        lab,
        "#cloud-config\n\
         lazarette:\n  \
           docker: {wait_seconds: 600}\n  \
           storage:\n    \
             volumes:\n      \
               db: {context: nas, export: /srv/home, path: db, mount: /mnt/db, required: true}\n",
    )?;
    Guest::with(machine, |guest| {
        guest.sh(
            "core answers, and the volume plugin is there, before user Docker",
            r#"
            until_ok 120 laz status
            until_ok 30 test -S /run/docker/plugins/nfs.sock
            sleep 5
            ! docker version > /dev/null 2>&1 || fail "user Docker is up without its volume"
            ! pgrep -f data-root.*/var/lib/docker || fail "user Docker was started without its volume"
            "#,
        )?;
        let status = guest.status()?;
        let db = volume(&status, "db")?;
        ensure!(!status.ready && db.required && db.phase != VolumePhase::Mounted, "{status:?}");
        guest.until("nothing says why", Duration::from_secs(20), |status| {
            volume(status, "db").ok()?.reason
        })?;
        guest.sh(
            "the server comes; the volume is there when user Docker is",
            r#"
            nas start
            until_ok 120 docker version
            mounted /mnt/db | grep ' - nfs4 nas.test:/srv/home/db '
            same x "$(docker run --rm -v /mnt/db:/data busybox sh -c 'echo x > /data/f; cat /data/f')" read
            same x "$(nas exec cat /srv/home/db/f)" "what the server holds"
            "#,
        )?;
        guest.until("not ready", Duration::from_secs(10), |status| status.ready.then_some(()))
    })
    .map(drop)
}

/// The time to wait for it is long over when the volume comes.
fn case_19_user_docker_waits_for_its_data_root_and_fills_no_empty_directory(
    lab: &Lab,
) -> Result<()> {
    // The driver is the one that works on NFS.
    let machine = boot(
        lab,
        "#cloud-config\n\
         lazarette:\n  \
           docker: {wait_seconds: 1, data_root: nas/engine, args: [--storage-driver=vfs]}\n  \
           storage:\n    \
             volumes:\n      \
               engine: {context: nas, export: /srv/home, path: engine}\n",
    )?;
    Guest::with(machine, |guest| {
        guest.sh(
            "it is not started, neither there nor elsewhere, and the console and laz say why",
            r#"
            told() { grep -q 'user-docker: waiting for its data root: nothing is mounted at /mnt/nas/engine' /var/log/lazarette/init.log; }
            until_ok 200 told
            until_ok 30 shows 'user Docker .*waits for its data root /mnt/nas/engine'
            sleep 10
            ! pgrep -f 'dockerd .*/run/docker.sock' || fail "user Docker is up without its data"
            ! view touch /mnt/nas/engine/f 2> /dev/null || fail "the empty mount point can be filled"
            "#,
        )?;
        let status = guest.status()?;
        ensure!(!status.ready && volume(&status, "engine")?.required, "{status:?}");
        guest.sh(
            "the server comes, and user Docker with it",
            r#"
            nas start
            until_ok 200 docker version
            same /mnt/nas/engine "$(docker info -f '{{.DockerRootDir}}')" "the data root"
            mkdir -p /root/tiny/bin
            cp "$(command -v busybox)" /root/tiny/bin/busybox
            tar -C /root/tiny -c . | docker import - tiny > /dev/null
            same x "$(docker run --rm --network none tiny /bin/busybox echo x)" "a container's output"
            nas exec test -d /srv/home/engine/image/vfs
            "#,
        )?;
        guest.until("not ready", Duration::from_secs(10), |status| status.ready.then_some(()))
    })
    .map(drop)
}

/// One machine with every sort of bad news in its configuration.
fn case_01_11_22_23_what_is_bad_or_away_at_boot_fails_alone(lab: &Lab) -> Result<()> {
    let machine = boot(
        lab,
        "#cloud-config\n\
         hostnam: typo\n\
         network:\n  hosts: {away.test: 10.201.0.9}\n\
         lazarette:\n  \
           docker: {wait_seconds: 12}\n  \
           storage:\n    \
             contexts:\n      \
               scratch: {kind: hello, volumes: [one]}\n      \
               typo: {kind: nfs, servr: nas.test}\n      \
               strange: {kind: nfz, server: nas.test}\n      \
               Bad_Name: {kind: nfs, server: nas.test}\n      \
               away: {kind: nfs, server: away.test, exports: [/srv/media]}\n      \
               nameless: {kind: nfs, server: nosuch.test, exports: [/srv/media]}\n    \
             volumes:\n      \
               lost: {context: nowhere}\n      \
               missing: {context: nas, export: /srv/nothing}\n      \
               denied: {context: nas, export: /srv/private}\n      \
               urgent: {context: away, export: /srv/media, mount: /mnt/urgent, required: true}\n",
    )?;
    Guest::with(machine, |guest| {
        guest.sh(
            "user Docker starts once its time is up, and the rest works",
            r#"
            until_ok 200 docker version
            until_ok 60 mounted /mnt/scratch/one
            same x "$(docker run --rm -v /mnt/scratch/one:/data busybox sh -c 'echo x > /data/f; cat /data/f')" read
            "#,
        )?;
        let status = guest.status()?;
        ensure!(!status.ready, "the required volume is not there: {status:?}");
        for words in [
            &["hostnam", "hostname"] as &[_],
            &["typo", "servr", "server"],
            &["strange", "nfz", "nfs"],
            &["Bad_Name"],
            &["lost", "nowhere"],
        ] {
            let told = |text: &String| words.iter().all(|word| text.contains(word));
            let mut problems = status.problems.iter().map(ToString::to_string).collect::<Vec<_>>();
            let bad = status.contexts.iter().filter_map(|c| {
                Some(format!("{} {} {}", c.name, c.kind, c.reason.as_ref()?))
            });
            problems.extend(bad);
            ensure!(problems.iter().any(told), "nothing tells {words:?}: {problems:#?}");
        }
        guest.sh("the server comes late", "lab-prepare")?;
        for name in ["nas.media", "nas.home"] {
            let limit = Duration::from_secs(30);
            guest.until(&format!("{name} is not mounted"), limit, |s| is_mounted(s, name))?;
        }
        reasons(guest)
    })
    .map(drop)
}

/// What is away or refused says so in the server's words.
fn reasons(guest: &Guest) -> Result<()> {
    for (name, words) in [
        ("missing", &["/srv/nothing"] as &[&str]),
        ("denied", &["denied"]),
        ("urgent", &["away.test"]),
        ("nameless.media", &["nosuch.test"]),
    ] {
        let limit = Duration::from_secs(30);
        let told = guest.until(&format!("{name} says no reason"), limit, |status| {
            let volume = volume(status, name).ok();
            let context = context(status, name.split('.').next()?).ok();
            let reasons = volume.and_then(|v| v.reason).into_iter();
            let reasons: Vec<_> = reasons.chain(context.and_then(|c| c.reason)).collect();
            words
                .iter()
                .all(|word| reasons.iter().any(|r| r.contains(word)))
                .then_some(reasons)
        })?;
        ensure!(!told.is_empty());
    }
    guest.sh(
        "everything answers at once, and the rest goes on working",
        r#"
        within 10000 laz status > /dev/null
        within 10000 docker volume ls > /dev/null
        within 10000 docker ps > /dev/null
        same y "$(docker run --rm -v /mnt/nas/media:/data busybox sh -c 'echo y > /data/f; cat /data/f')" read
        "#,
    )?;
    Ok(())
}
