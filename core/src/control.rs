//! The messages between `laz` (or any local program) and core, over `core.sock`.
//!
//! Frames are those of [`crate::frame`]. A client sends one [`Request`]; core answers with any
//! number of [`Response::Item`]s (log lines, progress) and ends with [`Response::Done`] or
//! [`Response::Failed`]. The connection then takes the next request.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Error;
use crate::name::{ContextName, Kind, VolumeName};
use crate::volume::{HealthState, VolumeId};

/// What a client asks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Everything core knows. Answered from core's own state. Done: [`Status`].
    Status,
    /// One volume. Done: [`VolumeStatus`].
    VolumeInspect {
        /// Its name.
        name: VolumeName,
    },
    /// Makes a volume. Done: [`VolumeStatus`].
    VolumeCreate(NewVolume),
    /// Removes a volume that nothing uses. Done: null.
    VolumeRemove {
        /// Its name.
        name: VolumeName,
        /// Also with its storage away; what cannot be cleaned up there is left there.
        #[serde(default)]
        force: bool,
    },
    /// Makes a volume from a URL such as `nfs://nas/media` and mounts it below `/mnt`. Done: [`VolumeStatus`].
    Attach {
        /// The URL.
        url: String,
        /// The volume's name; none: derived from the URL.
        #[serde(default)]
        name: Option<VolumeName>,
        /// Further options of the kind.
        #[serde(default)]
        options: BTreeMap<String, String>,
        /// Mount it for reading only.
        #[serde(default)]
        read_only: bool,
    },
    /// Takes back an attach: unmounts and forgets the volume, removes no data. Done: null.
    Detach {
        /// The volume's name.
        name: VolumeName,
        /// Detach lazily although something in the view uses it.
        #[serde(default)]
        lazy: bool,
    },
    /// Checks a cloud-config. Done: a list of [`Problem`].
    ConfigCheck {
        /// Its text.
        text: String,
    },
    /// Checks a cloud-config and, if it has no problem, makes it the operator's and applies it. Done: a list of [`Problem`].
    ConfigSet {
        /// Its text.
        text: String,
    },
    /// The JSON schema of the cloud-config with all kinds known here. Done: the schema.
    ConfigSchema,
    /// The log of a context. Items: lines. Done: null.
    Logs {
        /// Which context.
        context: ContextName,
        /// How many of the last lines; none: all that is kept.
        #[serde(default)]
        tail: Option<usize>,
        /// Stay and send lines as they come.
        #[serde(default)]
        follow: bool,
    },
    /// The machine goes down: unmounts everything, closes every context and stops its container,
    /// and takes on nothing new. Volumes stay known. Done: null.
    Drain,
    /// The kinds core can serve. Done: a list of [`crate::Manifest`].
    Kinds,
}

/// A volume to be made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewVolume {
    /// Its name.
    pub name: VolumeName,
    /// The kind of storage; none: that of `context`.
    #[serde(default)]
    pub kind: Option<Kind>,
    /// The context; none: found (or made) from the options.
    #[serde(default)]
    pub context: Option<ContextName>,
    /// Options of the volume, and of its context if that is to be found or made.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

/// What core answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "response", content = "value", rename_all = "snake_case")]
pub enum Response {
    /// One of several: a log line, a word of progress.
    Item(Value),
    /// The end: the value of the request.
    Done(Value),
    /// The end: what went wrong.
    Failed(Error),
}

/// Everything core knows at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Core's version.
    pub version: String,
    /// Seconds since core started.
    pub uptime_seconds: u64,
    /// Whether everything required is there.
    pub ready: bool,
    /// The contexts, by name.
    pub contexts: Vec<ContextStatus>,
    /// The volumes, by name.
    pub volumes: Vec<VolumeStatus>,
    /// The engines.
    pub engines: Vec<EngineStatus>,
    /// What is wrong with the configuration in force.
    pub problems: Vec<Problem>,
}

/// A context.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContextStatus {
    /// Its name.
    pub name: ContextName,
    /// Its kind.
    pub kind: Kind,
    /// What core is doing with it.
    pub phase: ContextPhase,
    /// Its health as last heard.
    pub health: HealthState,
    /// Why, if not healthy; else what went wrong last.
    pub reason: Option<String>,
    /// Seconds until core tries again, if it will.
    pub retry_in_seconds: Option<u64>,
    /// Whether the cloud-config declares it (or it was made for a volume).
    pub declared: bool,
    /// The storage container's short identity.
    pub container: Option<String>,
    /// Workers given up on because the storage does not let them end.
    pub abandoned: u32,
}

/// Where a context is on its way up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContextPhase {
    /// Its container is not there yet.
    Starting,
    /// The container runs; the plugin is being reached.
    Connecting,
    /// The plugin is opening it.
    Opening,
    /// Open.
    Ready,
    /// Waiting to try again.
    Waiting,
    /// It cannot work as configured.
    Failed,
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VolumeStatus {
    /// Its name.
    pub name: VolumeName,
    /// Core's identity of it.
    pub id: VolumeId,
    /// Its context.
    pub context: ContextName,
    /// Its kind.
    pub kind: Kind,
    /// Its options.
    pub options: Value,
    /// What core is doing with it.
    pub phase: VolumePhase,
    /// Its health as last heard.
    pub health: HealthState,
    /// Why, if not healthy; else what went wrong last.
    pub reason: Option<String>,
    /// Seconds until core tries again, if it will.
    pub retry_in_seconds: Option<u64>,
    /// Where it is mounted in the view.
    pub mountpoint: Option<String>,
    /// What is mounted there (`nas.test:/srv/media`).
    pub source: Option<String>,
    /// Whether it is mounted for reading only.
    pub read_only: bool,
    /// Whether user Docker waits for it at boot.
    pub required: bool,
    /// Where it comes from.
    pub origin: Origin,
    /// The containers of user Docker that use it, by name.
    pub used_by: Vec<String>,
    /// When it was made, RFC 3339.
    pub created_at: String,
}

/// Where a volume is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VolumePhase {
    /// Known; mounted when somebody uses it.
    Idle,
    /// Being made or mounted.
    Pending,
    /// Waiting to try again.
    Waiting,
    /// Mounted in the view.
    Mounted,
    /// Being unmounted or removed.
    Leaving,
    /// The unmount did not succeed: it is out of the way and tried again.
    Quarantined,
    /// It cannot work as it stands.
    Failed,
}

/// Where a volume comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The cloud-config.
    Declared,
    /// `docker volume create` or `laz volume create`.
    Created,
    /// `laz attach`.
    Attached,
}

/// One of the two engines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EngineStatus {
    /// `system` or `user`.
    pub name: String,
    /// Whether it answers.
    pub reachable: bool,
    /// Its version, once heard.
    pub version: Option<String>,
    /// Why it does not answer.
    pub reason: Option<String>,
}

/// Something wrong in a cloud-config.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The file or source.
    pub source: String,
    /// The line, from 1, where it is known.
    pub line: Option<u64>,
    /// The path (`lazarette.storage.contexts.nas.servr`).
    pub path: String,
    /// What is wrong, with the nearest valid name where that helps.
    pub message: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.source)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.path.is_empty() {
            write!(f, ": {}", self.path)?;
        }
        write!(f, ": {}", self.message)
    }
}
