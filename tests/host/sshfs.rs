//! The plugin of a third party, in the example's place: directories of a real SSH server.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use lazarette_core::volume::HealthState;
use lazarette_tests::host::debian::Debian;
use lazarette_tests::host::sshd::{ADDRESS, PORT, Sshd, missing};
use lazarette_tests::host::{World, eventually, mounts, process};
use rustix::process::Signal;

use crate::{Case, Skipped, sshfs};

pub(crate) const CASES: &[Case] = &crate::cases![
    sshfs::its_recipe_makes_an_image_that_serves,
    sshfs::a_third_partys_plugin_serves_directories_over_ssh,
];

/// How long anything may take to be noticed and mended.
const PATIENCE: Duration = Duration::from_secs(60);
/// The context in the cloud-config.
const ATTIC: &str = "attic";
const MEDIA: &str = "/mnt/attic/media";

/// The image as the recipe says, from packages of Debian; the other test's is of this machine's files.
fn its_recipe_makes_an_image_that_serves(world: &mut World) -> Result<()> {
    if let Some(why) = missing() {
        bail!(Skipped(why));
    }
    let scratch = world.base.join("recipe");
    fs::create_dir_all(&scratch)?;
    let debian = Debian::of_this_machine(&scratch).map_err(|why| anyhow!(Skipped(why)))?;
    // What the recipe begins with.
    debian.import(&world.user, &scratch, "debian:trixie-slim")?;
    let recipe = concat!(env!("CARGO_MANIFEST_DIR"), "/../plugins/examples/sshfs");
    let build = ["build", "--quiet", "--network=host", "--tag=sshfs-tools"];
    world.user.ok(&[&build[..], &[recipe]].concat())?;
    let image = pack(world)?;
    let installed = world.laz(&["plugin", "install", "--yes", &image])?;
    ensure!(installed.contains("SYS_ADMIN"), "{installed}");
    let inspected = world.laz(&["plugin", "inspect", "sshfs"])?;
    ensure!(inspected.contains("on_remove"), "{inspected}");

    let mut server = Sshd::new(&scratch)?;
    server.start()?;
    declare(world, &server)?;
    secrets_are_asked_for(world, &server)?;
    let bind = format!("{MEDIA}:/data");
    world.user.shell(&["-v", &bind], "echo packed > /data/f")?;
    let found = fs::read_to_string(server.files().join("media/f"))?;
    ensure!(found == "packed\n", "{found:?}");
    world.set_config("#cloud-config\n{}\n")?;
    let removed = || Ok(world.laz(&["plugin", "rm", "sshfs"]).is_ok());
    eventually("no context needs it", PATIENCE, removed)?;
    server.stop()?;
    world.becomes_clean()
}

/// Puts the plugin into the image `sshfs-tools`; the new image's name.
fn pack(world: &World) -> Result<String> {
    let engine = format!("unix://{}", world.user.socket().display());
    let output = process::limited(120, &world.programs.laz.to_string_lossy())
        .args(["plugin", "pack", "--base", "sshfs-tools"])
        .arg(&world.programs.sshfs)
        .env("DOCKER_HOST", engine)
        .output()?;
    process::succeeded("laz plugin pack", &output)
}

fn a_third_partys_plugin_serves_directories_over_ssh(world: &mut World) -> Result<()> {
    if let Some(why) = missing() {
        bail!(Skipped(why));
    }
    let mut server = Sshd::new(&world.base)?;
    server.start()?;
    world.add_sshfs()?;
    let known = || Ok(world.laz(&["kinds"])?.contains("sshfs"));
    eventually("core knows the kind", PATIENCE, known)?;
    declare(world, &server)?;
    secrets_are_asked_for(world, &server)?;
    it_keeps_the_contract(world, &server)?;
    volumes_are_directories_of_the_server(world, &server)?;
    a_killed_client_is_replaced(world)?;
    a_server_may_go_and_come_back(world, &mut server)?;
    world.user.ok(&["rm", "-f", "user-ssh"])?;
    world.user.ok(&["volume", "rm", "books"])?;
    ensure!(!server.files().join("books").exists(), "on_remove: delete");
    world.set_config("#cloud-config\n{}\n")?;
    let gone = || Ok(process::with(&["/usr/bin/sshfs"])?.is_none());
    eventually("the clients end", PATIENCE, gone)?;
    ensure!(server.files().join("media/f").exists(), "data stays");
    server.stop()?;
    world.becomes_clean()
}

fn declare(world: &World, server: &Sshd) -> Result<()> {
    let path = server.files().display().to_string();
    world.set_config(&format!(
        "#cloud-config\nlazarette:\n  storage:\n    contexts:\n      {ATTIC}: {{kind: sshfs, \
         server: {ADDRESS}, port: {PORT}, user: root, path: {path}, uid: 1000, volumes: [media]}}\n"
    ))
}

fn secrets_are_asked_for(world: &World, server: &Sshd) -> Result<()> {
    eventually("the secret is missed", PATIENCE, || {
        let reason = world.context(ATTIC)?.reason.unwrap_or_default();
        Ok(reason.contains("/etc/lazarette/secrets/CONTEXT/key"))
    })?;
    server.trust(ATTIC)?;
    let mounted = || Ok(mounts::volumes()?.iter().any(|m| m.target == MEDIA));
    eventually("the declared volume is mounted", PATIENCE, mounted)
        .map(drop)
        .map_err(|error| error.context(world.laz(&["logs", ATTIC]).unwrap_or_default()))
}

/// The conformance kit, in a container with this context's secrets.
fn it_keeps_the_contract(world: &World, server: &Sshd) -> Result<()> {
    let path = server.files().display().to_string();
    let settings = format!(
        r#"{{"context": {{"server": "{ADDRESS}", "port": {PORT}, "user": "root", "path": "{path}"}},
            "volume": {{"path": "check/{{id}}", "on_remove": "delete"}}, "kill_points": [50],
            "deadline_s": 60, "secrets": "/etc/lazarette/secrets/{ATTIC}"}}"#
    );
    let table = world.check_plugin(&world.system, "lazarette-sshfs", &settings)?;
    let passed = table.matches(" passed ").count();
    ensure!(passed >= 45, "{passed} passed: {table}");
    Ok(())
}

fn volumes_are_directories_of_the_server(world: &World, server: &Sshd) -> Result<()> {
    let bind = format!("{MEDIA}:/data");
    world.user.shell(&["-v", &bind], "echo one > /data/f")?;
    let found = fs::read_to_string(server.files().join("media/f"))?;
    ensure!(found == "one\n", "{found:?}");
    let mount = mounts::volumes()?.into_iter().find(|m| m.target == MEDIA);
    let mount = mount.context("it is gone")?;
    ensure!(mount.fs_type == "fuse.sshfs", "{mount:?}");
    let create = ["volume", "create", "-d", "sshfs", "-o", "context=attic"];
    let options = ["-o", "path=books", "-o", "on_remove=delete", "books"];
    world.user.ok(&[&create[..], &options].concat())?;
    let run = [
        "run",
        "-d",
        "--network=none",
        "--stop-timeout=1",
        "--user=1000",
    ];
    let what = [
        "--name=user-ssh",
        "-v",
        "books:/data",
        "busybox",
        "sleep",
        "1000",
    ];
    world.user.ok(&[&run[..], &what].concat())?;
    write(world, "before")?;
    let found = fs::read_to_string(server.files().join("books/f"))?;
    ensure!(found == "before\n", "{found:?}");
    for refused in ["path=../up", "colour=red"] {
        let said = world
            .user
            .fails(&[&create[..], &["-o", refused, "bad"]].concat())?;
        ensure!(said.contains("up") || said.contains("colour"), "{said}");
    }
    Ok(())
}

/// Writes in the container, as a user without any rights of its own.
fn write(world: &World, text: &str) -> Result<()> {
    let script = format!("echo {text} > /data/f && cat /data/f");
    let said = world.user.ok(&["exec", "user-ssh", "sh", "-c", &script])?;
    ensure!(said.trim() == text, "{said}");
    Ok(())
}

fn writes_again(world: &World, text: &str) -> Result<()> {
    let again = eventually("it writes again", PATIENCE, || {
        Ok(write(world, text).is_ok())
    })?;
    println!("{text}: writes again after {again:?}");
    Ok(())
}

fn a_killed_client_is_replaced(world: &World) -> Result<()> {
    for _ in 0..2 {
        let client = process::with(&["/usr/bin/sshfs"])?.context("no client")?;
        process::signal(client, Signal::KILL)?;
        let gone = || Ok(process::with(&["/usr/bin/sshfs"])? != Some(client));
        eventually("it has ended", PATIENCE, gone)?;
    }
    writes_again(world, "killed")
}

fn a_server_may_go_and_come_back(world: &World, server: &mut Sshd) -> Result<()> {
    let is = |state| move || Ok(world.context(ATTIC)?.health == state);
    eventually("it is healthy", PATIENCE, is(HealthState::Healthy))?;
    server.stop()?;
    eventually("it is away", PATIENCE, is(HealthState::Unreachable))?;
    let reason = world.context(ATTIC)?.reason.unwrap_or_default();
    ensure!(reason.contains(&PORT.to_string()), "{reason}");
    server.start()?;
    eventually("it is back", PATIENCE, is(HealthState::Healthy))?;
    writes_again(world, "restarted")
}
