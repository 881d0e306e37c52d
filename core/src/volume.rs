//! What a volume, a mount and a health report are.
//!
//! What core asks with is strict: a plugin must not do half of what it is asked. What a plugin answers
//! may hold more than this version knows: fields are added there, and an older core leaves them out.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

#[cfg(feature = "daemon")]
use crate::name::{ContextName, VolumeName};

/// The identity of a volume, allocated by core before the volume is made and stamped on it
/// where the storage can carry a stamp. Backing names derive from it, never from users' names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VolumeId(pub uuid::Uuid);

impl VolumeId {
    /// A fresh random identity.
    pub fn random() -> Self {
        Self(uuid::Uuid::new_v4())
    }

    /// The identity of a declared volume: the same whenever that name is declared in that context.
    /// So a declaration that is changed, or taken out and put back, finds its data again.
    #[cfg(feature = "daemon")]
    pub fn declared(context: &ContextName, name: &VolumeName) -> Self {
        /// An arbitrary identity of its own, as RFC 9562 asks for.
        const NAMESPACE: uuid::Uuid =
            uuid::Uuid::from_u128(0x8a6f_3d52_57c1_4f0e_9a3b_6c1d_2e48_b075);
        // Neither name can contain a slash.
        Self(uuid::Uuid::new_v5(
            &NAMESPACE,
            format!("{context}/{name}").as_bytes(),
        ))
    }
}

impl fmt::Display for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A volume as a plugin sees it: who it is and the options its kind defines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Volume<O = Value> {
    /// Core's identity of the volume.
    pub id: VolumeId,
    /// The volume's own options, of the shape the manifest's volume schema gives.
    pub options: O,
}

/// The identity of a snapshot, allocated by core before it is taken and stamped on it.
///
/// As a parameter of an action on a volume it is what core makes of the name that the user gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SnapshotId(pub uuid::Uuid);

impl SnapshotId {
    /// The `format` in a schema of what takes the name of a snapshot.
    pub const FORMAT: &'static str = "snapshot";

    /// A fresh random identity.
    pub fn random() -> Self {
        Self(uuid::Uuid::new_v4())
    }
}

impl schemars::JsonSchema for SnapshotId {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SnapshotId".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "format": Self::FORMAT })
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a clone is made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CloneSource<O = Value> {
    /// The volume to clone, as it is described now. It may be gone again when the clone is
    /// removed.
    pub volume: Volume<O>,
    /// The snapshot of it to clone; none: the volume as it is at this moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SnapshotId>,
}

/// Result of a create: idempotent, and says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Created {
    /// It was made by this call.
    Created,
    /// It was there already, and is what the call asks for.
    AlreadyExists,
}

/// Result of a remove: idempotent, and says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Removed {
    /// It was removed by this call.
    Removed,
    /// There was nothing to remove (or the storage keeps it on purpose).
    AlreadyAbsent,
}

/// A volume that a context knows of by itself: declared in its configuration or found in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedVolume {
    /// A short name, unique within the context; it becomes the last part of `/mnt/<context>/<name>`.
    pub name: String,
    /// Options that make a [`Volume`] of it.
    pub options: Value,
    /// Whether the context's configuration asks for it to be mounted without further ado.
    pub declared: bool,
}

/// A mount that a plugin has prepared in its own container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mounted {
    /// Where a file system is mounted in the plugin's container: must be the root of a mount.
    pub path: PathBuf,
    /// The directory below `path` that is the volume, relative and without `..`; none: all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subdirectory: Option<PathBuf>,
    /// The file system type as the mount table names it (`nfs4`, `ext4`, `fuse.glusterfs`).
    pub fs_type: String,
    /// The source as the mount table names it, for people.
    pub source: String,
}

/// How a context or a volume is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum HealthState {
    /// Serving.
    Healthy,
    /// Serving, but something needs attention.
    Degraded,
    /// The storage does not answer; I/O waits for it (hard mounts) and goes on when it returns.
    Unreachable,
    /// The storage is back and reclaims its state (NFS grace period).
    Recovering,
    /// A mount is dead for good (ESTALE, ENOTCONN) and must be replaced.
    Stale,
    /// Not serving, and will not by itself.
    Faulted,
    /// One that a newer version has and this one does not know.
    #[serde(other)]
    Unknown,
}

/// A health report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// The context as a whole.
    pub state: HealthState,
    /// Why, if not healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Volumes whose state differs from the context's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<VolumeHealth>,
    /// How full the context is, if that is one number (a pool, a volume group).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Capacity>,
    /// Long work that the storage does by itself: a scrub, a resilver, a heal.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub activities: Vec<Activity>,
}

/// How full something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    /// Bytes in all.
    pub total: u64,
    /// Bytes in use.
    pub used: u64,
}

/// Long work that the storage does by itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Activity {
    /// What is done: `scrub`, `resilver`, `heal`.
    pub name: String,
    /// How much of it is done, between 0 and 1, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<f32>,
    /// What a person wants to know beside it (`2 h left, no errors so far`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Storage that is there but belongs to no context: what `laz scan` shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// What it is: `pool`, `volume group`, `blank disk`.
    pub what: String,
    /// Its name: a pool's, or a device's stable path.
    pub name: String,
    /// Its size in bytes, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// What a person should know before taking it over (its state, why it cannot be taken over).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The devices it lies on, by stable paths.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<PathBuf>,
    /// The URL with which `laz attach` takes it over, if it can be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

impl Health {
    /// Everything serves.
    pub fn healthy() -> Self {
        Self {
            state: HealthState::Healthy,
            reason: None,
            volumes: Vec::new(),
            capacity: None,
            activities: Vec::new(),
        }
    }

    /// The context is in `state`, for `reason`.
    pub fn because(state: HealthState, reason: impl Into<String>) -> Self {
        Self {
            state,
            reason: Some(reason.into()),
            ..Self::healthy()
        }
    }
}

/// The health of one mounted volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeHealth {
    /// Which volume.
    pub id: VolumeId,
    /// Its state.
    pub state: HealthState,
    /// Why, if not healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
