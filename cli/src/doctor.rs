//! `laz doctor`: what this machine has of what Lazarette needs, and how to get the rest.

mod engine;
mod facts;

use std::error::Error as _;

use lazarette_core::Manifest;
use lazarette_core::control::{Request, Status};
use serde::Serialize;

use crate::arguments::DoctorArguments;
use crate::client::Client;
use crate::failure::Failure;
use crate::terminal::{STATE, Table, Terminal};

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
    let kinds: Vec<Manifest> = client.get(&Request::Kinds).unwrap_or_default();
    let modules = kinds
        .iter()
        .flat_map(|manifest| {
            let modules = manifest.privileges.kernel_modules.iter();
            modules.map(move |module| (module.clone(), manifest.kind.to_string()))
        })
        .collect::<Vec<_>>();
    let mut findings = facts::kernel();
    findings.extend(facts::modules(&modules));
    for (name, socket) in [
        ("system Docker", &arguments.system_docker),
        ("user Docker", &arguments.user_docker),
    ] {
        findings.push(match engine::version(socket) {
            Ok(version) => Finding::new(name, State::Ok, format!("version {version}")),
            Err(error) => Finding::new(
                name,
                State::Missing,
                format!(
                    "{}: {error}; start it (Debian has it in docker.io), or name its socket with --{}",
                    socket.display(),
                    name.replace(' ', "-").to_lowercase()
                ),
            ),
        });
    }
    findings.push(match client.get::<Status>(&Request::Status) {
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
    });
    show(&findings, arguments.json, terminal)
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
        terminal.line(&match missing {
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
