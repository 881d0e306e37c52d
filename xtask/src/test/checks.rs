//! Checks that are not tests: formatting, lints, invariants, licences and advisories.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::cache;
use crate::command::{capture, inherited};
use crate::images::workspace;
use crate::tidy;

/// Features that checks and tests are compiled with.
pub(super) const FEATURES: &str = "lazarette-linux/loop";

/// The version of cargo-deny that `deny.toml` is written for.
const CARGO_DENY: &str = "^0.20";

/// How a check ended; a failure is an error.
pub(super) enum Verdict {
    /// All is well.
    Passed,
    /// It could not be made, and why.
    Skipped(String),
}

/// A check: its name and what it does.
type Check = (&'static str, fn() -> Result<Verdict>);

/// All checks, the quick ones first.
pub(super) const ALL: &[Check] = &[
    ("fmt", fmt),
    ("tidy", invariants),
    ("clippy", clippy),
    ("deny", deny),
    ("advisories", advisories),
];

/// cargo, the one that runs us.
pub(super) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace());
    command
}

fn fmt() -> Result<Verdict> {
    inherited(cargo().args(["fmt", "--all", "--check"]))?;
    Ok(Verdict::Passed)
}

fn invariants() -> Result<Verdict> {
    tidy::run()?;
    Ok(Verdict::Passed)
}

fn clippy() -> Result<Verdict> {
    let mut command = cargo();
    command.args(["clippy", "--quiet", "--workspace", "--all-targets"]);
    inherited(command.args(["--features", FEATURES, "--", "-D", "warnings"]))?;
    Ok(Verdict::Passed)
}

fn deny() -> Result<Verdict> {
    inherited(deny_command()?.args(["check", "bans", "licenses", "sources"]))?;
    Ok(Verdict::Passed)
}

fn advisories() -> Result<Verdict> {
    if let Err(error) = capture(deny_command()?.args(["fetch", "db"])) {
        return Ok(Verdict::Skipped(format!(
            "the advisories could not be fetched: {error:#}"
        )));
    }
    inherited(deny_command()?.args(["check", "--disable-fetch", "advisories"]))?;
    Ok(Verdict::Passed)
}

/// cargo-deny, installed into the cache if it is not in the PATH.
fn deny_command() -> Result<Command> {
    let mut program = PathBuf::from("cargo-deny");
    if Command::new(&program).arg("--version").output().is_err() {
        let key = cache::Key::default().add(CARGO_DENY).finish();
        let installed = cache::entry("cargo-deny", &key, |path| {
            let mut command = cargo();
            command.args([
                "install",
                "--quiet",
                "--locked",
                // Compiled in half the time; it reads one small graph.
                "--debug",
                "--version",
                CARGO_DENY,
                "--root",
            ]);
            command.env("CARGO_PROFILE_DEV_DEBUG", "0");
            // What it is built from is kept nowhere else.
            inherited(command.arg(path).arg("cargo-deny"))
        })?;
        program = installed.join("bin/cargo-deny");
    }
    let mut command = Command::new(program);
    command.current_dir(workspace());
    Ok(command)
}
