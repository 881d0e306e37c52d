//! `cargo xtask test`: everything that shows whether the project works, with one line of counts.

mod checks;
mod outcome;

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use lazarette_tests::lab::VARIABLE;
use lazarette_tests::vm::{Options, Saved};

use crate::command::inherited;
use crate::images::{self, workspace};
use crate::packages::{self, Need};
use crate::progress::{say, step};
use outcome::{Outcome, SHOW_OUTPUT};

/// No more machines than this run side by side: each takes some 2 GiB of memory.
const MACHINES: usize = 4;

/// Which packages are compiled for the suites of this machine, and with which features: with one choice
/// for both, what others wrote is compiled once.
const PACKAGES: &[&str] = &[
    "--workspace",
    "--exclude",
    "lazarette-tests",
    "--features",
    checks::FEATURES,
];

/// Run the checks and the tests: unit, host (this machine, with two real engines), vm (our OS in
/// QEMU); all by default.
#[derive(Args)]
pub(crate) struct Test {
    /// Which suites.
    #[arg(value_enum)]
    suites: Vec<Suite>,
    /// Only checks and tests whose name contains this.
    #[arg(long, value_name = "NAME")]
    filter: Option<String>,
}

/// A suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Suite {
    /// Formatting, lints, invariants, licences; unit tests and each crate's own tests.
    Unit,
    /// Core with two real Docker engines on this machine, as root.
    Host,
    /// The OS in virtual machines.
    Vm,
}

impl Test {
    /// Runs the command; the last line it prints is the counts.
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let all = [Suite::Unit, Suite::Host, Suite::Vm];
        let suites = if self.suites.is_empty() {
            &all[..]
        } else {
            &self.suites
        };
        let filter = self.filter.as_deref();
        let mut beside = match suites {
            [.., _, Suite::Vm] => Some(Beside::begin()?),
            _ => None,
        };
        let mut outcome = Outcome::default();
        for suite in suites {
            let ran = match suite {
                Suite::Unit => unit(filter, &mut outcome),
                Suite::Host => host(filter, &mut outcome),
                Suite::Vm => {
                    beside.take().map_or(Ok(()), Beside::end)?;
                    vm(filter, &mut outcome)
                }
            };
            if let Err(error) = ran {
                println!("the suite {suite:?} did not run: {error:#}");
                outcome.counts.failed += 1;
            }
        }
        for one in &outcome.skipped {
            println!("skipped: {one}");
        }
        for one in &outcome.failed {
            println!("failed: {one}");
        }
        let counts = outcome.counts;
        println!(
            "{} passed, {} failed, {} skipped",
            counts.passed, counts.failed, counts.skipped
        );
        Ok(ExitCode::from(u8::from(counts.failed > 0)))
    }
}

/// The images, built while the suites before that of machines run: those wait for something much of the
/// time. A process of its own, so that all it starts gives way to them.
struct Beside {
    child: Child,
    log: PathBuf,
}

impl Beside {
    fn begin() -> Result<Self> {
        // Apt is one at a time.
        packages::ensure(&[Need::Compile, Need::Host, Need::Machine])?;
        let directory = images::target().join("lab");
        fs::create_dir_all(&directory)?;
        let log = directory.join("images.log");
        let file = File::create(&log).with_context(|| log.display().to_string())?;
        say(&format!(
            "building the images beside the suites: {}",
            log.display()
        ));
        let child = Command::new("nice")
            .args(["-n", "10"])
            .arg(std::env::current_exe()?)
            .arg("images")
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .context("nice")?;
        Ok(Self { child, log })
    }

    /// Waits for them. What has failed is tried again by the suite, which says why it fails.
    fn end(mut self) -> Result<()> {
        let status = step("wait for the images", || Ok(self.child.wait()?))?;
        if !status.success() {
            say(&format!("{status}: see {}", self.log.display()));
        }
        Ok(())
    }
}

fn unit(filter: Option<&str>, outcome: &mut Outcome) -> Result<()> {
    packages::ensure(&[Need::Compile, Need::Host])?;
    for (name, check) in checks::ALL {
        if filter.is_some_and(|filter| !name.contains(filter)) {
            continue;
        }
        match step(name, check) {
            Ok(checks::Verdict::Passed) => outcome.counts.passed += 1,
            Ok(checks::Verdict::Skipped(why)) => {
                println!("{name}: skipped: {why}");
                outcome.skipped.push(format!("{name}: {why}"));
                outcome.counts.skipped += 1;
            }
            Err(error) => {
                println!("{name}: FAILED: {error:#}");
                outcome.counts.failed += 1;
            }
        }
    }
    let mut cargo = checks::cargo();
    cargo.arg("test").args(PACKAGES).arg("--no-fail-fast");
    tests("unit tests", cargo, filter, &[SHOW_OUTPUT], outcome)?;
    let mut cargo = checks::cargo();
    cargo.args(["test", "-p", "lazarette-tests", "--lib", "--no-fail-fast"]);
    tests(
        "unit tests of the lab",
        cargo,
        filter,
        &[SHOW_OUTPUT],
        outcome,
    )
}

fn host(filter: Option<&str>, outcome: &mut Outcome) -> Result<()> {
    packages::ensure(&[Need::Compile, Need::Host])?;
    inherited(checks::cargo().args(["build", "--quiet"]).args(PACKAGES))?;
    let mut cargo = checks::cargo();
    cargo.args(["test", "-p", "lazarette-tests", "--test", "host"]);
    tests("host suite", cargo, filter, &[], outcome)
}

fn vm(filter: Option<&str>, outcome: &mut Outcome) -> Result<()> {
    let (lab, path) = images::ensure(false)?;
    let _held = step("find or save a booted machine", || {
        Saved::ensure(&lab, &Options::default())
    })?;
    let mut cargo = checks::cargo();
    cargo
        .args(["test", "-p", "lazarette-tests", "--test", "vm"])
        .env(VARIABLE, path);
    // No machine waits for another one's processor.
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let machines = (processors / lab.accelerator.processors()).clamp(1, MACHINES);
    let threads = format!("--test-threads={machines}");
    tests("vm suite", cargo, filter, &[&threads], outcome)
}

/// Runs `cargo test`, shows what it prints and adds up the results of its binaries; tests that only say
/// why they cannot run here count as skipped.
fn tests(
    name: &str,
    mut cargo: Command,
    filter: Option<&str>,
    arguments: &[&str],
    outcome: &mut Outcome,
) -> Result<()> {
    say(name);
    cargo
        .current_dir(workspace())
        .arg("--")
        .args(filter)
        .args(arguments);
    let mut child = cargo.stdout(Stdio::piped()).spawn().context("cargo")?;
    let before = outcome.counts.failed;
    outcome.begin();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).split(b'\n') {
            let line = String::from_utf8_lossy(&line?).into_owned();
            if outcome.line(&line) {
                println!("{line}");
            }
        }
    }
    let status = child.wait()?;
    if !status.success() && outcome.counts.failed == before {
        // A test binary that did not compile or ended without its result.
        println!("{name}: {status}");
        outcome.counts.failed += 1;
    }
    say(&format!("{name}: {status}"));
    Ok(())
}
