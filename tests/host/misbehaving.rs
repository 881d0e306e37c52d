//! Plugins that break their contract in their containers, beside a container whose storage works.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use lazarette_core::HealthState;
use lazarette_core::control::{ContextPhase, ContextStatus};
use lazarette_tests::host::core::status;
use lazarette_tests::host::{World, eventually, process};

use crate::containers::Writer;
use crate::plugins::images;
use crate::{Case, misbehaving};

pub(crate) const CASES: &[Case] = &crate::cases![
    misbehaving::what_a_plugin_does_stays_in_its_container,
    misbehaving::what_a_plugin_may_not_have_is_refused,
    misbehaving::a_plugin_upgrade_that_ends_fuse_clients_says_who_must_stop_first,
    misbehaving::what_a_test_leaves_when_it_fails_is_cleared_away,
];

/// How long anything may take to be noticed and mended.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long until a plugin that keeps dying is left alone.
const STOPPED: Duration = Duration::from_secs(300);
/// MiB that core may grow by.
const GROWTH_MIB: u64 = 48;

/// Each context is named after its behaviour.
const BEHAVIOURS: [&str; 10] = [
    "dies-of-health",
    "dies-when-opened",
    "segfaults",
    "aborts",
    "panics",
    "eats-memory",
    "forks",
    "hangs-in-health",
    "floods",
    "wrong-shape",
];

/// A cloud-config with a context for each of `behaviours`.
fn config(behaviours: &[&str]) -> String {
    let contexts: String = behaviours
        .iter()
        .map(|one| format!("      {one}: {{kind: misbehaving, behaviour: {one}}}\n"))
        .collect();
    match contexts.is_empty() {
        true => "#cloud-config\n{}\n".into(),
        false => format!("#cloud-config\nlazarette:\n  storage:\n    contexts:\n{contexts}"),
    }
}

fn becomes(
    world: &World,
    name: &str,
    limit: Duration,
    wanted: impl Fn(&ContextStatus) -> bool,
) -> Result<ContextStatus> {
    let there = || Ok(world.context(name).is_ok_and(|context| wanted(&context)));
    eventually(&format!("{name} is as it should be"), limit, there)
        .map_err(|error| error.context(format!("{:#?}", world.context(name))))?;
    world.context(name)
}

fn is_ready(context: &ContextStatus) -> bool {
    context.phase == ContextPhase::Ready
}

/// Has a volume made, which fails; what is said.
fn create(world: &World, context: &str) -> Result<String> {
    let (option, name) = (format!("context={context}"), format!("of-{context}"));
    let create = ["volume", "create", "-d", "misbehaving", "-o"];
    world.user.fails(&[&create[..], &[&option, &name]].concat())
}

fn what_a_plugin_does_stays_in_its_container(world: &mut World) -> Result<()> {
    let writer = Writer::start(world, "witness", "/mnt/scratch/two", &[])?;
    let core = world.core.pid()?;
    let before = process::resident_kib(core)?;
    with_contexts(world, &BEHAVIOURS)?;

    what_dies_once_is_mended(world)?;
    what_does_not_answer_is_reported(world)?;
    a_flood_is_heard_in_measure(world)?;
    what_keeps_dying_is_stopped(world)?;

    writer.goes_on()?;
    let grown = process::resident_kib(core)?.saturating_sub(before) >> 10;
    println!("core has grown by {grown} MiB");
    ensure!(grown < GROWTH_MIB, "core has grown by {grown} MiB");
    let asked = Instant::now();
    status()?;
    println!("status took {:?}", asked.elapsed());

    world.set_config(&config(&[]))?;
    let gone = || {
        Ok(status()?
            .contexts
            .iter()
            .all(|c| c.kind.as_str() != "misbehaving"))
    };
    eventually("the contexts go", PATIENCE, gone)?;
    writer.goes_on()?;
    world.user.ok(&["rm", "-f", "witness"])?;
    let clean = ["-v", "/mnt/scratch/two:/data"];
    world.user.shell(&clean, "rm /data/n /data/new")?;
    world.becomes_clean()?;
    world.laz(&["plugin", "rm", "misbehaving"]).map(drop)
}

/// Makes the kind known, and its contexts.
fn with_contexts(world: &World, behaviours: &[&str]) -> Result<()> {
    world.add_misbehaving(&world.system, "lazarette-misbehaving", "")?;
    let known = || Ok(world.laz(&["kinds"])?.contains("misbehaving"));
    eventually("core knows the kind", PATIENCE, known)?;
    world.set_config(&config(behaviours))
}

fn what_dies_once_is_mended(world: &World) -> Result<()> {
    for name in ["segfaults", "aborts", "eats-memory"] {
        becomes(world, name, PATIENCE, is_ready)?;
        create(world, name)?;
        let mended = |context: &ContextStatus| is_ready(context) && context.crashes > 0;
        becomes(world, name, PATIENCE, mended)?;
    }
    becomes(world, "panics", PATIENCE, is_ready)?;
    let said = create(world, "panics")?;
    ensure!(said.contains("panicked"), "{said}");
    let panicked = becomes(world, "panics", PATIENCE, is_ready)?;
    ensure!(
        panicked.crashes == 0,
        "a panic ends no process: {panicked:?}"
    );
    becomes(world, "forks", PATIENCE, is_ready)?;
    let said = create(world, "forks")?;
    if said.contains("there is no limit") {
        println!("skipped: this machine's engine limits no processes");
    }
    Ok(())
}

fn what_does_not_answer_is_reported(world: &World) -> Result<()> {
    for name in ["hangs-in-health", "wrong-shape"] {
        let context = becomes(world, name, PATIENCE, |context| {
            context.health == HealthState::Unreachable
        })?;
        let reason = context.reason.unwrap_or_default();
        ensure!(reason.contains("health"), "{name}: {reason}");
    }
    Ok(())
}

fn a_flood_is_heard_in_measure(world: &World) -> Result<()> {
    becomes(world, "floods", PATIENCE, is_ready)?;
    let dropped = || {
        Ok(world
            .laz(&["logs", "floods", "--tail", "400"])?
            .contains("lines were dropped"))
    };
    eventually("lines are dropped, and counted", PATIENCE, dropped)?;
    let log = world.core.log();
    ensure!(!log.contains("\x1b[2J"), "a terminal would obey the log");
    let longest = log.lines().map(str::len).max().unwrap_or_default();
    ensure!(longest < 10_000, "a line of {longest} bytes");
    Ok(())
}

fn what_keeps_dying_is_stopped(world: &World) -> Result<()> {
    let stopped = |context: &ContextStatus| context.phase == ContextPhase::Stopped;
    let context = becomes(world, "dies-of-health", STOPPED, stopped)?;
    let reason = context.reason.unwrap_or_default();
    ensure!(
        context.crashes >= 8 && reason.contains("keeps dying"),
        "{reason}"
    );
    ensure!(
        reason.contains("laz pool resume dies-of-health"),
        "{reason}"
    );
    let gone = || {
        let running = world.system.ok(&["ps", "--format", "{{.Names}}"])?;
        Ok(!running
            .lines()
            .any(|name| name == "laz-context-dies-of-health"))
    };
    eventually("its container goes", PATIENCE, gone)?;
    let asked = Instant::now();
    let said = create(world, "dies-of-health")?;
    ensure!(said.contains("keeps dying"), "{said}");
    ensure!(asked.elapsed() < PATIENCE, "it was waited for");
    let shown = world.laz(&["status"])?;
    ensure!(shown.contains("its plugin has died"), "{shown}");
    becomes(world, "dies-when-opened", PATIENCE, |context| {
        context.crashes > 1 && !is_ready(context)
    })?;

    world.laz(&["pool", "resume", "dies-of-health"])?;
    let again = |context: &ContextStatus| !stopped(context) && context.crashes > 0;
    becomes(world, "dies-of-health", PATIENCE, again)?;
    let changed = config(&BEHAVIOURS).replace("behaviour: dies-of-health", "behaviour: none");
    world.set_config(&changed)?;
    becomes(world, "dies-of-health", PATIENCE, |context| {
        is_ready(context) && context.health == HealthState::Healthy
    })?;
    let create = [
        "volume",
        "create",
        "-d",
        "misbehaving",
        "-o",
        "context=dies-of-health",
    ];
    world.user.ok(&[&create[..], &["cured"]].concat())?;
    world.user.ok(&["volume", "rm", "cured"]).map(drop)
}

fn what_a_plugin_may_not_have_is_refused(world: &mut World) -> Result<()> {
    world.add_misbehaving(&world.user, "greedy:1", "engine-socket")?;
    for more in [&["--yes"][..], &[]] {
        let install = [&["plugin", "install"], more, &["greedy:1"]].concat();
        let said = world.laz_fails(&install)?;
        ensure!(
            more.is_empty() || (said.contains("/run/docker.sock") && said.contains("host_files")),
            "{said}"
        );
        ensure!(!more.is_empty() || said.contains("--yes"), "{said}");
    }
    // Past laz.
    world.add_misbehaving(&world.system, "greedy:1", "engine-socket")?;
    let told = || Ok(world.laz(&["status"])?.contains("no plugin gets that"));
    eventually("it is reported", PATIENCE, told)?;
    let listed = world.laz(&["plugin", "ls", "--json"])?;
    ensure!(!listed.contains("\"kind\": \"misbehaving\""), "{listed}");
    world.system.ok(&["image", "rm", "greedy:1"])?;
    let forgotten = || Ok(!world.laz(&["status"])?.contains("no plugin gets that"));
    eventually("it is forgotten", PATIENCE, forgotten)?;
    world.becomes_clean()
}

/// How the contexts of the kind are, and in which containers.
fn served() -> Result<Vec<(ContextPhase, Option<String>)>> {
    let contexts = status()?.contexts.into_iter();
    let served = contexts.filter(|c| c.kind.as_str() == "misbehaving");
    Ok(served.map(|c| (c.phase, c.container)).collect())
}

fn a_plugin_upgrade_that_ends_fuse_clients_says_who_must_stop_first(
    world: &mut World,
) -> Result<()> {
    world.add_misbehaving(&world.user, "fuse:1", "fuse")?;
    world.laz(&["plugin", "install", "--yes", "fuse:1"])?;
    world
        .user
        .ok(&["volume", "create", "-d", "misbehaving", "live"])?;
    let writer = Writer::start(world, "live-writer", "live", &[])?;
    let uses = || {
        Ok(world
            .volume("live")?
            .is_some_and(|v| v.used_by == ["live-writer"]))
    };
    eventually("core knows who uses it", PATIENCE, uses)?;
    world.add_misbehaving(&world.user, "fuse:2", "fuse")?;
    let said = world.laz_fails(&["plugin", "upgrade", "--yes", "fuse:2"])?;
    ensure!(
        said.contains("live-writer") && said.contains("stop these containers first"),
        "{said}"
    );
    writer.goes_on()?;
    let before = served()?;
    world.laz(&["plugin", "upgrade", "--yes", "--force", "fuse:2"])?;
    let renewed = || {
        let now = served()?;
        Ok(now != before && now.iter().all(|(phase, _)| *phase == ContextPhase::Ready))
    };
    eventually("another container serves", PATIENCE, renewed)?;
    writer.goes_on()?;
    world.user.ok(&["rm", "-f", "live-writer"])?;
    world.user.ok(&["volume", "rm", "live"])?;
    let gone = || {
        Ok(status()?
            .contexts
            .iter()
            .all(|c| c.kind.as_str() != "misbehaving"))
    };
    eventually("its context goes", PATIENCE, gone)?;
    world.laz(&["plugin", "rm", "misbehaving"])?;
    world.becomes_clean()
}

/// So that the tests after it do not fail, too.
fn what_a_test_leaves_when_it_fails_is_cleared_away(world: &mut World) -> Result<()> {
    let before = images(world)?;
    let list = world.built_in()?;
    with_contexts(world, &["none"])?;
    becomes(world, "none", PATIENCE, is_ready)?;
    let create = ["volume", "create", "-d", "misbehaving", "left"];
    world
        .user
        .ok(&[&create[..], &["-o", "context=none"]].concat())?;
    let image = [
        "image",
        "inspect",
        "--format={{.Id}}",
        "lazarette-misbehaving",
    ];
    let image = world.system.ok(&image)?;
    world.list_built_in(&format!("{list}{image}\n"))?;
    world.clear()?;
    ensure!(images(world)? == before, "an image stays");
    let now = world.built_in()?;
    ensure!(now == list, "what the OS lists: {now}, not {list}");
    let kinds = world.laz(&["kinds"])?;
    ensure!(!kinds.contains("misbehaving"), "{kinds}");
    world.becomes_clean()
}
