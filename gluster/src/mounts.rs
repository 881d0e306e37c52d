//! The private mounts of this container: one for each configuration (as a rule one), each served by
//! a client of its own, shared by the volumes that lie in it, and found again by the next plugin
//! host.
//!
//! Below the host's directory each mount has a directory named by a hash of what it is; the mount
//! is `HASH/fs`. A client that has ended, or was ended because it hangs, is replaced when somebody
//! wants its mount the next time: core does, for it is told by [`Mounts::stale`].

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use lazarette_plugin::command::{Child, Command, Failure};
use lazarette_plugin::linux::mountinfo::MountTable;
use lazarette_plugin::linux::process::Process;
use lazarette_plugin::mount::let_go;
use lazarette_plugin::{Call, Error, ErrorKind, Host, Level, Result, VolumeId};

use crate::client::{self, Source};
use crate::config::Config;
use crate::programs::Programs;
use crate::records::{Record, Records};
use crate::{report, server};

/// How long servers may take to accept a connection before a client is started.
const PROBE: Duration = Duration::from_secs(5);
/// How long a mount that is there may take to answer.
const LOOK: Duration = Duration::from_secs(5);
/// How long a client may take until its mount answers.
const MOUNT: Duration = Duration::from_secs(30);
/// What is left of a call's time for the rest when that takes longer.
const MARGIN: Duration = Duration::from_millis(500);
/// How long an unmount waits for another call that works on the same mount.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a mount that nobody uses is kept: a create is mostly followed by a mount.
const IDLE: Duration = Duration::from_secs(30);
/// Between two looks at what a client that starts has done.
const STEP: Duration = Duration::from_millis(20);
/// So much of the end of a log is looked at for the reason of a failure.
const LOG: u64 = 64 * 1024;

/// A private mount that is there, with a client that lives.
#[derive(Debug, Clone)]
pub(crate) struct Ready {
    /// Which.
    pub(crate) key: String,
    /// Where.
    pub(crate) path: PathBuf,
    /// Its type in the mount table.
    pub(crate) fs_type: String,
    /// Its client.
    pub(crate) generation: String,
}

/// A volume that is on a client which has ended.
pub(crate) type Stale = (VolumeId, String);

/// All private mounts of a context.
pub(crate) struct Mounts {
    host: Host,
    programs: Programs,
    records: Records,
    slots: Mutex<BTreeMap<String, Arc<Slot>>>,
}

/// One mount.
#[derive(Default)]
pub(crate) struct Slot {
    /// Held while it is made, used or taken away.
    work: Mutex<()>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Who serves it.
    client: Option<Arc<Process>>,
    /// Why its client must be replaced.
    dead: Option<String>,
    /// When it was used last.
    touched: Option<Instant>,
    /// Since when a call does something in it.
    used_since: Option<Instant>,
}

impl Slot {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its client, if that lives as far as is known.
    pub(crate) fn client(&self) -> Option<Arc<Process>> {
        let state = self.state();
        state.client.clone().filter(|_| state.dead.is_none())
    }

    /// Whether what a call does in it takes so long that it waits for bricks.
    fn hangs(&self) -> bool {
        let since = self.state().used_since;
        since.is_some_and(|since| since.elapsed() >= PATIENCE)
    }
}

impl Mounts {
    /// Finds what an earlier plugin host has left.
    pub(crate) fn find(host: Host, programs: Programs) -> Self {
        let mounts = Self {
            records: Records::read(&programs.records),
            host,
            programs,
            slots: Mutex::default(),
        };
        for entry in fs::read_dir(mounts.host.mounts())
            .into_iter()
            .flatten()
            .flatten()
        {
            let key = entry.file_name().to_string_lossy().into_owned();
            if key.len() == 16 && key.bytes().all(|b| b.is_ascii_hexdigit()) {
                let found = client::find(&mounts.place(&key)).into_iter().next();
                let text = match &found {
                    Some(client) => format!("found the client {}", client.pid()),
                    None => "found a mount without its client".to_owned(),
                };
                mounts.host.log(Level::Info, text);
                let slot = mounts.slot(&key);
                let mut state = slot.state();
                state.touched = Some(Instant::now());
                state.client = found.map(Arc::new);
            }
        }
        mounts
    }

    /// The programs that serve and look at them.
    pub(crate) fn programs(&self) -> &Programs {
        &self.programs
    }

    /// Runs `body` with the mount of `source`, which is made if need be and does not go meanwhile.
    ///
    /// # Errors
    /// Why it cannot be mounted, and those of `body`.
    pub(crate) fn with<T>(
        &self,
        call: &Call,
        config: &Config,
        source: &Source,
        body: impl FnOnce(&Ready) -> Result<T>,
    ) -> Result<T> {
        let key = source.key();
        let slot = self.slot(&key);
        let _working = lock_within(&slot.work, call)?;
        slot.state().touched = Some(Instant::now());
        let ready = match self.mounted(&key, &slot)? {
            Some(ready) => {
                // Whatever is done in the mount waits for bricks: better to know before.
                self.answers(&ready.path, LOOK.min(call.remaining()))
                    .map_err(|why| unanswered(source, why))?;
                ready
            }
            None => self.mount(call, config, source, &key, &slot)?,
        };
        slot.state().used_since = Some(Instant::now());
        let result = body(&ready);
        slot.state().used_since = None;
        result
    }

    /// Notes that `volume`, the directory `directory` of it, is on this mount by now.
    pub(crate) fn keep(&self, ready: &Ready, volume: VolumeId, directory: &str) -> Result<()> {
        let record = Record {
            key: ready.key.clone(),
            generation: ready.generation.clone(),
            directory: directory.to_owned(),
        };
        self.records.set(volume, record)
    }

    /// Lets go of the mount that `volume` uses; it goes if nobody else uses it. Does not wait for
    /// servers that are away, nor for another call that does.
    pub(crate) fn release(&self, volume: VolumeId) {
        let Some(record) = self.records.remove(volume) else {
            return;
        };
        let slot = self.slots().get(&record.key).cloned();
        if let Some(slot) = slot {
            let working = lock_until(&slot.work, Instant::now() + PATIENCE);
            // Whoever works on it may be mounting it just now, for a volume that is not noted yet: then
            // it goes later, if nobody has come to use it.
            if working.is_some() || slot.hangs() {
                self.drop_if_unused(&record.key, &slot);
            }
        }
    }

    /// The volumes, other than `volume`, that use `directory` of this mount or something in it.
    pub(crate) fn users_below(
        &self,
        key: &str,
        directory: &str,
        volume: VolumeId,
    ) -> Vec<VolumeId> {
        let inside = |r: &Record| r.key == key && Path::new(&r.directory).starts_with(directory);
        let all = self.records.all().into_iter();
        all.filter(|(id, record)| *id != volume && inside(record))
            .map(|(id, _)| id)
            .collect()
    }

    /// The volumes whose client has ended: each until it is mounted anew.
    pub(crate) fn stale(&self) -> Vec<Stale> {
        let all = self.records.all();
        let mut stale = Vec::new();
        for (id, record) in all {
            let slot = self.slots().get(&record.key).cloned();
            let (client, why) = match &slot {
                Some(slot) => (slot.client(), slot.state().dead.clone()),
                None => (None, None),
            };
            if client.is_none_or(|c| client::generation(&c) != record.generation) {
                let why = why.unwrap_or_else(|| "its Gluster client has ended".to_owned());
                stale.push((id, why));
            }
        }
        stale
    }

    /// The mounts that are there, with what serves them.
    pub(crate) fn live(&self) -> Vec<(String, PathBuf, Arc<Process>)> {
        let all = self.all().into_iter();
        all.filter_map(|(key, slot)| {
            let client = slot.client()?;
            let place = self.place(&key);
            Some((key, place, client))
        })
        .collect()
    }

    /// Notes that the client of `key` has to be replaced, and has core do it at once.
    pub(crate) fn dead(&self, key: &str, client: &Process, why: &str) {
        let Some(slot) = self.slots().get(key).cloned() else {
            return;
        };
        let mut state = slot.state();
        let same = state
            .client
            .as_ref()
            .is_some_and(|c| c.pid() == client.pid());
        if !same || state.dead.is_some() {
            return;
        }
        state.dead = Some(why.to_owned());
        drop(state);
        self.host
            .log(Level::Error, format!("{why}; it is mounted anew"));
        self.host.changed();
    }

    /// Takes away what nobody has used for a while.
    pub(crate) fn tidy(&self) {
        for (key, slot) in self.all() {
            if let Ok(_working) = slot.work.try_lock() {
                let idle = slot.state().touched.is_none_or(|t| t.elapsed() > IDLE);
                if idle {
                    self.drop_if_unused(&key, &slot);
                }
            }
        }
    }

    /// Takes away what nobody uses. The rest goes with the container, or is found by whoever opens
    /// the context anew, with other options perhaps.
    pub(crate) fn close(&self) {
        for (key, slot) in self.all() {
            self.drop_if_unused(&key, &slot);
        }
    }

    fn drop_if_unused(&self, key: &str, slot: &Slot) {
        if self.records.all().iter().any(|(_, r)| r.key == key) {
            return;
        }
        let place = self.place(key);
        if !let_go(&place, false) {
            let text = format!("{} does not unmount; it is tried again", place.display());
            self.host.log(Level::Warn, text);
            return;
        }
        // The client ends by itself as soon as core has let go of its last copy.
        *slot.state() = State::default();
        let _ = fs::remove_dir(&place);
        let _ = fs::remove_dir(self.host.mounts().join(key));
        let _ = fs::remove_file(client::log(&self.programs, key));
        // The slot stays: somebody may be waiting for it.
    }

    /// What is mounted for `key` and served: no question to a server.
    fn mounted(&self, key: &str, slot: &Slot) -> Result<Option<Ready>> {
        let place = self.place(key);
        let Some(client) = slot.client().filter(|c| c.is_alive()) else {
            return Ok(None);
        };
        Ok(fs_type(&place)?.map(|fs_type| Ready {
            key: key.to_owned(),
            path: place,
            fs_type,
            generation: client::generation(&client),
        }))
    }

    fn mount(
        &self,
        call: &Call,
        config: &Config,
        source: &Source,
        key: &str,
        slot: &Slot,
    ) -> Result<Ready> {
        let place = self.place(key);
        self.clear(&place, slot)?;
        let made = |path: &Path| {
            fs::create_dir_all(path)
                .map_err(|e| Error::internal(format!("cannot make {}", path.display())).cause(e))
        };
        made(&place)?;
        made(&self.programs.logs)?;
        call.progress(&format!("connecting to {}", config.servers.joined()), None);
        let limit = PROBE.min(call.remaining());
        server::one_of(&server::ask(config, limit), source.name())?;
        call.progress(&format!("mounting {}", source.name()), None);
        let log = client::log(&self.programs, key);
        // The reason of a failure is looked for in it.
        let _ = fs::remove_file(&log);
        let child = client::start(&self.programs, source, &place, &log)?;
        match self.started(call, source, key, &child, &log) {
            Ok((ready, client)) => {
                let mut state = slot.state();
                state.client = Some(Arc::new(client));
                state.dead = None;
                drop(state);
                let text = format!("mounted {} (client {})", source.name(), child.pid());
                self.host.log(Level::Info, text);
                Ok(ready)
            }
            Err(error) => {
                // What is left of it ends in any case, now or when it is tried again.
                let _ = child.kill();
                let_go(&place, true);
                Err(error)
            }
        }
    }

    /// Waits until the mount of a client that was just started answers.
    fn started(
        &self,
        call: &Call,
        source: &Source,
        key: &str,
        child: &Child,
        log: &Path,
    ) -> Result<(Ready, Process)> {
        let place = self.place(key);
        let failed = |how: &str| report::explain(&tail(log), how, source.name());
        let end = Instant::now() + MOUNT.min(call.remaining().saturating_sub(MARGIN));
        let fs_type = loop {
            if let Some(found) = fs_type(&place)? {
                break found;
            }
            if let Ok(Some(exit)) = child.try_wait() {
                return Err(failed(&exit.to_string()));
            }
            call.check()?;
            if Instant::now() > end {
                let error = failed("it was ended, for it did not mount in time");
                return Err(Error {
                    kind: ErrorKind::Timeout,
                    ..error
                });
            }
            thread::sleep(STEP);
        };
        if !self.programs.fs_types.contains(&fs_type.as_str()) {
            return Err(Error::internal(format!("cannot mount {}", source.name()))
                .cause(format!("{fs_type} is mounted there")));
        }
        let left = end.saturating_duration_since(Instant::now());
        self.answers(&place, left).map_err(|why| {
            let error = failed("it was ended, for its mount does not answer");
            Error {
                cause: error.cause.or(Some(why)),
                ..error
            }
        })?;
        let client = Process::open(child.pid()).map_err(|_| failed("just after it had mounted"))?;
        let ready = Ready {
            key: key.to_owned(),
            path: place,
            fs_type,
            generation: client::generation(&client),
        };
        Ok((ready, client))
    }

    /// Whether a mount answers, asked by a child that can be killed.
    fn answers(&self, place: &Path, limit: Duration) -> Result<(), String> {
        Command::new(&self.programs.stat)
            .args(["--file-system", "--format=%T", "--"])
            .arg(place)
            .deadline(limit)
            .run()
            .map(drop)
            .map_err(|e| match e.failure {
                Failure::Deadline(_) | Failure::Abandoned { .. } => "no answer in time".to_owned(),
                _ => e.stderr.trim().to_owned(),
            })
    }

    /// Ends what is left at `place`: a client that hangs, one that an earlier plugin host has
    /// started and not seen to its end, and the mount of a dead one.
    fn clear(&self, place: &Path, slot: &Slot) -> Result<()> {
        for process in client::find(place) {
            client::kill(&process);
        }
        if !let_go(place, true) {
            return Err(Error::new(
                ErrorKind::Busy,
                format!("what is left at {} does not unmount", place.display()),
            )
            .remedy("it is tried again by itself"));
        }
        let mut state = slot.state();
        state.client = None;
        Ok(())
    }

    fn place(&self, key: &str) -> PathBuf {
        self.host.mounts().join(key).join("fs")
    }

    fn slot(&self, key: &str) -> Arc<Slot> {
        self.slots().entry(key.to_owned()).or_default().clone()
    }

    fn slots(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all(&self) -> Vec<(String, Arc<Slot>)> {
        self.slots()
            .iter()
            .map(|(key, slot)| (key.clone(), slot.clone()))
            .collect()
    }
}

/// The type of what is mounted at `place`, by the mount table: no question to a server.
fn fs_type(place: &Path) -> Result<Option<String>> {
    let table = MountTable::of_thread()
        .map_err(|e| Error::internal("cannot read the mount table").cause(e))?;
    let row = table.top_at(place);
    Ok(row.map(|row| row.fs_type.to_string_lossy().into_owned()))
}

fn unanswered(source: &Source, why: String) -> Error {
    Error::new(
        ErrorKind::Unreachable,
        format!("{} does not answer", source.name()),
    )
    .cause(why)
    .remedy("check the bricks: gluster volume status on a server; it is tried again by itself")
}

/// The end of a log.
fn tail(log: &Path) -> String {
    use std::io::{Read, Seek, SeekFrom};
    let read = || {
        let mut file = fs::File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG)))?;
        let mut bytes = Vec::new();
        file.take(LOG).read_to_end(&mut bytes)?;
        std::io::Result::Ok(bytes)
    };
    String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
}

/// Waits for `work` no longer than the call may take: somebody else may be mounting it.
fn lock_within<'a>(work: &'a Mutex<()>, call: &Call) -> Result<MutexGuard<'a, ()>> {
    lock_until(work, Instant::now() + call.remaining()).ok_or_else(|| {
        Error::new(
            ErrorKind::Timeout,
            "another call still works on the same mount",
        )
        .remedy("it is tried again by itself")
    })
}

fn lock_until(work: &Mutex<()>, end: Instant) -> Option<MutexGuard<'_, ()>> {
    loop {
        match work.try_lock() {
            Ok(guard) => return Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) if Instant::now() >= end => return None,
            Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(10)),
        }
    }
}

#[cfg(test)]
#[path = "mounts_tests.rs"]
mod tests;
