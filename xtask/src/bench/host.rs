//! The host suite's figures, with the programs as they are released: on this machine's own kernel,
//! because 64 containers take a minute there and a quarter of an hour under emulation.

use std::fmt::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::goals::{self, at_most};
use crate::images::{self, workspace};
use crate::packages::{self, Need};
use crate::progress::step;

/// How many contexts are dead while the status is asked for.
const DEAD_CONTEXTS: u32 = 64;

/// What the cases run, a call of cargo each: in one call, features of one would reach the others.
const PROGRAMS: [&[&str]; 3] = [
    &[
        "-p",
        "laz-plugin-host",
        "-p",
        "lazarette-hello",
        "-p",
        "lazarette-gluster",
        "-p",
        "lazarette-sshfs",
        "-p",
        "lazarette-misbehaving",
    ],
    &["-p", "laz"],
    &["-p", "lazarette-core", "--bin", "laz-core"],
];

/// Builds the programs, runs the suite's cases that measure, and writes what they found.
pub(super) fn figures() -> Result<String> {
    packages::ensure(&[Need::Host])?;
    step("build the programs as they are released", release)?;
    let memory = step("memory of the released programs", || {
        case("memory_and_times")
    })?;
    let kills = step("kill -9", || case("case_12"))?;
    let status = step("status beside dead storage", || {
        case("status_beside_dead_storage")
    })?;
    let mut page = status_table(&json_after(&status, "status: ")?)?;
    page.push_str(&kill_table(&kills)?);
    page.push_str(&memory_table(&json_after(&memory, "memory: ")?)?);
    Ok(page)
}

fn release() -> Result<()> {
    for packages in PROGRAMS {
        let status = super::cargo()
            .args(["build", "--quiet", "--release"])
            .args(packages)
            .status()?;
        if !status.success() {
            bail!("cargo build --release: {status}");
        }
    }
    Ok(())
}

/// What the cases of the suite whose names contain `filter` print.
fn case(filter: &str) -> Result<String> {
    let mut cargo: Command = super::cargo();
    cargo
        .args(["test", "--quiet", "-p", "lazarette-tests", "--test", "host"])
        .args(["--", filter, "--nocapture"])
        .env("LAZARETTE_BIN_DIR", images::target().join("release"))
        .env("LAZARETTE_DEAD_CONTEXTS", DEAD_CONTEXTS.to_string());
    let output = cargo
        .current_dir(workspace())
        .stderr(Stdio::inherit())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("the host suite: {}\n{text}", output.status);
    }
    Ok(text)
}

/// The JSON in the line of `text` that begins with `start`.
fn json_after(text: &str, start: &str) -> Result<Value> {
    let line = text.lines().find_map(|line| line.strip_prefix(start));
    let line = line.with_context(|| format!("the host suite prints no line {start:?}:\n{text}"))?;
    serde_json::from_str(line).with_context(|| format!("what the host suite prints: {line}"))
}

/// The number between `start` and ` ms` in one of the lines of `text`.
fn milliseconds(text: &str, start: &str) -> Result<f64> {
    let after = text.lines().find_map(|line| line.strip_prefix(start));
    let number = after.and_then(|rest| rest.split_once(" ms")?.0.parse().ok());
    number.with_context(|| format!("the host suite prints no time after {start:?}:\n{text}"))
}

fn status_table(figures: &Value) -> Result<String> {
    let mut page = format!(
        "## Status beside dead storage\n\nOn this machine's own kernel, with {} contexts that do not \
         answer, each with a mounted volume; ms. Goal: {:.0} ms at most, at 99 %.\n\n\
         | | median | 99 % | before: median | 99 % | goal |\n|---|---|---|---|---|---|\n",
        figures["dead"],
        goals::STATUS
    );
    for (what, name) in [
        ("core's answer to `laz status`", "core"),
        ("core's answer to `docker volume ls`", "list"),
        ("`laz status` as a whole", "laz"),
        ("`docker volume ls` as a whole", "docker"),
    ] {
        let (beside, before) = (&figures["beside"][name], &figures["before"][name]);
        let figure = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
        writeln!(
            page,
            "| {what} | {:.1} | {:.1} | {:.1} | {:.1} | {} |",
            figure(&beside[0]),
            figure(&beside[1]),
            figure(&before[0]),
            figure(&before[1]),
            at_most(figure(&beside[1]), goals::STATUS)
        )?;
    }
    let work = |when: &str| figures[when]["work"].as_f64().unwrap_or(f64::NAN);
    writeln!(
        page,
        "\nOf core's processor one answer to `laz status` takes {:.2} ms, {:.2} before.\n",
        work("beside"),
        work("before")
    )?;
    Ok(page)
}

fn kill_table(text: &str) -> Result<String> {
    let mut page = String::from(
        "## After a kill -9\n\nOn this machine's own kernel; ms.\n\n\
         | | ms | goal: at most | |\n|---|---|---|---|\n",
    );
    for (what, start, goal) in [
        ("core answers again", "core answers ", goals::CORE_BACK),
        (
            "the plugin serves again",
            "the plugin serves ",
            goals::PLUGIN_BACK,
        ),
    ] {
        let took = milliseconds(text, start)?;
        writeln!(
            page,
            "| {what} | {took:.0} | {goal:.0} | {} |",
            at_most(took, goal)
        )?;
    }
    page.push('\n');
    Ok(page)
}

fn memory_table(figures: &Value) -> Result<String> {
    let mut page = String::from(
        "## Memory of the released programs\n\nResident, in MiB, at rest with two contexts of the kind \
         `hello` and three volumes mounted, built as for a release (`opt-level = \"z\"`, fat LTO).\n\n\
         | process | MiB | goal: at most | |\n|---|---|---|---|\n",
    );
    for (process, name, goal) in [
        ("laz-core", "core", Some(goals::CORE)),
        ("laz-plugin-host serve", "serve", Some(goals::PLUGIN_HOST)),
        ("laz-plugin-host supervise", "supervise", None),
    ] {
        let mib = figures[name].as_f64().unwrap_or(f64::NAN) / 1024.0;
        let goal = goal.map_or(String::from("– | "), |goal| {
            format!("{goal:.0} | {}", at_most(mib, goal))
        });
        writeln!(page, "| `{process}` | {mib:.1} | {goal} |")?;
    }
    page.push('\n');
    Ok(page)
}

#[cfg(test)]
mod unit_tests {
    use super::*;

    #[test]
    fn tables_hold_what_the_suite_prints() {
        let text = "running 1 test\n\nstatus: {\"dead\": 64, \"before\": {}, \"beside\": \
                    {\"work\": 0.25, \"core\": [0.5, 3.25], \"list\": [0.5, 180.0]}}\n\
                    core answers 95 ms after its start\nthe plugin serves 1200 ms after kill -9\n\
                    memory: {\"core\": 6144, \"serve\": 4096, \"supervise\": 2048}\n";
        let status = status_table(&json_after(text, "status: ").unwrap()).unwrap();
        assert!(status.contains("with 64 contexts"), "{status}");
        assert!(
            status.contains("`laz status` | 0.5 | 3.2 | NaN | NaN | met |"),
            "{status}"
        );
        assert!(
            status.contains("| 180.0 | NaN | NaN | **not met** |"),
            "{status}"
        );
        assert!(status.contains("takes 0.25 ms, NaN before"), "{status}");
        let kills = kill_table(text).unwrap();
        assert!(
            kills.contains("| core answers again | 95 | 500 | met |"),
            "{kills}"
        );
        assert!(kills.contains("| 1200 | 1000 | **not met** |"), "{kills}");
        let memory = memory_table(&json_after(text, "memory: ").unwrap()).unwrap();
        assert!(
            memory.contains("| `laz-core` | 6.0 | 8 | met |"),
            "{memory}"
        );
        assert!(
            memory.contains("serve` | 4.0 | 3 | **not met** |"),
            "{memory}"
        );
        assert!(memory.contains("supervise` | 2.0 | – |  |"), "{memory}");
        let error = json_after("nothing", "memory: ").err().unwrap().to_string();
        assert!(error.contains("no line \"memory: \""), "{error}");
    }
}
