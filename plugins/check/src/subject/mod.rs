//! The plugin under check: a process on this machine, or a container.

mod container;
mod facts;
mod process;

use std::fmt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lazarette_linux::fd_passing::peer_credentials;

pub use container::{Container, Engine};
pub use facts::Facts;
pub(crate) use facts::below_root;
pub use process::{InProcess, Launch};

/// Why a check failed, or why the plugin cannot be checked: a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed(String);

impl Failed {
    /// A failure that `why` tells.
    pub fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failed {}

impl From<std::io::Error> for Failed {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

/// How the plugin is started, killed and looked at from outside.
pub trait Subject {
    /// What it is called in the report.
    fn name(&self) -> String;

    /// Starts it if it does not run; returns once it listens.
    ///
    /// # Errors
    /// Why it does not start, with the end of its log.
    fn start(&mut self) -> Result<(), Failed>;

    /// Kills what serves (`SIGKILL`), so that [`start`](Self::start) finds what it has mounted.
    ///
    /// # Errors
    /// When it cannot be killed.
    fn kill(&mut self) -> Result<(), Failed>;

    /// Ends it in order, as core does.
    ///
    /// # Errors
    /// When it does not end, or with a failure.
    fn stop(&mut self) -> Result<(), Failed>;

    /// Kills it and everything that it has left, mounts included.
    fn wipe(&mut self);

    /// Its socket, as this process sees it.
    fn socket(&self) -> &Path;

    /// The directory below which it mounts, as it sees it.
    fn mounts(&self) -> &Path;

    /// The process that serves.
    fn pid(&self) -> Option<i32>;

    /// The end of its log.
    fn log(&self) -> String;

    /// What can be seen of it from outside.
    ///
    /// # Errors
    /// When it does not run.
    fn facts(&self) -> Result<Facts, Failed> {
        let pid = self
            .pid()
            .ok_or_else(|| Failed::new("the plugin does not run any more"))?;
        Facts::of(pid, self.mounts())
    }
}

/// Waits until `socket` accepts, for as long as `alive` says so and no longer than `limit`.
///
/// Not for what the process `killed` listens at: a program that it was about to start has its
/// descriptors until it runs, so that for a moment the kernel goes on to take connections which nobody
/// will ever serve.
fn listens(
    socket: &Path,
    limit: Duration,
    killed: Option<i32>,
    mut alive: impl FnMut() -> bool,
) -> Result<(), Failed> {
    let end = Instant::now() + limit;
    let left = |stream: &UnixStream| {
        killed.is_some_and(|killed| {
            peer_credentials(stream).is_ok_and(|listener| listener.pid == killed)
        })
    };
    loop {
        if UnixStream::connect(socket).is_ok_and(|stream| !left(&stream)) {
            return Ok(());
        }
        if !alive() {
            return Err(Failed::new("it ended instead of listening"));
        }
        if Instant::now() >= end {
            return Err(Failed::new(format!(
                "it does not listen at its socket within {} s",
                limit.as_secs()
            )));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The last lines of `log`, on one line.
fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().rev().take(3).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
}

/// A program of this machine by its name, where the administrator's programs are.
///
/// # Errors
/// When none of the usual directories has it.
pub fn program(name: &str) -> Result<PathBuf, Failed> {
    [
        "/usr/local/bin",
        "/usr/bin",
        "/bin",
        "/usr/local/sbin",
        "/usr/sbin",
        "/sbin",
    ]
    .iter()
    .map(|directory| Path::new(directory).join(name))
    .find(|path| path.is_file())
    .ok_or_else(|| Failed::new(format!("no program {name} on this machine; install it")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_socket_of_who_was_killed_is_not_that_of_its_successor() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("plugin.sock");
        let _left = UnixListener::bind(&socket).unwrap();
        let me = i32::try_from(std::process::id()).unwrap();
        let limit = Duration::from_millis(50);
        listens(&socket, limit, Some(me), || true).unwrap_err();
        listens(&socket, limit, Some(1), || true).unwrap();
        listens(&socket, limit, None, || true).unwrap();
    }
}
