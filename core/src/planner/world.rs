//! Everything core knows.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{ContextAct, Crashes, Pending, Retry, Snapshots, VolumeAct};
use crate::control::Origin;
use crate::error::Error;
use crate::manifest::{Capability, KIND_LABEL, Manifest};
use crate::name::{ContextName, Kind, VolumeName};
use crate::volume::{CloneSource, Health, HealthState, ListedVolume, SnapshotId, VolumeId};

/// Everything core knows: what should be, what is, and what is under way.
#[derive(Debug, Clone, Default)]
pub struct World {
    /// The kinds that images on system Docker serve, with the image.
    pub kinds: BTreeMap<Kind, KindEntry>,
    /// Those that images on system Docker could serve but may not.
    pub refused: BTreeMap<Kind, RefusedKind>,
    /// The signatures that came with images, by the images' identities.
    pub signatures: BTreeMap<String, String>,
    /// The versions of plugins that have been removed and not been installed again.
    pub removed: BTreeMap<Kind, String>,
    /// The contexts.
    pub contexts: BTreeMap<ContextName, ContextEntry>,
    /// The volumes.
    pub volumes: BTreeMap<VolumeName, VolumeEntry>,
    /// The snapshots of volumes that are declared no more, for when they are declared again.
    pub left: BTreeMap<VolumeId, Snapshots>,
    /// Whether the machine goes down: everything is unmounted and closed, nothing is forgotten.
    pub draining: bool,
}

/// A kind that can be served.
#[derive(Debug, Clone, PartialEq)]
pub struct KindEntry {
    /// The image's identity on system Docker.
    pub image: String,
    /// What its plugin says of itself.
    pub manifest: Manifest,
}

/// A kind whose image may not serve it.
#[derive(Debug, Clone, PartialEq)]
pub struct RefusedKind {
    /// The image and what its plugin says of itself.
    pub entry: KindEntry,
    /// Why not.
    pub why: Error,
}

impl World {
    /// Why there is nothing that could serve `kind`.
    pub fn no_image(&self, kind: &Kind) -> Error {
        if let Some(refused) = self.refused.get(kind) {
            return refused.why.clone();
        }
        let names: Vec<&str> = self.kinds.keys().map(Kind::as_str).collect();
        let remedy = match names.as_slice() {
            [] => format!("load one with the label {KIND_LABEL}={kind}"),
            names => format!("load one, or use one of: {}", names.join(", ")),
        };
        let what = format!("no image on system Docker serves kind \"{kind}\"");
        Error::not_found(what).remedy(remedy)
    }

    /// Why the plugin of a context that runs could not be started again, if that is so.
    pub(super) fn unwelcome(&self, context: &ContextEntry) -> Option<&Error> {
        let runs = context.stage > ContextStage::Absent && !self.kinds.contains_key(&context.kind);
        let refused = self.refused.get(&context.kind).filter(|_| runs);
        refused.map(|refused| &refused.why)
    }

    /// Whether the kind of `context` says that it can do `capability`.
    pub fn can(&self, context: &ContextName, capability: Capability) -> bool {
        let context = self.contexts.get(context);
        let kind = context.and_then(|c| self.kinds.get(&c.kind));
        kind.is_some_and(|k| k.manifest.capabilities.contains(&capability))
    }

    /// A number for a context that comes now: larger than those of all others.
    pub(super) fn next_since(&self) -> u64 {
        let last = self.contexts.values().map(|c| c.since).max();
        last.map_or(0, |n| n + 1)
    }
}

/// How far up a context is, as last observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum ContextStage {
    /// Nothing is known to run.
    #[default]
    Absent,
    /// Its container runs.
    Container,
    /// The plugin host has said hello.
    Linked,
    /// The plugin has opened the context.
    Open,
}

/// A storage context.
#[derive(Debug, Clone)]
pub struct ContextEntry {
    /// The kind of storage.
    pub kind: Kind,
    /// Its options.
    pub config: Value,
    /// Whether the cloud-config declares it.
    pub declared: bool,
    /// Whether it was attached as a whole. If it is neither, it was made for a volume and goes
    /// with its last one.
    pub attached: bool,
    /// Which of two contexts was there first: the one with the smaller number.
    pub since: u64,
    /// Whether it should be.
    pub wanted: bool,
    /// How far up it is.
    pub stage: ContextStage,
    /// Its container's identity, once known.
    pub container: Option<String>,
    /// Whether a container may be there although none is known: a start failed half-way, or core
    /// has just come back.
    pub unsure: bool,
    /// The options it was last opened with.
    pub opened_with: Option<Value>,
    /// What the plugin listed after the last open.
    pub listed: Option<Vec<ListedVolume>>,
    /// What is under way.
    pub running: Option<ContextAct>,
    /// What went wrong and when to try again.
    pub retry: Retry,
    /// Its health as last heard.
    pub health: Health,
    /// Workers given up on that have not ended.
    pub abandoned: u32,
    /// What takes long in the step under way, for people.
    pub doing: Option<String>,
    /// How often its plugin has died.
    pub crashes: Crashes,
}

impl ContextEntry {
    /// A context that should be and of which nothing has been observed.
    pub fn new(kind: Kind, config: Value, declared: bool) -> Self {
        Self {
            kind,
            config,
            declared,
            attached: false,
            since: 0,
            wanted: true,
            stage: ContextStage::Absent,
            container: None,
            unsure: false,
            opened_with: None,
            listed: None,
            running: None,
            retry: Retry::default(),
            health: Health::healthy(),
            abandoned: 0,
            doing: None,
            crashes: Crashes::default(),
        }
    }

    /// Whether its volumes can be worked on.
    pub fn is_ready(&self) -> bool {
        self.wanted
            && self.stage == ContextStage::Open
            && self.opened_with.as_ref() == Some(&self.config)
    }
}

/// Where declared and attached volumes are mounted in the view.
pub const MNT: &str = "/mnt";

/// Where Docker's volumes are mounted in the view, each below its identity.
pub const DOCKER_VOLUMES: &str = "/run/lazarette/volumes";

/// Where a volume is mounted in the view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// Below `/mnt`, while it exists; the path relative to it (`nas/media`).
    Mnt(String),
    /// Below another directory that is set aside for volumes, while it exists.
    Below {
        /// The absolute path of that directory (`/srv`).
        root: String,
        /// The path relative to it (`db`).
        path: String,
    },
    /// Below the directory for Docker's volumes, while a container uses it.
    Docker,
}

/// A mount in the view, as observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// The absolute path in the view.
    pub target: String,
    /// The source as the mount table or the plugin names it.
    pub source: String,
    /// The kernel's identity of the mount.
    pub mount_id: u64,
    /// The device number (major, minor) that all copies of the mount share.
    pub device: (u32, u32),
}

/// A volume.
#[derive(Debug, Clone)]
pub struct VolumeEntry {
    /// Core's identity of it.
    pub id: VolumeId,
    /// Its context.
    pub context: ContextName,
    /// Its options.
    pub options: Value,
    /// Where it comes from.
    pub origin: Origin,
    /// Whether it is for reading only.
    pub read_only: bool,
    /// Whether user Docker waits for it at boot.
    pub required: bool,
    /// Where it is mounted.
    pub place: Place,
    /// When it was made, RFC 3339.
    pub created_at: String,
    /// Whether it should be.
    pub wanted: bool,
    /// Whether removing it skips what its storage does not allow.
    pub forced: bool,
    /// Whether the plugin has acknowledged that it exists.
    pub made: bool,
    /// What it is cloned from, until it is made.
    pub source: Option<CloneSource>,
    /// Its snapshots.
    pub snapshots: Snapshots,
    /// The snapshot that it is to be brought back to; it is not mounted until that is done.
    pub rollback: Option<Pending<SnapshotId>>,
    /// The `size` that it is to have.
    pub resize: Option<Pending<Value>>,
    /// Why the last rollback or resize that was asked for was given up.
    pub refused: Option<Error>,
    /// Docker's mount identities that hold it, with their counts.
    pub holds: BTreeMap<String, u32>,
    /// The mount in the view.
    pub attached: Option<Attachment>,
    /// Whether an attach failed in a way that may have left a mount behind.
    pub unsure: bool,
    /// Whether the unmount of `attached` failed and goes on failing.
    pub quarantined: bool,
    /// What is under way.
    pub running: Option<VolumeAct>,
    /// What went wrong and when to try again.
    pub retry: Retry,
    /// Its health as last heard, if it differs from its context's.
    pub health: Option<(HealthState, Option<String>)>,
    /// Whether its mount was found dead, until another has replaced it: the plugin forgets that as
    /// soon as it is told to mount anew, which may fail.
    pub dead: bool,
    /// The containers of user Docker that use it, by name.
    pub used_by: BTreeSet<String>,
}

impl VolumeEntry {
    /// Whether it should be mounted in the view.
    pub fn should_be_attached(&self) -> bool {
        self.wanted
            && self.rollback.is_none()
            && (self.place != Place::Docker || !self.holds.is_empty())
    }

    /// The absolute path in the view where it is, or would be, mounted.
    pub fn target(&self) -> String {
        match &self.place {
            Place::Mnt(path) | Place::Below { path, .. } => format!("{}/{path}", self.root()),
            Place::Docker => format!("{}/{}", self.root(), self.id),
        }
    }

    /// The directory of core's in the view that holds [`target`](Self::target).
    pub fn root(&self) -> &str {
        match &self.place {
            Place::Mnt(_) => MNT,
            Place::Below { root, .. } => root,
            Place::Docker => DOCKER_VOLUMES,
        }
    }

    /// Whether its mount is dead for good and must be replaced.
    pub fn is_stale(&self) -> bool {
        self.attached.is_some() && self.dead
    }
}
