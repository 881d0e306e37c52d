//! What core does next, and what comes of it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::changes::SnapshotEntry;
use super::world::{Attachment, ContextEntry, KindEntry, RefusedKind, VolumeEntry};
use crate::error::Error;
use crate::name::{ContextName, Kind, SnapshotName, VolumeName};
use crate::volume::{Health, HealthState, ListedVolume, SnapshotId};

/// One thing to do. At most one is under way for each context and each volume.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// On a context.
    Context(ContextName, ContextAct),
    /// On a volume.
    Volume(VolumeName, VolumeAct),
}

/// What can be done to a context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ContextAct {
    /// Make and start its container, or find it running.
    Start,
    /// Reach the plugin host and exchange hellos.
    Link,
    /// Have the plugin open it with its options.
    Open,
    /// Ask the plugin what volumes it knows of.
    List,
    /// Have the plugin close it.
    Close,
    /// Stop and remove its container.
    Stop,
}

/// What can be done to a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum VolumeAct {
    /// Have the plugin make it, or clone it.
    Create,
    /// Have the plugin mount it and attach the mount in the view.
    Attach,
    /// Put a fresh mount in the place of a dead one, in the view and in running containers.
    Heal,
    /// Unmount it in the view, then in its container.
    Detach,
    /// Have the plugin remove it.
    Remove,
    /// Have the plugin take a snapshot.
    Snapshot(SnapshotId),
    /// Have the plugin remove a snapshot.
    RemoveSnapshot(SnapshotId),
    /// Have the plugin bring it back to a snapshot.
    Rollback(SnapshotId),
    /// Have the plugin give it the size that it is to have.
    Resize,
}

/// What a step has come to.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The container runs; its identity.
    Started(String),
    /// The plugin host said hello; whether it has the context open already.
    Linked {
        /// Whether the context is open from before core came.
        open: bool,
    },
    /// The context is open with these options.
    Opened(Value),
    /// What the plugin knows of.
    Listed(Vec<ListedVolume>),
    /// The volume is attached in the view.
    Attached(Attachment),
    /// The volume has this `size` now.
    Resized(Value),
    /// Done; there is nothing more to say.
    Done,
}

/// Something that has happened or is asked for.
#[derive(Debug, Clone)]
pub enum Event {
    /// The kinds that can be served, read anew.
    Kinds(BTreeMap<Kind, KindEntry>),
    /// The kinds that could be served but may not be, read anew.
    Refused(BTreeMap<Kind, RefusedKind>),
    /// A signature came with an image.
    Signed {
        /// The image's identity.
        image: String,
        /// The signature, as minisign has written it.
        signature: String,
        /// The identities of all images that there are: signatures of others go.
        there: BTreeSet<String>,
    },
    /// The plugin of a kind has been removed in this version, or has been installed (none).
    Removed(Kind, Option<String>),
    /// The declared contexts and volumes, read anew: what is not in them is no longer declared.
    Declared {
        /// The contexts, with their kind and options.
        contexts: BTreeMap<ContextName, (Kind, Value)>,
        /// The volumes.
        volumes: BTreeMap<VolumeName, VolumeEntry>,
    },
    /// A context for volumes that name none.
    ContextMade(ContextName, Box<ContextEntry>),
    /// A volume is to be made.
    VolumeWanted(VolumeName, Box<VolumeEntry>),
    /// A volume is to go.
    VolumeUnwanted {
        /// Which.
        name: VolumeName,
        /// Whether to skip what its storage does not allow.
        forced: bool,
    },
    /// A context is to be kept with all it lists, until it is detached.
    ContextAttached(ContextName, Box<ContextEntry>),
    /// The above is taken back.
    ContextDetached(ContextName),
    /// A context that waits or is stopped is to be tried again now.
    ContextResumed(ContextName),
    /// What takes long in the step under way on a context; none: nothing any more.
    ContextDoing(ContextName, Option<String>),
    /// A volume that nothing uses gets another name.
    VolumeRenamed {
        /// Its name.
        from: VolumeName,
        /// Its new name, which is free.
        to: VolumeName,
    },
    /// A snapshot is to be taken.
    SnapshotWanted(VolumeName, SnapshotName, SnapshotEntry),
    /// A snapshot is to go.
    SnapshotUnwanted(VolumeName, SnapshotName),
    /// A volume is to be brought back to a snapshot.
    RollbackWanted(VolumeName, SnapshotId),
    /// A volume is to have another `size`.
    ResizeWanted(VolumeName, Value),
    /// A rollback or resize is no longer asked for, unless it has begun.
    ChangeWithdrawn(VolumeName),
    /// Docker holds a volume by a mount identity, once more.
    Held(VolumeName, String),
    /// Docker lets go of a mount identity, once.
    Released(VolumeName, String),
    /// A step has ended.
    StepEnded(Step, Result<Outcome, Error>),
    /// A detach under way has taken the mount out of the view; the container's own copy is left.
    Detached(VolumeName),
    /// The connection to a plugin host broke.
    LinkLost(ContextName, Error),
    /// System Docker does not answer any more.
    SystemEngineLost,
    /// A container of ours ended or went.
    ContainerLost(ContextName),
    /// A plugin's report.
    Health(ContextName, Result<Health, Error>),
    /// The mounts below our target roots, as just read: target to attachment.
    ViewObserved(BTreeMap<String, Attachment>),
    /// Which containers of user Docker use which volumes, by name; complete.
    UsedBy(BTreeMap<VolumeName, BTreeSet<String>>),
    /// Docker's counts, held against what its containers use.
    HoldsReconciled {
        /// Volumes that no container uses: let go of them.
        unused: BTreeSet<VolumeName>,
        /// Whether every count is to be one (after a restart of Docker, which forgets its own).
        collapse: bool,
    },
    /// The number of workers given up on for a context.
    Abandoned(ContextName, u32),
}

impl Event {
    /// Whether it can change what core keeps across its own death. Reports that come all the time
    /// cannot.
    pub fn changes_what_is_kept(&self) -> bool {
        if let Self::Health(_, Ok(report)) = self {
            let mut volumes = report.volumes.iter();
            return volumes.any(|volume| volume.state == HealthState::Stale);
        }
        !matches!(
            self,
            Self::Health(..)
                | Self::Refused(_)
                | Self::UsedBy(_)
                | Self::Abandoned(..)
                | Self::ContextDoing(..)
                | Self::ContextResumed(_)
                | Self::SystemEngineLost
                | Self::LinkLost(..)
                | Self::ContainerLost(_)
        )
    }
}
