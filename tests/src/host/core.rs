//! A core of the world, and its control socket.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use lazarette_core::control::{Request, Response, Status};
use lazarette_core::frame;
use rustix::process::Signal;
use serde::de::DeserializeOwned;

use super::world::BUILT_IN;
use super::{eventually, process};

/// Where it listens.
pub const CONTROL: &str = "/run/lazarette/core.sock";
/// The sources of its cloud-config.
pub const CONFIG: &str = "/run/lazarette/config";
const NOTIFY: &str = "/run/notify.sock";

/// A core process, and what it takes to start it again.
pub struct Core {
    program: PathBuf,
    base: PathBuf,
    child: Option<Child>,
    notify: UnixDatagram,
}

impl Core {
    /// One for the world below `base`; not started.
    ///
    /// # Errors
    /// When its notify socket cannot be made.
    pub fn new(program: &Path, base: &Path) -> Result<Self> {
        fs::create_dir_all(CONFIG)?;
        let notify = UnixDatagram::bind(NOTIFY)?;
        Ok(Self {
            program: program.into(),
            base: base.into(),
            child: None,
            notify,
        })
    }

    /// How it is started.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg("--notify")
            .arg("--state")
            .arg(self.base.join("state"))
            .arg("--operator-config")
            .arg(self.base.join("cloud-config.yml"))
            .arg("--built-in-images")
            .arg(self.base.join(BUILT_IN))
            .env("NOTIFY_SOCKET", NOTIFY)
            .env("LAZARETTE_LOG", "debug");
        command
    }

    /// Starts it and waits for READY=1; how long that took.
    ///
    /// # Errors
    /// When it ends or is not ready within `limit`.
    pub fn start(&mut self, limit: Duration) -> Result<Duration> {
        let started = Instant::now();
        self.spawn()?;
        self.wait_ready(limit)?;
        Ok(started.elapsed())
    }

    /// Starts it and waits until it answers; how long that took.
    ///
    /// # Errors
    /// When it does not.
    pub fn start_answering(&mut self) -> Result<Duration> {
        let started = Instant::now();
        self.spawn()?;
        eventually("core answers", Duration::from_secs(20), || {
            Ok(status().is_ok())
        })
        .map_err(|e| e.context(self.tail()))?;
        Ok(started.elapsed())
    }

    /// Starts it.
    ///
    /// # Errors
    /// When it cannot be.
    pub fn spawn(&mut self) -> Result<()> {
        self.forget_notifications()?;
        self.child = Some(process::daemon(self.command(), &self.log_path())?);
        Ok(())
    }

    fn forget_notifications(&self) -> Result<()> {
        self.notify.set_nonblocking(true)?;
        while self.notify.recv(&mut [0; 64]).is_ok() {}
        self.notify.set_nonblocking(false)?;
        Ok(())
    }

    /// Waits for READY=1.
    ///
    /// # Errors
    /// When it is not said within `limit`.
    pub fn wait_ready(&mut self, limit: Duration) -> Result<()> {
        let end = Instant::now() + limit;
        self.notify
            .set_read_timeout(Some(Duration::from_millis(100)))?;
        loop {
            if Instant::now() > end || !self.is_running()? {
                bail!("no READY=1 within {limit:?}: {}", self.tail());
            }
            let mut text = [0; 256];
            match self.notify.recv(&mut text) {
                Ok(n) if text[..n].windows(7).any(|w| w == b"READY=1") => return Ok(()),
                Ok(_) => {}
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Its process.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pid(&self) -> Result<i32> {
        Ok(i32::try_from(
            self.child.as_ref().context("core does not run")?.id(),
        )?)
    }

    /// Whether it runs.
    ///
    /// # Errors
    /// When that cannot be told.
    pub fn is_running(&mut self) -> Result<bool> {
        match &mut self.child {
            Some(child) => Ok(child.try_wait()?.is_none()),
            None => Ok(false),
        }
    }

    /// kill -9.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self) -> Result<()> {
        let mut child = self.child.take().context("core does not run")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// SIGTERM, and waits.
    ///
    /// # Errors
    /// When it does not end well.
    pub fn stop(&mut self) -> Result<()> {
        process::signal(self.pid()?, Signal::TERM)?;
        let mut child = self.child.take().context("core does not run")?;
        let mut status = None;
        eventually("core ends", Duration::from_secs(20), || {
            status = child.try_wait()?;
            Ok(status.is_some())
        })?;
        match status {
            Some(status) if status.success() => Ok(()),
            other => bail!("core ended with {other:?}: {}", self.tail()),
        }
    }

    fn log_path(&self) -> PathBuf {
        self.base.join("log/core")
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// The last lines of its log.
    pub fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

/// Asks core by its control socket.
///
/// # Errors
/// Core's own, or that it does not answer.
pub fn ask<T: DeserializeOwned>(request: &Request, limit: Duration) -> Result<T> {
    let mut stream = UnixStream::connect(CONTROL)?;
    stream.set_read_timeout(Some(limit))?;
    frame::write(&mut stream, request)?;
    loop {
        match frame::read::<Response>(&mut stream)?.context("core hung up")? {
            Response::Item(_) => {}
            Response::Done(value) => return Ok(serde_json::from_value(value)?),
            Response::Failed(error) => bail!(error),
        }
    }
}

/// Everything core knows.
///
/// # Errors
/// When it does not answer.
pub fn status() -> Result<Status> {
    ask(&Request::Status, Duration::from_secs(5))
}
