//! A machine as the tests see it: steps that fail with what the machine knows about it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use lazarette_core::control::{ContextStatus, Status, VolumeStatus};
use lazarette_tests::vm::{Machine, Output};

/// What every script begins with.
const PRELUDE: &str = include_str!("prelude.sh");

/// What a failing test shows of its machine.
const REPORT: &str = include_str!("report.sh");

/// A running machine.
pub(crate) struct Guest {
    machine: Machine,
}

impl Guest {
    /// Lets `test` work with the machine; if it fails, the error has the machine's own account.
    pub(crate) fn with(machine: Machine, test: impl FnOnce(&Self) -> Result<()>) -> Result<Self> {
        let guest = Self { machine };
        match test(&guest) {
            Ok(()) => Ok(guest),
            Err(error) => {
                let report = guest.machine.run(REPORT);
                let report = report.map_or_else(|e| format!("{e:#}"), |o| o.stdout + &o.stderr);
                bail!("{error:#}\n--- the machine ---\n{}", report.trim_end())
            }
        }
    }

    /// The machine.
    pub(crate) fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Gives the machine back.
    pub(crate) fn into_machine(self) -> Machine {
        self.machine
    }

    /// Runs a script; what it does is said by `step`.
    pub(crate) fn run(&self, step: &str, script: &str) -> Result<Output> {
        let began = Instant::now();
        let output = self.machine.run(&format!("{PRELUDE}\n{script}"));
        if std::env::var_os("LAZARETTE_VERBOSE").is_some() {
            eprintln!("[{:7.1} s] {step}", began.elapsed().as_secs_f64());
        }
        output.with_context(|| step.to_owned())
    }

    /// Runs a script that must succeed; its standard output.
    pub(crate) fn sh(&self, step: &str, script: &str) -> Result<String> {
        self.run(step, script)?
            .ok()
            .with_context(|| step.to_owned())
    }

    /// Runs a script that must fail; all that it wrote.
    pub(crate) fn fails(&self, step: &str, script: &str) -> Result<String> {
        let output = self.run(step, script)?;
        let text = format!("{}{}", output.stdout, output.stderr);
        ensure!(
            output.status != 0,
            "{step}: succeeded, but must not: {text}"
        );
        Ok(text)
    }

    /// Runs a script that must fail and say all of `words`.
    pub(crate) fn refused(&self, step: &str, script: &str, words: &[&str]) -> Result<String> {
        let text = self.fails(step, script)?;
        for word in words {
            ensure!(
                text.contains(word),
                "{step}: failed without saying {word:?}: {text}"
            );
        }
        Ok(text)
    }

    /// What core knows.
    pub(crate) fn status(&self) -> Result<Status> {
        let text = self.sh("laz status --json", "laz status --json")?;
        serde_json::from_str(&text).with_context(|| format!("laz status --json: {text}"))
    }

    /// Asks for the status until `wanted` finds in it what it wants; `limit` is for native speed.
    pub(crate) fn until<T>(
        &self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&Status) -> Option<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + self.machine.patience(limit);
        loop {
            let status = self.status()?;
            if let Some(found) = wanted(&status) {
                return Ok(found);
            }
            if Instant::now() > deadline {
                return Err(
                    anyhow!("in {limit:?}: {what}").context(serde_json::to_string_pretty(&status)?)
                );
            }
            std::thread::sleep(Duration::from_millis(300));
        }
    }
}

/// A volume of a status.
pub(crate) fn volume(status: &Status, name: &str) -> Result<VolumeStatus> {
    let names = || {
        status
            .volumes
            .iter()
            .map(|v| v.name.to_string())
            .collect::<Vec<_>>()
    };
    let found = status.volumes.iter().find(|v| v.name.as_str() == name);
    found
        .cloned()
        .with_context(|| format!("no volume {name}; there are {:?}", names()))
}

/// A context of a status.
pub(crate) fn context(status: &Status, name: &str) -> Result<ContextStatus> {
    let names = || {
        status
            .contexts
            .iter()
            .map(|c| c.name.to_string())
            .collect::<Vec<_>>()
    };
    let found = status.contexts.iter().find(|c| c.name.as_str() == name);
    found
        .cloned()
        .with_context(|| format!("no context {name}; there are {:?}", names()))
}
