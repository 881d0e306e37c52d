//! `laz doctor`: what this machine has of what Lazarette needs, and how to get the rest.

mod cgroups;
mod engine;
mod facts;
mod packages;

use std::error::Error as _;
use std::path::Path;

use lazarette_core::Manifest;
use lazarette_core::control::{Request, Status};
use serde::Serialize;

use crate::arguments::DoctorArguments;
use crate::client::Client;
use crate::failure::Failure;
use crate::terminal::{STATE, Table, Terminal};

/// Where control groups are mounted.
const CGROUPS: &str = "/sys/fs/cgroup";

/// How a thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    /// It is there.
    Ok,
    /// It is not there, and something works less well or not at all without it.
    Optional,
    /// It cannot be told.
    Unknown,
    /// It is not there, and nothing works without it.
    Missing,
}

/// One thing looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    /// What it is.
    what: String,
    /// How it is.
    state: State,
    /// What was found, or what it is for and how to get it.
    remark: String,
}

impl Finding {
    fn new(what: impl Into<String>, state: State, remark: impl Into<String>) -> Self {
        let (what, remark) = (what.into(), remark.into());
        Self {
            what,
            state,
            remark,
        }
    }
}

pub(crate) fn run(
    arguments: &DoctorArguments,
    client: &Client,
    terminal: &mut Terminal,
) -> Result<(), Failure> {
    let status = client.get::<Status>(&Request::Status);
    let kinds = client.get::<Vec<Manifest>>(&Request::Kinds);
    let mut findings = facts::kernel();
    findings.push(cgroups::look(Path::new(CGROUPS)));
    findings.extend(of_kinds(status.as_ref().ok(), kinds.ok()));
    for (name, socket, option) in [
        ("system Docker", &arguments.system_docker, "--system-docker"),
        ("user Docker", &arguments.user_docker, "--user-docker"),
    ] {
        findings.push(engine::look(name, socket, option));
    }
    findings.push(core(status));
    show(&findings, arguments.json, terminal)
}

/// What the kinds of storage need: required if there is a context of theirs.
fn of_kinds(status: Option<&Status>, kinds: Option<Vec<Manifest>>) -> Vec<Finding> {
    let contexts = status.map_or(&[][..], |status| &status.contexts);
    let mut wanted = Vec::new();
    for manifest in kinds.iter().flatten() {
        let configured = contexts.iter().any(|c| c.kind == manifest.kind);
        let modules = manifest.privileges.kernel_modules.iter();
        wanted.extend(modules.map(|module| facts::Wanted {
            module: module.clone(),
            kind: manifest.kind.to_string(),
            configured,
            builder: manifest.privileges.module_builder.clone(),
        }));
    }
    let mut findings = facts::modules(&wanted);
    let Some(kinds) = kinds else {
        findings.push(Finding::new(
            "kinds of storage",
            State::Unknown,
            "core could not be asked which modules they need: look again once it runs",
        ));
        return findings;
    };
    let mut unserved: Vec<&str> = contexts.iter().map(|c| c.kind.as_str()).collect();
    unserved.retain(|kind| kinds.iter().all(|manifest| manifest.kind.as_str() != *kind));
    unserved.sort_unstable();
    unserved.dedup();
    findings.extend(unserved.into_iter().map(|kind| {
        Finding::new(
            format!("kind {kind}"),
            State::Missing,
            "there is a context of it, but no image on system Docker serves it: laz plugin install",
        )
    }));
    findings
}

fn core(status: Result<Status, Failure>) -> Finding {
    match status {
        Ok(status) => Finding::new("core", State::Ok, format!("version {}", status.version)),
        Err(failure) => {
            let why = failure
                .source()
                .map(|why| format!(": {why}"))
                .unwrap_or_default();
            let remark =
                format!("{failure}{why}; start laz-core, or name its socket with --socket");
            Finding::new("core", State::Missing, remark)
        }
    }
}

fn show(findings: &[Finding], json: bool, terminal: &mut Terminal) -> Result<(), Failure> {
    let missing = findings
        .iter()
        .filter(|finding| finding.state == State::Missing)
        .count();
    if json {
        terminal.json(&findings, true)?;
    } else {
        let mut table = Table::new(&["LOOKED AT", STATE, "REMARK"]);
        for finding in findings {
            let state = match finding.state {
                State::Ok => "ok",
                State::Optional => "optional",
                State::Unknown => "unknown",
                State::Missing => "missing",
            };
            table.row([finding.what.clone(), state.into(), finding.remark.clone()]);
        }
        terminal.table(&table)?;
        terminal.line("")?;
        let untold = findings
            .iter()
            .any(|finding| finding.state == State::Unknown);
        terminal.line(&match missing {
            0 if untold => "Nothing is missing of what could be looked at.".to_owned(),
            0 => "Everything that is needed is there.".to_owned(),
            1 => "1 thing that is needed is missing.".to_owned(),
            many => format!("{many} things that are needed are missing."),
        })?;
    }
    if missing > 0 {
        return Err(Failure::Missing);
    }
    Ok(())
}
