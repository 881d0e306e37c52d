//! Running a program to its end: one poll loop drains both streams and watches the clock.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::Signal;

use super::error::{Failure, Identity};
use super::reaper::{self, Watched};
use super::{Command, CommandError, Exit};

/// How long a killed program may take to die before it is abandoned.
const DEATH: Duration = Duration::from_secs(2);
/// How long output is still read after the program ended, when a process that it left behind keeps
/// the pipes open.
const LINGER: Duration = Duration::from_millis(300);

/// What a program wrote, and how it ended.
#[derive(Debug, Clone)]
pub struct Output {
    /// How it ended.
    pub exit: Exit,
    /// The end of standard output.
    pub stdout: Vec<u8>,
    /// The end of standard error.
    pub stderr: Vec<u8>,
    /// True when `stdout` lacks its beginning because there was more than
    /// [`keep`](Command::keep) bytes: do not parse it.
    pub truncated: bool,
}

impl Output {
    /// Standard output as text; bytes that are not UTF-8 are replaced.
    pub fn stdout_text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

pub(super) fn run(mut command: Command) -> Result<(Output, Identity), CommandError> {
    let (limit, keep) = (command.deadline, command.keep);
    let input = std::mem::take(&mut command.stdin);
    let (input_file, output_file) = (command.stdin_file.take(), command.stdout_file.take());
    if !command.to_the_end {
        // By the thread, but this one stays until the program has ended.
        command.setup.dies_with = Some(std::process::id());
    }
    let (mut process, identity) = command.into_process()?;
    let stdin = match input_file {
        Some(file) => file.into(),
        None if input.is_empty() => Stdio::null(),
        None => Stdio::piped(),
    };
    process
        .stdin(stdin)
        .stdout(output_file.map_or_else(Stdio::piped, Stdio::from))
        .stderr(Stdio::piped());
    let end = Instant::now() + limit;
    let (mut child, watched) =
        reaper::start(&mut process).map_err(|error| identity.error(Failure::Start(error)))?;
    // It holds our copies of the files: whoever reads the other end of a pipe waits for them.
    drop(process);
    let mut session = Session {
        input: child.stdin.take().map(|pipe| Input::new(pipe, input)),
        stdout: Tail::new(child.stdout.take().map(OwnedFd::from), keep),
        stderr: Tail::new(child.stderr.take().map(OwnedFd::from), keep),
        watched,
    };
    match session.run(end) {
        Ok(Some(exit)) => {
            let (stdout, truncated) = session.stdout.finish();
            let output = Output {
                exit,
                stdout,
                stderr: session.stderr.finish().0,
                truncated,
            };
            Ok((output, identity))
        }
        Ok(None) => Err(session.give_up(&identity, limit)),
        Err(error) => {
            let failure = session.give_up(&identity, limit);
            Err(CommandError {
                failure: Failure::Watch(error),
                ..failure
            })
        }
    }
}

/// A running program with our ends of its streams.
struct Session {
    input: Option<Input>,
    stdout: Tail,
    stderr: Tail,
    watched: Watched,
}

impl Session {
    /// Drives the program until it has ended and its output is read; `None` when `end` came first.
    fn run(&mut self, end: Instant) -> io::Result<Option<Exit>> {
        self.set_nonblocking()?;
        let mut exit = None;
        let mut end = end;
        loop {
            if exit.is_none() {
                exit = self.watched.try_wait()?;
                if exit.is_some() {
                    self.input = None;
                    end = Instant::now() + LINGER;
                }
            }
            if exit.is_some() && self.stdout.pipe.is_none() && self.stderr.pipe.is_none() {
                return Ok(exit);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(exit);
            }
            self.step(left, exit.is_none())?;
        }
    }

    fn set_nonblocking(&self) -> io::Result<()> {
        let pipes = [&self.stdout.pipe, &self.stderr.pipe];
        for pipe in pipes.into_iter().flatten() {
            rustix::io::ioctl_fionbio(pipe, true)?;
        }
        if let Some(input) = &self.input {
            rustix::io::ioctl_fionbio(&input.pipe, true)?;
        }
        Ok(())
    }

    /// Waits for at most `left` until something can be read, written or reaped, and does it.
    fn step(&mut self, left: Duration, running: bool) -> io::Result<()> {
        let mut fds = Vec::with_capacity(4);
        if running {
            fds.push(PollFd::new(&self.watched, PollFlags::IN));
        }
        let pipes = [&self.stdout.pipe, &self.stderr.pipe];
        fds.extend(
            pipes
                .into_iter()
                .flatten()
                .map(|pipe| PollFd::new(pipe, PollFlags::IN)),
        );
        if let Some(input) = &self.input {
            fds.push(PollFd::new(&input.pipe, PollFlags::OUT));
        }
        wait_for(&mut fds, left)?;
        self.stdout.drain()?;
        self.stderr.drain()?;
        if self.input.as_mut().is_some_and(|input| !input.feed()) {
            self.input = None;
        }
        Ok(())
    }

    /// Kills the program's process group. If it does not die, leaves it to the reaper.
    fn give_up(mut self, identity: &Identity, limit: Duration) -> CommandError {
        let killed = self.watched.signal_group(Signal::KILL);
        let ended = self.run(Instant::now() + DEATH);
        let stderr = self.stderr.finish().0;
        let failure = match (killed, ended) {
            (Ok(()), Ok(Some(_))) => Failure::Deadline(limit),
            _ => {
                let pid = self.watched.pid();
                self.watched.leave(true);
                Failure::Abandoned { limit, pid }
            }
        };
        identity.error_with(failure, &stderr)
    }
}

/// `poll(2)` with a time limit; being interrupted counts as an event.
pub(super) fn wait_for(fds: &mut [PollFd<'_>], left: Duration) -> io::Result<()> {
    let timeout = Timespec::try_from(left).map_err(|_| io::ErrorKind::InvalidInput)?;
    match poll(fds, Some(&timeout)) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// What is still to be written to standard input.
struct Input {
    pipe: OwnedFd,
    bytes: Vec<u8>,
    written: usize,
}

impl Input {
    fn new(pipe: std::process::ChildStdin, bytes: Vec<u8>) -> Self {
        Self {
            pipe: pipe.into(),
            bytes,
            written: 0,
        }
    }

    /// Writes what fits; false when all is written or the program reads no more.
    fn feed(&mut self) -> bool {
        while self.written < self.bytes.len() {
            match rustix::io::write(&self.pipe, &self.bytes[self.written..]) {
                Ok(count) => self.written += count,
                Err(Errno::AGAIN | Errno::INTR) => return true,
                Err(_) => return false,
            }
        }
        false
    }
}

/// The last bytes of a stream.
struct Tail {
    pipe: Option<OwnedFd>,
    bytes: Vec<u8>,
    keep: usize,
    truncated: bool,
}

impl Tail {
    fn new(pipe: Option<OwnedFd>, keep: usize) -> Self {
        Self {
            pipe,
            bytes: Vec::new(),
            keep,
            truncated: false,
        }
    }

    /// Reads what is there, up to a bound, so that a chatty stream cannot hold up the loop.
    fn drain(&mut self) -> io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        for _ in 0..16 {
            let Some(pipe) = &self.pipe else {
                return Ok(());
            };
            match rustix::io::read(pipe.as_fd(), &mut buffer) {
                Ok(0) => self.pipe = None,
                Ok(count) => self.push(&buffer[..count]),
                Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() > self.keep.saturating_mul(2).max(4096) {
            self.trim();
        }
    }

    fn trim(&mut self) {
        let excess = self.bytes.len().saturating_sub(self.keep);
        if excess > 0 {
            self.truncated = true;
            self.bytes.drain(..excess);
        }
    }

    /// The kept bytes, and whether earlier ones are missing.
    fn finish(&mut self) -> (Vec<u8>, bool) {
        self.trim();
        (std::mem::take(&mut self.bytes), self.truncated)
    }
}
