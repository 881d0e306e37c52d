//! Stand-ins for tests: a host that listens, and a call with all the time in the world.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lazarette_plugin::linux::mountinfo::MountTable;
use lazarette_plugin::linux::namespace::MountNamespace;
use lazarette_plugin::{Call, Host, Level, Sink};
use serde_json::{Value, json};

use crate::Nfs;
use crate::programs::Programs;

/// Keeps what is said.
#[derive(Default)]
pub(crate) struct Listener(pub(crate) Mutex<Vec<String>>);

impl Sink for Listener {
    fn log(&self, _: Level, message: &str) {
        self.0.lock().unwrap().push(message.to_owned());
    }
    fn progress(&self, _: u64, _: &str, _: Option<f32>) {}
    fn cancelled(&self, _: u64) -> bool {
        false
    }
    fn changed(&self) {}
}

/// A call with a minute left.
pub(crate) fn call() -> Call {
    call_of(Duration::from_secs(60))
}

/// A call with `left` left.
pub(crate) fn call_of(left: Duration) -> Call {
    Call::new(1, Instant::now() + left, Arc::new(Listener::default()))
}

/// A host whose mounts lie below `mounts`.
pub(crate) fn host(mounts: &Path) -> Host {
    Host::new(Arc::new(Listener::default()), mounts)
}

/// Runs `body` in a mount namespace of its own.
pub(crate) fn in_namespace(body: impl FnOnce() + Send) {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: needs root for a mount namespace");
        return;
    }
    let run = |_: &_| -> Result<(), lazarette_plugin::linux::namespace::NamespaceError> {
        body();
        Ok(())
    };
    MountNamespace::create(run).unwrap();
}

/// A server that listens, a mount program that keeps its arguments, and a place for mounts.
pub(crate) struct Container {
    directory: tempfile::TempDir,
    port: u16,
    listener: Mutex<Option<TcpListener>>,
}

impl Container {
    pub(crate) fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let container = Self {
            directory: tempfile::tempdir().unwrap(),
            port: listener.local_addr().unwrap().port(),
            listener: Mutex::new(Some(listener)),
        };
        fs::create_dir(container.mounts()).unwrap();
        container
    }

    pub(crate) fn mounts(&self) -> PathBuf {
        self.directory.path().canonicalize().unwrap().join("mnt")
    }

    /// The stand-in for mount.nfs and mount.nfs4: notes its arguments, one on a line, and runs
    /// `script` with the place in `$2` and the options in `$5`. It can mount a tmpfs: `mounts`.
    pub(crate) fn programs(&self, script: &str) -> Programs {
        let program = self.directory.path().join("mount.nfs");
        let text = format!(
            "#!/bin/sh\n{{ echo call; printf '%s\\n' \"$@\"; }} >> {}\n\
             mounts() {{ exec mount -t tmpfs stand-in \"$2\"; }}\n\
             refuses() {{ echo \"mount.nfs4: $1\" >&2; exit 32; }}\n{script}\n",
            self.directory.path().join("calls").display()
        );
        fs::write(&program, text).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        Programs {
            mount_nfs: program.clone(),
            mount_nfs4: program,
            fs_types: &["tmpfs"],
            ..Programs::default()
        }
    }

    /// From now on nobody listens.
    pub(crate) fn server_leaves(&self) {
        self.listener.lock().unwrap().take();
    }

    /// The arguments of each call of the mount program.
    pub(crate) fn calls(&self) -> Vec<Vec<String>> {
        let text = fs::read_to_string(self.directory.path().join("calls")).unwrap_or_default();
        text.split("call\n")
            .skip(1)
            .map(|call| call.lines().map(str::to_owned).collect())
            .collect()
    }

    /// An open context whose mount program runs `script`.
    pub(crate) fn open(&self, script: &str, exports: Value, options: Value) -> Nfs {
        let mut options = options;
        options["port"] = json!(self.port);
        let config = json!({"server": "127.0.0.1", "exports": exports, "options": options});
        let config = serde_json::from_value(config).unwrap();
        Nfs::open_with(host(&self.mounts()), config, self.programs(script)).unwrap()
    }

    /// Where something is mounted below [`mounts`](Self::mounts).
    pub(crate) fn mounted(&self) -> Vec<PathBuf> {
        let table = MountTable::of_thread().unwrap();
        let mounts = self.mounts();
        table.below(&mounts).map(|row| row.target.clone()).collect()
    }
}

/// Mounts that a test leaves would keep its directory from being removed.
impl Drop for Container {
    fn drop(&mut self) {
        for place in self.mounted() {
            let flags = rustix::mount::UnmountFlags::DETACH;
            rustix::mount::unmount(&place, flags).unwrap();
        }
    }
}
