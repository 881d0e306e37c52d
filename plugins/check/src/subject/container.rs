//! A plugin in its container, with the privileges that its image asks for and no others.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lazarette_core::Privileges;
use lazarette_core::manifest::{MANIFEST_LABEL, Manifest};
use lazarette_linux::command::Command;
use rustix::process::{Pid, Signal, kill_process};

use super::{Failed, Subject, listens, program, tail};

/// How long the container may take until its plugin listens.
const START_LIMIT: Duration = Duration::from_secs(120);
/// How long one command of the engine may take.
const ENGINE_LIMIT: Duration = Duration::from_secs(120);
/// MiB of memory unless the plugin asks for another amount, as core grants it.
const MEMORY_MIB: u64 = 256;

/// A Docker engine of this machine.
#[derive(Debug, Clone)]
pub struct Engine {
    docker: PathBuf,
    address: Option<String>,
}

impl Engine {
    /// The engine at `address` (`unix:///run/docker.sock`), or the usual one.
    ///
    /// # Errors
    /// When there is no `docker` on this machine.
    pub fn new(address: Option<String>) -> Result<Self, Failed> {
        let docker = program("docker")?;
        Ok(Self { docker, address })
    }

    /// Runs one command and returns what it prints.
    fn run(&self, arguments: &[String]) -> Result<String, Failed> {
        let mut command = Command::new(&self.docker);
        if let Some(address) = &self.address {
            command = command.args(["--host", address]);
        }
        let output = command
            .args(arguments)
            .deadline(ENGINE_LIMIT)
            .run()
            .map_err(|e| Failed::new(e.to_string()))?;
        Ok(output.stdout_text().trim().to_owned())
    }

    /// What the label of `image` says of the plugin in it.
    fn manifest(&self, image: &str) -> Result<Manifest, Failed> {
        let format = format!("{{{{index .Config.Labels {MANIFEST_LABEL:?}}}}}");
        let text = self.run(&words([
            "image", "inspect", "--format", &format, "--", image,
        ]))?;
        serde_json::from_str(&text).map_err(|e| {
            Failed::new(format!(
                "the label {MANIFEST_LABEL} of {image} is no manifest ({e}); build the image with \
                 what `laz-plugin-host describe` prints"
            ))
        })
    }
}

fn words<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(String::from).into()
}

/// A plugin that runs in a container of its own.
pub struct Container {
    engine: Engine,
    image: String,
    name: String,
    privileges: Privileges,
    secrets: Option<PathBuf>,
    _directory: tempfile::TempDir,
    socket: PathBuf,
    made: bool,
    /// The container's first process.
    first: Option<i32>,
    /// Whether that is a supervisor, which starts another one when what serves is killed. A program
    /// that serves the wire by itself is the first process.
    supervised: bool,
    /// What served when it was killed last.
    killed: Option<i32>,
}

impl Container {
    /// Prepares a container of `image`, with `secrets` as its `/run/secrets` if it asks for one; does
    /// not start it.
    ///
    /// # Errors
    /// When the image is not there, or its label is no manifest.
    pub fn new(engine: Engine, image: String, secrets: Option<PathBuf>) -> Result<Self, Failed> {
        let privileges = engine.manifest(&image)?.privileges;
        let directory = tempfile::Builder::new().prefix("laz-check-").tempdir()?;
        let run = directory.path().canonicalize()?;
        Ok(Self {
            engine,
            image,
            name: format!("laz-check-{}", uuid::Uuid::new_v4().simple()),
            privileges,
            secrets,
            socket: run.join("plugin.sock"),
            _directory: directory,
            made: false,
            first: None,
            supervised: false,
            killed: None,
        })
    }

    /// What core grants for these privileges, as arguments of `docker create`.
    fn arguments(&self) -> Vec<String> {
        let granted = &self.privileges;
        let run = self.socket.parent().unwrap_or(Path::new("/"));
        let memory = granted.memory_mib.unwrap_or(MEMORY_MIB);
        let network = if granted.host_network { "host" } else { "none" };
        let mut all = words(["create", "--read-only", "--cap-drop=ALL", "--user=0:0"]);
        all.push(format!("--name={}", self.name));
        all.push("--security-opt=no-new-privileges:true".into());
        all.push(format!("--network={network}"));
        all.push(format!("--memory={memory}m"));
        all.push(format!("--memory-swap={memory}m"));
        all.push("--pids-limit=512".into());
        all.push("--tmpfs=/mnt:rw,mode=0755,size=4m".into());
        all.push(format!("--volume={}:/run/lazarette", run.display()));
        if granted.capabilities.contains("SYS_ADMIN") {
            all.push("--security-opt=apparmor=unconfined".into());
        }
        all.extend(
            granted
                .capabilities
                .iter()
                .map(|one| format!("--cap-add={one}")),
        );
        all.extend(
            granted
                .devices
                .iter()
                .map(|path| format!("--device={path}")),
        );
        if granted.all_devices {
            all.push("--volume=/dev:/dev".into());
            all.push("--device-cgroup-rule=b *:* rwm".into());
            all.push("--device-cgroup-rule=c 10:* rwm".into());
        }
        let shared = granted.host_directories.iter();
        all.extend(shared.map(|path| format!("--volume={path}:{path}")));
        let secrets = self.secrets.iter().filter(|_| granted.secrets);
        all.extend(secrets.map(|path| format!("--volume={}:/run/secrets:ro", path.display())));
        let network = ["/etc/hosts".to_owned(), "/etc/resolv.conf".into()];
        let files = network.iter().filter(|_| granted.host_network);
        let present = files
            .chain(&granted.host_files)
            .filter(|file| Path::new(file).exists());
        all.extend(present.map(|file| format!("--volume={file}:{file}:ro")));
        let writable = granted.writable.iter().filter(|path| *path != "/mnt");
        all.extend(writable.map(|path| {
            let mode = if path == "/tmp" || path == "/var/tmp" {
                "1777"
            } else {
                "0755"
            };
            format!("--tmpfs={path}:rw,mode={mode},size=64m")
        }));
        all.push("--entrypoint=laz-plugin-host".into());
        all.push(self.image.clone());
        all.push("supervise".into());
        all
    }

    /// Asks the engine for the container's first process.
    fn find_first(&self) -> Option<i32> {
        let format = "{{.State.Pid}}";
        let pid = self
            .engine
            .run(&words(["inspect", "--format", format, "--", &self.name]));
        pid.ok()?.parse().ok().filter(|pid| *pid > 0)
    }

    /// Loads the kernel modules that the plugin asks for, as core does.
    fn load_modules(&self) -> Result<(), Failed> {
        for module in &self.privileges.kernel_modules {
            if Path::new("/sys/module").join(module).exists() {
                continue;
            }
            let command = Command::new(program("modprobe")?).args(["--", module]);
            command
                .run()
                .map_err(|e| Failed::new(format!("the kernel module {module} is needed: {e}")))?;
        }
        Ok(())
    }

    fn forget(&mut self) {
        if self.made {
            // Best effort: the engine says why if it cannot, and there is nobody to tell.
            let _ = self
                .engine
                .run(&words(["rm", "--force", "--volumes", "--", &self.name]));
            self.made = false;
            self.first = None;
            self.killed = None;
        }
    }
}

fn runs(pid: i32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

/// The child of the supervisor `first` that serves.
fn server(first: i32) -> Option<i32> {
    let children = std::fs::read_to_string(format!("/proc/{first}/task/{first}/children")).ok()?;
    let children = children
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok());
    children.into_iter().find(|pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|word| word == b"serve")
    })
}

impl Subject for Container {
    fn name(&self) -> String {
        self.image.clone()
    }

    fn start(&mut self) -> Result<(), Failed> {
        if !self.made {
            for directory in &self.privileges.host_directories {
                std::fs::create_dir_all(directory)?;
            }
            self.load_modules()?;
            self.engine.run(&self.arguments())?;
            self.made = true;
        }
        if self.first.is_none_or(|first| !runs(first)) {
            self.engine.run(&words(["start", "--", &self.name]))?;
            self.first = self.find_first();
        }
        let first = self.first;
        let alive = || first.is_some_and(runs);
        listens(&self.socket, START_LIMIT, self.killed, alive)
            .map_err(|failed| Failed::new(format!("{failed}: {}", tail(&self.log()))))?;
        self.supervised |= first.and_then(server).is_some();
        Ok(())
    }

    fn kill(&mut self) -> Result<(), Failed> {
        let Some(pid) = self.pid() else {
            return Ok(());
        };
        let Some(process) = Pid::from_raw(pid) else {
            return Ok(());
        };
        // An error means that it has ended just now.
        let _ = kill_process(process, Signal::KILL);
        self.killed = Some(pid);
        let end = Instant::now() + Duration::from_secs(10);
        while runs(pid) {
            if Instant::now() > end {
                return Err(Failed::new(
                    "it does not die of SIGKILL: it hangs in the kernel",
                ));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        if !self.supervised {
            // The container has ended with it; it cannot be started before the engine knows.
            self.engine.run(&words(["wait", "--", &self.name]))?;
        }
        Ok(())
    }

    fn stop(&mut self) -> Result<(), Failed> {
        self.engine
            .run(&words(["stop", "--time=20", "--", &self.name]))?;
        let format = "{{.State.ExitCode}}";
        let status = self
            .engine
            .run(&words(["inspect", "--format", format, "--", &self.name]))?;
        match status.as_str() {
            "0" => Ok(()),
            status => Err(Failed::new(format!(
                "its container ends with status {status}: {}",
                tail(&self.log())
            ))),
        }
    }

    fn wipe(&mut self) {
        self.forget();
    }

    fn socket(&self) -> &Path {
        &self.socket
    }

    fn mounts(&self) -> &Path {
        Path::new("/mnt")
    }

    fn pid(&self) -> Option<i32> {
        let first = self.first.filter(|first| runs(*first))?;
        if self.supervised {
            server(first)
        } else {
            Some(first)
        }
    }

    fn log(&self) -> String {
        let arguments = words(["logs", "--tail=20", "--", &self.name]);
        self.engine.run(&arguments).unwrap_or_default()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.forget();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_container_is_granted_what_its_manifest_asks_for_and_no_more() {
        let directory = tempfile::tempdir().unwrap();
        let container = Container {
            engine: Engine {
                docker: "/usr/bin/docker".into(),
                address: None,
            },
            image: "an/image".into(),
            name: "laz-check-1".into(),
            privileges: Privileges {
                capabilities: ["SYS_ADMIN".into()].into(),
                devices: vec!["/dev/fuse".into()],
                writable: vec!["/mnt".into(), "/tmp".into()],
                secrets: true,
                ..Privileges::default()
            },
            secrets: Some("/etc/kept".into()),
            socket: directory.path().join("plugin.sock"),
            _directory: directory,
            made: false,
            first: None,
            supervised: false,
            killed: None,
        };
        let all = container.arguments();
        let has = |one: &str| all.iter().any(|argument| argument == one);
        assert!(has("--cap-drop=ALL") && has("--cap-add=SYS_ADMIN") && has("--read-only"));
        assert!(has("--network=none") && has("--device=/dev/fuse") && has("--memory=256m"));
        assert!(has("--tmpfs=/tmp:rw,mode=1777,size=64m"));
        assert!(has("--volume=/etc/kept:/run/secrets:ro"));
        assert!(!all.iter().any(|argument| argument.contains("/dev:/dev")));
        let mounts = all
            .iter()
            .filter(|argument| argument.starts_with("--tmpfs=/mnt"));
        assert_eq!(mounts.count(), 1);
    }
}
