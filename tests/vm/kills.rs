//! Parts that die while a container writes: it goes on, and everything is reconciled.

use anyhow::{Result, ensure};
use lazarette_tests::vm::Machine;

use crate::Case;
use crate::faults::goes_on;
use crate::nfs::leaves_nothing;

crate::cases!(Case: core_is_killed, the_plugin_host_is_killed, user_docker_is_killed,
    system_docker_is_killed, the_nfs_container_is_removed);

fn start_writer(machine: &Machine) -> Result<()> {
    machine.sh("docker volume create -d nfs -o server=nas.test -o export=/srv/media media")?;
    machine.sh(
        "docker run -d --name writer -v media:/data busybox sh -c \
         'i=0; while :; do echo $i > /data/tick || echo failed >> /errors; i=$((i+1)); sleep 0.1; done'",
    )?;
    machine.sh("for i in $(seq 300); do nas exec test -s /srv/media/tick && exit 0; sleep 0.1; done; exit 1")?;
    Ok(())
}

/// The writer goes on without an error, everything answers, and the volume can be removed.
fn everything_is_reconciled(machine: &Machine) -> Result<()> {
    goes_on(machine)?;
    machine.sh("for i in $(seq 300); do laz status > /dev/null 2>&1 && docker version > /dev/null 2>&1 && exit 0; sleep 0.2; done; exit 1")?;
    let errors = machine.run("docker exec writer cat /errors")?;
    ensure!(
        errors.status != 0,
        "the container saw errors: {}",
        errors.stdout
    );
    machine.sh("docker run --rm -v media:/data busybox test -e /data/tick")?;
    goes_on(machine)?;
    machine.sh("docker rm -f writer")?;
    machine.sh("docker volume rm media")?;
    leaves_nothing(machine, "media")
}

fn core_is_killed(machine: &Machine) -> Result<()> {
    start_writer(machine)?;
    machine.sh("kill -KILL $(pidof laz-core)")?;
    everything_is_reconciled(machine)
}

fn the_plugin_host_is_killed(machine: &Machine) -> Result<()> {
    start_writer(machine)?;
    machine.sh("pkill -KILL -f '^laz-plugin-host serve|/laz-plugin-host serve'")?;
    everything_is_reconciled(machine)
}

/// Acceptance case 8: reference counts survive the engine.
fn user_docker_is_killed(machine: &Machine) -> Result<()> {
    start_writer(machine)?;
    machine.sh("kill -KILL $(cat /run/docker.pid)")?;
    everything_is_reconciled(machine)
}

fn system_docker_is_killed(machine: &Machine) -> Result<()> {
    start_writer(machine)?;
    machine.sh("kill -KILL $(cat /run/system-docker.pid)")?;
    machine.sh("for i in $(seq 300); do system-docker version > /dev/null 2>&1 && exit 0; sleep 0.2; done; exit 1")?;
    everything_is_reconciled(machine)
}

/// Acceptance case 12: mounts outlive the container that made them.
fn the_nfs_container_is_removed(machine: &Machine) -> Result<()> {
    start_writer(machine)?;
    machine.sh("system-docker rm -f $(system-docker ps -q --filter name=laz-context)")?;
    everything_is_reconciled(machine)
}
