//! A plugin as a child process, in a mount namespace of its own that outlives it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lazarette_linux::command::{Child, ChildOutput, Command};
use lazarette_linux::namespace::{MountNamespace, NamespaceError};
use rustix::process::{Pid, Signal, kill_process};

use super::facts::processes_in;
use super::{Failed, Subject, listens, tail};

/// How long the plugin may take until it listens.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long it may take to end in order.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// What is run.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The plugin: a shared library, or a program that serves the wire itself.
    pub plugin: PathBuf,
    /// The plugin host that loads a shared library.
    pub host: Option<PathBuf>,
    /// Variables of its environment.
    pub environment: Vec<(String, String)>,
}

impl Launch {
    fn command(&self, socket: &Path, mounts: &Path) -> Command {
        let command = match &self.host {
            Some(host) => Command::new(host)
                .arg("serve")
                .arg("--plugin")
                .arg(&self.plugin),
            None => Command::new(&self.plugin),
        };
        let variables = self.environment.iter();
        variables
            .fold(command, |command, (name, value)| command.env(name, value))
            .arg("--socket")
            .arg(socket)
            .arg("--mounts")
            .arg(mounts)
    }
}

/// A plugin that runs as a child process.
pub struct InProcess {
    launch: Launch,
    directory: tempfile::TempDir,
    root: PathBuf,
    socket: PathBuf,
    mounts: PathBuf,
    namespace: MountNamespace,
    child: Option<Child>,
}

impl InProcess {
    /// Makes what `launch` needs to run; does not start it.
    ///
    /// # Errors
    /// When the plugin is not there, or without the right to make a mount namespace.
    pub fn new(launch: Launch) -> Result<Self, Failed> {
        let plugin = std::fs::canonicalize(&launch.plugin)
            .map_err(|e| Failed::new(format!("{}: {e}", launch.plugin.display())))?;
        let launch = Launch { plugin, ..launch };
        let directory = tempfile::Builder::new().prefix("laz-check-").tempdir()?;
        let root = directory.path().canonicalize()?;
        let (socket, mounts) = (root.join("plugin.sock"), root.join("mnt"));
        std::fs::create_dir(&mounts)?;
        Ok(Self {
            launch,
            directory,
            root,
            socket,
            mounts,
            namespace: namespace()?,
            child: None,
        })
    }

    /// The directory that goes when the check ends; `mnt` in it is the plugin's.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    fn log_path(&self) -> PathBuf {
        self.root.join("log")
    }

    /// Kills what still runs in the namespace.
    fn kill_all(&mut self) {
        if let Some(child) = self.child.take() {
            // An error means that it has ended.
            let _ = child.kill();
            let _ = child.wait(Some(Duration::from_secs(5)));
        }
        let Ok(id) = self.namespace.id() else { return };
        for pid in processes_in(id) {
            if let Some(pid) = Pid::from_raw(pid) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }
}

fn namespace() -> Result<MountNamespace, Failed> {
    MountNamespace::create(|_| Ok::<(), NamespaceError>(())).map_err(|e| {
        let cause = std::error::Error::source(&e)
            .map(ToString::to_string)
            .unwrap_or_default();
        Failed::new(format!("{e}: {cause}"))
    })
}

impl Subject for InProcess {
    fn name(&self) -> String {
        self.launch.plugin.display().to_string()
    }

    fn start(&mut self) -> Result<(), Failed> {
        if self.pid().is_some() {
            return Ok(());
        }
        let _ = std::fs::remove_file(&self.socket);
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())?;
        let child = self
            .launch
            .command(&self.socket, &self.mounts)
            .in_namespace(&self.namespace)
            .map_err(|e| Failed::new(e.to_string()))?
            .spawn(ChildOutput::File(log))
            .map_err(|e| Failed::new(e.to_string()))?;
        let alive = || matches!(child.try_wait(), Ok(None));
        let listening = listens(&self.socket, START_LIMIT, None, alive);
        self.child = Some(child);
        listening.map_err(|failed| Failed::new(format!("{failed}: {}", tail(&self.log()))))
    }

    fn kill(&mut self) -> Result<(), Failed> {
        let Some(child) = self.child.take() else {
            return Ok(());
        };
        child.kill()?;
        match child.wait(Some(Duration::from_secs(10)))? {
            Some(_) => Ok(()),
            None => Err(Failed::new(
                "it does not die of SIGKILL: it hangs in the kernel",
            )),
        }
    }

    fn stop(&mut self) -> Result<(), Failed> {
        let Some(child) = self.child.take() else {
            return Err(Failed::new("it does not run"));
        };
        child.signal(15)?;
        match child.wait(Some(STOP_LIMIT))? {
            Some(exit) if exit.success() => Ok(()),
            // A program that does not handle it has nothing to do at its end.
            Some(exit) if exit.to_string() == "ended by signal 15" => Ok(()),
            Some(exit) => Err(Failed::new(format!(
                "it ends with {exit}: {}",
                tail(&self.log())
            ))),
            None => {
                child.kill()?;
                Err(Failed::new(format!(
                    "it does not end within {} s of SIGTERM",
                    STOP_LIMIT.as_secs()
                )))
            }
        }
    }

    fn wipe(&mut self) {
        self.kill_all();
        // The mounts go with the namespace.
        if let Ok(fresh) = namespace() {
            self.namespace = fresh;
        }
        if let Ok(entries) = std::fs::read_dir(&self.mounts) {
            for entry in entries.flatten() {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
    }

    fn socket(&self) -> &Path {
        &self.socket
    }

    fn mounts(&self) -> &Path {
        &self.mounts
    }

    fn pid(&self) -> Option<i32> {
        let child = self.child.as_ref()?;
        matches!(child.try_wait(), Ok(None)).then(|| child.pid())
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }
}

impl Drop for InProcess {
    fn drop(&mut self) {
        self.kill_all();
    }
}
