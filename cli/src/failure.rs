//! What can go wrong, how it is told, and the exit status of each.

use std::error::Error as _;
use std::io;
use std::path::PathBuf;

use lazarette_core::{Error, ErrorKind};

/// Done.
pub(crate) const OK: u8 = 0;
/// It failed.
pub(crate) const FAILED: u8 = 1;
/// The command line is wrong.
pub(crate) const USAGE: u8 = 2;
/// Core cannot be reached, or did not answer in time.
pub(crate) const UNREACHABLE: u8 = 3;
/// What was named does not exist.
pub(crate) const NOT_FOUND: u8 = 4;
/// The input is not valid.
pub(crate) const INVALID: u8 = 5;

/// Why a verb failed. `Display` says what failed, `source()` why.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The command line is wrong, as only what the kinds say can tell.
    #[error("{0}")]
    Usage(clap::Error),
    /// Core says so.
    #[error("{0}")]
    Core(Error),
    /// Nobody listens.
    #[error("cannot reach core at {}", socket.display())]
    Unreachable {
        socket: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The connection ended before the answer did.
    #[error("core at {} went away before it had answered", socket.display())]
    Lost {
        socket: PathBuf,
        #[source]
        source: Option<io::Error>,
    },
    /// The time limit passed.
    #[error("core at {} did not answer within {seconds} s", socket.display())]
    TimedOut { socket: PathBuf, seconds: u64 },
    /// Core says something that is no answer.
    #[error("core at {} sent something that laz does not understand", socket.display())]
    Garbled {
        socket: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The request cannot be sent.
    #[error("the request is too large to be sent")]
    TooLarge(#[source] io::Error),
    /// A file cannot be read or written.
    #[error("cannot {verb} {}", path.display())]
    File {
        verb: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The input has problems, which have been printed.
    #[error("the cloud-config has problems")]
    Problems,
    /// Something is missing, which has been printed.
    #[error("something is missing")]
    Missing,
    /// The operator said no, or could not be asked.
    #[error("{0}")]
    NotConfirmed(String),
    /// Standard output cannot be written.
    #[error("cannot write to standard output")]
    Output(#[source] io::Error),
}

impl From<io::Error> for Failure {
    /// Of all the I/O that verbs do, only writing output comes without a path.
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl Failure {
    /// The line to print: what, why and what to do; none: nothing more is to be said.
    pub(crate) fn line(&self) -> Option<String> {
        match self {
            Self::Problems | Self::Missing => return None,
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => return None,
            _ => {}
        }
        let mut line = self.to_string();
        if let Some(source) = self.source() {
            line.push_str(&format!(": {source}"));
        }
        if let Some(remedy) = self.remedy() {
            line.push_str(&format!("; {remedy}"));
        }
        Some(line)
    }

    fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::Unreachable { source, .. } => Some(match source.kind() {
                io::ErrorKind::PermissionDenied => {
                    "run laz as root or as a member of the group that owns the socket"
                }
                _ => {
                    "is laz-core running? `laz doctor` looks further; --socket names another socket"
                }
            }),
            Self::Lost { .. } => Some(
                "core is started again by itself; whether the request was carried out, `laz status` shows",
            ),
            Self::TimedOut { .. } => Some(
                "the request goes on in core; `laz status` shows how far it is; --timeout waits longer",
            ),
            Self::Garbled { .. } => Some("are laz and core of the same version?"),
            Self::TooLarge(_) => Some("split the cloud-config into files below cloud-config.d"),
            _ => None,
        }
    }

    /// The exit status, as `laz --help` documents it.
    pub(crate) fn exit_status(&self) -> u8 {
        match self {
            Self::Core(error) => match error.kind {
                ErrorKind::InvalidArgument | ErrorKind::Unsupported => INVALID,
                ErrorKind::NotFound => NOT_FOUND,
                _ => FAILED,
            },
            Self::Unreachable { .. } | Self::Lost { .. } | Self::TimedOut { .. } => UNREACHABLE,
            Self::Usage(_) => USAGE,
            Self::Problems | Self::TooLarge(_) => INVALID,
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => OK,
            Self::File { source, .. } if source.kind() == io::ErrorKind::NotFound => NOT_FOUND,
            Self::File { source, .. } if source.kind() == io::ErrorKind::InvalidData => INVALID,
            _ => FAILED,
        }
    }
}
