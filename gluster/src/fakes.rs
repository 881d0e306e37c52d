//! Stand-ins for tests: a host that listens, a server that listens, a client that mounts a tmpfs.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use lazarette_plugin::linux::mountinfo::MountTable;
use lazarette_plugin::linux::namespace::MountNamespace;
use lazarette_plugin::linux::process::Process;
use lazarette_plugin::{Call, Host, Level, Sink};
use serde_json::json;

use crate::Gluster;
use crate::config::Config;
use crate::programs::Programs;

/// Keeps what is said, and counts how often core was called.
#[derive(Default)]
pub(crate) struct Listener {
    said: Mutex<Vec<String>>,
    changed: Mutex<Vec<Instant>>,
}

impl Listener {
    pub(crate) fn said(&self) -> String {
        self.said.lock().unwrap().join("\n")
    }

    pub(crate) fn changed(&self) -> Vec<Instant> {
        self.changed.lock().unwrap().clone()
    }
}

impl Sink for Listener {
    fn log(&self, _: Level, message: &str) {
        self.said.lock().unwrap().push(message.to_owned());
    }
    fn progress(&self, _: u64, _: &str, _: Option<f32>) {}
    fn cancelled(&self, _: u64) -> bool {
        false
    }
    fn changed(&self) {
        self.changed.lock().unwrap().push(Instant::now());
    }
}

/// A call with a minute left.
pub(crate) fn call() -> Call {
    call_of(Duration::from_secs(60))
}

/// A call with `left` left.
pub(crate) fn call_of(left: Duration) -> Call {
    Call::new(1, Instant::now() + left, Arc::new(Listener::default()))
}

/// Waits until `so`.
pub(crate) fn until(what: &str, so: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !so() {
        assert!(Instant::now() < end, "in time: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A container in a mount namespace of its own, with a client that does as `script` says.
pub(crate) struct Container {
    directory: tempfile::TempDir,
    port: u16,
    server: Mutex<Option<TcpListener>>,
    pub(crate) listener: Arc<Listener>,
}

/// Mounts a file system in memory where it is told to, and lives until it is killed. It appears there with
/// all that is in it, as a volume does.
pub(crate) const SERVES: &str = "for place; do :; done
fresh=\"$0.$$.fresh\"
mkdir \"$fresh\"
mount -t tmpfs -o size=1m g1:gv0 \"$fresh\" || exit 1
mkdir -p \"$fresh/kept\" \"$fresh/.meta/graphs/active\"
: > \"$fresh/.meta/graphs/active/volfile\"
mount --move \"$fresh\" \"$place\" || exit 1
";
/// Says why in its log and ends.
pub(crate) const REFUSES: &str = r#"for word; do case $word in --log-file=*) log=${word#*=} ;; esac; done
echo "[2026-11-23 16:32:11.888897 +0000] E [glusterfsd-mgmt.c:2514:mgmt_getspec_cbk] 0-mgmt: failed to fetch volume file (key:nosuch)" > "$log"
exit 0
"#;
/// Does nothing.
pub(crate) const HANGS: &str = "";

impl Container {
    /// Runs `test` in one, if this is root.
    pub(crate) fn with(script: &str, test: impl FnOnce(&Self) + Send) {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: needs root for a mount namespace");
            return;
        }
        let run = |_: &_| -> Result<(), lazarette_plugin::linux::namespace::NamespaceError> {
            let container = Self::new(script);
            test(&container);
            Ok(())
        };
        MountNamespace::create(run).unwrap();
    }

    fn new(script: &str) -> Self {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let container = Self {
            directory: tempfile::tempdir().unwrap(),
            port: server.local_addr().unwrap().port(),
            server: Mutex::new(Some(server)),
            listener: Arc::default(),
        };
        fs::create_dir(container.mounts()).unwrap();
        let waits = "mkfifo \"$0.$$\"; read -r end < \"$0.$$\"\n";
        container.replace_client(&format!("#!/bin/sh\n{script}{waits}"));
        container
    }

    pub(crate) fn replace_client(&self, script: &str) {
        executable(&self.programs().glusterfs, script);
    }

    pub(crate) fn mounts(&self) -> PathBuf {
        self.directory.path().join("mounts")
    }

    pub(crate) fn host(&self) -> Host {
        Host::new(self.listener.clone(), self.mounts())
    }

    pub(crate) fn programs(&self) -> Programs {
        let base = self.directory.path();
        Programs {
            glusterfs: base.join("glusterfs"),
            gluster: base.join("gluster"),
            glfsheal: base.join("glfsheal"),
            socket: base.join("glusterd.socket"),
            tool_logs: base.into(),
            logs: base.join("logs"),
            records: base.join("records"),
            fs_types: &["tmpfs"],
            ..Programs::default()
        }
    }

    pub(crate) fn config(&self) -> Config {
        let value = json!({"servers": "127.0.0.1", "volume": "gv0", "port": self.port});
        serde_json::from_value(value).unwrap()
    }

    pub(crate) fn open(&self) -> Gluster {
        Gluster::open_with(self.host(), self.config(), self.programs()).unwrap()
    }

    /// The same context, which may manage its pool.
    pub(crate) fn open_as_manager(&self) -> Gluster {
        let mut config = self.config();
        config.manage = Some(lazarette_plugin::values::Flag(true));
        Gluster::open_with(self.host(), config, self.programs()).unwrap()
    }

    /// This host's glusterd: what gluster(8) is told is kept, and answered by `script`.
    pub(crate) fn start_glusterd(&self, script: &str) {
        let programs = self.programs();
        fs::write(&programs.socket, "").unwrap();
        executable(
            &programs.gluster,
            &format!("#!/bin/sh\necho \"$*\" >> \"$0.told\"\n{script}\n"),
        );
    }

    /// What `$0.answer` of that script is from now on.
    pub(crate) fn answer(&self, text: &str) {
        let program = self.programs().gluster;
        fs::write(program.with_extension("answer"), text).unwrap();
    }

    /// The orders that glusterd was given, without questions.
    pub(crate) fn orders(&self) -> Vec<String> {
        let told = self.programs().gluster.with_extension("told");
        let told = fs::read_to_string(told).unwrap_or_default();
        let orders = told.lines().filter(|l| !l.contains(" --xml "));
        let words = orders.map(|l| l.split(" volume ").last().unwrap_or_default());
        words.map(|w| format!("volume {w}")).collect()
    }

    /// What the only brick lists as not healed.
    pub(crate) fn unhealed(&self, lines: &str) {
        executable(
            &self.programs().glfsheal,
            &format!("#!/bin/sh\necho 'Brick g1:/b\n{lines}\nStatus: Connected'\n"),
        );
    }

    /// The server no longer accepts connections.
    pub(crate) fn stop_server(&self) {
        *self.server.lock().unwrap() = None;
    }

    /// Where something is mounted, and its clients.
    pub(crate) fn mounted(&self) -> Vec<PathBuf> {
        let table = MountTable::of_thread().unwrap();
        let below = self.mounts();
        table.below(&below).map(|row| row.target.clone()).collect()
    }

    /// The clients of `place`.
    pub(crate) fn clients(&self, place: &Path) -> Vec<Process> {
        crate::client::find(place)
    }
}

fn executable(program: &Path, script: &str) {
    fs::write(program, script).unwrap();
    fs::set_permissions(program, fs::Permissions::from_mode(0o755)).unwrap();
}

/// However a test ends, no client outlives it.
impl Drop for Container {
    fn drop(&mut self) {
        let base = self.directory.path().to_string_lossy().into_owned();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let pid = entry.file_name().to_string_lossy().parse::<i32>();
            if let (Ok(pid), true) = (pid, String::from_utf8_lossy(&line).contains(&base))
                && let Ok(process) = Process::open(pid)
            {
                crate::client::kill(&process);
            }
        }
    }
}
