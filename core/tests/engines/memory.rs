//! A stand-in for core behind the volume API: volumes in memory, and a record of every call.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use lazarette_core::daemon::volume_api::{
    Caller, DockerVolume, Scope, VolumeBackend, VolumeSocket,
};
use lazarette_core::{Error, ErrorKind, Kind, Result, VolumeName};
use serde_json::{Map, Value, json};
use tokio::sync::oneshot;

/// One volume.
#[derive(Debug, Default)]
pub(crate) struct Volume {
    pub(crate) options: BTreeMap<String, String>,
    /// Uses by mount ID.
    pub(crate) uses: BTreeMap<String, u32>,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) volumes: BTreeMap<VolumeName, Volume>,
    /// `mount media ID`, in order.
    pub(crate) calls: Vec<String>,
    pub(crate) callers: Vec<Caller>,
    /// Every call fails as if core's state could not be read.
    pub(crate) broken: bool,
    /// How long `create` takes.
    pub(crate) delay: Duration,
}

#[derive(Debug, Clone)]
pub(crate) struct Memory {
    state: Arc<Mutex<State>>,
    directory: PathBuf,
}

impl Memory {
    /// Volumes are directories below `directory`.
    pub(crate) fn new(directory: impl Into<PathBuf>) -> Self {
        let (state, directory) = (Arc::default(), directory.into());
        Self { state, directory }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// All uses of a volume by all mount IDs.
    pub(crate) fn uses(&self, name: &str) -> u32 {
        let state = self.state();
        let volume = state.volumes.get(name);
        volume.map_or(0, |volume| volume.uses.values().sum())
    }

    /// Calls that begin with `prefix`.
    pub(crate) fn calls(&self, prefix: &str) -> Vec<String> {
        let state = self.state();
        let calls = state.calls.iter();
        calls
            .filter(|call| call.starts_with(prefix))
            .cloned()
            .collect()
    }

    fn enter(&self, call: String) -> Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        state.calls.push(call);
        match state.broken {
            true => Err(Error::internal("the state cannot be read")),
            false => Ok(state),
        }
    }

    fn mountpoint(&self, name: &VolumeName) -> String {
        let path = self.directory.join(name.as_str());
        path.to_string_lossy().into_owned()
    }

    fn shown(&self, name: &VolumeName, volume: &Volume) -> DockerVolume {
        let used = volume.uses.values().sum::<u32>() > 0;
        let mut status = Map::<String, Value>::new();
        status.insert("options".into(), json!(volume.options));
        DockerVolume {
            name: name.clone(),
            mountpoint: used.then(|| self.mountpoint(name)),
            created_at: "2026-11-23T13:10:29Z".into(),
            status,
        }
    }
}

fn unknown(name: &VolumeName) -> Error {
    Error::not_found(format!("no volume \"{name}\""))
}

impl VolumeBackend for Memory {
    async fn create(
        &self,
        _: &Kind,
        name: VolumeName,
        options: BTreeMap<String, String>,
    ) -> Result<()> {
        let delay = self.state().delay;
        tokio::time::sleep(delay).await;
        let mut state = self.enter(format!("create {name}"))?;
        if let Some(there) = state.volumes.get(&name) {
            let differs = options
                .iter()
                .find(|&(key, value)| there.options.get(key) != Some(value));
            return differs.map_or(Ok(()), |(key, value)| {
                let text = format!("volume \"{name}\" exists with another {key} than {value}");
                Err(Error::new(ErrorKind::AlreadyExists, text))
            });
        }
        std::fs::create_dir_all(self.directory.join(name.as_str())).unwrap();
        let uses = BTreeMap::new();
        state.volumes.insert(name, Volume { options, uses });
        Ok(())
    }

    async fn remove(&self, _: &Kind, name: VolumeName) -> Result<()> {
        let mut state = self.enter(format!("remove {name}"))?;
        let removed = state.volumes.remove(&name);
        removed.map(drop).ok_or_else(|| unknown(&name))
    }

    async fn mount(
        &self,
        _: &Kind,
        name: VolumeName,
        mount_id: String,
        caller: Caller,
    ) -> Result<String> {
        let mut state = self.enter(format!("mount {name} {mount_id}"))?;
        state.callers.push(caller);
        let volume = state.volumes.get_mut(&name).ok_or_else(|| unknown(&name))?;
        *volume.uses.entry(mount_id).or_default() += 1;
        Ok(self.mountpoint(&name))
    }

    async fn unmount(&self, _: &Kind, name: VolumeName, mount_id: String, _: Caller) -> Result<()> {
        let mut state = self.enter(format!("unmount {name} {mount_id}"))?;
        let volume = state.volumes.get_mut(&name).ok_or_else(|| unknown(&name))?;
        if let Some(uses) = volume.uses.get_mut(&mount_id) {
            *uses = uses.saturating_sub(1);
        }
        Ok(())
    }

    async fn get(&self, _: &Kind, name: VolumeName) -> Result<DockerVolume> {
        let state = self.enter(format!("get {name}"))?;
        let volume = state.volumes.get(&name).ok_or_else(|| unknown(&name))?;
        Ok(self.shown(&name, volume))
    }

    async fn list(&self, _: &Kind) -> Result<Vec<DockerVolume>> {
        let state = self.enter("list".into())?;
        let volumes = state.volumes.iter();
        Ok(volumes
            .map(|(name, volume)| self.shown(name, volume))
            .collect())
    }

    async fn path(&self, _: &Kind, name: VolumeName) -> Result<Option<String>> {
        let state = self.enter(format!("path {name}"))?;
        let volume = state.volumes.get(&name).ok_or_else(|| unknown(&name))?;
        Ok(self.shown(&name, volume).mountpoint)
    }
}

/// The volume API served in a thread of its own.
pub(crate) struct Served {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Served {
    /// Listens before it returns.
    pub(crate) fn start(kind: &str, socket: &Path, memory: Memory) -> Self {
        let (kind, socket) = (Kind::new(kind).unwrap(), socket.to_owned());
        let (stop, stopped) = oneshot::channel();
        let (listening, listens) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            super::runtime().block_on(async move {
                let socket = VolumeSocket::bind(kind, socket, Scope::Global)
                    .await
                    .unwrap();
                listening.send(()).unwrap();
                let stop = async {
                    let _ = stopped.await;
                };
                socket.serve(memory, stop).await;
            });
        });
        listens.recv().expect("the socket listens");
        Self {
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Stops it and waits for its end.
    pub(crate) fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(
                ended.is_ok() || std::thread::panicking(),
                "the server panicked"
            );
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.end();
    }
}
