//! Contexts attached as a whole, what is there to attach, and who may have it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lazarette_core::control::ContextPhase;
use lazarette_tests::host::{World, eventually, mounts};
use serde_json::Value;

use crate::{Case, whole_contexts};

pub(crate) const CASES: &[Case] = &crate::cases![
    whole_contexts::what_is_there_can_be_looked_for,
    whole_contexts::a_context_is_attached_and_detached_as_a_whole,
    whole_contexts::two_contexts_cannot_have_one_thing,
];

fn what_is_there_can_be_looked_for(world: &mut World) -> Result<()> {
    let found: Value = serde_json::from_str(&world.laz(&["scan", "--json"])?)?;
    let hello = &found[0];
    ensure!(hello["kind"] == "hello", "{found}");
    ensure!(hello["found"][0]["url"] == "hello:ram", "{found}");
    let said = world.laz_fails(&["scan", "tape"])?;
    ensure!(said.contains("tape") && said.contains("hello"), "{said}");
    // Its container has gone.
    let left = world.system.ok(&["ps", "-a", "--format", "{{.Names}}"])?;
    ensure!(!left.contains("laz-scan"), "{left}");
    Ok(())
}

fn mounted(target: &str) -> Result<bool> {
    Ok(mounts::volumes()?.iter().any(|m| m.target == target))
}

fn a_context_is_attached_and_detached_as_a_whole(world: &mut World) -> Result<()> {
    world.laz(&["attach", "hello:ram"])?;
    let there = || mounted("/mnt/ram/all");
    eventually("its volume is mounted", Duration::from_secs(10), there)?;
    let all = ["-v", "/mnt/ram/all:/data"];
    world.user.shell(&all, "echo one > /data/f")?;
    ensure!(world.context("ram")?.attached, "not attached");
    // It is kept, although core dies and the volume is let go of.
    world.core.kill()?;
    world.core.start_answering()?;
    world.settled()?;
    ensure!(world.user.shell(&all, "cat /data/f")? == "one", "not kept");
    // The same once more is the same.
    world.laz(&["attach", "hello:ram"])?;
    let said = world.laz_fails(&["detach", "ram.all"])?;
    ensure!(said.contains("laz detach ram"), "{said}");

    // A volume in it by its own URL, and one that was made in it.
    world.laz(&["attach", "hello:ram/part"])?;
    ensure!(mounted("/mnt/ram/part")?, "{:?}", mounts::volumes()?);
    world.laz(&["volume", "create", "--context", "ram", "made"])?;
    let said = world.laz_fails(&["detach", "ram"])?;
    ensure!(said.contains("made") && said.contains("part"), "{said}");
    world.laz(&["detach", "part"])?;
    world.laz(&["volume", "rm", "--yes", "made"])?;

    let run = ["run", "-d", "--name", "holder"];
    let sleep = ["busybox", "sleep", "600"];
    world.user.ok(&[&run[..], &all[..], &sleep[..]].concat())?;
    let said = world.laz_fails(&["detach", "ram"])?;
    ensure!(said.contains("in use") && said.contains("holder"), "{said}");
    world.user.ok(&["rm", "-f", "holder"])?;
    world.laz(&["detach", "ram"])?;
    ensure!(!mounted("/mnt/ram/all")?, "still mounted");
    ensure!(world.context("ram").is_err(), "still there");
    let said = world.laz_fails(&["detach", "scratch"])?;
    ensure!(said.contains("declared in the cloud-config"), "{said}");
    world.becomes_clean()
}

fn two_contexts_cannot_have_one_thing(world: &mut World) -> Result<()> {
    world.laz(&["attach", "hello:ram"])?;
    let said = world.laz_fails(&["attach", "--name", "other", "hello:ram"])?;
    ensure!(said.contains("context \"ram\" has it already"), "{said}");
    let create = ["volume", "create", "-d", "hello"];
    let claim = ["-o", "pool=ram", "-o", "delay_ms=3", "never"];
    let said = world.user.fails(&[&create[..], &claim[..]].concat())?;
    ensure!(
        said.contains("belongs to context \\\"ram\\\"")
            || said.contains("belongs to context \"ram\""),
        "{said}"
    );

    // One that is declared waits for the first to go.
    let declared =
        "lazarette: {storage: {contexts: {second: {kind: hello, pool: ram, volumes: [x]}}}}";
    world.set_config(&format!("#cloud-config\n{declared}\n"))?;
    let refused = || {
        let second = world.context("second")?;
        let reason = second.reason.unwrap_or_default();
        Ok(second.phase == ContextPhase::Failed && reason.contains("belongs to context \"ram\""))
    };
    eventually("it says why it waits", Duration::from_secs(5), refused)?;
    let containers = world.system.ok(&["ps", "-a", "--format", "{{.Names}}"])?;
    ensure!(!containers.contains("laz-context-second"), "{containers}");
    world.laz(&["detach", "ram"])?;
    let serves = || mounted("/mnt/second/x");
    eventually("its turn has come", Duration::from_secs(20), serves)?;
    world.set_config("#cloud-config\n{}\n")?;
    let gone = || Ok(world.context("second").is_err());
    eventually("it goes", Duration::from_secs(20), gone).context("second")?;
    world.becomes_clean()
}
