//! kill -9 and restart of the two engines.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lazarette_core::control::ContextPhase;
use lazarette_tests::host::core::status;
use lazarette_tests::host::{World, eventually, image, mounts};

use crate::containers::Writer;
use crate::kills::create;
use crate::{Case, engines};

pub(crate) const CASES: &[Case] = &crate::cases![
    engines::case_08_user_docker_is_killed_and_its_containers_live_on,
    engines::case_08_user_docker_is_killed_with_its_containers,
    engines::case_09_and_10_a_container_that_always_restarts_comes_back,
    engines::case_12_system_docker_is_killed_and_its_containers_live_on,
    engines::case_12_system_docker_is_killed_with_its_containers,
    engines::a_file_system_on_a_disk_passes_from_one_engine_to_the_other,
];

/// Whether core has a mount for the volume.
fn is_mounted(world: &World, name: &str) -> Result<bool> {
    Ok(world.volume(name)?.is_some_and(|v| v.mountpoint.is_some()))
}

fn reachable(name: &str) -> Result<bool> {
    Ok(status()?
        .engines
        .iter()
        .any(|e| e.name == name && e.reachable))
}

fn case_08_user_docker_is_killed_and_its_containers_live_on(world: &mut World) -> Result<()> {
    create(world, "kept")?;
    let writer = Writer::start(world, "writer", "kept", &[])?;
    for _ in 0..2 {
        world.user.kill()?;
        writer.goes_on()?;
        eventually("core sees it", Duration::from_secs(5), || {
            Ok(!reachable("user")?)
        })?;
        world.user.start()?;
        eventually("core sees it", Duration::from_secs(5), || reachable("user"))?;
        writer.goes_on()?;
        ensure!(is_mounted(world, "kept")?, "unmounted under the container");
    }
    world.user.shell(&["-v", "kept:/data"], "cat /data/n")?;
    writer.goes_on()?;
    world.user.ok(&["rm", "-f", "writer"])?;
    // However Docker counts after all this: nobody uses it, so it is not mounted.
    eventually("it is unmounted", Duration::from_secs(10), || {
        Ok(!is_mounted(world, "kept")?)
    })?;
    world.user.ok(&["volume", "rm", "kept"])?;
    world.becomes_clean()
}

fn case_08_user_docker_is_killed_with_its_containers(world: &mut World) -> Result<()> {
    world.user.set_live_restore(false);
    world.user.stop()?;
    world.user.start()?;
    create(world, "kept")?;
    create(world, "idle")?;
    let shown = (|| {
        Writer::start(world, "writer", "kept", &[])?;
        world.user.kill()?;
        world.user.start()?;
        // dockerd has ended the container, and never sends the Unmount for it.
        eventually("it is unmounted", Duration::from_secs(10), || {
            Ok(!is_mounted(world, "kept")?)
        })?;
        world.user.ok(&["start", "writer"])?;
        let writer = Writer::of(world, "writer")?;
        writer.goes_on()?;
        world.user.ok(&["rm", "-f", "writer"])?;
        world.user.ok(&["volume", "rm", "kept", "idle"])
    })();
    world.user.set_live_restore(true);
    world.user.stop()?;
    world.user.start()?;
    shown?;
    world.becomes_clean()
}

fn case_09_and_10_a_container_that_always_restarts_comes_back(world: &mut World) -> Result<()> {
    create(world, "kept")?;
    world.user.set_live_restore(false);
    world.user.stop()?;
    world.user.start()?;
    Writer::start(world, "always", "kept", &["--restart=always"])?;
    // Everything goes, and comes as in a boot: first core, then user Docker with its containers.
    world.user.stop()?;
    world.core.stop()?;
    ensure!(
        !std::fs::exists("/run/docker/plugins/hello.sock")?,
        "a dead socket stays"
    );
    world.core.start(Duration::from_secs(40))?;
    ensure!(
        std::fs::exists("/run/docker/plugins/hello.sock")?,
        "no socket at READY=1"
    );
    world.user.start()?;
    let shown = (|| {
        let writes = || Ok(Writer::of(world, "always").is_ok_and(|w| w.goes_on().is_ok()));
        eventually(
            "the container writes again",
            Duration::from_secs(15),
            writes,
        )?;
        // Killed instead of stopped: the same mount identity comes once more.
        world.user.kill()?;
        world.user.start()?;
        eventually(
            "the container writes again",
            Duration::from_secs(15),
            || Ok(Writer::of(world, "always").is_ok_and(|w| w.goes_on().is_ok())),
        )?;
        world.user.ok(&["rm", "-f", "always"])?;
        // Even if a count of the killed dockerd is still there.
        world.user.ok(&["volume", "rm", "kept"])
    })();
    world.user.set_live_restore(true);
    world.user.stop()?;
    world.user.start()?;
    shown?;
    world.becomes_clean()
}

fn case_12_system_docker_is_killed_and_its_containers_live_on(world: &mut World) -> Result<()> {
    create(world, "kept")?;
    let writer = Writer::start(world, "writer", "kept", &[])?;
    let container = world.context("spare")?.container;
    world.system.kill()?;
    eventually("core sees it", Duration::from_secs(5), || {
        Ok(!reachable("system")?)
    })?;
    writer.goes_on()?;
    // Storage that is there does not need the engine.
    create(world, "meanwhile")?;
    world
        .user
        .shell(&["-v", "meanwhile:/data"], "echo x > /data/x")?;
    world.system.start()?;
    eventually("core sees it", Duration::from_secs(5), || {
        reachable("system")
    })?;
    writer.goes_on()?;
    ensure!(
        world.context("spare")?.container == container,
        "another container"
    );
    world.user.ok(&["rm", "-f", "writer"])?;
    world.user.ok(&["volume", "rm", "kept", "meanwhile"])?;
    world.becomes_clean()
}

fn case_12_system_docker_is_killed_with_its_containers(world: &mut World) -> Result<()> {
    world.system.set_live_restore(false);
    world.system.kill()?;
    world.system.start()?;
    let shown = (|| {
        world.settled()?;
        create(world, "kept")?;
        let writer = Writer::start(world, "writer", "kept", &[])?;
        world.system.kill()?;
        world.system.start()?;
        eventually("the contexts are back", Duration::from_secs(30), || {
            let contexts = status()?.contexts;
            let ready = contexts.iter().all(|c| c.phase == ContextPhase::Ready);
            Ok(ready && reachable("system")?)
        })?;
        writer.goes_on()?;
        create(world, "next")?;
        world
            .user
            .shell(&["-v", "next:/data"], "echo x > /data/x")?;
        world.user.ok(&["rm", "-f", "writer"])?;
        world.user.ok(&["volume", "rm", "kept", "next"])
    })();
    world.system.set_live_restore(true);
    world.system.kill()?;
    world.system.start()?;
    shown?;
    eventually("nothing of it is left", Duration::from_secs(20), || {
        let left: Vec<_> = mounts::volumes()?
            .into_iter()
            .filter(|m| m.target.starts_with("/run"))
            .collect();
        Ok(left.is_empty())
    })?;
    Ok(())
}

/// Memory is handed over everywhere else: here it is ext4, whose bytes the storage container sees too.
fn a_file_system_on_a_disk_passes_from_one_engine_to_the_other(world: &mut World) -> Result<()> {
    if let Some(why) = image::no_disks() {
        println!("skipped: {why}");
        return Ok(());
    }
    world.add_disks("lazarette-disks")?;
    let patience = Duration::from_secs(60);
    let known = || Ok(world.laz(&["kinds"])?.contains("misbehaving"));
    eventually("core knows the kind", patience, known)?;
    world.set_config(
        "#cloud-config\nlazarette:\n  storage:\n    contexts:\n      \
         shelf: {kind: misbehaving, behaviour: on-a-disk}\n",
    )?;
    eventually("it is open", patience, || {
        let shelf = world.context("shelf");
        Ok(shelf.is_ok_and(|c| c.phase == ContextPhase::Ready))
    })?;
    let options = ["-o", "context=shelf", "-o", "size=16M"];
    let create = [
        &["volume", "create", "-d", "misbehaving"],
        &options[..],
        &["disk"],
    ]
    .concat();
    world.user.ok(&create)?;
    let mount = ["-v", "disk:/data"];
    world
        .user
        .shell(&mount, "echo stores > /data/file && sync")?;
    let seen = world
        .user
        .shell(&mount, "cat /data/file && grep ' /data ' /proc/mounts")?;
    ensure!(seen.starts_with("stores\n"), "{seen}");
    ensure!(
        seen.contains(" ext4 rw,nosuid,nodev") && seen.contains("/dev/loop"),
        "{seen}"
    );
    let id = world.volume("disk")?.context("it is gone")?.id;
    let file = format!("/mnt/{id}/file");
    let inside = world
        .system
        .ok(&["exec", "laz-context-shelf", "cat", &file])?;
    ensure!(inside == "stores", "in the storage container: {inside}");
    world.user.ok(&["volume", "rm", "disk"])?;
    world.set_config("#cloud-config\n{}\n")?;
    eventually("it is gone", patience, || {
        Ok(world.context("shelf").is_err())
    })?;
    world.becomes_clean()?;
    world.laz(&["plugin", "rm", "misbehaving"]).map(drop)
}
