//! `cargo xtask test`: everything that shows whether the project works, with one line of counts.

mod checks;

use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use lazarette_tests::lab::VARIABLE;
use lazarette_tests::vm::{Options, Saved};

use crate::command::inherited;
use crate::images::{self, workspace};
use crate::packages::{self, Need};
use crate::progress::{say, step};

/// Machines that run side by side: one, because each has two processors of its own, and under
/// emulation two machines on two processors keep each other waiting past every limit.
const MACHINES: &str = "--test-threads=1";

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
        let mut counts = Counts::default();
        for suite in suites {
            let ran = match suite {
                Suite::Unit => unit(filter, &mut counts),
                Suite::Host => host(filter, &mut counts),
                Suite::Vm => vm(filter, &mut counts),
            };
            if let Err(error) = ran {
                println!("the suite {suite:?} did not run: {error:#}");
                counts.failed += 1;
            }
        }
        println!(
            "{} passed, {} failed, {} skipped",
            counts.passed, counts.failed, counts.skipped
        );
        Ok(ExitCode::from(u8::from(counts.failed > 0)))
    }
}

/// How many checks and tests ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: u64,
    failed: u64,
    skipped: u64,
}

fn unit(filter: Option<&str>, counts: &mut Counts) -> Result<()> {
    packages::ensure(&[Need::Compile, Need::Host])?;
    for (name, check) in checks::ALL {
        if filter.is_some_and(|filter| !name.contains(filter)) {
            continue;
        }
        match step(name, check) {
            Ok(checks::Verdict::Passed) => counts.passed += 1,
            Ok(checks::Verdict::Skipped(why)) => {
                println!("{name}: skipped: {why}");
                counts.skipped += 1;
            }
            Err(error) => {
                println!("{name}: FAILED: {error:#}");
                counts.failed += 1;
            }
        }
    }
    let mut cargo = checks::cargo();
    cargo.args(["test", "--workspace", "--exclude", "lazarette-tests"]);
    cargo.args(["--features", checks::FEATURES, "--no-fail-fast"]);
    tests("unit tests", cargo, filter, &[], counts)?;
    let mut cargo = checks::cargo();
    cargo.args(["test", "-p", "lazarette-tests", "--lib", "--no-fail-fast"]);
    tests("unit tests of the lab", cargo, filter, &[], counts)
}

fn host(filter: Option<&str>, counts: &mut Counts) -> Result<()> {
    packages::ensure(&[Need::Compile, Need::Host])?;
    // A call each: in one call, features of one would reach the others.
    let programs: [&[&str]; 3] = [
        &[
            "-p",
            "laz-plugin-host",
            "-p",
            "lazarette-hello",
            "-p",
            "lazarette-gluster",
            "-p",
            "lazarette-sshfs",
        ],
        &["-p", "laz"],
        &["-p", "lazarette-core", "--bin", "laz-core"],
    ];
    for packages in programs {
        let mut cargo = checks::cargo();
        cargo
            .current_dir(workspace())
            .args(["build", "--quiet"])
            .args(packages);
        inherited(&mut cargo)?;
    }
    let mut cargo = checks::cargo();
    cargo.args(["test", "-p", "lazarette-tests", "--test", "host"]);
    tests("host suite", cargo, filter, &[], counts)
}

fn vm(filter: Option<&str>, counts: &mut Counts) -> Result<()> {
    let (lab, path) = images::ensure(false)?;
    let _held = step("find or save a booted machine", || {
        Saved::ensure(&lab, &Options::default())
    })?;
    let mut cargo = checks::cargo();
    cargo
        .args(["test", "-p", "lazarette-tests", "--test", "vm"])
        .env(VARIABLE, path);
    tests("vm suite", cargo, filter, &[MACHINES], counts)
}

/// Runs `cargo test`, shows what it prints and adds up the results of its binaries.
fn tests(
    name: &str,
    mut cargo: Command,
    filter: Option<&str>,
    arguments: &[&str],
    counts: &mut Counts,
) -> Result<()> {
    say(name);
    cargo
        .current_dir(workspace())
        .arg("--")
        .args(filter)
        .args(arguments);
    let mut child = cargo.stdout(Stdio::piped()).spawn().context("cargo")?;
    let before = *counts;
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).split(b'\n') {
            let line = String::from_utf8_lossy(&line?).into_owned();
            println!("{line}");
            if let Some(found) = result(&line) {
                counts.passed += found.passed;
                counts.failed += found.failed;
                counts.skipped += found.skipped;
            }
        }
    }
    let status = child.wait()?;
    if !status.success() && counts.failed == before.failed {
        // A test binary that did not compile or ended without its result.
        println!("{name}: {status}");
        counts.failed += 1;
    }
    say(&format!("{name}: {status}"));
    Ok(())
}

/// `test result: ok. 3 passed; 0 failed; 1 ignored; …`
fn result(line: &str) -> Option<Counts> {
    let rest = line.trim().strip_prefix("test result: ")?;
    let mut counts = Counts::default();
    for part in rest.split(['.', ';']) {
        let mut words = part.split_whitespace();
        let (Some(number), Some(word)) = (words.next(), words.next()) else {
            continue;
        };
        let Ok(number) = number.parse() else { continue };
        match word {
            "passed" => counts.passed = number,
            "failed" => counts.failed = number,
            "ignored" => counts.skipped = number,
            _ => {}
        }
    }
    Some(counts)
}

#[cfg(test)]
mod unit_tests {
    use super::*;

    #[test]
    fn the_results_of_both_test_harnesses_are_read() {
        let cargo = "test result: FAILED. 3 passed; 2 failed; 1 ignored; 0 measured; \
                     7 filtered out; finished in 0.01s";
        let expected = Counts {
            passed: 3,
            failed: 2,
            skipped: 1,
        };
        assert_eq!(result(cargo), Some(expected));
        let mimic = "test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 1 filtered out";
        assert_eq!(result(mimic).map(|counts| counts.passed), Some(12));
        assert_eq!(result("test tests::x ... ok"), None);
    }
}
