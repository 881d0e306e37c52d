//! Containers that use storage while something happens to it.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lazarette_tests::host::{World, eventually};

/// A container that writes a growing number into `/data/n`, and into `/failed` what goes wrong.
pub(crate) struct Writer {
    root: PathBuf,
}

impl Writer {
    /// Starts it with `volume` (of `docker run -v`) at `/data`.
    pub(crate) fn start(world: &World, name: &str, volume: &str, options: &[&str]) -> Result<Self> {
        let script = "i=0; while :; do i=$((i+1)); \
             { echo $i > /data/new && cat /data/new > /data/n; } 2>> /failed || echo $i >> /failed; \
             sleep 0.02; done";
        let volume = format!("{volume}:/data");
        // Its shell, as PID 1, does not hear of SIGTERM.
        let run = [
            "run",
            "-d",
            "--stop-timeout=1",
            "--network=none",
            "--name",
            name,
            "-v",
            &volume,
        ];
        world
            .user
            .ok(&[&run, options, &["busybox", "sh", "-c", script]].concat())?;
        let writer = Self::of(world, name)?;
        writer.goes_on()?;
        Ok(writer)
    }

    /// The one that runs in the container `name`.
    pub(crate) fn of(world: &World, name: &str) -> Result<Self> {
        let pid = world.user.first_process(name)?;
        Ok(Self {
            root: format!("/proc/{pid}/root").into(),
        })
    }

    fn number(&self) -> Result<u64> {
        let text = fs::read_to_string(self.root.join("data/n")).unwrap_or_default();
        Ok(text.trim().parse().unwrap_or(0))
    }

    /// Shows that it writes, and that no write has ever failed.
    pub(crate) fn goes_on(&self) -> Result<()> {
        ensure!(self.root.join("bin").exists(), "the container has ended");
        let failed = fs::read_to_string(self.root.join("failed")).unwrap_or_default();
        ensure!(failed.is_empty(), "writes failed: {failed}");
        let before = self.number()?;
        let writes = || Ok(self.number()? > before + 1);
        eventually("the container writes", Duration::from_secs(5), writes)
            .context("the container's I/O has stopped")
            .map(drop)
    }

    /// What is mounted at `/data`, as the container sees it.
    pub(crate) fn mountinfo(&self) -> Result<String> {
        let table = fs::read_to_string(self.root.with_file_name("mountinfo"))?;
        let line = table.lines().find(|l| l.split(' ').nth(4) == Some("/data"));
        Ok(line.context("nothing is mounted at /data")?.to_owned())
    }
}
