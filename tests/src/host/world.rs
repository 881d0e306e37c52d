//! The world: both engines and core, with two contexts and three volumes declared.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use lazarette_core::control::{
    ContextPhase, ContextStatus, Origin, Plugins, Request, VolumePhase, VolumeStatus,
};

use super::core::{CONFIG, Core, ask, status};
use super::dockerd::Dockerd;
use super::process::{self, limited, refused, succeeded};
use super::programs::Programs;
use super::{eventually, image};

/// What is declared as long as no test says otherwise.
const CLOUD_CONFIG: &str = "#cloud-config
lazarette:
  docker: {wait_seconds: 30}
  storage:
    contexts:
      scratch: {kind: hello, volumes: [one, two]}
      spare: {kind: hello, delay_ms: 1}
    volumes:
      db: {context: scratch, size: 8M, mount: /mnt/db, required: true}
";

/// The name of the list of the OS's images.
pub(super) const BUILT_IN: &str = "built-in-images";

/// An operator's cloud-config that changes nothing.
const NOTHING: &str = "#cloud-config\n{}\n";

/// Two engines and core.
pub struct World {
    /// Where it lies.
    pub base: PathBuf,
    /// The programs under test.
    pub programs: Programs,
    /// The engine of the storage containers.
    pub system: Dockerd,
    /// The engine of the users' containers.
    pub user: Dockerd,
    /// Core.
    pub core: Core,
    /// How long core took from its start to READY=1.
    pub first_ready: Duration,
    /// The images that system Docker has had at the start, as the OS lists them.
    built_in: String,
}

impl World {
    /// Starts system Docker, core and user Docker, in the order of a real machine.
    ///
    /// # Errors
    /// When one of them does not come up.
    pub fn start(base: PathBuf) -> Result<Self> {
        let programs = Programs::find()?;
        let mut system = Dockerd::system(&base);
        system.start()?;
        let scratch = base.join("images");
        image::hello(&system, &scratch, &programs)?;
        // As an OS lists what it has come with.
        let line = "{{.ID}} {{.Repository}}:{{.Tag}}";
        let images = system.ok(&["images", "--no-trunc", "--format", line])? + "\n";
        fs::write(base.join(BUILT_IN), &images)?;
        let mut core = Core::new(&programs.core, &base)?;
        fs::write(format!("{CONFIG}/10-image.yml"), CLOUD_CONFIG)?;
        let first_ready = core.start(Duration::from_secs(40))?;
        let mut user = Dockerd::user(&base);
        user.start().map_err(|e| e.context(core.tail()))?;
        image::busybox(&user, &scratch)?;
        let world = Self {
            base,
            programs,
            system,
            user,
            core,
            first_ready,
            built_in: images,
        };
        world.settled()?;
        Ok(world)
    }

    /// Has the OS list other images as its own, and core begin anew with them.
    ///
    /// # Errors
    /// When core does not come back.
    pub fn list_built_in(&mut self, images: &str) -> Result<()> {
        fs::write(self.base.join(BUILT_IN), images)?;
        self.core.kill()?;
        self.core.start_answering()?;
        self.settled().map(drop)
    }

    /// The images that the OS lists as its own.
    ///
    /// # Errors
    /// When the list cannot be read.
    pub fn built_in(&self) -> Result<String> {
        Ok(fs::read_to_string(self.base.join(BUILT_IN))?)
    }

    /// Gives system Docker the image of the kind `gluster`, with this machine's client, if it has none.
    ///
    /// # Errors
    /// When the machine lacks a part of it.
    pub fn add_gluster(&self) -> Result<()> {
        let there = self
            .system
            .run(&["image", "inspect", "lazarette-gluster"])?;
        if there.status.success() {
            return Ok(());
        }
        image::gluster(&self.system, &self.base.join("images"), &self.programs)
    }

    /// Gives system Docker the image of the kind `sshfs`, with this machine's client.
    ///
    /// # Errors
    /// When the machine lacks a part of it.
    pub fn add_sshfs(&self) -> Result<()> {
        image::sshfs(&self.system, &self.base.join("images"), &self.programs)
    }

    /// Gives `docker` the image `tag` of the kind `misbehaving`, which says of itself what
    /// `behaviour` has it say.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn add_misbehaving(&self, docker: &Dockerd, tag: &str, behaviour: &str) -> Result<()> {
        let scratch = self.base.join("images");
        image::misbehaving(docker, &scratch, &self.programs, tag, behaviour)
    }

    /// Gives system Docker the image `tag` of the kind `misbehaving` whose volumes are on disks.
    ///
    /// # Errors
    /// When the machine lacks a part of it.
    pub fn add_disks(&self, tag: &str) -> Result<()> {
        let scratch = self.base.join("images");
        image::disks(&self.system, &scratch, &self.programs, tag)
    }

    /// Gives user Docker the image `base`, for an author to put plugins into, if it has none.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn add_author_base(&self) -> Result<()> {
        let there = self.user.run(&["image", "inspect", "base"])?;
        if there.status.success() {
            return Ok(());
        }
        image::base(&self.user, &self.base.join("images"), &self.programs)
    }

    /// Gives user Docker the image `python`, with what `script` needs.
    ///
    /// # Errors
    /// When this machine has no Python or the image cannot be made.
    pub fn add_python_base(&self, script: &Path) -> Result<()> {
        image::python(&self.user, &self.base.join("images"), script)
    }

    /// `laz plugin check` of `image` on `engine` with these settings, which must succeed; the table.
    ///
    /// # Errors
    /// When a check fails, or a container of the kit is left.
    pub fn check_plugin(&self, engine: &Dockerd, image: &str, settings: &str) -> Result<String> {
        let file = self.base.join("check.json");
        fs::write(&file, settings)?;
        let laz = self.programs.laz.to_string_lossy();
        let output = limited(900, &laz)
            .args(["plugin", "check", image, "--docker"])
            .arg(format!("unix://{}", engine.socket().display()))
            .arg("--config")
            .arg(&file)
            .output()?;
        let table = String::from_utf8_lossy(&output.stdout);
        succeeded("laz plugin check", &output).with_context(|| table.into_owned())?;
        let left = engine.ok(&["ps", "-aq", "--filter", "name=laz-check"])?;
        ensure!(left.is_empty(), "the kit's container stays: {left}");
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Runs `laz ARGUMENTS…`.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn laz_output(&self, arguments: &[&str]) -> Result<Output> {
        let laz = self
            .programs
            .laz
            .to_str()
            .context("a path that is no text")?;
        Ok(limited(130, laz).args(arguments).output()?)
    }

    /// `laz ARGUMENTS…`, which must succeed; its output.
    ///
    /// # Errors
    /// When it fails.
    pub fn laz(&self, arguments: &[&str]) -> Result<String> {
        succeeded(
            &format!("laz {}", arguments.join(" ")),
            &self.laz_output(arguments)?,
        )
    }

    /// `laz ARGUMENTS…`, which must fail; what it says.
    ///
    /// # Errors
    /// When it succeeds or hangs.
    pub fn laz_fails(&self, arguments: &[&str]) -> Result<String> {
        refused(
            &format!("laz {}", arguments.join(" ")),
            &self.laz_output(arguments)?,
        )
    }

    /// `laz config set` of `text`.
    ///
    /// # Errors
    /// When it is refused.
    pub fn set_config(&self, text: &str) -> Result<()> {
        let file = self.base.join("set.yml");
        fs::write(&file, text)?;
        self.laz(&["config", "set", &file.to_string_lossy()])
            .map(drop)
    }

    /// A context as core sees it.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn context(&self, name: &str) -> Result<ContextStatus> {
        let found = status()?
            .contexts
            .into_iter()
            .find(|c| c.name.as_str() == name);
        found.with_context(|| format!("no context {name}"))
    }

    /// A volume as core sees it, if there is one of that name.
    ///
    /// # Errors
    /// When core does not answer.
    pub fn volume(&self, name: &str) -> Result<Option<VolumeStatus>> {
        Ok(status()?
            .volumes
            .into_iter()
            .find(|v| v.name.as_str() == name))
    }

    /// Waits until everything declared is mounted, every context is ready and nothing is under way.
    ///
    /// # Errors
    /// When that is not so in time: what core knows then.
    pub fn settled(&self) -> Result<Duration> {
        let settled = || {
            let Ok(status) = status() else {
                return Ok(false);
            };
            let contexts = status
                .contexts
                .iter()
                .all(|c| c.phase == ContextPhase::Ready);
            let rests = |v: &VolumeStatus| {
                matches!(v.phase, VolumePhase::Idle | VolumePhase::Mounted) && v.reason.is_none()
            };
            let declared = ["db", "scratch.one", "scratch.two"].iter().all(|name| {
                let volume = status.volumes.iter().find(|v| v.name.as_str() == *name);
                volume.is_some_and(|v| v.phase == VolumePhase::Mounted)
            });
            Ok(contexts && declared && status.volumes.iter().all(rests))
        };
        eventually("the world settles", Duration::from_secs(40), settled).map_err(|error| {
            let status = status().map(|s| format!("{s:#?}")).unwrap_or_default();
            error.context(format!("{status}\n{}", self.core.tail()))
        })
    }

    /// The process of the plugin host that serves `context`.
    ///
    /// # Errors
    /// When its container does not run it.
    pub fn plugin_host(&self, context: &str) -> Result<i32> {
        let supervisor = self
            .system
            .first_process(&format!("laz-context-{context}"))?;
        match process::children(supervisor)?.as_slice() {
            [only] => Ok(*only),
            others => bail!("children of the supervisor: {others:?}"),
        }
    }

    /// What is there although nothing was to be left: volumes, mounts, containers, directories.
    ///
    /// # Errors
    /// The list of them, if there is any.
    pub fn nothing_left(&self) -> Result<()> {
        let mut left = Vec::new();
        let declared = ["/mnt/db", "/mnt/scratch/one", "/mnt/scratch/two"];
        for mount in super::mounts::volumes()? {
            if !declared.contains(&mount.target.as_str()) {
                left.push(format!("mount {}", mount.target));
            }
        }
        let listing = limited(20, "nsenter")
            .arg(format!("--mount={}", super::dockerd::PIN))
            .args(["ls", "-A", "/run/lazarette/volumes"])
            .output()?;
        let listing = succeeded("ls in the view", &listing)?;
        left.extend(listing.lines().map(|entry| format!("directory {entry}")));
        left.extend(
            super::mounts::staged()?
                .into_iter()
                .map(|m| format!("staged {}", m.target)),
        );
        for volume in self.user.ok(&["volume", "ls", "-q"])?.lines() {
            if !["db", "scratch.one", "scratch.two"].contains(&volume) {
                left.push(format!("volume {volume}"));
            }
        }
        let format = "{{.Names}}";
        for container in self.system.ok(&["ps", "-a", "--format", format])?.lines() {
            if !["laz-context-scratch", "laz-context-spare"].contains(&container) {
                left.push(format!("container {container}"));
            }
        }
        for directory in fs::read_dir("/run/lazarette/contexts")? {
            let name = directory?.file_name().to_string_lossy().into_owned();
            if !["scratch", "spare"].contains(&name.as_str()) {
                left.push(format!("directory of context {name}"));
            }
        }
        let volumes = status()?.volumes;
        let paths: Vec<String> = volumes
            .iter()
            .flat_map(|v| {
                let snapshots = v.snapshots.iter();
                let snapshots = snapshots.map(|s| format!("/mnt/{}@{}", v.id, s.id));
                std::iter::once(format!("/mnt/{}", v.id)).chain(snapshots)
            })
            .collect();
        for context in ["scratch", "spare"] {
            let unknown = |path: &String| !paths.contains(path);
            let backing = self.backing(context)?.into_iter().filter(unknown);
            left.extend(backing.map(|path| format!("{path} in the storage of {context}")));
        }
        ensure!(left.is_empty(), "left behind: {left:#?}");
        Ok(())
    }

    /// Waits until nothing is left behind.
    ///
    /// # Errors
    /// What is, in the end.
    pub fn becomes_clean(&self) -> Result<()> {
        let clean = eventually("nothing is left", Duration::from_secs(20), || {
            Ok(self.nothing_left().is_ok())
        });
        clean
            .or_else(|_| self.nothing_left().map(|()| Duration::ZERO))
            .map(drop)
    }

    /// What the storage itself has of a context: the file systems in its container.
    ///
    /// # Errors
    /// When its container does not run.
    pub fn backing(&self, context: &str) -> Result<Vec<String>> {
        let name = format!("laz-context-{context}");
        let table = self
            .system
            .ok(&["exec", &name, "cat", "/proc/self/mountinfo"])?;
        let mounts = super::mounts::parse(&table).into_iter();
        Ok(mounts
            .map(|m| m.target)
            .filter(|t| t.starts_with("/mnt/"))
            .collect())
    }

    /// Takes away what the storage itself has of a context whose volumes are all gone.
    ///
    /// # Errors
    /// When its container does not run.
    pub fn forget_backing(&self, context: &str) -> Result<()> {
        let container = format!("laz-context-{context}");
        for path in self.backing(context)? {
            self.system.ok(&["exec", &container, "umount", &path])?;
        }
        Ok(())
    }

    /// After a test, whatever it has left: the world as it was at the start.
    ///
    /// # Errors
    /// When that is no longer to be had.
    pub fn clear(&mut self) -> Result<()> {
        for engine in [&mut self.system, &mut self.user] {
            if engine.pid().is_err() {
                engine.start()?;
            }
        }
        if !self.core.is_running()? {
            self.core.start_answering()?;
        }
        let containers = self.user.ok(&["ps", "-aq"])?;
        let containers: Vec<&str> = containers.split_whitespace().collect();
        if !containers.is_empty() {
            self.user
                .ok(&[&["rm", "-f"], containers.as_slice()].concat())?;
        }
        for source in fs::read_dir(CONFIG)? {
            let source = source?;
            if source.file_name() != "10-image.yml" {
                fs::remove_file(source.path())?;
            }
        }
        self.set_config(NOTHING)?;
        for volume in status()?.volumes {
            let name = volume.name.as_str();
            if volume.origin == Origin::Created {
                self.laz(&["volume", "rm", "--yes", "--snapshots", name])?;
            } else {
                for snapshot in &volume.snapshots {
                    self.laz(&[
                        "volume",
                        "rm",
                        "--yes",
                        &format!("{name}@{}", snapshot.name),
                    ])?;
                }
                let whole = |c: &&ContextStatus| c.attached && c.name == volume.context;
                let attached = status()?.contexts;
                if attached.iter().find(whole).is_none() && volume.origin == Origin::Attached {
                    self.laz(&["detach", name])?;
                }
            }
        }
        for context in status()?.contexts.iter().filter(|c| c.attached) {
            self.laz(&["detach", context.name.as_str()])?;
        }
        self.settled()?;
        self.forget_backing("spare")?;
        self.becomes_clean()?;
        if self.built_in()? != self.built_in {
            self.list_built_in(&self.built_in.clone())?;
        }
        self.forget_images()
    }

    /// Takes from system Docker the images that it has not had at the start.
    fn forget_images(&self) -> Result<()> {
        let ours = |image: &str| self.built_in.contains(image);
        for image in self
            .system
            .ok(&["images", "--quiet", "--no-trunc"])?
            .lines()
        {
            if !ours(image) {
                self.system.ok(&["image", "rm", "--force", image])?;
            }
        }
        let forgotten = || {
            let all: Plugins = ask(&Request::Plugins, Duration::from_secs(5))?;
            Ok(all.problems.is_empty() && all.plugins.iter().all(|plugin| ours(&plugin.image)))
        };
        // Nothing tells core that an image has gone.
        eventually("core forgets them", Duration::from_secs(40), forgotten).map(drop)
    }
}
