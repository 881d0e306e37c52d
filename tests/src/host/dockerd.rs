//! A dockerd of the world.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use super::enclosure::cgroup_parent;
use super::eventually;
use super::process::{self, limited, refused, succeeded};

/// Where core pins the view.
pub const PIN: &str = "/run/lazarette/view/mnt";
/// Instead of the machine's own daemon.json. (20.10 does not take an empty file.)
const EMPTY_CONFIG: &str = "/run/daemon.json";
/// Seconds that any docker command may take.
const COMMAND_LIMIT: u32 = 130;
/// How long an engine may take to answer after its start.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A Docker engine with directories of its own.
pub struct Dockerd {
    name: &'static str,
    base: PathBuf,
    in_view: bool,
    live_restore: bool,
    child: Option<Child>,
}

impl Dockerd {
    /// The system Docker of the world below `base`; not started.
    pub fn system(base: &Path) -> Self {
        Self::new("system-docker", base, false)
    }

    /// The user Docker of the world below `base`, which runs in the view; not started.
    pub fn user(base: &Path) -> Self {
        Self::new("docker", base, true)
    }

    fn new(name: &'static str, base: &Path, in_view: bool) -> Self {
        Self {
            name,
            base: base.into(),
            in_view,
            live_restore: true,
            child: None,
        }
    }

    /// The API socket.
    pub fn socket(&self) -> PathBuf {
        format!("/run/{}.sock", self.name).into()
    }

    /// Its process.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pid(&self) -> Result<i32> {
        let child = self
            .child
            .as_ref()
            .with_context(|| format!("{} does not run", self.name))?;
        Ok(i32::try_from(child.id())?)
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.base.join("log").join(self.name)
    }

    /// Whether containers are to live on when it dies, from its next start on.
    pub fn set_live_restore(&mut self, live_restore: bool) {
        self.live_restore = live_restore;
    }

    /// Starts it (again) and waits until it answers.
    ///
    /// # Errors
    /// When it does not.
    pub fn start(&mut self) -> Result<()> {
        let dockerd = if self.in_view {
            let mut command = Command::new("nsenter");
            command.arg(format!("--mount={PIN}")).arg("dockerd");
            command
        } else {
            Command::new("dockerd")
        };
        // A killed one leaves it behind, and its number may be another process by now.
        let pid_file = format!("/run/{}.pid", self.name);
        let _ = fs::remove_file(&pid_file);
        fs::write(EMPTY_CONFIG, "{}")?;
        let child = process::daemon(self.arguments(dockerd, &pid_file), &self.log_path())?;
        self.child = Some(child);
        let answers = eventually("it answers", START_LIMIT, || {
            if let Some(status) = self.child.as_mut().context("no child")?.try_wait()? {
                bail!("it ended: {status}");
            }
            Ok(self.run(&["version"])?.status.success())
        });
        match answers {
            Ok(_) => Ok(()),
            Err(error) => Err(error.context(format!("{}: {}", self.name, self.log()))),
        }
    }

    fn arguments(&self, mut dockerd: Command, pid_file: &str) -> Command {
        dockerd
            .args(["--config-file", EMPTY_CONFIG, "--pidfile", pid_file])
            .arg("--data-root")
            .arg(self.base.join("data").join(self.name))
            .args(["--exec-root", &format!("/run/{}", self.name)])
            .args(["--host", &format!("unix://{}", self.socket().display())])
            .args(["--bridge=none", "--iptables=false", "--ip6tables=false"])
            .args([
                "--exec-opt",
                "native.cgroupdriver=cgroupfs",
                "--shutdown-timeout=1",
            ])
            .args(["--cgroup-parent", &cgroup_parent(&self.base)])
            .arg(format!("--live-restore={}", self.live_restore));
        dockerd
    }

    /// kill -9.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self) -> Result<()> {
        let mut child = self.child.take().context("it does not run")?;
        child.kill()?;
        child.wait()?;
        // Its containerd dies with it, a moment later; a new dockerd would wait for the dying one.
        let file = format!("/run/{}/containerd/containerd.pid", self.name);
        if let Ok(pid) = fs::read_to_string(file) {
            eventually("containerd ends", Duration::from_secs(10), || {
                Ok(!Path::new(&format!("/proc/{}", pid.trim())).exists())
            })?;
        }
        Ok(())
    }

    /// SIGTERM, and waits.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop(&mut self) -> Result<()> {
        let pid = self.pid()?;
        process::signal(pid, Signal::TERM)?;
        let mut child = self.child.take().context("it does not run")?;
        eventually("dockerd ends", Duration::from_secs(30), || {
            Ok(child.try_wait()?.is_some())
        })?;
        Ok(())
    }

    /// `docker ARGUMENTS…` on it, not started yet.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = limited(COMMAND_LIMIT, "docker");
        command
            .arg("-H")
            .arg(format!("unix://{}", self.socket().display()))
            .args(arguments);
        command
    }

    /// Runs `docker ARGUMENTS…` on it.
    ///
    /// # Errors
    /// When docker cannot be run.
    pub fn run(&self, arguments: &[&str]) -> Result<Output> {
        self.command(arguments)
            .output()
            .context("cannot run docker")
    }

    /// The same, which must succeed; its output.
    ///
    /// # Errors
    /// When it fails.
    pub fn ok(&self, arguments: &[&str]) -> Result<String> {
        succeeded(
            &format!("docker {}", arguments.join(" ")),
            &self.run(arguments)?,
        )
    }

    /// The same, which must fail; what it says.
    ///
    /// # Errors
    /// When it succeeds or hangs.
    pub fn fails(&self, arguments: &[&str]) -> Result<String> {
        refused(
            &format!("docker {}", arguments.join(" ")),
            &self.run(arguments)?,
        )
    }

    /// A container of busybox with `options`, running `script` to its end; its output.
    ///
    /// # Errors
    /// When it fails.
    pub fn shell(&self, options: &[&str], script: &str) -> Result<String> {
        let run = ["run", "--rm", "--network=none"];
        self.ok(&[&run, options, &["busybox", "sh", "-c", script]].concat())
    }

    /// The same, which must fail; what it says.
    ///
    /// # Errors
    /// When it succeeds or hangs.
    pub fn shell_fails(&self, options: &[&str], script: &str) -> Result<String> {
        let run = ["run", "--rm", "--network=none"];
        self.fails(&[&run, options, &["busybox", "sh", "-c", script]].concat())
    }

    /// The first process of a container.
    ///
    /// # Errors
    /// When it does not run.
    pub fn first_process(&self, container: &str) -> Result<i32> {
        let pid = self
            .ok(&["inspect", "-f", "{{.State.Pid}}", container])?
            .parse()?;
        if pid == 0 {
            bail!("container {container} does not run");
        }
        Ok(pid)
    }
}
