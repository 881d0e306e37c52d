//! A machine whose storage is its own disks, from one boot to the next: a pool, a volume group, and
//! user Docker's data on the pool.

use std::time::Duration;

use anyhow::{Result, ensure};
use lazarette_core::control::VolumePhase;
use lazarette_tests::lab::Lab;
use lazarette_tests::vm::{Kept, Machine, Options};

use crate::guest::{Guest, context, volume};
use crate::power::{off, went_well};
use crate::{Case, cases};

pub(crate) const BOOTS: &[Case] = cases![Boots:
    case_19_user_docker_keeps_its_data_on_a_pool_and_starts_nowhere_without_it,
];

const CONFIG: &str = "#cloud-config\n\
    lazarette:\n  \
      docker: {wait_seconds: 1, data_root: tank/docker}\n  \
      storage:\n    \
        contexts:\n      \
          tank:\n        \
            kind: zfs\n        \
            pool: tank\n        \
            create: {layout: mirror, devices: [/dev/disk/by-id/virtio-disk1, /dev/disk/by-id/virtio-disk2]}\n      \
          fast: {kind: lvm, volume_group: fast, create: true, devices: [/dev/disk/by-id/virtio-disk3]}\n    \
        volumes:\n      \
          docker: {context: tank}\n      \
          data: {context: fast, size: 64M}\n";

/// What each boot's scripts share.
const TOOLS: &str = r#"
# A small image of the OS's own shell, for an engine that has none yet, and a container of it.
tiny() { docker run --rm --network none "${@:1:$#-1}" tiny /bin/busybox sh -c "${@: -1}"; }
serves() {
    until_ok 300 docker version
    same /mnt/tank/docker "$(docker info -f '{{.DockerRootDir}}')" "the data root"
    case "$(mounted /mnt/tank/docker)" in *" - zfs tank/"*) ;; *) fail "no dataset at the data root" ;; esac
    until_ok 120 mounted /mnt/fast/data
    case "$(mounted /mnt/fast/data)" in *" - ext4 /dev/"*) ;; *) fail "no logical volume" ;; esac
}
"#;

fn sh(guest: &Guest, step: &str, script: &str) -> Result<String> {
    guest.sh(step, &format!("{TOOLS}\n{script}"))
}

/// Powers off; nothing of the way down may fail.
fn off_in_order(machine: Machine) -> Result<()> {
    went_well(&off(machine)?)
}

fn case_19_user_docker_keeps_its_data_on_a_pool_and_starts_nowhere_without_it(
    lab: &Lab,
) -> Result<()> {
    let kept = Kept::new(
        lab,
        &Options {
            disks: vec![2 << 30; 3],
            cloud_config: Some(CONFIG.to_owned()),
            ..Options::default()
        },
    )?;
    let mut nodes = String::new();
    let guest = Guest::with(kept.boot()?, |guest| {
        nodes = sh(
            guest,
            "the pool and the group are made at the first boot, and user Docker works on the pool",
            r#"
            serves
            mkdir -p /root/tiny/bin
            cp "$(command -v busybox)" /root/tiny/bin/busybox
            tar -C /root/tiny -c . | docker import - tiny > /dev/null
            docker volume create keep > /dev/null
            tiny -v keep:/data -v /mnt/fast/data:/fast 'echo kept > /data/f; echo fast > /fast/f'
            readlink -f /dev/disk/by-id/virtio-disk1 /dev/disk/by-id/virtio-disk3
            "#,
        )?;
        Ok(())
    })?;
    off_in_order(guest.into_machine())?;

    let guest = Guest::with(kept.boot_with(&[3, 2, 1])?, |guest| {
        let swapped = sh(
            guest,
            "with the disks renumbered everything is where it was; the pool had been exported",
            r#"
            serves
            same "kept fast" "$(tiny -v keep:/data -v /mnt/fast/data:/fast 'cat /data/f /fast/f' | xargs)" read
            history=$(system-docker exec laz-context-tank zpool history tank)
            grep -q ' zpool export ' <<< "$history" || fail "it was never exported: $history"
            ! grep -e 'import.* -f' <<< "$history" || fail "it was imported by force"
            readlink -f /dev/disk/by-id/virtio-disk1 /dev/disk/by-id/virtio-disk3
            "#,
        )?;
        ensure!(nodes != swapped, "not renumbered: {nodes}");
        let ready = |status: &lazarette_core::control::Status| status.ready.then_some(());
        guest.until("not ready", Duration::from_secs(20), ready)
    })?;
    off_in_order(guest.into_machine())?;

    Guest::with(kept.boot_with(&[3])?, without_the_pool).map(drop)
}

/// The pool's disks are not there: no engine runs on its mount point or elsewhere.
fn without_the_pool(guest: &Guest) -> Result<()> {
    sh(
        guest,
        "user Docker is not started, and the console and laz say why",
        r#"
        # The log goes on from boot to boot: this one's part of it.
        told() { tac /var/log/lazarette/init.log | sed '/early-mounts: done/q' | grep 'user-docker: waiting for its data root: nothing is mounted at /mnt/tank/docker'; }
        until_ok 240 told
        until_ok 120 shows 'user Docker .*waits for its data root /mnt/tank/docker'
        until_ok 120 mounted /mnt/fast/data
        "#,
    )?;
    let reason = guest.until(
        "the context does not say what it lacks",
        Duration::from_secs(40),
        |status| {
            let tank = context(status, "tank").ok()?;
            let names = |reason: &String| {
                ["tank", "virtio-disk1"]
                    .iter()
                    .any(|name| reason.contains(name))
            };
            tank.reason.filter(names)
        },
    )?;
    ensure!(!reason.is_empty());
    let status = guest.status()?;
    let docker = volume(&status, "docker")?;
    ensure!(!status.ready && docker.required, "{status:?}");
    ensure!(docker.phase != VolumePhase::Mounted, "{status:?}");
    sh(
        guest,
        "nothing runs on the empty mount point, and nothing is or can be written there",
        r#"
        sleep 5
        ! pgrep -f 'dockerd .*/run/docker.sock' || fail "user Docker is up without its data"
        same "" "$(view ls -A /mnt/tank/docker 2> /dev/null || true)" "what is on the mount point"
        ! view mkdir -p /mnt/tank/docker/f 2> /dev/null || fail "the empty mount point can be filled"
        "#,
    )
    .map(drop)
}
