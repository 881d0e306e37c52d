//! A kind that the OS has a plugin of: another one in its place, and the OS's own again.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lazarette_core::control::{ContextPhase, PluginSignature, PluginStatus};
use lazarette_tests::host::core::status;
use lazarette_tests::host::{World, eventually};

use crate::plugins::{images, pack, project, use_a_box};
use crate::{Case, built_in};

pub(crate) const CASES: &[Case] =
    &crate::cases![built_in::what_has_taken_the_place_of_the_oss_own_gives_it_back];

const PATIENCE: Duration = Duration::from_secs(60);

fn what_has_taken_the_place_of_the_oss_own_gives_it_back(world: &mut World) -> Result<()> {
    world.add_author_base()?;
    let project = project(world, "built-in")?;
    let first = pack(world, &project, "1.0.0", &["--base", "base"])?;
    let second = pack(world, &project, "2.0.0", &["--base", "base"])?;
    // Another test may have removed a newer one.
    world.laz(&["plugin", "install", "--yes", "--downgrade", &first])?;
    let ours = plugin(world)?.image;
    let others = world.built_in()?;
    let with_ours = format!("{others}{ours} {first}\n");
    world.list_built_in(&with_ours)?;
    ensure!(plugin(world)?.signature == PluginSignature::BuiltIn);
    let said = world.laz_fails(&["plugin", "rm", "boxes"])?;
    ensure!(said.contains("it is part of the OS"), "{said}");

    use_a_box(world)?;
    let write = "echo kept > /data/f";
    world.user.ok(&["exec", "user-box", "sh", "-c", write])?;
    let before = images(world)?;
    world.laz(&["plugin", "upgrade", "--yes", &second])?;
    serves(world, "2.0.0")?;
    ensure!(images(world)? == before + 1, "the OS's own has gone");
    let listed = world.laz_output(&["plugin", "ls"])?;
    ensure!(listed.stderr.is_empty(), "{listed:?}");
    world.list_built_in(&with_ours)?;
    serves(world, "2.0.0")?;
    // The same once more changes nothing.
    let container = container(world)?;
    world.laz(&["plugin", "install", "--yes", &second])?;
    ensure!(self::container(world)? == container, "it was made anew");

    let said = world.laz_fails(&["plugin", "rm", "boxes"])?;
    ensure!(said.contains("it serves the context"), "{said}");
    ensure!(said.contains(&format!("--downgrade {ours}")), "{said}");
    world.laz(&["plugin", "upgrade", "--yes", "--downgrade", &ours])?;
    serves(world, "1.0.0")?;
    ensure!(images(world)? == before, "what it has replaced stays");
    world.laz(&["plugin", "upgrade", "--yes", &second])?;
    serves(world, "2.0.0")?;

    world.user.ok(&["rm", "-f", "user-box"])?;
    world.user.ok(&["volume", "rm", "box"])?;
    let gone = || Ok(context()?.is_none());
    eventually("its context goes", PATIENCE, gone)?;
    let removed = world.laz_output(&["plugin", "rm", "boxes"])?;
    let said = String::from_utf8_lossy(&removed.stderr);
    ensure!(removed.status.success(), "{said}");
    ensure!(
        said.contains("boxes 1.0.0, which is part of the OS"),
        "{said}"
    );
    ensure!(plugin(world)?.image == ours && images(world)? == before);

    // From here on it is a plugin like others, and goes.
    world.list_built_in(&others)?;
    world.laz(&["plugin", "rm", "boxes"])?;
    world.becomes_clean()
}

fn plugin(world: &World) -> Result<PluginStatus> {
    let shown = world.laz(&["plugin", "inspect", "boxes"])?;
    serde_json::from_str(&shown).context("laz plugin inspect")
}

/// The name of its context, if there is one.
fn context() -> Result<Option<(String, ContextPhase)>> {
    let mut all = status()?.contexts.into_iter();
    let found = all.find(|context| context.kind.as_str() == "boxes");
    Ok(found.map(|context| (context.name.to_string(), context.phase)))
}

/// The container of its context, and the image that is of.
fn container(world: &World) -> Result<String> {
    let (name, _) = context()?.context("no context")?;
    let what = format!("laz-context-{name}");
    let format = "--format={{.Id}} {{.Image}}";
    world.system.ok(&["container", "inspect", format, &what])
}

/// Waits until `version` serves, in the context's container too, and looks after the user's data.
fn serves(world: &World, version: &str) -> Result<()> {
    let plugin = plugin(world)?;
    ensure!(plugin.version == version, "{plugin:?}");
    let is = || {
        let ready = context()?.is_some_and(|(_, phase)| phase == ContextPhase::Ready);
        Ok(ready && container(world).is_ok_and(|found| found.contains(&plugin.image)))
    };
    eventually("its container is of the image", PATIENCE, is)?;
    let kept = world.user.ok(&["exec", "user-box", "cat", "/data/f"])?;
    ensure!(kept.trim() == "kept", "{kept}");
    Ok(())
}
