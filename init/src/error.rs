//! What a phase, a service or a step of the shutdown can fail with.

use std::error::Error as StdError;
use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;

use lazarette_linux::command::CommandError;

/// A failure, told so that the console line alone says what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or directory could not be used.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A file system could not be mounted.
    #[error("cannot mount {fstype} on {}", target.display())]
    Mount {
        /// The kind of file system.
        fstype: String,
        /// Where.
        target: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// An external program failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A program is not installed.
    #[error("no program {name} in {searched}; the OS image must hold it")]
    NoProgram {
        /// Its name.
        name: &'static str,
        /// Where it was looked for.
        searched: String,
    },
    /// Something did not happen in time.
    #[error("{what} within {seconds} s")]
    Late {
        /// What did not happen (`core is not ready`).
        what: String,
        /// How long it was waited for, in seconds.
        seconds: u64,
    },
    /// The network could not be set up.
    #[error("{interface}: {action}")]
    Network {
        /// The interface.
        interface: String,
        /// What failed.
        action: String,
        /// Why.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// core did not do what it was asked.
    #[error("core")]
    Core(#[source] lazarette_core::Error),
    /// Several parts failed, each told on its own.
    #[error("{}", .0.join("; "))]
    Several(Vec<String>),
}

impl Error {
    /// A failure of a file operation: `action` is a verb such as `write`.
    pub fn file(
        action: &'static str,
        path: impl Into<PathBuf>,
        source: impl Into<io::Error>,
    ) -> Self {
        Self::File {
            action,
            path: path.into(),
            source: source.into(),
        }
    }
}

/// What the error and all its causes say, in one line.
pub fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Writing to a String cannot fail.
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}

/// `Ok` if nothing failed, else all failures in one error.
///
/// # Errors
/// [`Error::Several`] when `failures` is not empty.
pub fn all(failures: Vec<String>) -> Result<(), Error> {
    if failures.is_empty() {
        Ok(())
    } else {
        Err(Error::Several(failures))
    }
}
