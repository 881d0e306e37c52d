//! Volumes in memory, and what goes wrong with them.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lazarette_abi::export::Reply;
use lazarette_linux::command::{ChildOutput, Command};
use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
use rustix::mount::{MountFlags, UnmountFlags};
use serde_json::{Value, json};

use crate::reply::{error, ok, refused, text};

/// How long the steps of those take that are meant to be interrupted.
const PAUSE: Duration = Duration::from_millis(400);

/// The behaviour that is none: volumes are file systems on disks, not in memory.
pub(crate) const DISK: &str = "on-a-disk";

/// What a call asks for.
pub(crate) struct Request {
    id: String,
    size: String,
    snapshot: Option<String>,
    source: Option<String>,
}

impl Request {
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let value: Value = serde_json::from_slice(bytes).unwrap_or_default();
        let at = |pointer: &str| {
            value
                .pointer(pointer)
                .and_then(Value::as_str)
                .map(str::to_owned)
        };
        Self {
            id: at("/volume/id").or_else(|| at("/id")).unwrap_or_default(),
            size: at("/volume/options/size").unwrap_or_else(|| "8M".into()),
            snapshot: at("/snapshot").or_else(|| at("/source/snapshot")),
            source: at("/source/volume/id"),
        }
    }
}

/// Files by their names.
type Files = Vec<(PathBuf, Vec<u8>)>;

/// The volumes of a context.
pub(crate) struct Volumes {
    mounts: PathBuf,
    behaviour: String,
    /// Held while something is changed, by those that behave.
    lock: Mutex<()>,
    running: AtomicUsize,
    /// What the one keeps that does not remove.
    kept: Mutex<HashMap<String, Files>>,
    /// What the one remembers that does not look.
    known: Mutex<HashSet<String>>,
    mounted: Mutex<HashSet<String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Volumes {
    pub(crate) fn open(mounts: PathBuf, behaviour: String) -> Result<Self, Vec<u8>> {
        if behaviour == "lock-file" {
            let file = mounts.join(".lock");
            if file.exists() {
                return Err(text("busy", "somebody has it open"));
            }
            fs::write(file, "").map_err(|e| refused("the lock", e))?;
        }
        Ok(Self {
            mounts,
            behaviour,
            lock: Mutex::default(),
            running: AtomicUsize::default(),
            kept: Mutex::default(),
            known: Mutex::default(),
            mounted: Mutex::default(),
        })
    }

    fn is(&self, behaviour: &str) -> bool {
        self.behaviour == behaviour
    }

    /// Waits until nothing is changed.
    pub(crate) fn wait(&self) {
        drop(lock(&self.lock));
    }

    pub(crate) fn close(&self) {
        if self.is("lock-file") {
            // It may be gone.
            let _ = fs::remove_file(self.mounts.join(".lock"));
        }
    }

    pub(crate) fn call(&self, method: &str, request: &Request) -> Reply {
        let _turn = (!self.is("races") && !self.is("one-only")).then(|| lock(&self.lock));
        if self.is("one-only") && method == "create" {
            if self.running.fetch_add(1, Ordering::SeqCst) > 0 {
                self.running.fetch_sub(1, Ordering::SeqCst);
                return error("internal", "another call runs");
            }
            std::thread::sleep(PAUSE);
            self.running.fetch_sub(1, Ordering::SeqCst);
        }
        if self.is("one-at-a-time") && method == "create" {
            std::thread::sleep(PAUSE);
        }
        // `half:METHOD` is not to be interrupted in METHOD: it finds its own traces.
        let trace = self.mounts.join(".busy");
        let half = self.behaviour.strip_prefix("half:") == Some(method);
        if half {
            if trace.exists() {
                return error("busy", "it is being done");
            }
            fs::write(&trace, "").map_err(|e| refused("the trace", e))?;
            std::thread::sleep(PAUSE);
        }
        let done = self.run(method, request);
        if half {
            fs::remove_file(&trace).map_err(|e| refused("the trace", e))?;
        }
        done
    }

    fn run(&self, method: &str, request: &Request) -> Reply {
        let untold = ["untold-snapshots", "internal-snapshots", "silent-errors"];
        if untold.contains(&self.behaviour.as_str())
            && !["create", "remove", "mount", "unmount"].contains(&method)
        {
            return match self.behaviour.as_str() {
                "internal-snapshots" => error("internal", "not that"),
                "silent-errors" => error("unsupported", ""),
                _ => ok(&json!("created")),
            };
        }
        match method {
            "create" => self.create(request),
            "remove" => self.remove(request),
            "mount" => self.mount(request),
            "unmount" => self.unmount(request),
            "snapshot" => self.snapshot(request),
            "remove_snapshot" => self.remove_snapshot(request),
            "rollback" => self.rollback(request),
            "clone" => self.clone_volume(request),
            "resize" => self.resize(request),
            _ => error("unsupported", "misbehaving volumes cannot do that"),
        }
    }

    fn path(&self, id: &str) -> PathBuf {
        self.mounts.join(id)
    }

    fn snapshot_path(&self, request: &Request, id: &str) -> PathBuf {
        let snapshot = request.snapshot.as_deref().unwrap_or_default();
        self.mounts.join(format!("{id}@{snapshot}"))
    }

    fn create(&self, request: &Request) -> Reply {
        let path = self.path(&request.id);
        let mut exists = is_mounted(&path);
        if self.is("races") {
            std::thread::sleep(PAUSE);
        }
        if self.is("forgets") {
            exists = !lock(&self.known).insert(request.id.clone());
        }
        if exists {
            return match self.behaviour.as_str() {
                "create-once" => error("already_exists", "it is there"),
                "always-created" => ok(&json!("created")),
                _ => ok(&json!("already_exists")),
            };
        }
        if self.is("leaves-processes") {
            let sleep = Command::new("/bin/sleep")
                .arg("600")
                .spawn(ChildOutput::Null);
            drop(sleep.map_err(|e| refused("a process", e))?);
        }
        let size = if self.is("any-room") {
            "64M"
        } else {
            &request.size
        };
        if !is_mounted(&path) && self.is(DISK) {
            disk(&path, size)?;
        } else if !is_mounted(&path) {
            self.tmpfs(&path, size)?;
        }
        for (file, bytes) in lock(&self.kept).remove(&request.id).unwrap_or_default() {
            fs::write(path.join(file), bytes).map_err(|e| refused("old data", e))?;
        }
        ok(&json!("created"))
    }

    fn tmpfs(&self, path: &Path, size: &str) -> Result<(), Vec<u8>> {
        fs::create_dir_all(path).map_err(|e| refused("the directory", e))?;
        let options = format!("size={size},mode=0755");
        let options = std::ffi::CString::new(options).map_err(|e| refused("the size", e))?;
        let flags = if self.is("suid") {
            MountFlags::empty()
        } else {
            MountFlags::NOSUID | MountFlags::NODEV
        };
        rustix::mount::mount(
            "misbehaving",
            path,
            "tmpfs",
            flags,
            Some(options.as_c_str()),
        )
        .map_err(|e| refused("the mount", e))
    }

    fn remove(&self, request: &Request) -> Reply {
        let path = self.path(&request.id);
        // A directory without a mount is what a kill leaves between the two.
        if !path.exists() {
            return match self.behaviour.as_str() {
                "remove-once" => error("not_found", "it is not there"),
                _ => ok(&json!("already_absent")),
            };
        }
        match self.behaviour.as_str() {
            "removes-nothing" => return ok(&json!("removed")),
            "removes-all" => self.empty_all(),
            "keeps-data" => {
                lock(&self.kept).insert(request.id.clone(), files(&path));
            }
            _ => {}
        }
        take_away(&path, self.is("leaves-directories"))?;
        if self.is(DISK) {
            fs::remove_file(path.with_extension("disk")).map_err(|e| refused("the disk", e))?;
        }
        ok(&json!("removed"))
    }

    fn empty_all(&self) {
        for entry in fs::read_dir(&self.mounts).into_iter().flatten().flatten() {
            empty(&entry.path());
        }
    }

    fn mount(&self, request: &Request) -> Reply {
        let path = self.path(&request.id);
        if !is_mounted(&path) {
            return error("not_found", "the volume is not there");
        }
        let reply = |path: &Path, fs_type: &str| {
            ok(&json!({"path": path, "fs_type": fs_type, "source": "misbehaving"}))
        };
        let first = lock(&self.mounted).insert(request.id.clone());
        match self.behaviour.as_str() {
            "plain-directory" => {
                let plain = self.mounts.join("plain");
                fs::create_dir_all(&plain).map_err(|e| refused("the directory", e))?;
                return reply(&plain, "tmpfs");
            }
            "outside" => return reply(Path::new("/"), "tmpfs"),
            "climbs" => return reply(&self.mounts.join("../.."), "tmpfs"),
            "wrong-type" => return reply(&path, "ext4"),
            "no-path" => return ok(&json!({"fs_type": "tmpfs"})),
            "stacks" => self.tmpfs(&path, "8M")?,
            "stacks-after-a-start" if first => self.tmpfs(&path, "8M")?,
            "leaks-mounts" => {
                let extra = self.mounts.join(format!(
                    "extra-{}",
                    self.running.fetch_add(1, Ordering::SeqCst)
                ));
                self.tmpfs(&extra, "1M")?;
            }
            "leaks-descriptors" => {
                let file = fs::File::open("/dev/null").map_err(|e| refused("a file", e))?;
                std::mem::forget(file);
            }
            "leaks-threads" => drop(std::thread::spawn(|| {
                loop {
                    std::thread::park();
                }
            })),
            DISK => return reply(&path, "ext4"),
            _ => {}
        }
        reply(&path, "tmpfs")
    }

    /// The file system stays: it is the volume.
    fn unmount(&self, request: &Request) -> Reply {
        let path = self.path(&request.id);
        match self.behaviour.as_str() {
            "unmount-once" if !is_mounted(&path) => return error("not_found", "not mounted"),
            "empties" => empty(&path),
            "mounts-anew" if is_mounted(&path) => {
                take_away(&path, true)?;
                self.tmpfs(&path, &request.size)?;
            }
            _ => {}
        }
        ok(&Value::Null)
    }

    fn snapshot(&self, request: &Request) -> Reply {
        let (volume, path) = (
            self.path(&request.id),
            self.snapshot_path(request, &request.id),
        );
        if !is_mounted(&volume) && !self.is("snapshots-of-nothing") {
            return error("not_found", "the volume is not there");
        }
        if path.exists() {
            return match self.behaviour.as_str() {
                "snapshot-once" => error("already_exists", "it is there"),
                _ => ok(&json!("already_exists")),
            };
        }
        let part = path.with_extension("part");
        copy(&volume, &part)?;
        fs::rename(&part, &path).map_err(|e| refused("the snapshot", e))?;
        ok(&json!("created"))
    }

    fn remove_snapshot(&self, request: &Request) -> Reply {
        let path = self.snapshot_path(request, &request.id);
        if !path.exists() {
            return ok(&json!("already_absent"));
        }
        if !self.is("leaves-snapshots") {
            fs::remove_dir_all(&path).map_err(|e| refused("the snapshot", e))?;
        }
        ok(&json!("removed"))
    }

    fn rollback(&self, request: &Request) -> Reply {
        let path = self.snapshot_path(request, &request.id);
        if self.is("rolls-nothing-back") {
            return ok(&Value::Null);
        }
        if !path.exists() && !self.is("rolls-back-to-nothing") {
            return error("not_found", "the snapshot is not there");
        }
        empty(&self.path(&request.id));
        copy(&path, &self.path(&request.id))?;
        ok(&Value::Null)
    }

    fn clone_volume(&self, request: &Request) -> Reply {
        let source = request.source.as_deref().unwrap_or_default();
        let from = match request.snapshot {
            Some(_) if !self.is("clones-of-now") => self.snapshot_path(request, source),
            _ => self.path(source),
        };
        let path = self.path(&request.id);
        if self.is("shares") && !is_mounted(&path) {
            fs::create_dir_all(&path).map_err(|e| refused("the directory", e))?;
            rustix::mount::mount_bind(&from, &path).map_err(|e| refused("the mount", e))?;
            return ok(&json!("created"));
        }
        let made = self.create(request)?;
        if self.is("half-a-clone") {
            std::thread::sleep(PAUSE);
            if made != b"\"created\"" {
                return Ok(made);
            }
        }
        copy(&from, &path)?;
        Ok(made)
    }

    fn resize(&self, request: &Request) -> Reply {
        if self.is("resizes-nothing") {
            return ok(&Value::Null);
        }
        if self.is("resizes-to-nothing") {
            empty(&self.path(&request.id));
        }
        let options = format!("size={}", request.size);
        let options = std::ffi::CString::new(options).map_err(|e| refused("the size", e))?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        rustix::mount::mount_remount(self.path(&request.id), flags, options.as_c_str())
            .map_err(|e| refused("the size", e))?;
        ok(&Value::Null)
    }
}

/// A file beside `path`, as a disk with ext4, mounted at `path`.
fn disk(path: &Path, size: &str) -> Result<(), Vec<u8>> {
    let failed = |e: &dyn std::error::Error| text("internal", &format!("the disk: {e}"));
    fs::create_dir_all(path).map_err(|e| failed(&e))?;
    let file = path.with_extension("disk");
    Command::new("/usr/sbin/mkfs.ext4")
        .args(["-q", "-F", "--"])
        .arg(&file)
        .arg(size)
        .run()
        .map_err(|e| failed(&e))?;
    Command::new("/bin/mount")
        .args(["-t", "ext4", "-o", "loop,nosuid,nodev", "--"])
        .args([&file, path])
        .run()
        .map_err(|e| failed(&e))?;
    Ok(())
}

fn is_mounted(path: &Path) -> bool {
    statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE)
        .is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

fn take_away(path: &Path, leave_directory: bool) -> Result<(), Vec<u8>> {
    match rustix::mount::unmount(path, UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(rustix::io::Errno::INVAL) => {}
        Err(e) => return Err(refused("the unmount", e)),
    }
    if !leave_directory {
        fs::remove_dir(path).map_err(|e| refused("the directory", e))?;
    }
    Ok(())
}

/// The files at the top of a directory.
fn files(directory: &Path) -> Files {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| Some((entry.file_name().into(), fs::read(entry.path()).ok()?)))
        .collect()
}

fn empty(directory: &Path) {
    for (file, _) in files(directory) {
        // Nobody else removes files here.
        let _ = fs::remove_file(directory.join(file));
    }
}

fn copy(from: &Path, to: &Path) -> Result<(), Vec<u8>> {
    fs::create_dir_all(to).map_err(|e| refused("the directory", e))?;
    for (file, bytes) in files(from) {
        fs::write(to.join(file), bytes).map_err(|e| refused("a file", e))?;
    }
    Ok(())
}
