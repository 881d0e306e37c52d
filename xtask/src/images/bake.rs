//! Puts images into an engine's data root at native speed: the root file system's own dockerd runs
//! in a chroot, in a mount namespace of its own, on a data root that a machine gets later.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::command::{capture, logged};

/// What to do with which data root.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Bake {
    /// The directory of the root file system with the engine.
    pub(super) rootfs: PathBuf,
    /// The data root.
    pub(super) data: PathBuf,
    /// A directory that holds what the steps name.
    pub(super) input: PathBuf,
    /// The steps.
    pub(super) steps: Vec<Step>,
}

/// One image.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Step {
    /// Import a tar archive.
    Import {
        /// The archive below the input directory.
        archive: String,
        /// The image's name.
        name: String,
        /// Instructions in Dockerfile's language.
        changes: Vec<String>,
    },
    /// Build from a directory with a Dockerfile.
    Build {
        /// The directory below the input directory.
        directory: String,
        /// The image's name.
        name: String,
        /// Labels, as names and values.
        labels: Vec<(String, String)>,
    },
}

impl Bake {
    /// Does it, in a mount namespace that nobody else sees.
    pub(super) fn run(&self) -> Result<()> {
        let job = self.data.with_extension("job");
        fs::write(&job, serde_json::to_vec(self)?)?;
        fs::create_dir_all(&self.data)?;
        // This very program, even if another build has replaced its file meanwhile.
        let myself = format!("/proc/{}/exe", std::process::id());
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "--"]);
        command.arg(myself).arg("bake-inside").arg(&job);
        logged(&mut command, &self.data.with_extension("log"))?;
        fs::remove_file(job)?;
        Ok(())
    }
}

/// The hidden command that [`Bake::run`] starts inside the namespace.
pub(crate) fn inside(job: &Path) -> Result<()> {
    let bake: Bake = serde_json::from_slice(&fs::read(job)?)?;
    let root = &bake.rootfs;
    mount(&["--bind"], root, root)?;
    // The cache's copy stays as it is.
    mount(&["-o", "remount,bind,ro"], root, root)?;
    mount(&["-t", "proc"], Path::new("proc"), &root.join("proc"))?;
    mount(&["-t", "tmpfs"], Path::new("run"), &root.join("run"))?;
    mount(&["-t", "tmpfs"], Path::new("tmp"), &root.join("tmp"))?;
    for shared in ["dev", "sys"] {
        mount(
            &["--rbind"],
            &Path::new("/").join(shared),
            &root.join(shared),
        )?;
    }
    mount(&["--bind"], &bake.data, &root.join("var/lib/docker"))?;
    fs::create_dir(root.join("run/input"))?;
    mount(&["--bind"], &bake.input, &root.join("run/input"))?;
    fs::write(root.join("run/daemon.json"), "{}")?;
    let engine = Engine::start(root)?;
    for step in &bake.steps {
        engine.perform(step)?;
    }
    engine.stop()
}

fn mount(options: &[&str], source: &Path, target: &Path) -> Result<()> {
    capture(Command::new("mount").args(options).arg(source).arg(target)).map(drop)
}

/// dockerd in the chroot.
struct Engine {
    process: Child,
    root: PathBuf,
}

impl Engine {
    fn start(root: &Path) -> Result<Self> {
        let process = Command::new("chroot")
            .arg(root)
            .args([
                "dockerd",
                "--config-file=/run/daemon.json",
                "--data-root=/var/lib/docker",
            ])
            .args([
                "--exec-root=/run/bake",
                "--pidfile=/run/bake.pid",
                "-H",
                "unix:///run/bake.sock",
            ])
            .args([
                "--storage-driver=overlay2",
                "--bridge=none",
                "--iptables=false",
                "--ip6tables=false",
            ])
            .stdin(Stdio::null())
            .spawn()
            .context("chroot")?;
        let mut engine = Self {
            process,
            root: root.to_owned(),
        };
        let deadline = Instant::now() + Duration::from_secs(60);
        while capture(engine.docker().arg("version")).is_err() {
            if let Some(status) = engine.process.try_wait()? {
                bail!("dockerd ended ({status})");
            }
            if Instant::now() > deadline {
                bail!("dockerd does not answer");
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(engine)
    }

    fn docker(&self) -> Command {
        let mut command = Command::new("chroot");
        command
            .arg(&self.root)
            .args(["docker", "-H", "unix:///run/bake.sock"])
            .env("HOME", "/tmp")
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            // The classic builder is part of the engine; buildx is a package of its own.
            .env("DOCKER_BUILDKIT", "0");
        command
    }

    fn perform(&self, step: &Step) -> Result<()> {
        let mut docker = self.docker();
        match step {
            Step::Import {
                archive,
                name,
                changes,
            } => {
                docker.arg("import");
                for change in changes {
                    docker.args(["--change", change]);
                }
                docker.arg(format!("/run/input/{archive}")).arg(name);
            }
            Step::Build {
                directory,
                name,
                labels,
            } => {
                docker.args(["build", "--quiet", "--force-rm", "--tag", name]);
                for (label, value) in labels {
                    docker.arg("--label").arg(format!("{label}={value}"));
                }
                docker.arg(format!("/run/input/{directory}"));
            }
        }
        capture(&mut docker).map(drop)
    }

    fn stop(mut self) -> Result<()> {
        self.terminate()?;
        let status = self.process.wait()?;
        if !status.success() {
            bail!("dockerd ended badly ({status})");
        }
        Ok(())
    }

    fn terminate(&self) -> Result<()> {
        let pid = self.process.id().to_string();
        capture(Command::new("kill").args(["-TERM", "--", &pid])).map(drop)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // After an error: asked to end, it takes its containerd along.
        if matches!(self.process.try_wait(), Ok(None)) && self.terminate().is_ok() {
            let _ = self.process.wait();
        }
    }
}
