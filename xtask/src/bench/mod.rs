//! `cargo xtask bench`: the figures of docs/benchmarks.md, as ratios of things measured side by side
//! in one run. Times alone say more about the machine than about Lazarette.

mod goals;
mod host;
mod kinds;

use std::fmt::Write as _;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use lazarette_tests::lab::{Accelerator, Lab};
use lazarette_tests::vm::{Machine, Options};
use serde_json::Value;

use self::goals::at_most;
use crate::images::{self, workspace};
use crate::packages::{self, Need};
use crate::progress::{say, step};

/// Measure, and write docs/benchmarks.md: all of it, or the named parts of it.
#[derive(Args)]
pub(crate) struct Bench {
    /// Which parts; the others stay as they are.
    #[arg(value_enum)]
    parts: Vec<Part>,
}

/// A part of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The hand-off beside bind mounts.
    HandOff,
    /// What is written and read through a mount that was handed off.
    DataPath,
    /// The life of a volume: made, a snapshot of it taken, removed.
    Volumes,
    /// On this machine's own kernel: status beside dead storage, kill -9, memory of a release.
    Host,
    /// Memory at rest in the OS.
    Memory,
    /// The phases of the boot.
    Boot,
}

impl Bench {
    /// Measures, prints, and writes docs/benchmarks.md.
    pub(crate) fn run(&self) -> Result<ExitCode> {
        packages::ensure(&[Need::Compile])?;
        let wanted = |part| self.parts.is_empty() || self.parts.contains(&part);
        let mut measured = Vec::new();
        if wanted(Part::HandOff) {
            measured.push(step("hand-off beside bind mounts", handoff)?);
        }
        let (lab, _) = images::ensure(false)?;
        let host = wanted(Part::Host).then(host::figures).transpose()?;
        let in_machine = [Part::DataPath, Part::Volumes, Part::Memory, Part::Boot];
        let (of_storage, at_rest) = match in_machine.into_iter().any(wanted) {
            true => in_a_machine(&lab, wanted)?,
            false => (Vec::new(), Vec::new()),
        };
        measured.extend(of_storage);
        measured.extend(host);
        measured.extend(at_rest);

        let path = workspace().join("docs/benchmarks.md");
        let old = match self.parts.is_empty() {
            true => String::new(),
            false => std::fs::read_to_string(&path).with_context(|| path.display().to_string())?,
        };
        let page = format!("{}{}", head(lab.accelerator), merged(&old, &measured));
        print!("{page}");
        std::fs::write(&path, page).with_context(|| format!("write {}", path.display()))?;
        say("docs/benchmarks.md is up to date");
        Ok(ExitCode::SUCCESS)
    }
}

/// The parts that are measured in a machine: those of the kinds of storage, those at rest.
fn in_a_machine(lab: &Lab, wanted: impl Fn(Part) -> bool) -> Result<(Vec<String>, Vec<String>)> {
    let mut machine = step("boot a machine", || Machine::boot(lab, &Options::default()))?;
    step("start its servers", || machine.prepare())?;
    // At rest is before anything else.
    let mut at_rest = Vec::new();
    if wanted(Part::Memory) {
        at_rest.push(step("memory at rest", || memory(&machine))?);
    }
    if wanted(Part::Boot) {
        at_rest.push(step("boot by phase", || boot(&machine))?);
    }
    let mut of_storage = Vec::new();
    if wanted(Part::DataPath) || wanted(Part::Volumes) {
        step("contexts of four kinds", || kinds::contexts(&machine))?;
    }
    if wanted(Part::DataPath) {
        let throughput = || kinds::throughput(&machine);
        of_storage.push(step("throughput of each kind", throughput)?);
    }
    if wanted(Part::Volumes) {
        of_storage.push(step("the life of a volume", || kinds::life(&machine))?);
    }
    machine.kill();
    Ok((of_storage, at_rest))
}

/// The sections of `old` with those of `measured` in their places, or behind them.
fn merged(old: &str, measured: &[String]) -> String {
    let mut all: Vec<String> = sections(old).collect();
    for fresh in measured.iter().flat_map(|part| sections(part)) {
        let title = fresh.lines().next();
        match all.iter_mut().find(|there| there.lines().next() == title) {
            Some(there) => *there = fresh,
            None => all.push(fresh),
        }
    }
    all.join("\n\n") + "\n"
}

/// The sections of a page, without what comes before the first.
fn sections(page: &str) -> impl Iterator<Item = String> {
    let page = format!("\n{page}");
    let sections: Vec<String> = page
        .split("\n## ")
        .skip(1)
        .map(|section| format!("## {}", section.trim_end()))
        .collect();
    sections.into_iter()
}

fn head(accelerator: Accelerator) -> String {
    let machine = match accelerator {
        Accelerator::Kvm => "hardware virtualisation (KVM)",
        Accelerator::Tcg => "emulation (TCG), some 14 times slower than the machine itself",
    };
    format!(
        "{HEAD}What is not said to be of this machine's own kernel was measured in a virtual machine by \
         {machine}.\n\n"
    )
}

const HEAD: &str = "# Benchmarks\n\n\
Written by `cargo xtask bench`. Everything is a ratio of two things measured in turn in one run, \
so that a slow or busy machine does not show; absolute figures are medians of that run and only \
give the scale. Where there is a goal, the last column says whether this run met it.\n\n";

/// Cargo, in the workspace.
fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace());
    cargo
}

/// Runs the example of the `linux` crate, which prints its figures as JSON.
fn handoff() -> Result<String> {
    let mut cargo = cargo();
    cargo.args([
        "run",
        "--quiet",
        "--profile",
        "image",
        "-p",
        "lazarette-linux",
    ]);
    cargo.args(["--example", "handoff_bench"]);
    let output = cargo
        .stderr(Stdio::inherit())
        .output()
        .context("cargo run handoff_bench")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() || text.starts_with("skipped") {
        bail!("handoff_bench: {} {text}", output.status);
    }
    let figures: Value = serde_json::from_str(&text).context("what handoff_bench prints")?;
    handoff_table(&figures)
}

fn handoff_table(figures: &Value) -> Result<String> {
    let rows = figures["rows"]
        .as_array()
        .context("handoff_bench prints no rows")?;
    let mut page = format!(
        "## Hand-off\n\nOne mount into the view, on this machine's own kernel, beside what a script \
         does by path; µs. Goal: {} times the bind mount at most.\n\n\
         | mounts there | bind + private | the same + nosuid,nodev | hand-off | without statmount (before 6.8) | ratio | goal |\n\
         |---|---|---|---|---|---|---|\n",
        goals::HANDOFF
    );
    let mut all = Vec::new();
    for row in rows {
        let figure = |name: &str| {
            row[name]
                .as_f64()
                .with_context(|| format!("no {name} in {row}"))
        };
        let (bind, handoff) = (figure("bind")?, figure("handoff")?);
        all.push(handoff);
        writeln!(
            page,
            "| {} | {bind:.1} | {:.1} | {handoff:.1} | {:.0} | {:.2} | {} |",
            row["mounts"],
            figure("bind_constrained")?,
            figure("handoff_table")?,
            handoff / bind,
            at_most(handoff / bind, goals::HANDOFF)
        )?;
    }
    if let [none, .., most] = all[..] {
        writeln!(
            page,
            "\nThe last beside the first, which should be {} at most: {:.2}, {}.",
            goals::FLAT,
            most / none,
            at_most(most / none, goals::FLAT)
        )?;
    }
    page.push('\n');
    Ok(page)
}

/// What a process has in memory: `NAME VERB|TOTAL LIBRARIES PROGRAM PLUGIN OWN`, in KiB.
const RESIDENT: &str = r#"
for name in laz-core laz-plugin-host; do
    for pid in $(pidof $name); do
        verb=$(tr '\0' ' ' < /proc/$pid/cmdline | awk '{ print ($2 ~ /^[a-z]/) ? $2 : "" }')
        printf '%s|' "$name $verb"
        awk '
            /^[0-9a-f]+-[0-9a-f]+ / {
                count = split($6, parts, "/")
                file = parts[count]
                if (file == "" || file ~ /^\[/) kind = "own"
                else if (file ~ /^(libc|ld-linux|libgcc|libm)[-_.0-9]/) kind = "libraries"
                else if (file ~ /[.]so/) kind = "plugin"
                else kind = "program"
            }
            /^Rss:/ { sum[kind] += $2; all += $2 }
            END { print all, sum["libraries"] + 0, sum["program"] + 0, sum["plugin"] + 0, sum["own"] + 0 }
        ' /proc/$pid/smaps
    done
done
"#;

/// Resident memory of core and of the plugin host in the NFS container, and what it is.
fn memory(machine: &Machine) -> Result<String> {
    let output = machine.sh(RESIDENT)?;
    let mut page = String::from(
        "## Memory at rest\n\nResident, in MiB, with one NFS context and two volumes mounted. Code counts \
         as far as it was read, also where processes share it: the C library of a container is in \
         memory once. The programs are those of the images, built in less time than a release.\n\n\
         | process | all | C library | program | plugin | heap, stacks, data | goal |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for line in output.lines() {
        let (process, figures) = line
            .split_once('|')
            .with_context(|| format!("no figures: {line}"))?;
        let mib: Vec<f64> = figures
            .split_whitespace()
            .map(|kib| Ok(kib.parse::<f64>()? / 1024.0))
            .collect::<Result<_>>()
            .with_context(|| format!("no figures: {line}"))?;
        write!(page, "| `{}` |", process.trim())?;
        for figure in &mib {
            write!(page, " {figure:.1} |")?;
        }
        let all = mib.first().copied().unwrap_or(f64::NAN);
        let goal = match process.trim() {
            "laz-core" => format!("{}: {}", goals::CORE, at_most(all, goals::CORE)),
            "laz-plugin-host serve" => {
                format!(
                    "{}: {}",
                    goals::PLUGIN_HOST,
                    at_most(all, goals::PLUGIN_HOST)
                )
            }
            _ => "–".to_owned(),
        };
        writeln!(page, " {goal} |")?;
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
    use serde_json::json;

    use super::{handoff_table, merged};

    #[test]
    fn what_was_not_measured_stays() {
        let old = "# Page\n\nText.\n\n## One\n\n1\n\n## Two\n\n2\n";
        let measured = ["## Two\n\n22\n\n".to_owned(), "## Three\n\n3\n".to_owned()];
        assert_eq!(
            merged(old, &measured),
            "## One\n\n1\n\n## Two\n\n22\n\n## Three\n\n3\n"
        );
        assert_eq!(merged("", &measured[..1]), "## Two\n\n22\n");
    }

    #[test]
    fn a_hand_off_is_held_against_its_goal() {
        let row = |mounts: u32, handoff: f64| {
            json!({"mounts": mounts, "bind": 10.0, "bind_constrained": 11.0, "handoff": handoff,
                   "handoff_table": 150.0})
        };
        let page = handoff_table(&json!({"rows": [row(0, 11.0), row(10_000, 22.0)]})).unwrap();
        assert!(
            page.contains("| 0 | 10.0 | 11.0 | 11.0 | 150 | 1.10 | met |"),
            "{page}"
        );
        assert!(page.contains("| 2.20 | **not met** |"), "{page}");
        assert!(page.contains("at most: 2.00, **not met**."), "{page}");
    }
}
