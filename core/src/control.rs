//! The messages between `laz` (or any local program) and core, over `core.sock`.
//!
//! Frames are those of [`crate::frame`]. A client sends one [`Request`]; core answers with any
//! number of [`Response::Item`]s (log lines, progress) and ends with [`Response::Done`] or
//! [`Response::Failed`]. The connection then takes the next request.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Error;
use crate::name::{ContextName, Kind, SnapshotName, VolumeName};
use crate::volume::{Activity, Capacity, Found, HealthState, SnapshotId, VolumeId};

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
        /// Its snapshots with it; without this a volume that has any is refused.
        #[serde(default)]
        snapshots: bool,
    },
    /// Gives a volume that nothing uses another name; its storage is not touched. Done: [`VolumeStatus`].
    VolumeRename {
        /// Its name.
        name: VolumeName,
        /// Its new name.
        to: VolumeName,
    },
    /// Gives a volume another size. Items: [`Progress`]. Done: [`VolumeStatus`].
    VolumeResize {
        /// Its name.
        name: VolumeName,
        /// The size it is to have, as its option `size` is written (`20G`).
        size: String,
    },
    /// Makes a volume with the content of another one of the same context. Items: [`Progress`].
    /// Done: [`VolumeStatus`].
    VolumeClone {
        /// The volume to clone.
        source: VolumeName,
        /// Its snapshot to clone; none: the volume as it is.
        #[serde(default)]
        snapshot: Option<SnapshotName>,
        /// The name of the new volume.
        name: VolumeName,
        /// What is to be different from the options of the source.
        #[serde(default)]
        options: BTreeMap<String, String>,
    },
    /// Brings a volume that nothing uses back to a snapshot of it. Items: [`Progress`]. Done:
    /// [`VolumeStatus`].
    VolumeRollback {
        /// Its name.
        name: VolumeName,
        /// The snapshot.
        snapshot: SnapshotName,
    },
    /// Takes a snapshot of a volume. Done: [`SnapshotStatus`].
    VolumeSnapshot {
        /// The volume's name.
        name: VolumeName,
        /// The snapshot's name; none: the time.
        #[serde(default)]
        snapshot: Option<SnapshotName>,
    },
    /// Removes a snapshot. Done: null.
    SnapshotRemove {
        /// The volume's name.
        name: VolumeName,
        /// The snapshot's name.
        snapshot: SnapshotName,
    },
    /// One of the kind's own actions (see [`crate::Manifest::actions`]). The client has asked its
    /// user about what is lost by it; core takes the call back if the client goes. Items:
    /// [`Progress`]. Done: what the action says: text, an object, or a list of objects.
    Act {
        /// What it is done to.
        on: ActTarget,
        /// Which action.
        action: String,
        /// Its parameters as text; core gives them the types that the action's schema has.
        #[serde(default)]
        parameters: BTreeMap<String, String>,
    },
    /// Has a context that waits or is stopped tried again now. Done: [`ContextStatus`].
    ContextResume {
        /// Its name.
        name: ContextName,
    },
    /// Looks for storage that can be taken over, and changes nothing. Done: a list of [`Scanned`].
    Scan {
        /// Which kinds look; none: all that can.
        #[serde(default)]
        kinds: Vec<Kind>,
    },
    /// Takes over what a URL names. `nfs://nas/media`, `zfs:tank/media`: one volume, mounted below
    /// `/mnt`. `zfs:tank`: a whole context, with all it lists below `/mnt/tank`. Done: [`Attached`].
    Attach {
        /// The URL.
        url: String,
        /// The volume's or the context's name; none: derived from the URL.
        #[serde(default)]
        name: Option<VolumeName>,
        /// Further options of the kind.
        #[serde(default)]
        options: BTreeMap<String, String>,
        /// Mount it for reading only.
        #[serde(default)]
        read_only: bool,
    },
    /// Takes back an attach: unmounts and forgets the volume or the context, removes no data. Done: null.
    Detach {
        /// The volume's or the context's name.
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
    /// The plugins that this machine has. Done: [`Plugins`].
    Plugins,
    /// Installs a plugin, or replaces it, or only looks at it. Done: [`PluginStatus`].
    PluginInstall(PluginInstall),
    /// Removes a plugin that no context needs. Done: the [`PluginStatus`] of the OS's own, which serves
    /// the kind again, or null.
    PluginRemove {
        /// Its kind.
        kind: Kind,
    },
}

/// A plugin to be installed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PluginInstall {
    /// Its image, which user Docker has or a registry. None: an archive as `docker save` makes it
    /// follows, in frames of bytes instead of JSON, the last of which is empty.
    #[serde(default)]
    pub image: Option<String>,
    /// It takes the place of the one of its kind, whose containers are made anew.
    #[serde(default)]
    pub upgrade: bool,
    /// Also under containers that lose their mounts for a moment by that.
    #[serde(default)]
    pub force: bool,
    /// Also if its version is older than that of the one whose place it takes, or that was removed.
    #[serde(default, skip_serializing_if = "is_false")]
    pub downgrade: bool,
    /// Only tells what the plugin is and asks for, and whether it would be refused.
    #[serde(default, skip_serializing_if = "is_false")]
    pub look: bool,
    /// The identity of the image that was looked at: another one is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// Its author's signature, as minisign has written it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
}

/// The plugins that a machine has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plugins {
    /// One for each kind.
    pub plugins: Vec<PluginStatus>,
    /// A sentence for each image that should be one and is not used.
    pub problems: Vec<String>,
}

/// A plugin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PluginStatus {
    /// What it serves.
    pub kind: Kind,
    /// Its version.
    pub version: String,
    /// The identity of its image.
    pub image: String,
    /// The contexts that it serves.
    pub contexts: Vec<ContextName>,
    /// What it says of itself.
    pub manifest: crate::Manifest,
    /// Whose it is.
    #[serde(default)]
    pub signature: PluginSignature,
    /// Why it may not serve, if it may not; contexts that it has open go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Error>,
}

/// What core knows of who has made a plugin.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum PluginSignature {
    /// Nothing: it has no signature.
    #[default]
    Missing,
    /// It is part of the OS.
    BuiltIn,
    /// It has a signature by a key that the cloud-config does not list, so it may be anybody's.
    Unchecked {
        /// The identity of the key, as the signature has it.
        key: String,
    },
    /// It has a signature by a key that the cloud-config lists.
    Verified {
        /// The identity of the key.
        key: String,
    },
    /// It has a signature that is not right.
    Wrong,
    /// What a newer core knows.
    #[serde(other)]
    Unknown,
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

/// What an action is done to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActTarget {
    /// A context.
    Context(ContextName),
    /// A volume.
    Volume(VolumeName),
}

/// What an attach has made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Attached {
    /// One volume, which is mounted.
    Volume(Box<VolumeStatus>),
    /// A context, which is open.
    Context(Box<ContextStatus>),
}

/// How far something is, as an item of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// What is being done.
    pub message: String,
    /// How much of it is done, between 0 and 1, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<f32>,
}

/// What one kind has found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scanned {
    /// The kind.
    pub kind: Kind,
    /// What is there. What a context has already, as far as its kind shows it, says which, and has no
    /// URL.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub found: Vec<Found>,
    /// Why it could not look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Error>,
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
    /// Whether the cloud-config declares it.
    pub declared: bool,
    /// Whether `laz attach` took it over; if neither, it was made for a volume and goes with the last.
    #[serde(default, skip_serializing_if = "is_false")]
    pub attached: bool,
    /// The storage container's short identity.
    pub container: Option<String>,
    /// Workers given up on because the storage does not let them end.
    pub abandoned: u32,
    /// How often its plugin has died since core's start, or since something was changed about it.
    #[serde(default, skip_serializing_if = "is_none")]
    pub crashes: u32,
    /// How full it is, if that is one number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Capacity>,
    /// Long work that its storage does by itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub activities: Vec<Activity>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_none(count: &u32) -> bool {
    *count == 0
}

fn is_false(value: &bool) -> bool {
    !value
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
    /// Its plugin died too often; it is left alone for some time.
    Stopped,
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
    /// Its size as its options have it, if they have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
    /// The size that it is being given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_size: Option<String>,
    /// Its snapshots, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub snapshots: Vec<SnapshotStatus>,
}

/// A snapshot of a volume.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SnapshotStatus {
    /// Its name, unique among those of its volume.
    pub name: SnapshotName,
    /// Core's identity of it.
    pub id: SnapshotId,
    /// When it was asked for, RFC 3339.
    pub created_at: String,
    /// What core is doing with it.
    pub phase: SnapshotPhase,
    /// What went wrong last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Where a snapshot is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotPhase {
    /// Being taken.
    Pending,
    /// There.
    Taken,
    /// Its volume is being brought back to it.
    RollingBack,
    /// Being removed.
    Leaving,
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
    /// The unmount did not succeed several times in a row: the mount stays and is tried again.
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
