//! Storage that does not answer.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lazarette_core::control::ContextPhase;
use lazarette_core::volume::HealthState;
use lazarette_tests::host::core::status;
use lazarette_tests::host::{World, eventually, process};
use rustix::process::Signal;

use crate::containers::Writer;
use crate::{Case, docker_volumes, hanging};

pub(crate) const CASES: &[Case] = &crate::cases![
    hanging::case_02_and_03_nothing_waits_for_storage_that_hangs,
    hanging::case_11_a_hanging_plugin_does_not_delay_docker,
    hanging::case_13_a_slow_context_keeps_nobody_else,
];

/// Generous: what is measured is in the benchmark.
const AT_ONCE: Duration = Duration::from_secs(2);

fn at_once<T>(what: &str, look: impl FnOnce() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    let value = look().with_context(|| what.to_owned())?;
    let took = started.elapsed();
    ensure!(took < AT_ONCE, "{what} took {took:?}");
    Ok(value)
}

fn nobody_waits(world: &World) -> Result<()> {
    at_once("laz status", || world.laz(&["status"]))?;
    at_once("core's status", status)?;
    at_once("docker volume ls", || world.user.ok(&["volume", "ls"]))?;
    at_once("docker volume inspect", || {
        world.user.ok(&["volume", "inspect", "stuck"])
    })?;
    at_once("docker ps", || world.user.ok(&["ps", "-a"])).map(drop)
}

fn others_work(world: &World) -> Result<()> {
    world
        .user
        .ok(&docker_volumes::create(&["context=scratch"], "other"))?;
    world
        .user
        .shell(&["-v", "other:/data"], "echo x > /data/x")?;
    world.user.ok(&["volume", "rm", "other"]).map(drop)
}

fn case_02_and_03_nothing_waits_for_storage_that_hangs(world: &mut World) -> Result<()> {
    world
        .user
        .ok(&docker_volumes::create(&["context=spare"], "stuck"))?;
    let writer = Writer::start(world, "has-stuck", "stuck", &[])?;
    let host = world.plugin_host("spare")?;
    process::signal(host, Signal::STOP)?;
    let shown = (|| {
        nobody_waits(world)?;
        writer.goes_on()?;
        eventually("its health is seen", Duration::from_secs(10), || {
            Ok(world.context("spare")?.health == HealthState::Unreachable)
        })?;
        let mut remove = world.user.command(&["rm", "-f", "has-stuck"]).spawn()?;
        nobody_waits(world)?;
        others_work(world)?;
        nobody_waits(world)?;
        ensure!(
            remove.wait()?.success(),
            "the container could not be removed"
        );
        Ok(())
    })();
    process::signal(host, Signal::CONT)?;
    shown?;
    eventually("it is healthy again", Duration::from_secs(10), || {
        Ok(world.context("spare")?.health == HealthState::Healthy)
    })?;
    world.user.ok(&["volume", "rm", "stuck"])?;
    world.becomes_clean()
}

fn case_11_a_hanging_plugin_does_not_delay_docker(world: &mut World) -> Result<()> {
    world
        .user
        .ok(&docker_volumes::create(&["context=spare"], "stuck"))?;
    let host = world.plugin_host("spare")?;
    process::signal(host, Signal::STOP)?;
    let shown = (|| {
        world.user.stop()?;
        let started = Instant::now();
        world.user.start()?;
        let took = started.elapsed();
        ensure!(
            took < Duration::from_secs(10),
            "dockerd took {took:?} to start"
        );
        nobody_waits(world)
    })();
    process::signal(host, Signal::CONT)?;
    shown?;
    world.user.ok(&["volume", "rm", "stuck"])?;
    world.becomes_clean()
}

fn case_13_a_slow_context_keeps_nobody_else(world: &mut World) -> Result<()> {
    let slow = "#cloud-config
lazarette: {storage: {contexts: {slow: {kind: hello, delay_ms: 4000}}}}
";
    world.set_config(slow)?;
    eventually("it is open", Duration::from_secs(20), || {
        Ok(world
            .context("slow")
            .is_ok_and(|c| c.phase == ContextPhase::Ready))
    })?;
    let create = docker_volumes::create(&["context=slow"], "stuck");
    let started = Instant::now();
    let mut create = world.user.command(&create).spawn()?;
    eventually("core works on it", AT_ONCE, || {
        Ok(world.volume("stuck")?.is_some())
    })?;
    at_once("laz status", || world.laz(&["status"]))?;
    at_once("docker volume ls", || world.user.ok(&["volume", "ls"]))?;
    others_work(world)?;
    ensure!(
        create.try_wait()?.is_none() || started.elapsed() > Duration::from_secs(4),
        "not slow"
    );
    ensure!(create.wait()?.success(), "it was to be made in the end");
    world.user.ok(&["volume", "rm", "stuck"])?;
    world.set_config("#cloud-config\n{}\n")?;
    world.becomes_clean()
}
