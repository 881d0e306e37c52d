//! A plugin host in a mount namespace of its own, and a core that speaks the wire to it.

// Each suite uses a part of it.
#![allow(dead_code)]

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lazarette_core::frame;
use lazarette_core::message::{FromPlugin, Method, Outcome, PROTOCOL, ToPlugin, Version};
use lazarette_core::volume::Volume;
use lazarette_core::{Error, Manifest, VolumeId};
use lazarette_linux::fd_passing;
use serde_json::{Value, json};

/// Prints why and returns false where the test cannot run.
pub(crate) fn can_run() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("skipped: needs root for a mount namespace");
    }
    root
}

/// The example plugin as a shared library.
pub(crate) fn hello(directory: &Path) -> PathBuf {
    in_rust("hello", directory)
}

/// The plugin that misbehaves as its option says.
pub(crate) fn misbehaving(directory: &Path) -> PathBuf {
    in_rust("misbehaving", directory)
}

fn in_rust(kind: &str, directory: &Path) -> PathBuf {
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--package"])
        .arg(format!("lazarette-{kind}"))
        .args([
            "--manifest-path",
            concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"),
        ])
        .output()
        .unwrap();
    assert!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );
    let target = Path::new(env!("CARGO_BIN_EXE_laz-plugin-host"))
        .parent()
        .unwrap();
    installed(&target.join(format!("liblazarette_{kind}.so")), directory)
}

/// The plugin in C that misbehaves.
pub(crate) fn crafted(directory: &Path) -> PathBuf {
    in_c("../loader/tests/fixtures/plugin.c", &[], directory)
}

/// The same, of the version of the ABI after ours.
pub(crate) fn newer(directory: &Path) -> PathBuf {
    in_c("../loader/tests/fixtures/plugin.c", &["-DNEWER"], directory)
}

/// The same, whose loading kills whoever loads it.
pub(crate) fn crashing(directory: &Path) -> PathBuf {
    in_c(
        "../loader/tests/fixtures/plugin.c",
        &["-DCRASHES"],
        directory,
    )
}

/// The example plugin in C, built as its authors are told to, with every warning an error.
pub(crate) fn scratch(directory: &Path) -> PathBuf {
    in_c("../examples/c/scratch.c", &[], directory)
}

fn in_c(source: &str, defines: &[&str], directory: &Path) -> PathBuf {
    let library = directory.join("built.so");
    let plugins = Path::new(env!("CARGO_MANIFEST_DIR"));
    let built = Command::new("cc")
        .args([
            "-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-I",
        ])
        .arg(plugins.join("../abi/include"))
        .arg("-o")
        .args([&library, &plugins.join(source)])
        .args(defines)
        .output()
        .expect("cc is installed");
    assert!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );
    installed(&library, directory)
}

fn installed(library: &Path, directory: &Path) -> PathBuf {
    let plugin = directory.join("plugin.so");
    fs::copy(library, &plugin).unwrap();
    fs::set_permissions(&plugin, fs::Permissions::from_mode(0o644)).unwrap();
    plugin
}

/// A running plugin host. Ended when dropped.
pub(crate) struct Running {
    process: Child,
    pub(crate) socket: PathBuf,
    pub(crate) mounts: PathBuf,
    log: PathBuf,
    _directory: tempfile::TempDir,
}

impl Running {
    /// Runs `command` (`serve` or `supervise`) with the plugin that `plugin` makes.
    pub(crate) fn start(command: &str, plugin: fn(&Path) -> PathBuf) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().canonicalize().unwrap();
        let library = plugin(&path);
        Self::loading(command, directory, &library)
    }

    /// Runs `serve` with what an author has built.
    pub(crate) fn built(library: &Path) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let library = installed(library, &directory.path().canonicalize().unwrap());
        Self::loading("serve", directory, &library)
    }

    /// Runs an author's program that is a process of its own.
    pub(crate) fn script(script: &Path) -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self::program(directory, &["python3".as_ref(), script.as_os_str()])
    }

    fn loading(command: &str, directory: tempfile::TempDir, library: &Path) -> Self {
        let program = env!("CARGO_BIN_EXE_laz-plugin-host").as_ref();
        let arguments = [command.as_ref(), "--plugin".as_ref(), library.as_os_str()];
        Self::program(directory, &[&[program], &arguments[..]].concat())
    }

    /// Runs the example that is a process of its own and needs no plugin host.
    pub(crate) fn shelf() -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/python/shelf.py");
        let directory = tempfile::tempdir().unwrap();
        Self::program(directory, &["python3".as_ref(), script.as_ref()])
    }

    fn program(directory: tempfile::TempDir, program: &[&OsStr]) -> Self {
        let path = directory.path().canonicalize().unwrap();
        let (socket, mounts, log) = (path.join("sock"), path.join("mnt"), path.join("log"));
        fs::create_dir(&mounts).unwrap();
        let process = Command::new("unshare")
            .args(["--mount", "--"])
            .args(program)
            .arg("--socket")
            .arg(&socket)
            .arg("--mounts")
            .arg(&mounts)
            .stdin(Stdio::null())
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Self {
            process,
            socket,
            mounts,
            log,
            _directory: directory,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The process that serves, when `self` is a supervisor.
    pub(crate) fn server(&self) -> u32 {
        let children = format!("/proc/{0}/task/{0}/children", self.pid());
        within(Duration::from_secs(5), || {
            fs::read_to_string(&children)
                .ok()?
                .split_whitespace()
                .next()?
                .parse()
                .ok()
        })
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        kill(self.pid(), signal);
    }

    /// Waits for the end, and returns the exit status.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        within(Duration::from_secs(15), || self.process.try_wait().unwrap()).code()
    }

    /// The mount points of the process `pid`.
    pub(crate) fn mount_table(pid: u32) -> String {
        fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.process.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.signal(rustix::process::Signal::TERM);
            let end = Instant::now() + Duration::from_secs(12);
            while Instant::now() < end && self.process.try_wait().is_ok_and(|e| e.is_none()) {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(crate) fn kill(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid.try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// What `find` finds, looked for until `limit`.
pub(crate) fn within<T>(limit: Duration, mut find: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(Instant::now() < end, "nothing within {limit:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What the plugin host says first.
pub(crate) struct Greeting {
    pub(crate) manifest: Manifest,
    pub(crate) instance: String,
    pub(crate) open: bool,
    pub(crate) protocol: Version,
}

/// Core's end of the wire.
pub(crate) struct Core {
    pub(crate) stream: UnixStream,
    last: u64,
    /// Log lines and progress, as they came.
    pub(crate) heard: Vec<FromPlugin>,
}

impl Core {
    /// Connects as soon as the host listens, without a word.
    pub(crate) fn silent(socket: &Path) -> Self {
        let stream = within(Duration::from_secs(10), || UnixStream::connect(socket).ok());
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        Self {
            stream,
            last: 0,
            heard: Vec::new(),
        }
    }

    pub(crate) fn connect(socket: &Path) -> (Self, Greeting) {
        let mut core = Self::silent(socket);
        let greeting = core.hello(PROTOCOL);
        (core, greeting)
    }

    pub(crate) fn hello(&mut self, protocol: Version) -> Greeting {
        self.send(&ToPlugin::Hello {
            protocol,
            context: "test".into(),
        });
        match self.receive() {
            Some((
                FromPlugin::Hello {
                    protocol,
                    manifest,
                    instance,
                    open,
                },
                None,
            )) => Greeting {
                manifest: *manifest,
                instance,
                open,
                protocol,
            },
            other => panic!("no hello: {other:?}"),
        }
    }

    pub(crate) fn send(&mut self, message: &ToPlugin) {
        frame::write(&mut self.stream, message).unwrap();
    }

    /// For messages after which, or before which, the host may close.
    pub(crate) fn send_if_open(&mut self, message: &ToPlugin) {
        let _ = frame::write(&mut self.stream, message);
    }

    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        // The host may close before it has read all.
        let _ = self.stream.write_all(bytes);
    }

    /// The next message and its descriptor; none at the end of the stream.
    pub(crate) fn receive(&mut self) -> Option<(FromPlugin, Option<OwnedFd>)> {
        let mut header = [0; frame::HEADER];
        let fd = match fd_passing::receive(&self.stream, &mut header) {
            Ok(fd) => fd,
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return None,
            Err(e) => panic!("{e}"),
        };
        let mut body = vec![0; frame::body_length(header).unwrap()];
        fd_passing::receive(&self.stream, &mut body).unwrap();
        Some((frame::decode(&body).unwrap(), fd))
    }

    /// Whether the host has closed the connection, whatever it says before.
    pub(crate) fn is_closed(&mut self) -> bool {
        loop {
            let mut byte = [0];
            match fd_passing::receive(&self.stream, &mut byte) {
                Ok(_) => {}
                Err(e) => return e.kind() == std::io::ErrorKind::UnexpectedEof,
            }
        }
    }

    /// Starts a call and returns its number.
    pub(crate) fn begin(&mut self, method: Method, deadline: Duration) -> u64 {
        self.last += 1;
        self.send(&ToPlugin::Call {
            id: self.last,
            deadline_ms: deadline.as_millis().try_into().unwrap(),
            method,
        });
        self.last
    }

    /// The next reply, whichever call it ends.
    pub(crate) fn reply(&mut self) -> (u64, Result<Value, Error>, Option<OwnedFd>) {
        loop {
            match self.receive().expect("the connection lives") {
                (FromPlugin::Reply { id, outcome, fd }, received) => {
                    assert_eq!(
                        fd,
                        received.is_some(),
                        "the reply says whether a descriptor comes"
                    );
                    let result = match outcome {
                        Outcome::Ok(value) => Ok(value),
                        Outcome::Error(error) => Err(error),
                    };
                    return (id, result, received);
                }
                (other, None) => self.heard.push(other),
                (other, Some(_)) => panic!("a descriptor with {other:?}"),
            }
        }
    }

    pub(crate) fn call_fd(&mut self, method: Method) -> (Result<Value, Error>, Option<OwnedFd>) {
        let id = self.begin(method, Duration::from_secs(10));
        let (replied, result, fd) = self.reply();
        assert_eq!(replied, id);
        (result, fd)
    }

    pub(crate) fn call(&mut self, method: Method) -> Result<Value, Error> {
        let (result, fd) = self.call_fd(method);
        assert!(fd.is_none());
        result
    }

    pub(crate) fn open(&mut self, config: Value) -> Result<Value, Error> {
        self.call(Method::Open { config })
    }
}

pub(crate) fn volume(options: Value) -> Volume {
    Volume {
        id: VolumeId::random(),
        options,
    }
}

pub(crate) fn plain_volume() -> Volume {
    volume(json!({}))
}
