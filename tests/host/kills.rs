//! kill -9 of core, of the plugin host, of the storage container.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lazarette_core::control::{ContextPhase, VolumePhase};
use lazarette_tests::host::core::status;
use lazarette_tests::host::process::{self, succeeded};
use lazarette_tests::host::{World, eventually, mounts};
use rustix::process::Signal;

use crate::containers::Writer;
use crate::{Case, docker_volumes, kills};

pub(crate) const CASES: &[Case] = &crate::cases![
    kills::case_12_core_is_killed_under_running_containers,
    kills::case_12_the_plugin_host_is_killed,
    kills::case_12_the_storage_container_is_removed,
    kills::core_is_killed_at_any_moment,
];

/// Makes a volume in the context spare.
pub(crate) fn create(world: &World, name: &str) -> Result<()> {
    let create = docker_volumes::create(&["context=spare"], name);
    world.user.ok(&create).map(drop)
}

fn ready(world: &World, context: &str) -> Result<bool> {
    Ok(world
        .context(context)
        .is_ok_and(|c| c.phase == ContextPhase::Ready))
}

fn case_12_core_is_killed_under_running_containers(world: &mut World) -> Result<()> {
    create(world, "kept")?;
    world
        .user
        .ok(&docker_volumes::create(&["delay_ms=2"], "auto"))?;
    let docker = Writer::start(world, "writer", "kept", &[])?;
    let declared = Writer::start(world, "declared", "/mnt/scratch/one", &[])?;
    let auto = Writer::start(world, "automatic", "auto", &[])?;
    let before = mounts::volumes()?.len();
    world.core.kill()?;
    docker.goes_on()?;
    declared.goes_on()?;
    ensure!(mounts::volumes()?.len() == before, "mounts went with core");
    let took = world.core.start_answering()?;
    // `cargo xtask bench` reads these two lines.
    println!("\ncore answers {} ms after its start", took.as_millis());
    ensure!(
        took < Duration::from_secs(3),
        "core took {took:?} to answer"
    );
    world.settled()?;
    for writer in [&docker, &declared, &auto] {
        writer.goes_on()?;
    }
    let uses = || {
        Ok(world
            .volume("kept")?
            .is_some_and(|v| v.used_by == ["writer"]))
    };
    eventually("core knows who uses it", Duration::from_secs(5), uses)?;
    ensure!(mounts::volumes()?.len() == before, "mounted once more");
    world
        .user
        .ok(&["rm", "-f", "writer", "declared", "automatic"])?;
    world.user.ok(&["volume", "rm", "kept", "auto"])?;
    world
        .user
        .shell(&["-v", "/mnt/scratch/one:/data"], "rm /data/n /data/new")?;
    world.becomes_clean()
}

fn case_12_the_plugin_host_is_killed(world: &mut World) -> Result<()> {
    create(world, "kept")?;
    let writer = Writer::start(world, "writer", "kept", &[])?;
    let killed = world.plugin_host("spare")?;
    let started = Instant::now();
    process::signal(killed, Signal::KILL)?;
    eventually("core has lost it", Duration::from_secs(2), || {
        Ok(!ready(world, "spare")?)
    })?;
    eventually("it is back", Duration::from_secs(5), || {
        ready(world, "spare")
    })?;
    let took = started.elapsed();
    println!("\nthe plugin serves {} ms after kill -9", took.as_millis());
    ensure!(
        took < Duration::from_secs(3),
        "the plugin took {took:?} to serve again"
    );
    ensure!(world.plugin_host("spare")? != killed, "another process");
    writer.goes_on()?;
    create(world, "next")?;
    world.user.shell(
        &["-v", "next:/data", "-v", "kept:/kept"],
        "cp /kept/n /data/",
    )?;
    writer.goes_on()?;
    world.user.ok(&["rm", "-f", "writer"])?;
    world.user.ok(&["volume", "rm", "kept", "next"])?;
    world.becomes_clean()
}

fn case_12_the_storage_container_is_removed(world: &mut World) -> Result<()> {
    create(world, "kept")?;
    let writer = Writer::start(world, "writer", "kept", &[])?;
    let before = world.context("spare")?.container;
    world.system.ok(&["rm", "-f", "laz-context-spare"])?;
    writer.goes_on()?;
    let back = || {
        let context = world.context("spare")?;
        Ok(context.phase == ContextPhase::Ready && context.container != before)
    };
    let took = eventually("another container serves", Duration::from_secs(20), back)?;
    println!(
        "another container serves {} ms after rm -f",
        took.as_millis()
    );
    writer.goes_on()?;
    create(world, "next")?;
    world
        .user
        .shell(&["-v", "next:/data"], "echo x > /data/x")?;
    world.user.ok(&["rm", "-f", "writer"])?;
    world.user.ok(&["volume", "rm", "kept", "next"])?;
    world.becomes_clean()
}

/// A number that looks like chance and is the same in every run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

fn change(world: &World, name: &str, remove: bool) -> Command {
    if remove {
        world.user.command(&["volume", "rm", "-f", name])
    } else {
        let create = docker_volumes::create(&["context=spare", "size=1M"], name);
        world.user.command(&create)
    }
}

/// What Docker was told is so at the end, and nothing else is.
fn core_is_killed_at_any_moment(world: &mut World) -> Result<()> {
    let writer = Writer::start(world, "witness", "/mnt/scratch/two", &[])?;
    let mut chance = Chance(20);
    let mut acknowledged = BTreeSet::new();
    for _ in 0..5 {
        // Ten at a time, of different names: some that are there are removed, others made.
        let first = chance.below(12);
        let work = (0..10).map(|n| {
            let name = format!("v{}", (first + n) % 12);
            let remove = acknowledged.contains(&name);
            let child = change(world, &name, remove)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()?;
            Ok((name, remove, child))
        });
        let work: Vec<_> = work.collect::<Result<_>>()?;
        for _ in 0..2 {
            std::thread::sleep(Duration::from_millis(chance.below(300)));
            world.core.kill()?;
            world.core.start_answering()?;
        }
        for (name, remove, mut child) in work {
            // What failed may have been done or not; asked again it must come to an end.
            let done = child.wait()?.success();
            if !done {
                let again = change(world, &name, remove).output()?;
                succeeded(&format!("{name}, remove {remove}, again"), &again)?;
            }
            match remove {
                true => acknowledged.remove(&name),
                false => acknowledged.insert(name),
            };
        }
    }
    world.settled()?;
    writer.goes_on()?;
    let known: BTreeSet<String> = status()?
        .volumes
        .iter()
        .filter(|v| v.phase == VolumePhase::Idle)
        .map(|v| v.name.to_string())
        .collect();
    let lost: Vec<_> = acknowledged.difference(&known).collect();
    ensure!(
        lost.is_empty(),
        "acknowledged and lost: {lost:?} of {acknowledged:?}, core: {known:?}"
    );
    let backing = world.backing("spare")?.len();
    ensure!(
        backing == known.len(),
        "{backing} in the storage, core knows {known:?}"
    );
    for name in &acknowledged {
        let volume = format!("{name}:/data");
        world
            .user
            .shell(&["-v", &volume], "echo x > /data/x && cat /data/x")?;
    }
    for name in known {
        world.user.ok(&["volume", "rm", &name])?;
    }
    world.user.ok(&["rm", "-f", "witness"])?;
    world
        .user
        .shell(&["-v", "/mnt/scratch/two:/data"], "rm /data/n /data/new")
        .context("clean")?;
    world.becomes_clean()
}
