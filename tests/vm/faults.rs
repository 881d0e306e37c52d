//! Servers that are not there, say no, or go away.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use lazarette_tests::vm::Machine;

use crate::Case;
use crate::nfs::leaves_nothing;

crate::cases!(Case: an_unreachable_server_is_told_in_time, an_export_that_is_missing,
    permission_denied, a_server_that_goes_and_comes_back, a_stopped_server_comes_back,
    a_volume_is_removed_while_its_server_is_gone, another_context_does_not_wait);

/// A limit for what must not wait for a server: 100 ms at native speed, the cost of starting a
/// program and a container client under emulation added.
fn at_once(machine: &Machine) -> Duration {
    machine.patience(Duration::from_millis(500))
}

/// Acceptance case 1: no server.
fn an_unreachable_server_is_told_in_time(machine: &Machine) -> Result<()> {
    let begun = Instant::now();
    let output = machine.run(
        "docker volume create -d nfs -o server=192.0.2.1 -o export=/x far && \
         docker run --rm -v far:/data busybox true",
    )?;
    ensure!(output.status != 0, "a container started without its volume");
    let limit = machine
        .patience(Duration::from_secs(60))
        .min(Duration::from_secs(150));
    ensure!(begun.elapsed() < limit, "it took {:?}", begun.elapsed());
    ensure!(output.stderr.contains("192.0.2.1"), "{output:?}");
    Ok(())
}

fn an_export_that_is_missing(machine: &Machine) -> Result<()> {
    let output = machine.run(
        "docker volume create -d nfs -o server=nas.test -o export=/srv/nothing none && \
         docker run --rm -v none:/data busybox true",
    )?;
    ensure!(output.status != 0, "a container started without its volume");
    ensure!(output.stderr.contains("/srv/nothing"), "{output:?}");
    Ok(())
}

fn permission_denied(machine: &Machine) -> Result<()> {
    let output = machine.run(
        "docker volume create -d nfs -o server=nas.test -o export=/srv/private no && \
         docker run --rm -v no:/data busybox true",
    )?;
    ensure!(output.status != 0, "a container started without its volume");
    // Version 4 hides what one may not see, so the server's reason may be that there is nothing.
    let told = ["denied", "not permitted", "No such file"];
    ensure!(
        told.iter().any(|reason| output.stderr.contains(reason)),
        "{output:?}"
    );
    Ok(())
}

/// Acceptance cases 2, 3 and 5: status and lists answer while a server is gone; its volumes go on
/// when it is back.
fn a_server_that_goes_and_comes_back(machine: &Machine) -> Result<()> {
    machine.sh("docker volume create -d nfs -o server=nas.test -o export=/srv/media media")?;
    machine.sh("docker run -d --name writer -v media:/data busybox sh -c 'i=0; while :; do echo $i > /data/tick && i=$((i+1)); sleep 0.1; done'")?;
    machine.sh("nas block")?;
    for _ in 0..3 {
        for command in [
            "laz status",
            "docker volume ls",
            "docker ps",
            "docker volume inspect media",
        ] {
            let begun = Instant::now();
            machine.sh(&format!("timeout 20 {command}"))?;
            ensure!(
                begun.elapsed() < at_once(machine),
                "{command} took {:?}",
                begun.elapsed()
            );
        }
    }
    machine.sh("nas unblock")?;
    goes_on(machine)
}

/// The container `writer` writes new values.
pub(crate) fn goes_on(machine: &Machine) -> Result<()> {
    let before = machine.sh("nas exec cat /srv/media/tick")?;
    machine
        .sh(&format!(
            "for i in $(seq 600); do [ \"$(nas exec cat /srv/media/tick)\" != '{before}' ] && exit 0; sleep 0.1; done; exit 1"
        ))
        .map_err(|error| error.context("the container's I/O does not go on"))?;
    Ok(())
}

/// Acceptance case 6: the server restarts under a mounted volume.
fn a_stopped_server_comes_back(machine: &Machine) -> Result<()> {
    machine.sh("docker volume create -d nfs -o server=nas.test -o export=/srv/media media")?;
    machine.sh("docker run -d --name writer -v media:/data busybox sh -c 'i=0; while :; do echo $i > /data/tick && i=$((i+1)); sleep 0.1; done'")?;
    machine.sh("nas restart")?;
    goes_on(machine)
}

/// Acceptance case 2: removal does not wait for a dead server for ever.
fn a_volume_is_removed_while_its_server_is_gone(machine: &Machine) -> Result<()> {
    machine.sh("docker volume create -d nfs -o server=nas.test -o export=/srv/media media")?;
    machine.sh("docker run --rm -v media:/data busybox touch /data/file")?;
    machine.sh("nas block")?;
    let begun = Instant::now();
    let removed = machine.run("timeout 100 docker volume rm media")?;
    ensure!(
        begun.elapsed() < Duration::from_secs(90),
        "it took {:?}",
        begun.elapsed()
    );
    machine.sh("nas unblock")?;
    if removed.status != 0 {
        machine.sh("docker volume rm media")?;
    }
    leaves_nothing(machine, "media")
}

/// Acceptance case 13: isolation per context.
fn another_context_does_not_wait(machine: &Machine) -> Result<()> {
    let begun = machine.run(
        "docker volume create -d nfs -o server=192.0.2.1 -o export=/x far > /dev/null 2>&1 & \
         sleep 1; docker volume create -d nfs -o server=nas.test -o export=/srv/media near && \
         timeout 60 docker run --rm -v near:/data busybox true",
    )?;
    ensure!(begun.status == 0, "{begun:?}");
    Ok(())
}
