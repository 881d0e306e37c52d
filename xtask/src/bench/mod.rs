//! `cargo xtask bench`: the figures of docs/benchmarks.md, as ratios of things measured side by side
//! in one run. Times alone say more about the machine than about Lazarette.

mod kinds;

use std::fmt::Write as _;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use lazarette_tests::lab::Accelerator;
use lazarette_tests::vm::{Machine, Options};
use serde_json::Value;

use crate::images::{self, workspace};
use crate::packages::{self, Need};
use crate::progress::{say, step};

/// How many contexts are dead while the status is asked for.
const DEAD_CONTEXTS: u32 = 64;

/// Measures, prints, and writes docs/benchmarks.md.
pub(crate) fn run() -> Result<ExitCode> {
    packages::ensure(&[Need::Compile])?;
    let handoff = step("hand-off beside bind mounts", handoff)?;
    let (lab, _) = images::ensure(false)?;
    let status = step("status beside dead storage", status)?;
    let mut machine = step("boot a machine", || {
        Machine::boot(&lab, &Options::default())
    })?;
    step("start its servers", || machine.prepare())?;
    let boot = step("boot by phase", || boot(&machine))?;
    let memory = step("memory at rest", || memory(&machine))?;
    step("contexts of four kinds", || kinds::contexts(&machine))?;
    let life = step("the life of a volume", || kinds::life(&machine))?;
    let throughput = step("throughput of each kind", || kinds::throughput(&machine))?;
    machine.kill();

    let mut page = String::from(HEAD);
    let machine_kind = match lab.accelerator {
        Accelerator::Kvm => "hardware virtualisation (KVM)",
        Accelerator::Tcg => "emulation (TCG), some 14 times slower than the machine itself",
    };
    write!(
        page,
        "All but the hand-off and the status was measured in a virtual machine by {machine_kind}.\n\n"
    )?;
    for part in [handoff, throughput, life, status, memory, boot] {
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

/// What the table does not tell; measured by hand, with a release of both.
const REMARK_ON_MEMORY: &str = "
The programs here are built quickly (profile `image`). In a release (`opt-level = \"z\"`, fat LTO) core
has 6.4 MiB, and the plugin host with NFS 4.2. The goal for core, 8 MiB, is met there; that for the
plugin host, 3 MiB, is not: of its 4.2 MiB, 1.7 are the C library with its loader and libgcc, 0.6 heap
and stacks of five threads, so 0.7 would be left for the host (which has 0.7 already) and a plugin
that parses, formats and describes itself (NFS: 1.2). One heap for all threads saves 0.1.

";

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
         memory once.\n\n\
         | process | all | C library | program | plugin | heap, stacks, data |\n|---|---|---|---|---|---|\n",
    );
    for line in output.lines() {
        let (process, figures) = line
            .split_once('|')
            .with_context(|| format!("no figures: {line}"))?;
        write!(page, "| `{}` |", process.trim())?;
        for kib in figures.split_whitespace() {
            let kib: f64 = kib.parse().with_context(|| format!("no figure: {line}"))?;
            write!(page, " {:.1} |", kib / 1024.0)?;
        }
        page.push('\n');
    }
    page.push_str(REMARK_ON_MEMORY);
    Ok(page)
}

/// The host suite's figures with the programs of the images: on this machine's own kernel, because
/// 64 containers take a minute there and a quarter of an hour under emulation.
fn status() -> Result<String> {
    packages::ensure(&[Need::Host])?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(workspace())
        .args(["test", "--quiet", "-p", "lazarette-tests", "--test", "host"])
        .args(["--", "status_beside_dead_storage", "--exact", "--nocapture"])
        .env("LAZARETTE_BIN_DIR", images::target().join("image"))
        .env("LAZARETTE_DEAD_CONTEXTS", DEAD_CONTEXTS.to_string());
    let output = cargo.stderr(Stdio::inherit()).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find_map(|line| line.strip_prefix("status: "));
    let (true, Some(line)) = (output.status.success(), line) else {
        bail!("the host suite: {}\n{text}", output.status);
    };
    let figures: Value = serde_json::from_str(line).context("what the host suite prints")?;
    let mut page = format!(
        "## Status beside dead storage\n\nOn this machine's own kernel, with {} contexts that do not \
         answer, each with a mounted volume; ms.\n\n\
         | | median | 99 % | before: median | 99 % |\n|---|---|---|---|---|\n",
        figures["dead"]
    );
    for (what, name) in [
        ("core's answer", "core"),
        ("`laz status` as a whole", "laz"),
    ] {
        let before = &figures[format!("{name}_before")];
        let figure = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
        writeln!(
            page,
            "| {what} | {:.1} | {:.1} | {:.1} | {:.1} |",
            figure(&figures[name][0]),
            figure(&figures[name][1]),
            figure(&before[0]),
            figure(&before[1])
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
