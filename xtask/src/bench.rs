//! `cargo xtask bench`: the figures of docs/benchmarks.md, as ratios of things measured side by side
//! in one run. Times alone say more about the machine than about Lazarette.

use std::fmt::Write as _;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use lazarette_tests::lab::Accelerator;
use lazarette_tests::vm::{Machine, Options};
use serde_json::Value;

use crate::images::{self, workspace};
use crate::packages::{self, Need};
use crate::progress::{say, step};

/// Rounds of writing and reading; the ratio is that of the medians.
const ROUNDS: usize = 20;
/// How much is written and read each time.
const MIB: usize = 16;

/// Measures, prints, and writes docs/benchmarks.md.
pub(crate) fn run() -> Result<ExitCode> {
    packages::ensure(&[Need::Compile])?;
    let handoff = step("hand-off beside bind mounts", handoff)?;
    let (lab, _) = images::ensure(false)?;
    let mut machine = step("boot a machine", || {
        Machine::boot(&lab, &Options::default())
    })?;
    step("start its NFS server", || machine.prepare())?;
    let boot = step("boot by phase", || boot(&machine))?;
    let memory = step("memory at rest", || memory(&machine))?;
    let throughput = step("throughput over NFS", || throughput(&machine))?;
    machine.kill();

    let mut page = String::from(HEAD);
    let machine_kind = match lab.accelerator {
        Accelerator::Kvm => "hardware virtualisation (KVM)",
        Accelerator::Tcg => "emulation (TCG), some 14 times slower than the machine itself",
    };
    write!(
        page,
        "All but the hand-off was measured in a virtual machine by {machine_kind}.\n\n"
    )?;
    for part in [handoff, throughput, memory, boot] {
        page.push_str(&part);
    }
    print!("{page}");
    let path = workspace().join("docs/benchmarks.md");
    std::fs::write(&path, page).with_context(|| format!("write {}", path.display()))?;
    say("docs/benchmarks.md is up to date");
    Ok(ExitCode::SUCCESS)
}

const HEAD: &str = "# Benchmarks\n\n\
Written by `cargo xtask bench`. Everything is a ratio of two things measured in turn in one run, \
so that a slow or busy machine does not show; absolute figures are medians of that run and only \
give the scale.\n\n";

/// Runs the example of the `linux` crate, which prints its figures as JSON.
fn handoff() -> Result<String> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args([
        "run",
        "--quiet",
        "--profile",
        "image",
        "-p",
        "lazarette-linux",
    ]);
    cargo
        .args(["--example", "handoff_bench"])
        .current_dir(workspace());
    let output = cargo
        .stderr(Stdio::inherit())
        .output()
        .context("cargo run handoff_bench")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() || text.starts_with("skipped") {
        bail!("handoff_bench: {} {text}", output.status);
    }
    let figures: Value = serde_json::from_str(&text).context("what handoff_bench prints")?;
    let rows = figures["rows"]
        .as_array()
        .context("handoff_bench prints no rows")?;
    let mut page = String::from(
        "## Hand-off\n\nOne mount into the view, on this machine's own kernel, beside what a script \
         does by path; µs.\n\n\
         | mounts there | bind + private | the same + nosuid,nodev | hand-off | ratio | without statmount (before 6.8) |\n\
         |---|---|---|---|---|---|\n",
    );
    for row in rows {
        let figure = |name: &str| {
            row[name]
                .as_f64()
                .with_context(|| format!("no {name} in {row}"))
        };
        let (bind, handoff) = (figure("bind")?, figure("handoff")?);
        writeln!(
            page,
            "| {} | {bind:.1} | {:.1} | {handoff:.1} | {:.2} | {:.0} |",
            row["mounts"],
            figure("bind_constrained")?,
            handoff / bind,
            figure("handoff_table")?
        )?;
    }
    page.push('\n');
    Ok(page)
}

/// The same file written and read through the handed-off mount and through one made directly.
fn throughput(machine: &Machine) -> Result<String> {
    let output = machine.sh(&format!("nfs-throughput {ROUNDS} {MIB}"))?;
    let mut page = format!(
        "## Data path\n\n{MIB} MiB over NFS 4.2 through the mount in the view and through one made \
         directly, in turn, {ROUNDS} rounds. Above 1: the handed-off mount was faster.\n\n\
         | | handed off, MiB/s | direct, MiB/s | ratio |\n|---|---|---|---|\n"
    );
    for what in ["write", "read"] {
        let rounds: Vec<(f64, f64)> = output
            .lines()
            .filter_map(|line| round(line, what))
            .collect();
        if rounds.len() != ROUNDS {
            bail!(
                "{} rounds of {what}, {ROUNDS} expected:\n{output}",
                rounds.len()
            );
        }
        let speed = |times: Vec<f64>| {
            #[expect(clippy::cast_precision_loss, reason = "a small number")]
            let mib = MIB as f64;
            mib / (median(times) / 1e9)
        };
        let handed_off = speed(rounds.iter().map(|r| r.0).collect());
        let direct = speed(rounds.iter().map(|r| r.1).collect());
        let ratio = median(rounds.iter().map(|r| r.1 / r.0).collect());
        writeln!(
            page,
            "| {what} | {handed_off:.1} | {direct:.1} | {ratio:.2} |"
        )?;
    }
    page.push('\n');
    Ok(page)
}

/// `write 123 456`
fn round(line: &str, what: &str) -> Option<(f64, f64)> {
    let mut words = line.split_whitespace();
    if words.next() != Some(what) {
        return None;
    }
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Resident memory of core and of the plugin host in the NFS container.
fn memory(machine: &Machine) -> Result<String> {
    let script = "for p in laz-core laz-plugin-host; do \
                  for pid in $(pidof $p); do awk -v p=$p -v a=\"$(tr '\\0' ' ' < /proc/$pid/cmdline)\" \
                  '/^VmRSS/ { print p, $2, a }' /proc/$pid/status; done; done";
    let output = machine.sh(script)?;
    let mut page = String::from(
        "## Memory at rest\n\nWith one NFS context and two volumes mounted.\n\n| process | RSS, MiB |\n|---|---|\n",
    );
    for line in output.lines() {
        let mut words = line.split_whitespace();
        let (Some(_), Some(kib)) = (words.next(), words.next()) else {
            continue;
        };
        let kib: f64 = kib.parse().with_context(|| format!("no figure: {line}"))?;
        let program = words
            .next()
            .unwrap_or("?")
            .rsplit('/')
            .next()
            .unwrap_or("?")
            .to_owned();
        let verb = words
            .next()
            .filter(|word| !word.starts_with('-'))
            .unwrap_or("");
        writeln!(
            page,
            "| `{}` | {:.1} |",
            format!("{program} {verb}").trim(),
            kib / 1024.0
        )?;
    }
    page.push('\n');
    Ok(page)
}

/// From init's start to "user Docker answers".
fn boot(machine: &Machine) -> Result<String> {
    let record: Value = serde_json::from_str(&machine.sh("cat /run/lazarette/boot.json")?)?;
    let phases = record["phases"]
        .as_array()
        .context("boot.json has no phases")?;
    let mut page =
        String::from("## Boot\n\nPhases of init, seconds.\n\n| phase | seconds |\n|---|---|\n");
    let mut sum = 0.0;
    for phase in phases {
        let seconds = phase["seconds"].as_f64().unwrap_or(0.0);
        sum += seconds;
        writeln!(
            page,
            "| {} | {seconds:.1} |",
            phase["name"].as_str().unwrap_or("?")
        )?;
    }
    writeln!(page, "| all | {sum:.1} |")?;
    Ok(page)
}

#[cfg(test)]
mod unit_tests {
    use super::*;

    #[test]
    fn rounds_are_told_apart_and_the_middle_one_counts() {
        assert_eq!(round("write 10 20", "write"), Some((10.0, 20.0)));
        assert_eq!(round("read 10 20", "write"), None);
        assert_eq!(round("write 10", "write"), None);
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
    }
}
