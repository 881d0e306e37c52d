//! What is asked of core, turned into events for the world and waits for what comes of them.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::oneshot;

use super::resolve::Prepared;
use super::settings::limits;
use super::supervisor::Supervisor;
use super::waiting::Goal;
use crate::control::{EngineStatus, NewVolume, Origin, Status, VolumeStatus};
use crate::error::{Error, ErrorKind, Result};
use crate::name::VolumeName;
use crate::planner::{Event, Place, VolumeEntry};

/// Where an answer goes.
pub type Reply<T> = oneshot::Sender<Result<T>>;

/// Sends an answer; whoever asked may have gone.
pub fn answer<T>(reply: Reply<T>, result: Result<T>) {
    let _ = reply.send(result);
}

/// A volume to attach, from a URL.
#[derive(Debug, Clone)]
pub struct Attach {
    /// The URL.
    pub url: String,
    /// The volume's name; none: derived from the URL.
    pub name: Option<VolumeName>,
    /// Further options.
    pub options: BTreeMap<String, String>,
    /// Mount it for reading only.
    pub read_only: bool,
}

impl Attach {
    /// What `url` names, with nothing else said.
    pub fn of(url: String) -> Self {
        Self {
            url,
            name: None,
            options: BTreeMap::new(),
            read_only: false,
        }
    }
}

impl Supervisor {
    /// Everything core knows.
    pub fn status(&self) -> Status {
        let now = self.now();
        let mut problems = self.configuration.problems();
        problems.extend(self.plugin_problems());
        if let Some(error) = self.store_error() {
            problems.push(crate::control::Problem {
                source: "core".into(),
                line: None,
                path: String::new(),
                message: error.to_string(),
            });
        }
        Status {
            version: env!("CARGO_PKG_VERSION").into(),
            uptime_seconds: now / 1_000,
            ready: self.is_ready() && self.required_is_there(),
            contexts: self.world.context_statuses(now),
            volumes: self.world.volume_statuses(now),
            engines: self.engine_statuses(),
            problems,
        }
    }

    /// The engines; user Docker that waits for its data root says so.
    fn engine_statuses(&self) -> Vec<EngineStatus> {
        let mut engines: Vec<EngineStatus> = self.engines.values().cloned().collect();
        let Some(root) = self.missing_data_root() else {
            return engines;
        };
        let user = engines
            .iter_mut()
            .find(|e| e.name == "user" && !e.reachable);
        if let Some(user) = user {
            user.reason = Some(format!(
                "it waits for its data root {root}, which is not mounted"
            ));
        }
        engines
    }

    /// One volume.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn inspect(&self, name: &VolumeName) -> Result<VolumeStatus> {
        self.volume(name)
            .map(|volume| self.world.volume_status(name, volume, self.now()))
    }

    pub(super) fn volume(&self, name: &VolumeName) -> Result<&VolumeEntry> {
        self.world
            .volumes
            .get(name)
            .ok_or_else(|| Error::not_found(format!("no volume \"{name}\"")))
    }

    /// Makes a volume; answers once its plugin has.
    pub fn create(&mut self, new: NewVolume, reply: Reply<VolumeStatus>) {
        let request = move |supervisor: &mut Self| supervisor.create_now(new, reply);
        if let Some(request) = self.unless_early(request) {
            request(self);
        }
    }

    fn create_now(&mut self, new: NewVolume, reply: Reply<VolumeStatus>) {
        if self.is_leaving(&new.name) {
            let name = new.name.clone();
            return self.once_gone(name, reply, move |supervisor, reply| {
                supervisor.create_now(new, reply);
            });
        }
        let place = Place::Docker;
        match self.prepare(&new, place, Origin::Created, false) {
            Err(error) => answer(reply, Err(error)),
            Ok(Prepared::Exists) => answer(reply, self.inspect(&new.name)),
            Ok(Prepared::New(events)) => {
                self.make(new.name, events, Goal::Made, limits::CREATE_WAIT, reply);
            }
        }
    }

    /// Whether a volume of that name is being removed: it was let go, or its create has failed.
    pub(super) fn is_leaving(&self, name: &VolumeName) -> bool {
        self.world.volumes.get(name).is_some_and(|v| !v.wanted)
    }

    /// Lets `request` have its turn once volume `name` is gone, or answers why it does not go:
    /// a name is free for its next volume as soon as the one before was given up.
    pub(super) fn once_gone<T: Send + 'static>(
        &mut self,
        name: VolumeName,
        reply: Reply<T>,
        request: impl FnOnce(&mut Self, Reply<T>) + Send + 'static,
    ) {
        let leaving = name.clone();
        self.wait_for(
            &name,
            Goal::Gone,
            limits::NAME_WAIT,
            move |supervisor, result| match result {
                Ok(()) => request(supervisor, reply),
                Err(error) => answer(reply, Err(still_there(&leaving).cause(error.to_string()))),
            },
        );
    }

    pub(super) fn make<T>(
        &mut self,
        name: VolumeName,
        events: Vec<Event>,
        goal: Goal,
        limit: Duration,
        reply: Reply<T>,
    ) where
        T: From<VolumeStatus> + Send + 'static,
    {
        if let Err(error) = self.unless_draining() {
            return answer(reply, Err(error));
        }
        if let Err(error) = self.apply_durably(events) {
            return answer(reply, Err(error));
        }
        let wanted = name.clone();
        self.wait_for(&name, goal, limit, move |supervisor, result| {
            let result = match result {
                Ok(()) => supervisor.inspect(&wanted).map(T::from),
                Err(error) => {
                    // Nobody was told that it exists. But what a plugin host had begun that died
                    // over it is cleaned up by the next one, unless that does not come.
                    let unmade = supervisor
                        .world
                        .volumes
                        .get(&wanted)
                        .is_some_and(|v| !v.made);
                    let forced = unmade && error.kind != ErrorKind::Plugin;
                    supervisor.apply(Event::VolumeUnwanted {
                        name: wanted,
                        forced,
                    });
                    Err(error)
                }
            };
            answer(reply, result);
        });
    }

    pub(super) fn unless_draining(&self) -> Result<()> {
        match self.world.draining {
            true => Err(Error::new(ErrorKind::Busy, "the machine is going down")),
            false => Ok(()),
        }
    }

    /// Removes a volume that nothing uses, with its snapshots if `snapshots` says so; answers once
    /// it is gone.
    pub fn remove(&mut self, name: VolumeName, force: bool, snapshots: bool, reply: Reply<()>) {
        let removable = self.removable(&name).and_then(|v| {
            not_in_use(&name, v)?;
            if snapshots {
                Ok(())
            } else {
                without_snapshots(&name, v)
            }
        });
        match removable {
            Err(error) => answer(reply, Err(error)),
            Ok(()) => self.let_go(name, force, reply),
        }
    }

    pub(super) fn removable(&self, name: &VolumeName) -> Result<&VolumeEntry> {
        let volume = self.volume(name)?;
        self.not_given(name, volume).map(|()| volume)
    }

    /// Refuses what neither `laz` nor Docker has made: it is to be taken out where it stands.
    pub(super) fn not_given(&self, name: &VolumeName, volume: &VolumeEntry) -> Result<()> {
        if volume.origin == Origin::Declared {
            return Err(Error::invalid(format!(
                "volume \"{name}\" is declared in the cloud-config"
            ))
            .remedy("change it there: laz config set"));
        }
        let context = &volume.context;
        if volume.is_of_list(name) {
            return Err(Error::invalid(format!(
                "volume \"{name}\" came with context \"{context}\", which is attached as a whole"
            ))
            .remedy(format!("laz detach {context} takes back all of it")));
        }
        Ok(())
    }

    pub(super) fn let_go(&mut self, name: VolumeName, forced: bool, reply: Reply<()>) {
        if let Err(error) = self.apply_durably([Event::VolumeUnwanted {
            name: name.clone(),
            forced,
        }]) {
            return answer(reply, Err(error));
        }
        self.wait_for(&name, Goal::Gone, limits::REMOVE_WAIT, move |_, result| {
            answer(reply, result)
        });
    }
}

/// What is said to who wants the name of a volume that does not go.
pub(super) fn still_there(name: &VolumeName) -> Error {
    Error::new(
        ErrorKind::Busy,
        format!("volume \"{name}\" is being removed"),
    )
    .remedy("try again once it is gone")
}

pub(super) fn not_in_use(name: &VolumeName, volume: &VolumeEntry) -> Result<()> {
    if volume.used_by.is_empty() && volume.holds.is_empty() {
        return Ok(());
    }
    let error = Error::new(ErrorKind::Busy, format!("volume \"{name}\" is in use"));
    let names: Vec<&str> = volume.used_by.iter().map(String::as_str).collect();
    Err(match names.is_empty() {
        true => error.cause("Docker holds it"),
        false => error
            .cause(format!("by container {}", names.join(", ")))
            .remedy("remove the container first"),
    })
}

/// Refuses a volume that has snapshots, naming them.
pub(super) fn without_snapshots(name: &VolumeName, volume: &VolumeEntry) -> Result<()> {
    let kept = volume.snapshots.iter().filter(|(_, s)| s.wanted);
    let names: Vec<&str> = kept.map(|(name, _)| name.as_str()).collect();
    if names.is_empty() {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Busy,
        format!("volume \"{name}\" has snapshots: {}", names.join(", ")),
    )
    .remedy(format!(
        "remove them first, or with it: laz volume rm --snapshots {name}"
    )))
}

/// The time as volumes have it in their `created_at`.
pub(super) fn now_rfc3339() -> String {
    humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string()
}
