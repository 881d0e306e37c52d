//! What is asked of core, turned into events for the world and waits for what comes of them.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use tokio::sync::oneshot;

use super::options::{self, Sorted};
use super::settings::limits;
use super::supervisor::Supervisor;
use super::volume_api::{Caller, DockerVolume};
use super::waiting::Goal;
use crate::control::{NewVolume, Origin, Status, VolumePhase, VolumeStatus};
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::Manifest;
use crate::name::{ContextName, Kind, VolumeName};
use crate::planner::{ContextEntry, Event, Place, VolumeEntry};

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
            ready: self.is_ready(),
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

    fn volume(&self, name: &VolumeName) -> Result<&VolumeEntry> {
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

    /// What has to happen for `new` to be: checked as a whole before anything does.
    fn prepare(
        &self,
        new: &NewVolume,
        place: Place,
        origin: Origin,
        read_only: bool,
    ) -> Result<Prepared> {
        let kind = self.kind_of(new)?;
        let manifest = self.manifest(&kind)?;
        let sorted = options::sort(manifest, &new.options).map_err(|e| Error {
            message: format!("volume \"{}\": {}", new.name, e.message),
            ..e
        })?;
        let (context, made) = self.context_for(&kind, new.context.as_ref(), &sorted, manifest)?;
        let mut entry = VolumeEntry::declared(
            context.clone(),
            Value::Object(sorted.volume),
            String::new(),
            read_only,
        );
        entry.place = place;
        entry.origin = origin;
        entry.created_at = now_rfc3339();
        if let Some(old) = self.world.volumes.get(&new.name) {
            return same(&new.name, old, &entry).map(|()| Prepared::Exists);
        }
        self.check_target(&entry)?;
        // In this order: a context without volumes is let go.
        let mut events = vec![Event::VolumeWanted(new.name.clone(), Box::new(entry))];
        if let Some(made) = made {
            events.push(Event::ContextMade(context, Box::new(made)));
        }
        Ok(Prepared::New(events))
    }

    fn check_target(&self, entry: &VolumeEntry) -> Result<()> {
        let target = entry.target();
        let clash = self.world.volumes.iter().find(|(_, v)| {
            let other = v.target();
            other == target
                || other.starts_with(&format!("{target}/"))
                || target.starts_with(&format!("{other}/"))
        });
        match clash {
            Some((name, other)) => Err(Error::new(
                ErrorKind::AlreadyExists,
                format!(
                    "{target} is taken: volume \"{name}\" has {}",
                    other.target()
                ),
            )),
            None => Ok(()),
        }
    }

    fn kind_of(&self, new: &NewVolume) -> Result<Kind> {
        let of_context = match &new.context {
            Some(name) => Some(self.context(name)?.kind.clone()),
            None => None,
        };
        match (new.kind.clone(), of_context) {
            (Some(kind), Some(of_context)) if kind != of_context => Err(Error::invalid(format!(
                "volume \"{}\": its context is of kind \"{of_context}\", not \"{kind}\"",
                new.name
            ))),
            (Some(kind), _) | (None, Some(kind)) => Ok(kind),
            (None, None) => Err(Error::invalid(format!(
                "volume \"{}\": neither kind nor context is given",
                new.name
            ))
            .remedy("name one of them")),
        }
    }

    fn context(&self, name: &ContextName) -> Result<&ContextEntry> {
        self.world.contexts.get(name).ok_or_else(|| {
            let names: Vec<&str> = self
                .world
                .contexts
                .keys()
                .map(ContextName::as_str)
                .collect();
            let remedy = if names.is_empty() {
                "there are none yet".into()
            } else {
                format!("the contexts are: {}", names.join(", "))
            };
            Error::not_found(format!("no context \"{name}\"")).remedy(remedy)
        })
    }

    fn manifest(&self, kind: &Kind) -> Result<&Manifest> {
        match self.world.kinds.get(kind) {
            Some(entry) => Ok(&entry.manifest),
            None if !self.knows_kinds() => {
                let error = Error::new(
                    ErrorKind::Unreachable,
                    format!("core cannot tell whether it can serve kind \"{kind}\""),
                );
                let engine = self.engines.get("system");
                let reason = engine.and_then(|e| e.reason.as_deref());
                Err(error.cause(reason.unwrap_or("system Docker has not told its images")))
            }
            None => Err(crate::planner::no_image(kind, &self.world.kinds)),
        }
    }

    /// The context for a volume: the one that is named, the only one that fits, or a new one.
    fn context_for(
        &self,
        kind: &Kind,
        named: Option<&ContextName>,
        sorted: &Sorted,
        manifest: &Manifest,
    ) -> Result<(ContextName, Option<ContextEntry>)> {
        if let Some(name) = named {
            let context = self.context(name)?;
            return match differing(&sorted.context, &context.config) {
                None => Ok((name.clone(), None)),
                Some(key) => Err(
                    Error::invalid(format!("context \"{name}\" has another `{key}`"))
                        .remedy("leave the option out, or the context"),
                ),
            };
        }
        let fits: Vec<&ContextName> = self
            .world
            .contexts
            .iter()
            .filter(|(_, c)| c.kind == *kind && differing(&sorted.context, &c.config).is_none())
            .map(|(name, _)| name)
            .collect();
        match fits.as_slice() {
            [only] => Ok(((*only).clone(), None)),
            // The one with just these options was made for just this purpose.
            [_, ..] => match fits
                .iter()
                .find(|n| self.world.contexts[**n].config == Value::Object(sorted.context.clone()))
            {
                Some(exact) => Ok(((*exact).clone(), None)),
                None => {
                    let names: Vec<&str> = fits.iter().map(|n| n.as_str()).collect();
                    Err(Error::invalid(format!(
                        "several contexts of kind \"{kind}\" fit: {}",
                        names.join(", ")
                    ))
                    .remedy("say which with `-o context=NAME`"))
                }
            },
            [] => {
                // Checks that what is required is there, too.
                let given = Value::Object(sorted.context.clone());
                crate::cloud_config::check_options(&given, &manifest.context_schema)?;
                let name = self.free_context_name(kind, &sorted.context);
                Ok((name, Some(ContextEntry::new(kind.clone(), given, false))))
            }
        }
    }

    fn free_context_name(&self, kind: &Kind, config: &Map<String, Value>) -> ContextName {
        let mut slug = kind.to_string();
        for text in config.values().filter_map(Value::as_str).take(1) {
            slug.push('-');
            slug.extend(text.chars().map(|c| {
                if c.is_ascii_alphanumeric() {
                    c.to_ascii_lowercase()
                } else {
                    '-'
                }
            }));
        }
        slug.truncate(55);
        let slug = slug.trim_end_matches('-').to_owned();
        let candidates =
            std::iter::once(slug.clone()).chain((2..).map(|n: u64| format!("{slug}-{n}")));
        candidates
            .filter_map(|name| ContextName::new(name).ok())
            .find(|name| !self.world.contexts.contains_key(name))
            .expect("numbers do not run out, and a kind begins like a context's name")
    }

    /// `scheme://authority/path`, by the kind that has the scheme. An authority that is the name
    /// of a context of that kind means that context.
    fn volume_of_url(&self, attach: &Attach) -> Result<(NewVolume, String)> {
        let bad = |why: String| {
            Error::invalid(format!("\"{}\": {why}", attach.url))
                .remedy("write scheme://where/what, for example nfs-like://server/export")
        };
        let (scheme, rest) = attach
            .url
            .split_once("://")
            .ok_or_else(|| bad("this is no URL".into()))?;
        let mut mappings = self
            .world
            .kinds
            .iter()
            .filter_map(|(kind, e)| Some((kind, e.manifest.url.as_ref()?)));
        let (kind, mapping) = mappings.find(|(_, m)| m.scheme == scheme).ok_or_else(|| {
            let schemes: Vec<&str> = self
                .world
                .kinds
                .values()
                .filter_map(|e| Some(e.manifest.url.as_ref()?.scheme.as_str()))
                .collect();
            Error::invalid(format!(
                "\"{}\": no kind of storage has URLs of that scheme",
                attach.url
            ))
            .remedy(format!("the schemes are: {}", schemes.join(", ")))
        })?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if authority.is_empty() || path.trim_matches('/').is_empty() {
            return Err(bad("it names no storage or nothing in it".into()));
        }
        let mut options = attach.options.clone();
        let context = ContextName::new(authority)
            .ok()
            .filter(|n| self.world.contexts.get(n).is_some_and(|c| c.kind == *kind));
        if context.is_none() {
            options.insert(mapping.authority.clone(), authority.into());
        }
        options.insert(mapping.path.clone(), path.into());
        let last = path
            .trim_end_matches('/')
            .rsplit('/')
            .next()
            .unwrap_or_default();
        let name = match &attach.name {
            Some(name) => name.clone(),
            None => VolumeName::new(last).map_err(|e| e.remedy("give it a name with --name"))?,
        };
        let below = context
            .as_ref()
            .map_or_else(|| authority.replace(':', "-"), ToString::to_string);
        let place = format!("{below}/{name}");
        Ok((
            NewVolume {
                name,
                kind: Some(kind.clone()),
                context,
                options,
            },
            place,
        ))
    }

    /// Removes a volume that nothing uses; answers once it is gone.
    pub fn remove(&mut self, name: VolumeName, force: bool, reply: Reply<()>) {
        match self.removable(&name).and_then(|v| not_in_use(&name, v)) {
            Err(error) => answer(reply, Err(error)),
            Ok(()) => self.let_go(name, force, reply),
        }
    }

    /// The same for Docker, which asks only once none of its containers has the volume and knows
    /// that better than a listing of a moment ago. What it cannot know is who uses a path below `/mnt`.
    pub fn remove_for_docker(&mut self, name: VolumeName, reply: Reply<()>) {
        let removable = self.removable(&name).and_then(|volume| match volume.place {
            Place::Docker => Ok(()),
            Place::Mnt(_) => not_in_use(&name, volume),
        });
        match removable {
            Err(error) => answer(reply, Err(error)),
            Ok(()) => self.let_go(name, false, reply),
        }
    }

    fn removable(&self, name: &VolumeName) -> Result<&VolumeEntry> {
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

    fn let_go(&mut self, name: VolumeName, forced: bool, reply: Reply<()>) {
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

    /// Docker wants to use a volume; answers with its mountpoint once it is mounted.
    pub fn mount(
        &mut self,
        name: VolumeName,
        mount_id: String,
        caller: Caller,
        reply: Reply<String>,
    ) {
        self.note_docker(caller);
        let usable = self.volume(&name).and_then(|volume| {
            if self.world.draining || !volume.wanted {
                return Err(Error::new(
                    ErrorKind::Busy,
                    format!("volume \"{name}\" is being removed"),
                ));
            }
            Ok(())
        });
        let held =
            usable.and_then(|()| self.apply_durably([Event::Held(name.clone(), mount_id.clone())]));
        if let Err(error) = held {
            return answer(reply, Err(error));
        }
        let wait = if self.is_booting() {
            limits::MOUNT_WAIT_AT_BOOT
        } else {
            limits::MOUNT_WAIT
        };
        let held = name.clone();
        self.wait_for(&name, Goal::Attached, wait, move |supervisor, result| {
            let result = result.map(|()| {
                supervisor
                    .world
                    .volumes
                    .get(&held)
                    .map(VolumeEntry::target)
                    .unwrap_or_default()
            });
            // Docker sends no Unmount for a Mount that failed; nor does one who has hung up.
            let lost = result.is_err();
            if reply.send(result).is_err() || lost {
                supervisor.apply(Event::Released(held, mount_id));
            }
        });
    }

    /// Docker no longer uses a volume; answers once that is kept and the mount is gone, or will be.
    pub fn unmount(
        &mut self,
        name: VolumeName,
        mount_id: String,
        caller: Caller,
        reply: Reply<()>,
    ) {
        self.note_docker(caller);
        if let Err(error) = self.apply_durably([Event::Released(name.clone(), mount_id)]) {
            return answer(reply, Err(error));
        }
        let still_wanted = self
            .world
            .volumes
            .get(&name)
            .is_none_or(VolumeEntry::should_be_attached);
        if still_wanted {
            return answer(reply, Ok(()));
        }
        self.wait_for(&name, Goal::Detached, limits::VIEW, move |_, result| {
            answer(reply, result)
        });
    }

    /// A volume of `kind` as Docker shows it.
    ///
    /// # Errors
    /// `NotFound` if there is none of that kind.
    pub fn docker_volume(&self, kind: &Kind, name: &VolumeName) -> Result<DockerVolume> {
        let volume = self.volume(name)?;
        match self.world.contexts.get(&volume.context) {
            Some(context) if context.kind == *kind => Ok(self.as_docker_volume(name, volume)),
            _ => Err(Error::not_found(format!(
                "no volume \"{name}\" of kind \"{kind}\""
            ))),
        }
    }

    /// All volumes of `kind` as Docker shows them, but for those that it may be having made or
    /// removed at this moment: it holds its own lock on them, and a listing would wait for that.
    pub fn docker_volumes(&self, kind: &Kind) -> Vec<DockerVolume> {
        let of_kind = |v: &VolumeEntry| {
            self.world
                .contexts
                .get(&v.context)
                .is_some_and(|c| c.kind == *kind)
        };
        let settled = |v: &VolumeEntry| v.wanted && (v.made || v.origin != Origin::Created);
        self.world
            .volumes
            .iter()
            .filter(|(_, v)| settled(v) && of_kind(v))
            .map(|(name, v)| self.as_docker_volume(name, v))
            .collect()
    }

    fn as_docker_volume(&self, name: &VolumeName, volume: &VolumeEntry) -> DockerVolume {
        let status = self.world.volume_status(name, volume, self.now());
        let mut shown = Map::new();
        shown.insert("context".into(), status.context.as_str().into());
        shown.insert("health".into(), json(&status.health));
        shown.insert("phase".into(), json(&status.phase));
        if let Some(source) = status.source {
            shown.insert("source".into(), source.into());
        }
        if let Some(reason) = status.reason.filter(|_| status.phase != VolumePhase::Idle) {
            shown.insert("reason".into(), reason.into());
        }
        DockerVolume {
            name: name.clone(),
            mountpoint: status.mountpoint,
            created_at: status.created_at,
            status: shown,
        }
    }
}

fn json(value: &impl serde::Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

enum Prepared {
    Exists,
    New(Vec<Event>),
}

/// Whether `new` asks for what `old` is.
fn same(name: &VolumeName, old: &VolumeEntry, new: &VolumeEntry) -> Result<()> {
    if !old.wanted {
        return Err(Error::new(
            ErrorKind::Busy,
            format!("volume \"{name}\" is being removed"),
        )
        .remedy("try again once it is gone"));
    }
    let mut differences = Vec::new();
    if old.context != new.context {
        differences.push(format!(
            "its context is \"{}\", not \"{}\"",
            old.context, new.context
        ));
    }
    if old.read_only != new.read_only {
        differences.push("one of them is read-only".to_owned());
    }
    let empty = Map::new();
    let (have, want) = (
        old.options.as_object().unwrap_or(&empty),
        new.options.as_object().unwrap_or(&empty),
    );
    let keys: std::collections::BTreeSet<&String> = have.keys().chain(want.keys()).collect();
    for key in keys {
        let shown = |v: Option<&Value>| v.map_or_else(|| "not set".to_owned(), ToString::to_string);
        if have.get(key) != want.get(key) {
            differences.push(format!(
                "`{key}` is {}, not {}",
                shown(have.get(key)),
                shown(want.get(key))
            ));
        }
    }
    if differences.is_empty() {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::AlreadyExists,
        format!("volume \"{name}\" exists with other options"),
    )
    .cause(differences.join("; "))
    .remedy("use another name, or remove it first"))
}

/// The first of `given` that `config` has not, or has otherwise.
fn differing<'a>(given: &'a Map<String, Value>, config: &Value) -> Option<&'a str> {
    given
        .iter()
        .find(|(key, value)| config.get(key.as_str()) != Some(value))
        .map(|(key, _)| key.as_str())
}

fn not_in_use(name: &VolumeName, volume: &VolumeEntry) -> Result<()> {
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
