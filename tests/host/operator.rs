//! What an operator does with `laz`.

use std::fs;

use anyhow::{Context, Result, ensure};
use lazarette_tests::host::{World, mounts};
use serde_json::Value;

use crate::{Case, operator};

pub(crate) const CASES: &[Case] = &crate::cases![
    operator::status_shows_everything,
    operator::volumes_are_made_and_removed_by_laz,
    operator::attach_and_detach_say_what_they_cannot_do,
    operator::the_log_of_a_context_can_be_read,
    operator::doctor_finds_both_engines_and_core,
    operator::kinds_are_listed_with_their_options,
];

fn status_shows_everything(world: &mut World) -> Result<()> {
    let status: Value = serde_json::from_str(&world.laz(&["status", "--json"])?)?;
    ensure!(status["ready"] == true, "{status}");
    let contexts = status["contexts"].as_array().context("no contexts")?;
    ensure!(contexts.len() == 2, "{status}");
    ensure!(
        contexts
            .iter()
            .all(|c| c["phase"] == "ready" && c["health"] == "healthy"),
        "{status}"
    );
    let volumes = status["volumes"].as_array().context("no volumes")?;
    let db = volumes
        .iter()
        .find(|v| v["name"] == "db")
        .context("no db")?;
    ensure!(
        db["mountpoint"] == "/mnt/db" && db["required"] == true,
        "{db}"
    );
    let engines = status["engines"].as_array().context("no engines")?;
    ensure!(
        engines
            .iter()
            .all(|e| e["reachable"] == true && e["version"].is_string()),
        "{status}"
    );
    ensure!(
        status["problems"].as_array().is_some_and(Vec::is_empty),
        "{status}"
    );
    let table = world.laz(&["status"])?;
    for word in [
        "scratch",
        "spare",
        "scratch.one",
        "/mnt/db",
        "hello",
        "system",
        "user",
    ] {
        ensure!(table.contains(word), "no {word} in\n{table}");
    }
    Ok(())
}

fn volumes_are_made_and_removed_by_laz(world: &mut World) -> Result<()> {
    let name = world.laz(&[
        "volume",
        "create",
        "--context",
        "spare",
        "-o",
        "size=2M",
        "lazy",
    ])?;
    ensure!(name == "lazy", "{name}");
    ensure!(
        world
            .laz(&["volume", "ls", "-q"])?
            .lines()
            .any(|l| l == "lazy"),
        "not listed"
    );
    let shown: Value = serde_json::from_str(&world.laz(&["volume", "inspect", "lazy"])?)?;
    ensure!(shown.to_string().contains(r#""size":"2M""#), "{shown}");
    // Docker sees the same volume.
    ensure!(
        world
            .user
            .shell(&["-v", "lazy:/data"], "echo y > /data/x; cat /data/x")?
            == "y",
        "?"
    );
    world.laz(&["volume", "rm", "--yes", "lazy"])?;
    let missing = world.laz_output(&["volume", "inspect", "lazy"])?;
    ensure!(missing.status.code() == Some(4), "{missing:?}");
    let said = world.laz_fails(&["volume", "rm", "--yes", "scratch.one"])?;
    ensure!(said.contains("declared in the cloud-config"), "{said}");
    // Docker has no record of it either.
    let said = world.user.fails(&["volume", "inspect", "lazy"])?;
    ensure!(said.to_lowercase().contains("no such volume"), "{said}");
    Ok(())
}

fn attach_and_detach_say_what_they_cannot_do(world: &mut World) -> Result<()> {
    let said = world.laz_fails(&["attach", "tape://scratch/x"])?;
    ensure!(
        said.contains("no kind of storage has URLs of that scheme"),
        "{said}"
    );
    let said = world.laz_fails(&["attach", "media"])?;
    ensure!(
        said.contains("no URL") && said.contains("scheme://"),
        "{said}"
    );
    let said = world.laz_fails(&["detach", "db"])?;
    ensure!(said.contains("declared in the cloud-config"), "{said}");
    let missing = world.laz_output(&["detach", "nothing"])?;
    ensure!(missing.status.code() == Some(4), "{missing:?}");
    world.laz(&["volume", "create", "--context", "spare", "made"])?;
    let said = world.laz_fails(&["detach", "made"])?;
    ensure!(said.contains("laz volume rm made"), "{said}");
    world.laz(&["volume", "rm", "--yes", "made"]).map(drop)
}

fn the_log_of_a_context_can_be_read(world: &mut World) -> Result<()> {
    let log = world.laz(&["logs", "scratch"])?;
    // What the plugin host says, what the plugin says, what core says.
    for word in ["serving hello", "hello", "core: "] {
        ensure!(log.contains(word), "no \"{word}\" in\n{log}");
    }
    let tail = world.laz(&["logs", "--tail", "1", "scratch"])?;
    ensure!(tail.lines().count() <= 2, "{tail}");
    let missing = world.laz_output(&["logs", "nothing"])?;
    ensure!(missing.status.code() == Some(4), "{missing:?}");
    Ok(())
}

fn doctor_finds_both_engines_and_core(world: &mut World) -> Result<()> {
    let output = world.laz_output(&["doctor"])?;
    let said = String::from_utf8_lossy(&output.stdout);
    for word in ["system Docker", "user Docker", "core"] {
        let line = said.lines().find(|l| l.contains(word));
        let line = line.with_context(|| format!("nothing about {word}: {said}"))?;
        ensure!(line.contains("ok"), "{line}");
    }
    Ok(())
}

fn kinds_are_listed_with_their_options(world: &mut World) -> Result<()> {
    ensure!(world.laz(&["kinds"])?.contains("hello"), "hello is missing");
    let options = world.laz(&["kinds", "hello"])?;
    ensure!(
        options.contains("size") && options.contains("delay_ms"),
        "{options}"
    );
    // Nothing of all this makes anything.
    ensure!(mounts::volumes()?.len() == 3, "{:?}", mounts::volumes()?);
    ensure!(
        !fs::exists("/mnt/db")? || fs::read_dir("/mnt/db")?.next().is_none(),
        "outside"
    );
    Ok(())
}
