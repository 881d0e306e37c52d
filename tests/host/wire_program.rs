//! A plugin that is a program and serves the wire itself, in Python: from its project to its volumes.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use lazarette_core::control::ContextPhase;
use lazarette_tests::host::core::status;
use lazarette_tests::host::programs::in_path;
use lazarette_tests::host::{World, eventually, process};
use rustix::process::Signal;

use crate::{Case, Skipped, wire_program};

pub(crate) const CASES: &[Case] =
    &crate::cases![wire_program::a_program_in_python_is_a_plugin_like_any_other];

const PATIENCE: Duration = Duration::from_secs(60);
const CONTEXT: &str = "laz-context-board";

fn a_program_in_python_is_a_plugin_like_any_other(world: &mut World) -> Result<()> {
    if in_path("python3").is_none() {
        bail!(Skipped("needs python3".into()));
    }
    let directory = world.base.to_string_lossy().into_owned();
    let new = ["plugin", "new", "shelves", "--lang", "python"];
    world.laz(&[&new[..], &["--directory", &directory]].concat())?;
    let program = world.base.join("shelves/plugin.py");
    world.add_python_base(&program)?;
    // What the recipe of the project begins with.
    world.user.ok(&["tag", "python", "python:3-slim"])?;
    let image = pack(world, &program)?;
    ensure!(image == "lazarette-plugin-shelves:1.0.0", "{image}");
    // Its own directory outlives its container.
    let settings = r#"{"context": {"directory": "/run/lazarette"}}"#;
    let table = world.check_plugin(&world.user, &image, settings)?;
    let line = |check: &str| {
        let mut lines = table.lines();
        lines.any(|line| line.starts_with(check) && line.contains("passed"))
    };
    for check in ["closing.stop", "kills.create", "kills.mounted", "mounts."] {
        ensure!(line(check), "{check} did not pass: {table}");
    }

    let said = world.laz(&["plugin", "install", "--yes", &image])?;
    ensure!(said.contains("shelves 1.0.0"), "{said}");
    world.set_config(
        "#cloud-config\nlazarette:\n  storage:\n    contexts:\n      \
         board: {kind: shelves, directory: /run/lazarette}\n",
    )?;
    eventually("the context opens", PATIENCE, || is_ready(None))?;
    it_serves_and_comes_back(world)?;
    world.set_config("#cloud-config\n{}\n")?;
    let gone = || {
        Ok(!status()?
            .contexts
            .iter()
            .any(|c| c.name.as_str() == "board"))
    };
    eventually("its context goes", PATIENCE, gone)?;
    world.laz(&["plugin", "rm", "shelves"])?;
    world.becomes_clean()
}

fn pack(world: &World, program: &Path) -> Result<String> {
    let output = Command::new(&world.programs.laz)
        .args(["plugin", "pack", "--recipe"])
        .arg(program.parent().context("a project is a directory")?)
        .arg(program)
        .env(
            "DOCKER_HOST",
            format!("unix://{}", world.user.socket().display()),
        )
        .output()?;
    process::succeeded("laz plugin pack", &output)
}

/// Whether the context is served, by another container's process than `last`.
fn is_ready(last: Option<(&World, i32)>) -> Result<bool> {
    if let Some((world, last)) = last
        && world.system.first_process(CONTEXT).unwrap_or(last) == last
    {
        return Ok(false);
    }
    let contexts = status()?.contexts.into_iter();
    let mut boards = contexts.filter(|c| c.name.as_str() == "board");
    Ok(boards.any(|c| c.phase == ContextPhase::Ready))
}

/// A volume that a container uses while the program is killed.
fn it_serves_and_comes_back(world: &World) -> Result<()> {
    let create = ["volume", "create", "-d", "shelves", "-o", "context=board"];
    world.user.ok(&[&create[..], &["books"]].concat())?;
    let run = ["run", "-d", "--network=none", "--stop-timeout=1"];
    let what = [
        "--name=reader",
        "-v",
        "books:/data",
        "busybox",
        "sleep",
        "1000",
    ];
    world.user.ok(&[&run[..], &what].concat())?;
    let exec = |script: &str| world.user.ok(&["exec", "reader", "sh", "-c", script]);
    exec("echo one > /data/f")?;
    let first = world.system.first_process(CONTEXT)?;
    process::signal(first, Signal::KILL)?;
    let served = || is_ready(Some((world, first)));
    eventually("it is served again", PATIENCE, served)?;
    ensure!(
        exec("cat /data/f")? == "one",
        "the container lost its volume"
    );
    exec("echo two > /data/f")?;
    world.user.ok(&["rm", "-f", "reader"])?;
    let found = world.user.shell(&["-v", "books:/data"], "cat /data/f")?;
    ensure!(found == "two", "{found}");
    world.user.ok(&["volume", "rm", "books"]).map(drop)
}
