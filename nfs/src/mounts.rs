//! The private mounts of this container: one for each export with its options, shared by the
//! volumes that lie in it, and found again by the next plugin host.
//!
//! Below the host's directory each mount has a directory named by a hash of what it is:
//!
//! ```text
//! 0f3c…/fs            the mount
//! 0f3c…/volumes/UUID  who uses it; the file holds the volume's directory in it
//! ```
//!
//! The files are the count of references: they survive a death of the plugin host together with
//! the mounts, and vanish together with them when the container goes.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use lazarette_plugin::command::Command;
use lazarette_plugin::linux::mountinfo::{MountRow, MountTable};
use lazarette_plugin::mount::let_go;
use lazarette_plugin::{Call, Error, ErrorKind, Host, Level, Result, VolumeId, serde_json};

use crate::options::Options;
use crate::programs::Programs;
use crate::report::{self, Next};
use crate::values::{ExportPath, ServerName, Version};
use crate::{kerberos, lock_daemons, server};

/// How long the server may take to accept a connection before a mount is tried.
const PROBE: Duration = Duration::from_secs(5);
/// The same for a server whose export is mounted already.
const LOOK: Duration = Duration::from_secs(2);
/// How long an unmount waits for another call that works on the same mount.
const PATIENCE: Duration = Duration::from_secs(1);
/// What is left of a call's time for the rest when the mount program has to end.
const MARGIN: Duration = Duration::from_millis(500);
/// How long a mount that nobody uses is kept: a create is mostly followed by a mount.
const IDLE: Duration = Duration::from_secs(30);

/// What is mounted.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) server: ServerName,
    pub(crate) export: ExportPath,
    pub(crate) options: Options,
    pub(crate) read_only: bool,
}

impl Source {
    /// As mount tables show it: `nas:/srv/media`.
    pub(crate) fn name(&self) -> String {
        format!("{}:{}", self.server.in_source(), self.export)
    }

    /// The same for the same mount, in this and in the next process.
    fn key(&self) -> String {
        let words: Vec<String> = self
            .options
            .versions()
            .iter()
            .map(|v| self.options.words(*v, self.read_only))
            .collect();
        let text = format!("{}\0{}", self.name(), words.join("\0"));
        // FNV-1a: stable, and nobody gains by a collision in his own context.
        let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        format!("{hash:016x}")
    }
}

/// A private mount that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ready {
    /// Where.
    pub(crate) path: PathBuf,
    /// Its type in the mount table: `nfs` or `nfs4`.
    pub(crate) fs_type: String,
}

/// A mount with its users, for the health checks.
#[derive(Debug, Clone)]
pub(crate) struct Used {
    pub(crate) path: PathBuf,
    /// Users and their directories in the mount (empty: all of it).
    pub(crate) volumes: Vec<(VolumeId, String)>,
    /// Whether it is of NFS 3 with locks that other machines see.
    pub(crate) needs_lock_daemons: bool,
}

/// All private mounts of a context.
pub(crate) struct Mounts {
    host: Host,
    programs: Programs,
    slots: Mutex<BTreeMap<String, Arc<Mutex<Slot>>>>,
    /// The mounts in which a call does something, and since when.
    used_since: Mutex<BTreeMap<String, Instant>>,
}

/// One mount. Locked while it is made, used or taken away.
#[derive(Default)]
struct Slot {
    /// Dead for good: the next who wants it makes it anew.
    stale: bool,
    /// When it was used last.
    touched: Option<Instant>,
}

impl Mounts {
    /// Finds what an earlier plugin host has left.
    pub(crate) fn find(host: Host, programs: Programs) -> Self {
        let mut slots = BTreeMap::new();
        for entry in fs::read_dir(host.mounts()).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let ours = name.len() == 16 && name.bytes().all(|b| b.is_ascii_hexdigit());
            if ours {
                let slot = Slot {
                    touched: Some(Instant::now()),
                    ..Slot::default()
                };
                slots.insert(name, Arc::new(Mutex::new(slot)));
            }
        }
        if !slots.is_empty() {
            let text = format!("found {} mounts of an earlier plugin host", slots.len());
            host.log(Level::Info, text);
        }
        Self {
            host,
            programs,
            slots: Mutex::new(slots),
            used_since: Mutex::default(),
        }
    }

    /// Runs `body` with the mount of `source`, which is made if need be and does not go meanwhile.
    ///
    /// # Errors
    /// Why it cannot be mounted, and those of `body`.
    pub(crate) fn with<T>(
        &self,
        call: &Call,
        source: &Source,
        body: impl FnOnce(&Ready) -> Result<T>,
    ) -> Result<T> {
        let key = source.key();
        let slot = self.slots().entry(key.clone()).or_default().clone();
        let mut slot = lock_within(&slot, call)?;
        slot.touched = Some(Instant::now());
        if slot.stale {
            self.host.log(
                Level::Info,
                format!("mounting {} anew: it was stale", source.name()),
            );
            let_go(&self.place(&key), false);
            slot.stale = false;
        }
        let ready = match self.mounted(&key)? {
            Some(ready) => {
                // Whatever looks at the mount of a dead server hangs: better to know before.
                reachable(call, source, LOOK)?;
                ready
            }
            None => self.mount(call, source, &key)?,
        };
        self.used_since().insert(key.clone(), Instant::now());
        let result = body(&ready);
        self.used_since().remove(&key);
        result
    }

    /// Whether what a call does in a mount takes so long that it waits for the server.
    fn hangs(&self, key: &str) -> bool {
        let since = self.used_since().get(key).copied();
        since.is_some_and(|since| since.elapsed() >= PATIENCE)
    }

    /// Notes that `volume`, the directory `subdirectory` of it, uses the mount of `source`, and no
    /// other one any longer: its options may have changed.
    pub(crate) fn keep(&self, source: &Source, volume: VolumeId, subdirectory: &str) -> Result<()> {
        let (key, name) = (source.key(), volume.to_string());
        for (other, _) in self.all().into_iter().filter(|(other, _)| *other != key) {
            // Not there: the usual case. Whom nobody uses any longer is tidied away later.
            let _ = fs::remove_file(self.users(&other).join(&name));
        }
        let users = self.users(&key);
        let failed = |e: std::io::Error| Error::internal("cannot note who uses a mount").cause(e);
        fs::create_dir_all(&users).map_err(failed)?;
        fs::write(users.join(name), subdirectory).map_err(failed)
    }

    /// Lets go of the mounts that `volume` uses; those that nobody else uses go. Does not wait for
    /// a server that is away, nor for another call that does.
    pub(crate) fn release(&self, volume: VolumeId) {
        for (key, slot) in self.all() {
            if fs::remove_file(self.users(&key).join(volume.to_string())).is_ok() {
                let locked = lock_until(&slot, Instant::now() + PATIENCE);
                // Whoever works on it may be mounting it just now, for a volume that is not noted yet:
                // then it goes later, if nobody has come to use it.
                if locked.is_some() || self.hangs(&key) {
                    self.drop_if_unused(&key);
                }
            }
        }
    }

    /// The volumes, other than `volume`, that use `subdirectory` of `export` or something in it.
    pub(crate) fn users_below(
        &self,
        path: &Path,
        subdirectory: &str,
        volume: VolumeId,
    ) -> Vec<VolumeId> {
        let inside = |other: &str| Path::new(other).starts_with(subdirectory);
        self.used()
            .into_iter()
            .filter(|used| used.path == path)
            .flat_map(|used| used.volumes)
            .filter(|(id, directory)| *id != volume && inside(directory))
            .map(|(id, _)| id)
            .collect()
    }

    /// All mounts that are there.
    pub(crate) fn used(&self) -> Vec<Used> {
        let Ok(table) = MountTable::of_thread() else {
            return Vec::new();
        };
        let mut all = Vec::new();
        for (key, _) in self.all() {
            let path = self.place(&key);
            if let Some(row) = table.top_at(&path) {
                all.push(Used {
                    path,
                    volumes: self.volumes(&key),
                    needs_lock_daemons: needs_lock_daemons(row),
                });
            }
        }
        all
    }

    fn volumes(&self, key: &str) -> Vec<(VolumeId, String)> {
        let entries = fs::read_dir(self.users(key));
        let known = |entry: fs::DirEntry| {
            let name = entry.file_name().into_string().ok()?;
            let id = serde_json::from_value(name.into()).ok()?;
            Some((id, fs::read_to_string(entry.path()).ok()?))
        };
        entries
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(known)
            .collect()
    }

    /// Notes that the mount at `path` is dead for good.
    pub(crate) fn mark_stale(&self, path: &Path) {
        for (key, slot) in self.all() {
            if self.place(&key) == path
                && let Ok(mut slot) = slot.try_lock()
            {
                slot.stale = true;
            }
        }
    }

    /// Takes away what nobody has used for a while.
    pub(crate) fn tidy(&self) {
        for (key, slot) in self.all() {
            if let Ok(slot) = slot.try_lock()
                && slot.touched.is_none_or(|t| t.elapsed() > IDLE)
            {
                self.drop_if_unused(&key);
            }
        }
    }

    /// Takes away what nobody uses. The rest goes with the container, or is found by whoever opens
    /// the context anew, with other options perhaps.
    pub(crate) fn close(&self) {
        for (key, _) in self.all() {
            self.drop_if_unused(&key);
        }
    }

    fn drop_if_unused(&self, key: &str) {
        let users = self.users(key);
        let used = fs::read_dir(&users).is_ok_and(|mut all| all.next().is_some());
        if used {
            return;
        }
        let place = self.place(key);
        // Never by force: that would end the I/O of everybody who uses the same file system, and the
        // copies that containers use are of the same one.
        if let_go(&place, false) {
            let _ = fs::remove_dir(&users);
            let _ = fs::remove_dir(&place);
            let _ = fs::remove_dir(self.host.mounts().join(key));
        } else {
            let text = format!("{} does not unmount; it is tried again", place.display());
            self.host.log(Level::Warn, text);
        }
    }

    /// What is mounted for `key`, by the mount table: no question to the server.
    fn mounted(&self, key: &str) -> Result<Option<Ready>> {
        let place = self.place(key);
        let table = MountTable::of_thread()
            .map_err(|e| Error::internal("cannot read the mount table").cause(e))?;
        Ok(table.top_at(&place).map(|row| Ready {
            path: place.clone(),
            fs_type: row.fs_type.to_string_lossy().into_owned(),
        }))
    }

    fn mount(&self, call: &Call, source: &Source, key: &str) -> Result<Ready> {
        let place = self.place(key);
        fs::create_dir_all(&place)
            .map_err(|e| Error::internal(format!("cannot make {}", place.display())).cause(e))?;
        if source.options.needs_kerberos() {
            kerberos::check()?;
        }
        call.progress(&format!("connecting to {}", source.server), None);
        reachable(call, source, PROBE)?;
        let mut told: Option<report::Rejection> = None;
        let mut versions = VecDeque::from(source.options.versions());
        while let Some(version) = versions.pop_front() {
            call.check()?;
            call.progress(
                &format!("mounting {} with NFS {version}", source.name()),
                None,
            );
            match self.try_version(call, source, version, &place) {
                Ok(()) => return self.verified(key, source),
                Err(rejection) => {
                    let text = rejection.error.to_string();
                    self.host.log(Level::Debug, text);
                    match rejection.next {
                        Next::Any => {}
                        Next::Only3 => versions.retain(|v| !v.is_4()),
                        Next::None => versions.clear(),
                    }
                    told = Some(match told {
                        None => rejection,
                        Some(before) => before.and_then(rejection, version),
                    });
                }
            }
        }
        Err(told.map_or_else(|| Error::internal("no version of NFS to try"), |t| t.error))
    }

    fn try_version(
        &self,
        call: &Call,
        source: &Source,
        version: Version,
        place: &Path,
    ) -> Result<(), report::Rejection> {
        let final_error = |error| report::Rejection {
            error,
            next: Next::None,
        };
        if !version.is_4() && source.options.needs_lock_daemons() {
            lock_daemons::ensure(&self.programs, call.remaining()).map_err(final_error)?;
        }
        let program = if version.is_4() {
            &self.programs.mount_nfs4
        } else {
            &self.programs.mount_nfs
        };
        // Neither operand can begin with '-': a server name and an absolute path.
        Command::new(program)
            .arg(source.name())
            .arg(place)
            .arg("-n")
            .arg("-o")
            .arg(source.options.words(version, source.read_only))
            .deadline(call.remaining().saturating_sub(MARGIN))
            .run()
            .map(drop)
            .map_err(|e| report::explain(&e, &source.name(), version))
    }

    /// A mount program that succeeds has not mounted for sure.
    fn verified(&self, key: &str, source: &Source) -> Result<Ready> {
        match self.mounted(key)? {
            Some(ready) if self.programs.fs_types.contains(&ready.fs_type.as_str()) => {
                let text = format!("mounted {} as {}", source.name(), ready.fs_type);
                self.host.log(Level::Info, text);
                Ok(ready)
            }
            Some(ready) => Err(Error::internal(format!("cannot mount {}", source.name()))
                .cause(format!("{} is mounted there", ready.fs_type))),
            None => Err(Error::internal(format!("cannot mount {}", source.name()))
                .cause("the mount program succeeded, but nothing is mounted")
                .remedy("check that the storage container has the capability SYS_ADMIN")),
        }
    }

    fn place(&self, key: &str) -> PathBuf {
        self.host.mounts().join(key).join("fs")
    }

    fn users(&self, key: &str) -> PathBuf {
        self.host.mounts().join(key).join("volumes")
    }

    fn used_since(&self) -> MutexGuard<'_, BTreeMap<String, Instant>> {
        self.used_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn slots(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Mutex<Slot>>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all(&self) -> Vec<(String, Arc<Mutex<Slot>>)> {
        self.slots()
            .iter()
            .map(|(key, slot)| (key.clone(), slot.clone()))
            .collect()
    }
}

/// Whether the server accepts a connection, within `limit`.
fn reachable(call: &Call, source: &Source, limit: Duration) -> Result<()> {
    let limit = limit.min(call.remaining());
    server::probe(&source.server, &source.options, limit).map_err(|e| Error {
        message: format!("cannot mount {}: {}", source.name(), e.message),
        ..e
    })
}

/// By the mount table, because an earlier plugin host may have mounted it.
fn needs_lock_daemons(row: &MountRow) -> bool {
    let options = row.super_options.to_string_lossy();
    row.fs_type == "nfs" && !options.split(',').any(|o| o == "local_lock=all")
}

/// Waits for `slot` no longer than the call may take: somebody else may be mounting it.
fn lock_within<'a>(slot: &'a Mutex<Slot>, call: &Call) -> Result<MutexGuard<'a, Slot>> {
    lock_until(slot, Instant::now() + call.remaining()).ok_or_else(|| {
        Error::new(
            ErrorKind::Timeout,
            "another call still works on the same mount",
        )
        .remedy("it is tried again by itself")
    })
}

fn lock_until(slot: &Mutex<Slot>, end: Instant) -> Option<MutexGuard<'_, Slot>> {
    loop {
        match slot.try_lock() {
            Ok(slot) => return Some(slot),
            Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) if Instant::now() >= end => return None,
            Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(10)),
        }
    }
}

#[cfg(test)]
#[path = "mounts_tests.rs"]
mod tests;
