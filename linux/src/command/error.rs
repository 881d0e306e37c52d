//! What can go wrong with an external program, told so that a user can act on it.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::Exit;

/// How many characters of standard error an error message shows.
const SHOWN: usize = 2_000;

/// A program that could not be run, or that failed.
#[derive(Debug)]
pub struct CommandError {
    /// The program's absolute path.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// What happened.
    pub failure: Failure,
    /// The end of what it wrote to standard error, trimmed; may be empty.
    pub stderr: String,
}

/// What happened to a program.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The command was refused before anything was started.
    #[error("not started: {0}")]
    Invalid(&'static str),
    /// The program could not be started.
    #[error("cannot be started; check that it is installed and executable")]
    Start(#[source] io::Error),
    /// It ended, but not with status 0.
    #[error("{0}")]
    Exit(Exit),
    /// It did not end in time and was killed.
    #[error("killed: not done after {} s", .0.as_secs_f32())]
    Deadline(Duration),
    /// It did not end in time and does not die either, because it waits inside the kernel. It is
    /// counted by [`abandoned`](super::abandoned).
    #[error(
        "not done after {} s, and SIGKILL does not end it: process {pid} hangs in the kernel and is abandoned",
        .limit.as_secs_f32()
    )]
    Abandoned {
        /// The deadline that passed.
        limit: Duration,
        /// The process that remains.
        pid: i32,
    },
    /// Reading its output or waiting for it failed.
    #[error("cannot be watched")]
    Watch(#[source] io::Error),
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.program.display())?;
        for argument in &self.arguments {
            write!(f, " {}", argument.to_string_lossy().escape_debug())?;
        }
        write!(f, ": {}", self.failure)?;
        if !self.stderr.is_empty() {
            write!(f, ": {}", self.stderr)?;
        }
        Ok(())
    }
}

impl std::error::Error for CommandError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // The failure itself is part of our message; its cause is not.
        std::error::Error::source(&self.failure)
    }
}

/// Which program an error is about.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<OsString>,
}

impl Identity {
    pub(super) fn error(&self, failure: Failure) -> CommandError {
        self.error_with(failure, &[])
    }

    pub(super) fn error_with(&self, failure: Failure, stderr: &[u8]) -> CommandError {
        CommandError {
            program: self.program.clone(),
            arguments: self.arguments.clone(),
            failure,
            stderr: tail_text(stderr),
        }
    }
}

/// The end of `bytes` as printable text: control characters other than line ends become spaces.
fn tail_text(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim();
    let skipped = text.chars().count().saturating_sub(SHOWN);
    text.chars()
        .skip(skipped)
        .map(|c| if c.is_control() && c != '\n' { ' ' } else { c })
        .collect()
}
