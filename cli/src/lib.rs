//! `laz` looks at and drives Lazarette: it talks to core over its control socket, prints tables
//! for people and JSON for programs, and says what to do when something fails.
//!
//! | module | what it is |
//! |---|---|
//! | `arguments` | the command line |
//! | `client` | one request to core, within a time limit |
//! | `failure` | what can go wrong, and the exit status of each |
//! | `terminal` | where output goes, how wide it is, tables, questions |
//! | `status`, `volume`, `snapshot`, `scan`, `config`, `logs`, `kinds` | the verbs that ask core |
//! | `action`, `answer` | what the kinds of storage offer beyond these, and what they say to it |
//! | `doctor` | what this machine has of what Lazarette needs |
//! | `plugin` | writing plugins, and the plugins that this machine has |
//! | `manual` | completions and man pages |

#![forbid(unsafe_code)]

mod action;
mod answer;
mod arguments;
mod client;
mod config;
mod doctor;
mod failure;
mod kinds;
mod logs;
mod manual;
mod plugin;
mod scan;
mod snapshot;
mod status;
mod terminal;
mod volume;

use std::error::Error as _;
use std::ffi::OsString;

use clap::Parser;
use clap::error::{ContextKind, ErrorKind};

use lazarette_core::control::Request;

pub use arguments::Arguments;
pub use terminal::Terminal;

use arguments::Verb;
use client::Client;
use failure::{Failure, INVALID, OK, USAGE};

/// Runs one command line and gives its exit status.
pub fn run(arguments: impl IntoIterator<Item = OsString>, terminal: &mut Terminal) -> u8 {
    let words: Vec<OsString> = arguments.into_iter().collect();
    let arguments = match Arguments::try_parse_from(&words) {
        Ok(arguments) => arguments,
        Err(error) => {
            let status = usage(&error, terminal);
            if error.kind() == ErrorKind::DisplayHelp {
                // Help is help even if nobody reads it to its end.
                let _ = action::more_help(&words, terminal);
            }
            return status;
        }
    };
    match verb(arguments, terminal) {
        Ok(()) => OK,
        Err(Failure::Usage(error)) => usage(&error, terminal),
        Err(failure) => {
            if let Some(line) = failure.line() {
                terminal.complain(&format!("laz: {line}"));
            }
            failure.exit_status()
        }
    }
}

fn usage(error: &clap::Error, terminal: &mut Terminal) -> u8 {
    if let (ErrorKind::ValueValidation, Some(why)) = (error.kind(), error.source()) {
        let place = error.get(ContextKind::InvalidArg);
        let place = place.map(|place| format!("{place}: ")).unwrap_or_default();
        terminal.complain(&format!("laz: {place}{why}"));
        return INVALID;
    }
    let text = if terminal.colours() {
        error.render().ansi().to_string()
    } else {
        error.render().to_string()
    };
    if error.use_stderr() {
        terminal.complain(text.trim_end());
        USAGE
    } else {
        // Help that nobody reads to its end is no failure.
        let _ = terminal.line(text.trim_end());
        OK
    }
}

fn verb(arguments: Arguments, terminal: &mut Terminal) -> Result<(), Failure> {
    let client = Client::new(arguments.socket, arguments.timeout);
    match arguments.verb {
        Verb::Status(status) => status::run(&status, &client, terminal),
        Verb::Attach(attach) => volume::attach(attach, &client, terminal),
        Verb::Detach(detach) => volume::detach(detach, &client, terminal),
        Verb::Scan(scan) => scan::run(scan, &client, terminal),
        Verb::Volume { verb } => volume::run(verb, &client, terminal),
        Verb::Pool { verb } => action::pool(verb, &client, terminal),
        Verb::Config { verb } => config::run(verb, &client, terminal),
        Verb::Kinds(wanted) => kinds::run(&wanted, &client, terminal),
        Verb::Plugin { verb } => plugin::run(verb, &client, terminal),
        Verb::Logs(wanted) => logs::run(wanted, &client, terminal),
        Verb::Doctor(doctor) => doctor::run(&doctor, &client, terminal),
        Verb::Drain { yes } => drain(yes, &client, terminal),
        Verb::Completions { shell } => manual::completions(shell, terminal),
        Verb::Man { directory } => manual::man(directory.as_deref(), terminal),
    }
}

fn drain(yes: bool, client: &Client, terminal: &mut Terminal) -> Result<(), Failure> {
    if !yes {
        terminal.confirm("Take the storage away from every container?")?;
    }
    client.get::<()>(&Request::Drain)?;
    terminal.line("everything is unmounted")
}
