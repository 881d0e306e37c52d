//! The harness's side of the agent protocol.

use std::collections::HashMap;
use std::io::{ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::protocol::{Frame, Job, Kind, MAX_PAYLOAD};

type Jobs = Arc<Mutex<HashMap<u32, Sender<Frame>>>>;

/// What a program in the machine did.
#[derive(Clone, Debug)]
pub struct Output {
    /// Exit status; 128 + number if a signal ended it; 127 if it did not start.
    pub status: i32,
    /// What it wrote to its standard output, bytes that are not UTF-8 replaced.
    pub stdout: String,
    /// What it wrote to its standard error.
    pub stderr: String,
}

impl Output {
    /// The standard output without surrounding white space, if the program succeeded.
    ///
    /// # Errors
    /// With the status and both streams if it did not.
    pub fn ok(self) -> Result<String> {
        if self.status != 0 {
            bail!(
                "exit status {}\nstdout: {}\nstderr: {}",
                self.status,
                self.stdout.trim_end(),
                self.stderr.trim_end()
            );
        }
        Ok(self.stdout.trim().to_owned())
    }
}

/// Where bytes of a running program go.
pub(super) type Sink<'a> = &'a mut dyn FnMut(Kind, &[u8]);

/// How long the agent may read nothing before that is an error.
const SILENCE: Duration = Duration::from_secs(120);

/// A connection to the agent in a machine.
pub(super) struct Agent {
    port: Mutex<UnixStream>,
    jobs: Jobs,
    next: AtomicU32,
}

impl Agent {
    /// Connects to the port's socket; the agent itself may not be there yet.
    pub(super) fn connect(socket: &Path) -> Result<Self> {
        let port = super::qemu::connect(socket)
            .with_context(|| format!("the agent's port {}", socket.display()))?;
        // Where no agent reads, a writer must not wait for ever.
        port.set_write_timeout(Some(SILENCE))?;
        let mut reader = port.try_clone()?;
        let jobs = Jobs::default();
        let receivers = jobs.clone();
        thread::spawn(move || {
            loop {
                match Frame::read(&mut reader) {
                    Ok(frame) => {
                        let jobs = lock(&receivers);
                        if let Some(job) = jobs.get(&frame.job) {
                            // Nobody waits for a job that was given up.
                            let _ = job.send(frame);
                        }
                    }
                    Err(error) if error.kind() == ErrorKind::InvalidData => {}
                    Err(_) => break,
                }
            }
            // Dropping the senders tells all who wait that the machine is gone.
            lock(&receivers).clear();
        });
        Ok(Self {
            port: Mutex::new(port),
            jobs,
            next: AtomicU32::new(1),
        })
    }

    /// Asks until the agent answers; `alive` says why to give up earlier.
    pub(super) fn wait(
        &self,
        deadline: Instant,
        alive: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        let (job, replies) = self.register();
        loop {
            alive()?;
            self.send(job, Kind::Ping, b"")?;
            match replies.recv_timeout(Duration::from_millis(200)) {
                Ok(_) => break,
                Err(RecvTimeoutError::Timeout) if Instant::now() < deadline => {}
                Err(RecvTimeoutError::Timeout) => bail!("the agent in the machine did not answer"),
                Err(RecvTimeoutError::Disconnected) => bail!("the machine is gone"),
            }
        }
        self.forget(job);
        Ok(())
    }

    /// Runs a program to its end or the deadline, when it is killed; its output goes to `sink`.
    pub(super) fn run(
        &self,
        argv: &[&str],
        stdin: impl Read,
        deadline: Instant,
        sink: Sink<'_>,
    ) -> Result<i32> {
        let (job, replies) = self.start(argv)?;
        self.feed(job, stdin)?;
        let status = self.follow(job, &replies, deadline, sink);
        self.forget(job);
        status
    }

    /// Starts a program whose standard input the caller feeds by [`Agent::stdin`].
    pub(super) fn start(&self, argv: &[&str]) -> Result<(u32, Receiver<Frame>)> {
        let (job, replies) = self.register();
        let argv = argv.iter().map(|&argument| argument.to_owned()).collect();
        self.send(job, Kind::Run, &serde_json::to_vec(&Job { argv })?)?;
        Ok((job, replies))
    }

    /// Sends bytes to a program's standard input; none closes it.
    pub(super) fn stdin(&self, job: u32, bytes: &[u8]) -> Result<()> {
        self.send(job, Kind::Stdin, bytes)
    }

    fn feed(&self, job: u32, mut stdin: impl Read) -> Result<()> {
        let mut buffer = vec![0; MAX_PAYLOAD];
        loop {
            let count = stdin.read(&mut buffer)?;
            self.stdin(job, &buffer[..count])?;
            if count == 0 {
                return Ok(());
            }
        }
    }

    /// Passes a program's output on until it ends.
    pub(super) fn follow(
        &self,
        job: u32,
        replies: &Receiver<Frame>,
        deadline: Instant,
        sink: Sink<'_>,
    ) -> Result<i32> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match replies.recv_timeout(left) {
                Ok(Frame {
                    kind: Kind::Exit,
                    payload,
                    ..
                }) => {
                    let text = String::from_utf8_lossy(&payload);
                    let (status, reason) = text.split_once(' ').unwrap_or((&text, ""));
                    if !reason.is_empty() {
                        bail!("the program did not start: {reason}");
                    }
                    return status.parse().context("the agent's exit status");
                }
                Ok(frame) => sink(frame.kind, &frame.payload),
                Err(RecvTimeoutError::Timeout) => {
                    self.send(job, Kind::Kill, b"")?;
                    bail!("the program was killed at its deadline");
                }
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("the machine went away while the program ran");
                }
            }
        }
    }

    fn register(&self) -> (u32, Receiver<Frame>) {
        let job = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = channel();
        lock(&self.jobs).insert(job, sender);
        (job, receiver)
    }

    fn forget(&self, job: u32) {
        lock(&self.jobs).remove(&job);
    }

    fn send(&self, job: u32, kind: Kind, payload: &[u8]) -> Result<()> {
        let frame = Frame {
            job,
            kind,
            payload: payload.to_vec(),
        };
        frame
            .write(&mut *lock(&self.port))
            .context("the agent's port")
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|broken| broken.into_inner())
}
