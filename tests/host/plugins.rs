//! A plugin's whole way: written, built, packed, installed, replaced under a container that uses
//! it, and removed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lazarette_core::control::{ContextPhase, Plugins};
use lazarette_tests::host::core::status;
use lazarette_tests::host::{World, eventually, process};

use crate::{Case, plugins};

pub(crate) const CASES: &[Case] = &crate::cases![
    plugins::a_plugin_is_written_packed_installed_replaced_and_removed,
    plugins::a_name_that_an_archive_took_from_the_os_is_given_back,
];

const PATIENCE: Duration = Duration::from_secs(60);

fn a_plugin_is_written_packed_installed_replaced_and_removed(world: &mut World) -> Result<()> {
    world.add_author_base()?;
    let project = project(world, "written")?;
    // What the recipe of the project begins with.
    world.user.ok(&["tag", "base", "debian:trixie-slim"])?;
    let recipe = project.to_string_lossy().into_owned();
    let first = pack(world, &project, "1.0.0", &["--recipe", &recipe])?;
    ensure!(first == "lazarette-plugin-boxes:1.0.0", "{first}");
    let file = world.base.join("boxes.tar");
    let output = file.to_string_lossy().into_owned();
    pack(
        world,
        &project,
        "2.0.0",
        &["--base", "base", "--tag", "boxes:two", "--output", &output],
    )?;

    it_keeps_the_contract_in_its_container(world, &first)?;
    what_is_no_plugin_is_refused(world)?;
    // Another test may have removed a newer one.
    let said = world.laz(&["plugin", "install", "--yes", "--downgrade", &first])?;
    ensure!(
        said.contains("boxes 1.0.0") && said.contains("SYS_ADMIN"),
        "{said}"
    );
    world.laz(&["plugin", "install", "--yes", &first])?;
    let listed = world.laz(&["plugin", "ls"])?;
    ensure!(
        listed.contains("boxes") && listed.contains("hello"),
        "{listed}"
    );
    ensure!(
        world
            .laz(&["plugin", "inspect", "boxes"])?
            .contains("volume_schema")
    );

    use_a_box(world)?;
    world
        .user
        .ok(&["exec", "user-box", "sh", "-c", "echo kept > /data/f"])?;
    let said = world.laz_fails(&["plugin", "rm", "boxes"])?;
    ensure!(said.contains("it serves the context"), "{said}");

    let before = images(world)?;
    let said = world.laz_fails(&["plugin", "install", "--yes", &output])?;
    ensure!(said.contains("version 1.0.0 is installed"), "{said}");
    ensure!(images(world)? == before, "a refused image stays");
    let said = world.laz(&["plugin", "upgrade", "--yes", &output])?;
    ensure!(said.contains("boxes 2.0.0"), "{said}");
    let ready = || {
        let contexts = status()?.contexts.into_iter();
        Ok(contexts
            .filter(|c| c.kind.as_str() == "boxes")
            .all(|c| c.phase == ContextPhase::Ready))
    };
    eventually("it is served again", PATIENCE, ready)?;
    let kept = world.user.ok(&["exec", "user-box", "cat", "/data/f"])?;
    ensure!(kept.trim() == "kept", "{kept}");
    ensure!(images(world)? == before, "one image took the other's place");
    a_newer_version_gives_way_only_if_that_is_said(world, &first)?;
    ensure!(images(world)? == before, "one image took the other's place");

    world.user.ok(&["rm", "-f", "user-box"])?;
    world.user.ok(&["volume", "rm", "box"])?;
    let gone = || {
        Ok(status()?
            .contexts
            .iter()
            .all(|c| c.kind.as_str() != "boxes"))
    };
    eventually("its context goes", PATIENCE, gone)?;
    world.laz(&["plugin", "rm", "boxes"])?;
    ensure!(kinds(world)? == ["hello"], "{:?}", kinds(world)?);
    let said = world.laz_fails(&["plugin", "rm", "boxes"])?;
    ensure!(said.contains("it is not installed"), "{said}");
    ensure!(images(world)? + 1 == before, "its image stays");
    a_removed_version_is_remembered(world, &first, &output)?;
    ensure!(images(world)? + 1 == before, "an image stays");
    world.becomes_clean()
}

/// Also by another core.
fn a_removed_version_is_remembered(world: &mut World, first: &str, second: &str) -> Result<()> {
    let install = ["plugin", "install", "--yes"];
    world.laz(&[&install[..], &[second]].concat())?;
    world.laz(&["plugin", "rm", "boxes"])?;
    world.core.kill()?;
    world.core.start_answering()?;
    world.settled()?;
    let said = world.laz_fails(&[&install[..], &[first]].concat())?;
    let older = "version 1.0.0 is older than 2.0.0, which was removed";
    ensure!(
        said.contains(older) && said.contains("--downgrade"),
        "{said}"
    );
    world.laz(&[&install[..], &["--downgrade", first]].concat())?;
    world.laz(&["plugin", "rm", "boxes"])?;
    // The one that was removed last counts.
    world.laz(&[&install[..], &[first]].concat())?;
    world.laz(&["plugin", "rm", "boxes"]).map(drop)
}

/// Back to the first version, and its data are still there.
fn a_newer_version_gives_way_only_if_that_is_said(world: &World, first: &str) -> Result<()> {
    let upgrade = ["plugin", "upgrade", "--yes"];
    let said = world.laz_fails(&[&upgrade[..], &[first]].concat())?;
    ensure!(
        said.contains("version 1.0.0 is older than 2.0.0") && said.contains("--downgrade"),
        "{said}"
    );
    let said = world.laz(&[&upgrade[..], &["--downgrade", first]].concat())?;
    ensure!(said.contains("boxes 1.0.0"), "{said}");
    let serves = world.laz(&["plugin", "inspect", "boxes"])?;
    ensure!(serves.contains(r#""version": "1.0.0""#), "{serves}");
    let kept = world.user.ok(&["exec", "user-box", "cat", "/data/f"])?;
    ensure!(kept.trim() == "kept", "{kept}");
    Ok(())
}

/// As after a power failure, or core's death, between the loading of an archive and its refusal.
fn a_name_that_an_archive_took_from_the_os_is_given_back(world: &mut World) -> Result<()> {
    const NAME: &str = "lazarette-hello:latest";
    let means = |world: &World| {
        let inspect = ["image", "inspect", "--format={{.Id}}", NAME];
        world.system.ok(&inspect)
    };
    let ours = means(world)?;
    let archive = world.base.join("taken.tar").to_string_lossy().into_owned();
    world.user.ok(&["tag", "busybox", NAME])?;
    world.user.ok(&["save", "--output", &archive, NAME])?;
    world.user.ok(&["rmi", NAME])?;
    world.core.kill()?;
    world.system.ok(&["load", "--input", &archive])?;
    let taken = means(world)?;
    ensure!(taken != ours, "the archive has not taken the name");
    world.core.start_answering()?;
    let back = || Ok(means(world)? == ours);
    eventually("the OS's image has its name again", PATIENCE, back)?;
    world.system.ok(&["rmi", &taken])?;
    world.settled().map(drop)
}

/// A new project of the kind `boxes`, in the directory `below` of the world's.
pub(crate) fn project(world: &World, below: &str) -> Result<PathBuf> {
    let directory = world.base.join(below);
    fs::create_dir_all(&directory)?;
    let path = directory.to_string_lossy();
    let new = ["plugin", "new", "boxes", "--lang", "c", "--directory"];
    world.laz(&[&new[..], &[&path]].concat())?;
    Ok(directory.join("boxes"))
}

/// A volume of the kind in a container of user Docker.
pub(crate) fn use_a_box(world: &World) -> Result<()> {
    let create = ["volume", "create", "-d", "boxes", "-o", "size=4M", "box"];
    world.user.ok(&create)?;
    let run = [
        "run",
        "-d",
        "--network=none",
        "--stop-timeout=1",
        "--name=user-box",
    ];
    let what = ["-v", "box:/data", "busybox", "sleep", "1000"];
    world.user.ok(&[&run[..], &what].concat()).map(drop)
}

/// Builds `version` of the project and packs it by user Docker as `more` says; the image's name.
pub(crate) fn pack(world: &World, project: &Path, version: &str, more: &[&str]) -> Result<String> {
    let source = project.join("plugin.c");
    let text = fs::read_to_string(&source)?.replace("1.0.0", version);
    fs::write(&source, text)?;
    let made = process::limited(120, "make")
        .arg("-C")
        .arg(project)
        .arg("plugin.so")
        .output()?;
    process::succeeded("make", &made)?;
    let plugin: PathBuf = project.join("plugin.so");
    let output = Command::new(&world.programs.laz)
        .args(["plugin", "pack"])
        .args(more)
        .arg(plugin)
        .env(
            "DOCKER_HOST",
            format!("unix://{}", world.user.socket().display()),
        )
        .output()?;
    process::succeeded("laz plugin pack", &output)
}

/// The conformance kit, with the image that was packed, in a container of user Docker.
fn it_keeps_the_contract_in_its_container(world: &World, image: &str) -> Result<()> {
    let settings = world.base.join("check.json");
    fs::write(
        &settings,
        r#"{"volume": {"size": "4M"}, "keeps_data": false}"#,
    )?;
    let output = process::limited(600, &world.programs.laz.to_string_lossy())
        .args(["plugin", "check", image, "--docker"])
        .arg(format!("unix://{}", world.user.socket().display()))
        .arg("--config")
        .arg(&settings)
        .output()?;
    let table = process::succeeded("laz plugin check", &output)?;
    ensure!(table.contains("mounts."), "{table}");
    let left = world
        .user
        .ok(&["ps", "-aq", "--filter", "name=laz-check"])?;
    ensure!(left.is_empty(), "the kit's container stays: {left}");
    Ok(())
}

fn what_is_no_plugin_is_refused(world: &World) -> Result<()> {
    let before = images(world)?;
    let said = world.laz_fails(&["plugin", "install", "--yes", "busybox"])?;
    ensure!(
        said.contains("is no plugin") && said.contains("laz plugin pack"),
        "{said}"
    );
    let text = world.base.join("text");
    fs::write(&text, "no image")?;
    world.laz_fails(&["plugin", "install", "--yes", &text.to_string_lossy()])?;
    ensure!(images(world)? == before, "a refused image stays");
    let said = world.laz_fails(&["plugin", "upgrade", "--yes", "lazarette-plugin-boxes:1.0.0"])?;
    ensure!(said.contains("it is not installed"), "{said}");
    Ok(())
}

/// How many images system Docker has.
pub(crate) fn images(world: &World) -> Result<usize> {
    Ok(world
        .system
        .ok(&["images", "-q", "--no-trunc"])?
        .lines()
        .count())
}

fn kinds(world: &World) -> Result<Vec<String>> {
    let all: Plugins = serde_json::from_str(&world.laz(&["plugin", "ls", "--json"])?)
        .context("laz plugin ls --json")?;
    Ok(all.plugins.iter().map(|p| p.kind.to_string()).collect())
}
