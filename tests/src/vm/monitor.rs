//! QEMU's machine protocol (QMP): a line of JSON each way.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// A connection to a machine's monitor.
pub(super) struct Monitor {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
}

impl Monitor {
    /// Connects and leaves negotiation mode.
    pub(super) fn connect(socket: &Path) -> Result<Self> {
        let writer = super::qemu::connect(socket)
            .with_context(|| format!("QEMU's monitor {}", socket.display()))?;
        writer.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut monitor = Self {
            reader: BufReader::new(writer.try_clone()?),
            writer,
        };
        monitor.line()?;
        monitor.execute("qmp_capabilities", json!({}))?;
        Ok(monitor)
    }

    /// Sends a command and gives what it returns.
    pub(super) fn execute(&mut self, command: &str, arguments: Value) -> Result<Value> {
        // In one piece: QEMU acts on the closing brace, and what it does may be to leave.
        let request = format!("{}\n", json!({"execute": command, "arguments": arguments}));
        self.writer
            .write_all(request.as_bytes())
            .with_context(|| format!("QEMU: {command}"))?;
        loop {
            let mut reply = self.line().with_context(|| format!("QEMU: {command}"))?;
            if let Some(error) = reply.get("error") {
                bail!(
                    "QEMU: {command}: {}",
                    error["desc"].as_str().unwrap_or("failed")
                );
            }
            if let Some(value) = reply.get_mut("return") {
                return Ok(value.take());
            }
        }
    }

    /// Asks `command` until the member `status` of its answer is one of `wanted`.
    pub(super) fn wait_status(
        &mut self,
        command: &str,
        wanted: &[&str],
        limit: Duration,
    ) -> Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            let reply = self.execute(command, json!({}))?;
            let status = reply["status"].as_str().unwrap_or("none");
            if wanted.contains(&status) {
                return Ok(());
            }
            if status == "failed" || Instant::now() > deadline {
                bail!("QEMU: {command}: {reply} where {wanted:?} was awaited");
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn line(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            bail!("QEMU closed its monitor");
        }
        Ok(serde_json::from_str(&line)?)
    }
}
