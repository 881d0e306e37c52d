//! The process in a storage container that serves one plugin to core.
//!
//! | sub-command | what it does |
//! |---|---|
//! | `supervise` | PID 1 of the container: reaps, keeps `serve` running, ends in order |
//! | `serve` | loads the plugin and serves it on a Unix socket |
//! | `describe` | prints a plugin's manifest, for its image's label |
//! | `scan` | prints what the plugin finds that no context has |
//!
//! Threads and blocking calls only: it has to be small (3 MiB), and a plugin blocks anyway.

#![forbid(unsafe_code)]

mod arguments;
mod calls;
mod context;
mod copies;
mod describe;
mod handoff;
mod link;
mod serve;
mod supervise;

use std::ffi::OsString;
use std::process::ExitCode;

use arguments::Command;

/// Exit status for a wrong command line.
const USAGE: u8 = 2;

/// Runs the program with `arguments` (its own name left out).
pub fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let command = match arguments::parse(arguments) {
        Ok(command) => command,
        Err(error) => {
            eprintln!("laz-plugin-host: {error}");
            return ExitCode::from(USAGE);
        }
    };
    let done = match command {
        Command::Help => {
            print!("{}", arguments::HELP);
            Ok(())
        }
        Command::Version => {
            println!("laz-plugin-host {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
        Command::Describe { plugin } => describe::describe(&plugin),
        Command::Scan { plugin } => describe::scan(&plugin),
        Command::Serve(paths) => serve::serve(paths),
        Command::Supervise(paths) => supervise::supervise(&paths),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("laz-plugin-host: {error}");
            ExitCode::FAILURE
        }
    }
}
