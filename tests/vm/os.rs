//! The OS as it boots: init, the engines, what is and is not in the root.

use anyhow::{Result, ensure};
use lazarette_tests::vm::Machine;
use serde_json::Value;

use crate::Case;

crate::cases!(Case: every_phase_of_the_boot_is_done, the_engines_are_apart,
    nothing_that_speaks_nfs_is_outside_the_container, core_and_the_engines_are_started_again);

fn every_phase_of_the_boot_is_done(machine: &Machine) -> Result<()> {
    ensure!(machine.sh("readlink /proc/1/exe")? == "/usr/lib/lazarette/laz-init");
    let record: Value = serde_json::from_str(&machine.sh("cat /run/lazarette/boot.json")?)?;
    let phases = record["phases"].as_array().cloned().unwrap_or_default();
    for needed in [
        "early-mounts",
        "cloud-config",
        "network",
        "system-docker",
        "core",
        "user-docker",
    ] {
        let phase = phases.iter().find(|phase| phase["name"] == needed);
        ensure!(
            phase.is_some_and(|phase| phase["state"] == "done"),
            "{needed}: {phase:?}"
        );
    }
    ensure!(machine.sh("hostname")? == "lab");
    Ok(())
}

fn the_engines_are_apart(machine: &Machine) -> Result<()> {
    let system = machine.sh("system-docker ps --format '{{.Names}}'")?;
    ensure!(system.contains("laz-context-nas"), "{system}");
    ensure!(
        machine.sh("docker ps -aq")?.is_empty(),
        "user Docker shows containers that are not the user's"
    );
    let images = machine.sh("docker images --format '{{.Repository}}'")?;
    ensure!(images == "busybox", "{images}");
    Ok(())
}

fn nothing_that_speaks_nfs_is_outside_the_container(machine: &Machine) -> Result<()> {
    let found = machine.sh(
        "find / -xdev \\( -name 'mount.nfs*' -o -name 'umount.nfs*' -o -name 'rpc.*' \
         -o -name rpcbind -o -name showmount -o -name 'nfs*.conf' \\) -not -path '/proc/*' \
         -not -path '/var/lib/docker/*' -not -path '/usr/lib/modules/*'",
    )?;
    ensure!(found.is_empty(), "{found}");
    let image = machine.sh(
        "docker run --rm -v /mnt/nas/media:/data busybox find / -xdev -name '*nfs*' -not -path '/proc/*' -not -path '/sys/*'",
    )?;
    ensure!(image.is_empty(), "{image}");
    Ok(())
}

fn core_and_the_engines_are_started_again(machine: &Machine) -> Result<()> {
    for (name, pid, answers) in [
        ("laz-core", "pidof laz-core", "laz status"),
        ("user dockerd", "cat /run/docker.pid", "docker version"),
        (
            "system dockerd",
            "cat /run/system-docker.pid",
            "system-docker version",
        ),
    ] {
        let before = machine.sh(pid)?;
        machine.sh(&format!("kill -KILL {before}"))?;
        machine
            .sh(&format!(
                "for i in $(seq 600); do new=$({pid} 2> /dev/null) && [ \"$new\" != {before} ] \
             && {answers} > /dev/null 2>&1 && exit 0; sleep 0.1; done; exit 1"
            ))
            .map_err(|error| error.context(format!("{name} did not come back")))?;
    }
    Ok(())
}
