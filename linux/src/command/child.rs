//! Long-lived programs: engines, core, plugin hosts.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::process::Signal;

use super::error::Failure;
use super::reaper::{self, Watched};
use super::run::wait_for;
use super::{Command, CommandError, Exit};

/// Where standard output and standard error of a [`Child`] go.
#[derive(Debug)]
pub enum Output {
    /// Nowhere.
    Null,
    /// Where ours go.
    Inherit,
    /// Into this file (open it for appending).
    File(File),
    /// Into one pipe that [`Child::take_output`] reads.
    Pipe,
    /// To this terminal, which becomes standard input too.
    Terminal(OwnedFd),
}

/// A running program. Dropping it leaves the program running; it is reaped when it ends.
#[derive(Debug)]
pub struct Child {
    program: PathBuf,
    output: Option<OwnedFd>,
    watched: Option<Watched>,
}

pub(super) fn spawn(command: Command, output: Output) -> Result<Child, CommandError> {
    let (mut process, identity) = command.into_process()?;
    let start_error = |error| identity.error(Failure::Start(error));
    process.stdin(Stdio::null());
    let mut reader = None;
    let (stdout, stderr) = match output {
        Output::Null => (Stdio::null(), Stdio::null()),
        Output::Inherit => (Stdio::inherit(), Stdio::inherit()),
        Output::File(file) => {
            let copy = file.try_clone().map_err(start_error)?;
            (file.into(), copy.into())
        }
        Output::Pipe => {
            let (read, write) = io::pipe().map_err(start_error)?;
            reader = Some(OwnedFd::from(read));
            let copy = write.try_clone().map_err(start_error)?;
            (write.into(), copy.into())
        }
        Output::Terminal(terminal) => {
            process.stdin(terminal.try_clone().map_err(start_error)?);
            let copy = terminal.try_clone().map_err(start_error)?;
            (terminal.into(), copy.into())
        }
    };
    process.stdout(stdout).stderr(stderr);
    let (_, watched) = reaper::start(&mut process).map_err(start_error)?;
    Ok(Child {
        program: identity.program,
        output: reader,
        watched: Some(watched),
    })
}

impl Child {
    /// The program's path.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Its process ID. It stays this program's until the program was waited for.
    pub fn pid(&self) -> i32 {
        self.watched().pid()
    }

    /// The reading end of the pipe asked for with [`Output::Pipe`], once. Blocking; it must be read
    /// for as long as the program runs.
    pub fn take_output(&mut self) -> Option<OwnedFd> {
        self.output.take()
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// When the kernel cannot say; does not happen while this is the child's parent.
    pub fn try_wait(&self) -> io::Result<Option<Exit>> {
        self.watched().try_wait()
    }

    /// Waits for its end, for at most `limit` if there is one; `None` when it still runs then.
    ///
    /// # Errors
    /// As [`Child::try_wait`].
    pub fn wait(&self, limit: Option<Duration>) -> io::Result<Option<Exit>> {
        /// Upper bound of one sleep, so that no time value overflows.
        const NAP: Duration = Duration::from_secs(3600);
        let end = limit.and_then(|limit| Instant::now().checked_add(limit));
        loop {
            if let Some(exit) = self.try_wait()? {
                return Ok(Some(exit));
            }
            let left = end.map_or(NAP, |end| end.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Ok(None);
            }
            let mut fds = [PollFd::new(self.watched(), PollFlags::IN)];
            wait_for(&mut fds, left.min(NAP))?;
        }
    }

    /// Sends a signal, by number (`15` for SIGTERM), to the program alone; no error if it ended.
    ///
    /// # Errors
    /// For a number that is no signal, or without permission.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        let signal = Signal::from_named_raw(signal).ok_or(io::ErrorKind::InvalidInput)?;
        self.watched().signal(signal)
    }

    /// Sends SIGKILL to the program and its process group; no error if it ended.
    ///
    /// # Errors
    /// Without permission.
    pub fn kill(&self) -> io::Result<()> {
        self.watched().signal_group(Signal::KILL)
    }

    /// Ends it: SIGTERM to the program, and after `grace` SIGKILL to its process group. `None` when
    /// it does not even die from that within two seconds.
    ///
    /// # Errors
    /// As [`Child::signal`] and [`Child::wait`].
    pub fn stop(&self, grace: Duration) -> io::Result<Option<Exit>> {
        self.watched().signal(Signal::TERM)?;
        if let Some(exit) = self.wait(Some(grace))? {
            return Ok(Some(exit));
        }
        self.kill()?;
        self.wait(Some(Duration::from_secs(2)))
    }

    fn watched(&self) -> &Watched {
        self.watched
            .as_ref()
            .expect("a child is watched until it is dropped")
    }
}

impl AsFd for Child {
    /// The pidfd: readable when the program has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watched().as_fd()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if let Some(watched) = self.watched.take() {
            watched.leave(false);
        }
    }
}
