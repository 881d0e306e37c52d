//! Core's own beginning and end.

use std::fs;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lazarette_core::control::{Request, VolumePhase};
use lazarette_tests::host::core::{CONFIG, ask, status};
use lazarette_tests::host::process::limited;
use lazarette_tests::host::{World, mounts};
use serde_json::Value;

use crate::containers::Writer;
use crate::{Case, docker_volumes, lifecycle};

pub(crate) const CASES: &[Case] = &crate::cases![
    lifecycle::a_second_core_is_refused,
    lifecycle::a_damaged_state_is_refused_and_left_alone,
    lifecycle::case_07_a_required_volume_that_never_comes_does_not_stop_the_boot,
    lifecycle::a_core_that_is_stopped_leaves_everything_mounted,
    lifecycle::a_kind_that_is_gone_does_not_hold_up_docker,
    lifecycle::drained_volumes_are_remembered,
];

fn a_second_core_is_refused(world: &mut World) -> Result<()> {
    let core = world.programs.core.to_string_lossy().into_owned();
    let second = limited(10, &core)
        .arg("--state")
        .arg(world.base.join("second"))
        .output()?;
    let said = String::from_utf8_lossy(&second.stderr);
    ensure!(second.status.code() == Some(1), "{second:?}");
    ensure!(said.contains("another laz-core is running"), "{said}");
    // The same state below another run directory: the database itself is locked.
    let second = limited(10, &core)
        .arg("--state")
        .arg(world.base.join("state"))
        .args(["--run", "/run/second"])
        .output()?;
    let said = String::from_utf8_lossy(&second.stderr);
    ensure!(second.status.code() == Some(1), "{second:?}");
    ensure!(said.contains("core.redb"), "{said}");
    world.settled().map(drop)
}

fn a_damaged_state_is_refused_and_left_alone(world: &mut World) -> Result<()> {
    let state = world.base.join("damaged");
    fs::create_dir_all(&state)?;
    fs::write(state.join("core.redb"), "this is no database")?;
    let core = world.programs.core.to_string_lossy().into_owned();
    let refused = limited(10, &core)
        .arg("--state")
        .arg(&state)
        .args(["--run", "/run/damaged"])
        .output()?;
    let said = String::from_utf8_lossy(&refused.stderr);
    ensure!(
        refused.status.code() == Some(1) && said.contains("core.redb"),
        "{refused:?}"
    );
    ensure!(
        fs::read_to_string(state.join("core.redb"))? == "this is no database",
        "overwritten"
    );
    Ok(())
}

fn case_07_a_required_volume_that_never_comes_does_not_stop_the_boot(
    world: &mut World,
) -> Result<()> {
    let source = format!("{CONFIG}/20-never.yml");
    let never = "#cloud-config
lazarette:
  docker: {wait_seconds: 3}
  storage:
    volumes:
      never: {context: spare, size: '0', required: true}
";
    fs::write(&source, never)?;
    world.core.kill()?;
    let took = world.core.start(Duration::from_secs(20))?;
    ensure!(
        took >= Duration::from_secs(3),
        "ready after {took:?}, without what is required"
    );
    let volume = world.volume("never")?.context("it is not shown")?;
    ensure!(
        volume.phase == VolumePhase::Waiting && volume.mountpoint.is_none(),
        "{volume:?}"
    );
    ensure!(
        volume.reason.is_some_and(|r| r.contains("above 0")),
        "the reason is missing"
    );
    ensure!(volume.retry_in_seconds.is_some(), "it is tried again");
    fs::remove_file(&source)?;
    world.core.kill()?;
    world.core.start(Duration::from_secs(20))?;
    world.becomes_clean()
}

fn a_core_that_is_stopped_leaves_everything_mounted(world: &mut World) -> Result<()> {
    let before = mounts::volumes()?.len();
    let writer = Writer::start(world, "writer", "/mnt/db", &[])?;
    world.core.stop()?;
    ensure!(mounts::volumes()?.len() == before, "mounts went with core");
    writer.goes_on()?;
    ensure!(
        !fs::exists("/run/docker/plugins/hello.sock")?,
        "a dead socket makes Docker slow"
    );
    world.core.start(Duration::from_secs(20))?;
    writer.goes_on()?;
    world.user.ok(&["rm", "-f", "writer"])?;
    world
        .user
        .shell(&["-v", "/mnt/db:/data"], "rm /data/n /data/new")
        .map(drop)
}

fn a_kind_that_is_gone_does_not_hold_up_docker(world: &mut World) -> Result<()> {
    // As a core leaves it that was killed, and whose image was then removed; Docker knows the driver.
    let socket = "/run/docker/plugins/gone.sock";
    drop(UnixListener::bind(socket)?);
    fs::write("/run/lazarette/doors/gone", "")?;
    world.user.ok(&["volume", "ls", "-q"])?;
    // Of somebody else: not ours to remove.
    let foreign = "/run/docker/plugins/foreign.sock";
    drop(UnixListener::bind(foreign)?);
    world.core.kill()?;
    world.core.start(Duration::from_secs(20))?;
    let kept = fs::exists(foreign)?;
    fs::remove_file(foreign)?;
    ensure!(kept, "a foreign socket was removed");
    UnixStream::connect(socket).context("nobody answers Docker for the kind that is gone")?;
    let said = world
        .user
        .fails(&["volume", "create", "-d", "gone", "late"])?;
    ensure!(said.contains("gone"), "{said}");
    world.settled().map(drop)
}

fn drained_volumes_are_remembered(world: &mut World) -> Result<()> {
    let create = docker_volumes::create(&["context=spare", "size=3M"], "kept");
    world.user.ok(&create)?;
    let started = Instant::now();
    ask::<Value>(&Request::Drain, Duration::from_secs(30))?;
    println!("drained in {} ms", started.elapsed().as_millis());
    ensure!(mounts::volumes()?.is_empty(), "{:?}", mounts::volumes()?);
    let containers = world.system.ok(&["ps", "-aq"])?;
    ensure!(containers.is_empty(), "containers are left: {containers}");
    ensure!(status()?.volumes.len() == 4, "volumes are forgotten");
    let said = world.laz_fails(&["volume", "create", "--context", "spare", "late"])?;
    ensure!(said.contains("going down"), "{said}");
    world.core.kill()?;
    world.core.start(Duration::from_secs(40))?;
    world.settled()?;
    let kept = world.volume("kept")?.context("it is forgotten")?;
    ensure!(kept.options["size"] == "3M", "{kept:?}");
    world
        .user
        .shell(&["-v", "kept:/data"], "echo x > /data/x")?;
    world.user.ok(&["volume", "rm", "kept"])?;
    world.becomes_clean()
}
