//! A running machine.

use std::io::{self, Cursor, IsTerminal, Read, Write};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::agent::{Agent, Output};
use super::monitor::Monitor;
use super::qemu::{Drive, Parts, Qemu, Writes, create_image, tail};
use crate::lab::{Accelerator, Lab};
use crate::protocol::{Kind, MAX_PAYLOAD};

/// Where scripts are put: init mounts over /run and /tmp while the agent is there already.
const SCRIPTS: &str = "/var/lib/lab";

/// What a machine is made of beside the lab's images.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Options {
    /// Memory in MiB.
    pub memory_mib: u32,
    /// How many processors; none: as many as machines usually have here.
    pub processors: Option<usize>,
    /// Sizes in bytes of the extra disks, whose serial numbers are `disk1`, `disk2`, …
    pub disks: Vec<u64>,
    /// A cloud-config, given to the machine on a disk.
    pub cloud_config: Option<String>,
    /// More for the kernel's command line.
    pub command_line: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            memory_mib: 1536,
            processors: None,
            disks: vec![2 << 30; 4],
            cloud_config: None,
            command_line: String::new(),
        }
    }
}

/// A running machine; it is switched off when dropped.
pub struct Machine {
    agent: Arc<Agent>,
    monitor: Monitor,
    qemu: Qemu,
    patience: u32,
}

impl Machine {
    /// Boots a machine whose writes are forgotten, and waits until its agent answers: the kernel
    /// is up then and init is about to start.
    ///
    /// # Errors
    /// When QEMU does not start or the agent does not answer, with the end of the console.
    pub fn boot(lab: &Lab, options: &Options) -> Result<Self> {
        let scratch = Scratch::new()?;
        let mut drives = Vec::new();
        for (serial, image) in [("root", &lab.root), ("engine", &lab.engine)] {
            drives.push(drive(serial, image.clone(), "raw", Writes::Discarded));
        }
        for (index, &size) in options.disks.iter().enumerate() {
            let serial = format!("disk{}", index + 1);
            let image = scratch.0.join(&serial);
            create_image(&image, None, size)?;
            drives.push(drive(&serial, image, "qcow2", Writes::Discarded));
        }
        // QEMU holds the images open: their names may go.
        Self::boot_from(lab, options, drives, &scratch.0)
    }

    /// Boots with the given root, engine and extra disks.
    pub(super) fn boot_from(
        lab: &Lab,
        options: &Options,
        mut drives: Vec<Drive>,
        directory: &std::path::Path,
    ) -> Result<Self> {
        drives.push(drive(
            "programs",
            lab.programs.clone(),
            "raw",
            Writes::Refused,
        ));
        if let Some(text) = &options.cloud_config {
            let image = directory.join("cloud-config");
            let mut bytes = text.clone().into_bytes();
            bytes.resize(bytes.len().next_multiple_of(512), 0);
            std::fs::write(&image, bytes)?;
            drives.push(drive("cloud-config", image, "raw", Writes::Refused));
        }
        let parts = Parts {
            lab,
            memory_mib: options.memory_mib,
            processors: options.processors,
            command_line: &options.command_line,
            drives,
            incoming: None,
        };
        let mut machine = Self::start(&parts)?;
        machine.wait_for_agent(Duration::from_secs(30))?;
        Ok(machine)
    }

    /// Starts QEMU and connects to it; the machine itself may be anywhere.
    pub(super) fn start(parts: &Parts<'_>) -> Result<Self> {
        let qemu = Qemu::start(parts)?;
        Ok(Self {
            agent: Arc::new(Agent::connect(&qemu.socket("agent"))?),
            monitor: Monitor::connect(&qemu.socket("monitor"))?,
            qemu,
            patience: match parts.lab.accelerator {
                Accelerator::Kvm => 1,
                Accelerator::Tcg => 6,
            },
        })
    }

    /// Waits for the agent; `limit` is for a machine at native speed.
    pub(super) fn wait_for_agent(&mut self, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + self.patience(limit);
        let Self { agent, qemu, .. } = self;
        agent
            .wait(deadline, &mut || qemu.check())
            .map_err(|error| error.context(tail(&qemu.console(), 30)))
    }

    /// A time limit for this machine, given one for a machine at native speed.
    #[must_use]
    pub fn patience(&self, limit: Duration) -> Duration {
        limit * self.patience
    }

    /// Makes the machine complete: test servers, both engines answering.
    ///
    /// # Errors
    /// When a step fails, with what it said and the end of the console.
    pub fn prepare(&mut self) -> Result<()> {
        self.run("lab-prepare")?
            .ok()
            .map_err(|error| error.context(tail(&self.console(), 40)))
            .context("the machine did not become ready")?;
        Ok(())
    }

    /// Runs a shell script as root and collects what it wrote; it is killed after 60 s (360 s
    /// where the processor is emulated).
    ///
    /// # Errors
    /// When it did not start or end; a failing script is no error here, see [`Output::ok`].
    pub fn run(&self, script: &str) -> Result<Output> {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let status = self.bash(
            script,
            Duration::from_secs(60),
            &mut |kind, bytes| match kind {
                Kind::Stdout => stdout.extend_from_slice(bytes),
                _ => stderr.extend_from_slice(bytes),
            },
        )?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Output {
            status,
            stdout: text(stdout),
            stderr: text(stderr),
        })
    }

    /// Runs a shell script as root that must succeed, and gives its standard output without
    /// surrounding white space.
    ///
    /// # Errors
    /// When it did not start, end or succeed.
    pub fn sh(&self, script: &str) -> Result<String> {
        self.run(script)?.ok().with_context(|| script.to_owned())
    }

    /// Runs a shell script as root without a time limit, its output passed on as it comes.
    ///
    /// # Errors
    /// When it did not start or the machine went away; otherwise its exit status.
    pub fn stream(&self, script: &str) -> Result<i32> {
        let day = Duration::from_secs(86_400);
        self.bash(script, day, &mut |kind, bytes| {
            // A reader that went away does not stop the script.
            let _ = match kind {
                Kind::Stdout => pass_on(&mut io::stdout(), bytes),
                _ => pass_on(&mut io::stderr(), bytes),
            };
        })
    }

    fn bash(
        &self,
        script: &str,
        limit: Duration,
        sink: &mut dyn FnMut(Kind, &[u8]),
    ) -> Result<i32> {
        let deadline = Instant::now() + self.patience(limit);
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{SCRIPTS}/script-{number}");
        self.push(&name, script.as_bytes(), 0o700)?;
        let runner = "bash \"$0\"; status=$?; rm -f \"$0\"; exit $status";
        self.agent
            .run(&["bash", "-c", runner, &name], io::empty(), deadline, sink)
    }

    /// Writes a file in the machine.
    ///
    /// # Errors
    /// When it cannot be written there.
    pub fn push(&self, path: &str, bytes: &[u8], mode: u32) -> Result<()> {
        let deadline = Instant::now() + self.patience(Duration::from_secs(60));
        let script = "umask 077; cat > \"$0\" && chmod \"$1\" \"$0\"";
        let mode = format!("{mode:o}");
        let mut said = Vec::new();
        let status = self.agent.run(
            &["sh", "-c", script, path, &mode],
            Cursor::new(bytes),
            deadline,
            &mut |_, bytes| said.extend_from_slice(bytes),
        )?;
        if status != 0 {
            bail!(
                "writing {path}: {}",
                String::from_utf8_lossy(&said).trim_end()
            );
        }
        Ok(())
    }

    /// An interactive shell on this terminal; gives its exit status.
    ///
    /// # Errors
    /// When the shell could not be started or the machine went away.
    pub fn shell(&self) -> Result<i32> {
        let terminal = RawTerminal::enter();
        // `script` gives the shell a terminal of its own.
        let (job, replies) =
            self.agent
                .start(&["script", "-qefc", "cd /root; exec bash -il", "/dev/null"])?;
        let agent = self.agent.clone();
        thread::spawn(move || {
            let mut buffer = vec![0; MAX_PAYLOAD];
            loop {
                let count = io::stdin().read(&mut buffer).unwrap_or(0);
                if agent.stdin(job, &buffer[..count]).is_err() || count == 0 {
                    return;
                }
            }
        });
        let far = Instant::now() + Duration::from_secs(30 * 86_400);
        let status = self.agent.follow(job, &replies, far, &mut |_, bytes| {
            let _ = pass_on(&mut io::stdout(), bytes);
        });
        drop(terminal);
        status
    }

    /// What the machine wrote to its serial console.
    #[must_use]
    pub fn console(&self) -> String {
        self.qemu.console()
    }

    /// Sets the machine's clock, which stood still while it was saved.
    pub(super) fn set_clock(&self) -> Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let argument = format!("@{}.{:06}", now.as_secs(), now.subsec_micros());
        let deadline = Instant::now() + self.patience(Duration::from_secs(20));
        let status = self.agent.run(
            &["date", "-s", &argument],
            io::empty(),
            deadline,
            &mut |_, _| {},
        )?;
        if status != 0 {
            bail!("the machine's clock could not be set");
        }
        Ok(())
    }

    /// Asks QEMU to go on with a machine that was restored.
    pub(super) fn go_on(&mut self) -> Result<()> {
        let limit = Duration::from_secs(120);
        self.monitor
            .wait_status("query-status", &["paused", "running", "postmigrate"], limit)?;
        self.monitor.execute("cont", json!({}))?;
        Ok(())
    }

    /// Stops the machine and writes its memory to a file.
    pub(super) fn save(mut self, memory: &std::path::Path) -> Result<()> {
        self.monitor.execute("stop", json!({}))?;
        // The default limits the speed to what a network can do.
        let parameters = json!({"max-bandwidth": 1_u64 << 40});
        self.monitor.execute("migrate-set-parameters", parameters)?;
        let uri = format!("file:{}", memory.display());
        self.monitor.execute("migrate", json!({"uri": uri}))?;
        let limit = Duration::from_secs(300);
        self.monitor
            .wait_status("query-migrate", &["completed"], limit)?;
        self.monitor.execute("quit", json!({}))?;
        self.qemu.wait(Duration::from_secs(60))
    }

    /// Asks the machine to shut down in order and waits until it is off.
    ///
    /// # Errors
    /// When it is not off within the limit, with the end of the console.
    pub fn power_off(mut self, limit: Duration) -> Result<String> {
        let limit = self.patience(limit);
        // The machine may be gone before the command's exit status is.
        let _ = self.run("kill -USR2 1");
        self.qemu.wait(limit)?;
        Ok(self.console())
    }

    /// Cuts the power.
    pub fn kill(self) {
        drop(self);
    }
}

pub(super) fn drive(serial: &str, image: PathBuf, format: &'static str, writes: Writes) -> Drive {
    Drive {
        serial: serial.to_owned(),
        image,
        format,
        writes,
    }
}

fn pass_on(stream: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes)?;
    stream.flush()
}

/// A directory that goes when dropped.
pub(super) struct Scratch(pub(super) PathBuf);

impl Scratch {
    pub(super) fn new() -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = PathBuf::from(format!(
            "/var/tmp/lazarette-{}-{number}",
            std::process::id()
        ));
        std::fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// This terminal in raw mode; as it was when dropped.
struct RawTerminal(Option<String>);

impl RawTerminal {
    fn enter() -> Self {
        if !io::stdin().is_terminal() {
            return Self(None);
        }
        let saved = Command::new("stty")
            .arg("-g")
            .stdin(std::process::Stdio::inherit())
            .output()
            .ok()
            .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        let _ = Command::new("stty").args(["raw", "-echo"]).status();
        Self(saved)
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        if let Some(saved) = &self.0 {
            let _ = Command::new("stty").arg(saved).status();
        }
    }
}
