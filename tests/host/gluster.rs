//! A real Gluster volume: its client's death, a client that hangs, a brick that goes and comes back.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use lazarette_core::control::ContextStatus;
use lazarette_core::volume::HealthState;
use lazarette_tests::host::core::status;
use lazarette_tests::host::gluster::{ADDRESS, GlusterServer, VOLUME, client, missing};
use lazarette_tests::host::{World, eventually, process};
use rustix::process::Signal;

use crate::{Case, Skipped, gluster};

pub(crate) const CASES: &[Case] =
    &crate::cases![gluster::case_14_containers_outlive_clients_and_bricks];

/// Within this a client's death is noticed.
const NOTICED: Duration = Duration::from_secs(1);
/// How long a dead or hanging client may keep a container's I/O.
const MENDED: Duration = Duration::from_secs(60);

fn case_14_containers_outlive_clients_and_bricks(world: &mut World) -> Result<()> {
    if let Some(why) = missing() {
        bail!(Skipped(why));
    }
    let server = GlusterServer::start(&world.base)?;
    world.add_gluster()?;
    eventually("core knows the kind", Duration::from_secs(40), || {
        Ok(world.laz(&["kinds"])?.contains("gluster"))
    })?;
    it_keeps_the_contract(world)?;
    for name in ["one", "two"] {
        let options = [
            format!("servers={ADDRESS}"),
            format!("volume={VOLUME}"),
            format!("path={name}"),
        ];
        let [servers, volume, path] = options.each_ref().map(String::as_str);
        let create = [
            "volume", "create", "-d", "gluster", "-o", servers, "-o", volume,
        ];
        world
            .user
            .ok(&[&create[..], &["-o", path, name]].concat())?;
        let mount = format!("{name}:/data");
        let container = format!("user-{name}");
        let run = [
            "run",
            "-d",
            "--network=none",
            "--stop-timeout=1",
            "--name",
            &container,
        ];
        world
            .user
            .ok(&[&run[..], &["-v", &mount, "busybox", "sleep", "1000"]].concat())?;
        write(world, name, "before")?;
        for brick in ["a", "b"] {
            let file = server.brick(brick).join(name).join("f");
            let found = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
            ensure!(found == "before\n", "{}: {found:?}", file.display());
        }
    }
    // On a machine that is busy with other things one of them may be noticed late.
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(a_killed_client_is_replaced(world)?);
        if seen.iter().any(|time| *time < NOTICED) {
            break;
        }
    }
    ensure!(
        seen.iter().any(|time| *time < NOTICED),
        "deaths were seen after {seen:?}"
    );
    a_stopped_client_is_replaced(world)?;
    core_dies_while_it_replaces_a_client(world)?;
    a_lost_brick_is_told(world, &server)?;
    world.user.ok(&["rm", "-f", "user-one", "user-two"])?;
    world.user.ok(&["volume", "rm", "one", "two"])?;
    eventually("the client ends", MENDED, || Ok(client()?.is_none()))?;
    world.becomes_clean()
}

/// The conformance kit, with the plugin killed in each step.
fn it_keeps_the_contract(world: &World) -> Result<()> {
    let settings = format!(
        r#"{{"context": {{"servers": ["{ADDRESS}"], "volume": "{VOLUME}"}}, "deadline_s": 60,
            "volume": {{"path": "check/{{id}}", "on_remove": "delete"}}, "kill_points": [50]}}"#
    );
    let table = world.check_plugin(&world.system, "lazarette-gluster", &settings)?;
    let passed = table.matches(" passed ").count();
    ensure!(passed >= 45, "{passed} passed: {table}");
    Ok(())
}

fn write(world: &World, name: &str, text: &str) -> Result<()> {
    let script = format!("echo {text} > /data/f");
    let container = format!("user-{name}");
    world
        .user
        .ok(&["exec", &container, "sh", "-c", &script])
        .map(drop)
}

fn reads(world: &World, name: &str) -> Option<String> {
    let container = format!("user-{name}");
    let output = world.user.command(&["exec", &container, "cat", "/data/f"]);
    let output = { output }.output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    output.status.success().then_some(text)
}

fn context() -> Result<ContextStatus> {
    let contexts = status()?.contexts.into_iter();
    let found = contexts.into_iter().find(|c| c.kind.as_str() == "gluster");
    found.context("no Gluster context")
}

/// Both containers read and write again, each through one mount.
fn mended(world: &World, text: &str) -> Result<Duration> {
    let began = Instant::now();
    for name in ["one", "two"] {
        eventually(
            "it reads again",
            MENDED,
            || Ok(reads(world, name).is_some()),
        )?;
        write(world, name, text)?;
        ensure!(reads(world, name) == Some(format!("{text}\n")));
        let container = format!("user-{name}");
        let mounts = ["exec", &container, "grep", "-c", " /data ", "/proc/mounts"];
        ensure!(world.user.ok(&mounts)?.trim() == "1", "mounts on mounts");
    }
    Ok(began.elapsed())
}

/// How long it took until the death was noticed.
fn a_killed_client_is_replaced(world: &World) -> Result<Duration> {
    let old = client()?.context("no client")?;
    let name = context()?.name;
    let deaths = || {
        let log = world.laz(&["logs", name.as_str()])?;
        Ok::<_, anyhow::Error>(log.matches(" has ended").count())
    };
    let before = deaths()?;
    process::signal(old, Signal::KILL)?;
    let seen = eventually("the death is seen", MENDED, || Ok(deaths()? > before))?;
    let took = mended(world, "killed")?;
    println!("a killed client: seen in {seen:?}, mended in {took:?}");
    ensure!(client()? != Some(old));
    Ok(seen)
}

fn a_stopped_client_is_replaced(world: &World) -> Result<()> {
    let old = client()?.context("no client")?;
    process::signal(old, Signal::STOP)?;
    let began = Instant::now();
    eventually("it is ended", MENDED, || Ok(client()? != Some(old)))?;
    let ended = began.elapsed();
    let took = mended(world, "stopped")?;
    println!("a stopped client: ended in {ended:?}, mended in {took:?}");
    Ok(())
}

/// The two volumes of one dead client are replaced one after the other, each in several steps.
fn core_dies_while_it_replaces_a_client(world: &mut World) -> Result<()> {
    for wait in [20, 120, 250, 400, 700] {
        let old = client()?.context("no client")?;
        process::signal(old, Signal::KILL)?;
        std::thread::sleep(Duration::from_millis(wait));
        world.core.kill()?;
        world.core.start_answering()?;
        let took = mended(world, &format!("after{wait}"))?;
        println!("core killed {wait} ms after its client: mended in {took:?}");
        ensure!(client()? != Some(old));
    }
    Ok(())
}

fn a_lost_brick_is_told(world: &World, server: &GlusterServer) -> Result<()> {
    server.kill_brick("b")?;
    eventually("it is told", MENDED, || {
        Ok(context()?.health == HealthState::Degraded)
    })?;
    write(world, "one", "alone")?;
    ensure!(reads(world, "one").as_deref() == Some("alone\n"));
    server.gluster(&["volume", "start", VOLUME, "force"])?;
    eventually("both hold it", Duration::from_secs(60), || {
        let held = fs::read_to_string(server.brick("b").join("one/f")).unwrap_or_default();
        Ok(held == "alone\n")
    })?;
    eventually("it is healthy", Duration::from_secs(60), || {
        Ok(context()?.health == HealthState::Healthy)
    })
    .map(drop)
}
