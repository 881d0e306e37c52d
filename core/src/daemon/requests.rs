//! What is asked of core, turned into events for the world and waits for what comes of them.

use std::collections::BTreeMap;

use tokio::sync::oneshot;

use super::resolve::Prepared;
use super::settings::limits;
use super::supervisor::Supervisor;
use super::waiting::Goal;
use crate::control::{NewVolume, Origin, Status, VolumeStatus};
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

impl Supervisor {
    /// Everything core knows.
    pub fn status(&self) -> Status {
        let now = self.now();
        let mut problems = self.configuration.problems();
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
            ready: self.is_ready() && self.world.required_are_attached(),
            contexts: self.world.context_statuses(now),
            volumes: self.world.volume_statuses(now),
            engines: self.engines.values().cloned().collect(),
            problems,
        }
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
        let place = Place::Docker;
        match self.prepare(&new, place, Origin::Created, false) {
            Err(error) => answer(reply, Err(error)),
            Ok(Prepared::Exists) => answer(reply, self.inspect(&new.name)),
            Ok(Prepared::New(events)) => self.make(new.name, events, Goal::Made, reply),
        }
    }

    /// Makes a volume of a URL and mounts it below `/mnt`; answers once it is mounted.
    pub fn attach(&mut self, attach: Attach, reply: Reply<VolumeStatus>) {
        let request = move |supervisor: &mut Self| supervisor.attach_now(attach, reply);
        if let Some(request) = self.unless_early(request) {
            request(self);
        }
    }

    fn attach_now(&mut self, attach: Attach, reply: Reply<VolumeStatus>) {
        let prepared = self.volume_of_url(&attach).and_then(|(new, path)| {
            let name = new.name.clone();
            self.prepare(&new, Place::Mnt(path), Origin::Attached, attach.read_only)
                .map(|p| (name, p))
        });
        match prepared {
            Err(error) => answer(reply, Err(error)),
            Ok((name, Prepared::Exists)) => answer(reply, self.inspect(&name)),
            Ok((name, Prepared::New(events))) => self.make(name, events, Goal::Attached, reply),
        }
    }

    fn make(
        &mut self,
        name: VolumeName,
        events: Vec<Event>,
        goal: Goal,
        reply: Reply<VolumeStatus>,
    ) {
        if self.world.draining {
            return answer(
                reply,
                Err(Error::new(ErrorKind::Busy, "the machine is going down")),
            );
        }
        if let Err(error) = self.apply_durably(events) {
            return answer(reply, Err(error));
        }
        let wanted = name.clone();
        self.wait_for(
            &name,
            goal,
            limits::CREATE_WAIT,
            move |supervisor, result| {
                let result = match result {
                    Ok(()) => supervisor.inspect(&wanted),
                    Err(error) => {
                        // Nobody was told that it exists.
                        let forced = supervisor
                            .world
                            .volumes
                            .get(&wanted)
                            .is_some_and(|v| !v.made);
                        supervisor.apply(Event::VolumeUnwanted {
                            name: wanted,
                            forced,
                        });
                        Err(error)
                    }
                };
                answer(reply, result);
            },
        );
    }

    /// Removes a volume that nothing uses; answers once it is gone.
    pub fn remove(&mut self, name: VolumeName, force: bool, reply: Reply<()>) {
        match self.removable(&name).and_then(|v| not_in_use(&name, v)) {
            Err(error) => answer(reply, Err(error)),
            Ok(()) => self.let_go(name, force, reply),
        }
    }

    pub(super) fn removable(&self, name: &VolumeName) -> Result<&VolumeEntry> {
        match self.volume(name)? {
            volume if volume.origin != Origin::Declared => Ok(volume),
            _ => Err(
                Error::invalid(format!("volume \"{name}\" is declared in the cloud-config"))
                    .remedy("take it out there: laz config set"),
            ),
        }
    }

    /// Takes back an attach; answers once it is gone.
    pub fn detach(&mut self, name: VolumeName, lazy: bool, reply: Reply<()>) {
        let detachable = self.volume(&name).and_then(|volume| match volume.origin {
            Origin::Attached if lazy => Ok(()),
            Origin::Attached => not_in_use(&name, volume),
            Origin::Created => Err(Error::invalid(format!(
                "volume \"{name}\" was created, not attached"
            ))
            .remedy(format!("use: laz volume rm {name}"))),
            Origin::Declared => Err(Error::invalid(format!(
                "volume \"{name}\" is declared in the cloud-config"
            ))
            .remedy("take it out there: laz config set")),
        });
        match detachable {
            Err(error) => answer(reply, Err(error)),
            Ok(()) => self.let_go(name, lazy, reply),
        }
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

/// The time as volumes have it in their `created_at`.
pub(super) fn now_rfc3339() -> String {
    humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string()
}
