//! What is done to a volume that exists: snapshots, bringing it back to one, another size,
//! another name.
//!
//! Each is an intent that is kept before anything is done and taken back once it is done, so that
//! core, coming back after a crash, goes on with it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::apply::is_of_list;
use super::world::VolumeEntry;
use super::{Event, Millis, Outcome, Retry, VolumeAct, World};
use crate::control::Origin;
use crate::error::{Error, ErrorKind};
use crate::manifest::Capability;
use crate::name::{ContextName, SnapshotName, VolumeName};
use crate::volume::SnapshotId;

/// The snapshots of a volume.
pub type Snapshots = BTreeMap<SnapshotName, SnapshotEntry>;

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SnapshotEntry {
    /// Core's identity of it.
    pub id: SnapshotId,
    /// When it was asked for, RFC 3339.
    pub created_at: String,
    /// Whether it should be.
    pub wanted: bool,
    /// Whether the plugin has acknowledged that it exists.
    pub made: bool,
    /// What went wrong and when to try again.
    #[serde(skip)]
    pub retry: Retry,
}

impl SnapshotEntry {
    /// One that should be and of which nothing is known.
    pub fn new(id: SnapshotId, created_at: String) -> Self {
        Self {
            id,
            created_at,
            wanted: true,
            made: false,
            retry: Retry::default(),
        }
    }
}

/// A change that is asked for and not done yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pending<T> {
    /// What it is to come to.
    pub to: T,
    /// What went wrong and when to try again.
    #[serde(skip)]
    pub retry: Retry,
}

impl<T> Pending<T> {
    /// One that has not been tried.
    pub fn new(to: T) -> Self {
        Self {
            to,
            retry: Retry::default(),
        }
    }
}

impl VolumeAct {
    /// Whether it is one of those whose failure does not hold up the others: they have their own
    /// [`Retry`].
    pub(super) fn is_change(self) -> bool {
        matches!(
            self,
            Self::Snapshot(_) | Self::RemoveSnapshot(_) | Self::Rollback(_) | Self::Resize
        )
    }
}

impl World {
    pub(super) fn take_change(&mut self, event: Event) {
        match event {
            Event::VolumeRenamed { from, to } => self.rename(&from, to),
            Event::SnapshotWanted(volume, name, entry) => {
                if let Some(volume) = self.volumes.get_mut(&volume) {
                    volume.snapshots.entry(name).or_insert(entry);
                }
            }
            Event::SnapshotUnwanted(volume, name) => {
                let volume = self.volumes.get_mut(&volume);
                if let Some(snapshot) = volume.and_then(|v| v.snapshots.get_mut(&name)) {
                    snapshot.wanted = false;
                    snapshot.retry.succeeded();
                }
            }
            Event::RollbackWanted(volume, snapshot) => {
                if let Some(volume) = self.volumes.get_mut(&volume) {
                    volume.refused = None;
                    volume.rollback = Some(Pending::new(snapshot));
                    // The detach before it is not to wait.
                    volume.retry.now();
                }
            }
            Event::ResizeWanted(volume, size) => {
                if let Some(volume) = self.volumes.get_mut(&volume) {
                    volume.refused = None;
                    volume.want_size(size);
                }
            }
            Event::ChangeWithdrawn(volume) => {
                if let Some(volume) = self.volumes.get_mut(&volume) {
                    volume.withdraw_change();
                }
            }
            _ => {}
        }
    }

    fn rename(&mut self, from: &VolumeName, to: VolumeName) {
        let idle = |v: &VolumeEntry| v.running.is_none();
        if self.volumes.contains_key(&to) || !self.volumes.get(from).is_some_and(idle) {
            return;
        }
        if let Some(volume) = self.volumes.remove(from) {
            self.volumes.insert(to, volume);
        }
    }

    /// Takes a declared or listed volume in, with the snapshots that it has had before.
    pub(super) fn insert_with_its_snapshots(&mut self, name: VolumeName, mut entry: VolumeEntry) {
        if self.volumes.contains_key(&name) {
            return;
        }
        if let Some(snapshots) = self.left.remove(&entry.id) {
            entry.snapshots = snapshots;
        }
        self.volumes.insert(name, entry);
    }

    /// Whether a volume other than `name` is to be at, below or above `target`: one that somebody
    /// has attached by itself, or declared.
    pub(super) fn taken(&self, name: &VolumeName, target: &str) -> bool {
        let mut others = self.volumes.iter().filter(|(other, _)| *other != name);
        others.any(|(_, v)| overlap(&v.target(), target))
    }

    /// Forgets a volume that is gone. One that can be declared again keeps its identity and its
    /// data, and so its snapshots.
    pub(super) fn forget_volume(&mut self, name: &VolumeName) {
        let Some(volume) = self.volumes.remove(name) else {
            return;
        };
        let comes_back =
            volume.origin == Origin::Declared || is_of_list(&volume.context, name, &volume);
        if comes_back && !volume.snapshots.is_empty() {
            self.left.insert(volume.id, volume.snapshots);
        }
        // What it was in the place of may appear now.
        if let Some(context) = self.contexts.get_mut(&volume.context)
            && context.attached
        {
            context.listed = None;
        }
    }

    /// The contexts whose volumes can be given another size.
    pub(super) fn resizable_contexts(&self) -> BTreeSet<ContextName> {
        let names = self.contexts.keys();
        names
            .filter(|name| self.can(name, Capability::Resize))
            .cloned()
            .collect()
    }
}

impl VolumeEntry {
    /// Whether it is one that its context lists by itself and nobody has made or named.
    pub fn is_of_list(&self, name: &VolumeName) -> bool {
        is_of_list(&self.context, name, self)
    }

    /// Takes back what core, having died, has told nobody to exist.
    pub fn undo_what_nobody_was_told(&mut self) {
        if self.origin == Origin::Created && !self.made {
            self.wanted = false;
        }
        // What may have begun is finished.
        for snapshot in self.snapshots.values_mut() {
            snapshot.wanted &= snapshot.made;
            snapshot.retry.failures = u32::from(!snapshot.wanted);
        }
        let resize = self.resize.as_mut().map(|r| &mut r.retry);
        let rollback = self.rollback.as_mut().map(|r| &mut r.retry);
        for retry in [resize, rollback].into_iter().flatten() {
            retry.failures = 1;
        }
    }

    /// The next thing to do about its snapshots, and when.
    pub(super) fn snapshot_act(&self) -> Option<(VolumeAct, Millis)> {
        let undone = self.snapshots.values().filter(|s| !s.wanted || !s.made);
        let next = undone.min_by_key(|s| s.retry.not_before)?;
        let act = if next.wanted {
            VolumeAct::Snapshot(next.id)
        } else {
            VolumeAct::RemoveSnapshot(next.id)
        };
        Some((act, next.retry.not_before))
    }

    /// With the volume go its snapshots.
    pub(super) fn unwant_snapshots(&mut self) {
        for snapshot in self.snapshots.values_mut() {
            snapshot.wanted = false;
            snapshot.retry.succeeded();
        }
    }

    /// The storage has refused to remove it because something needs it. Whoever asked is told, and
    /// it stays: it is not to vanish by itself once that something is gone.
    pub(super) fn keep_after_all(&mut self) {
        if self.origin == Origin::Created && self.made && !self.forced {
            self.wanted = true;
            for snapshot in self.snapshots.values_mut() {
                // One of which no word has come may be gone: that goes on.
                let refused = |e: &Error| e.kind == ErrorKind::Busy;
                let there = snapshot.retry.failures == 0
                    || snapshot.retry.error.as_ref().is_some_and(refused);
                snapshot.wanted |= snapshot.made && there;
            }
        }
    }

    /// Whether the volume, being on its way out, waits for its snapshots to be removed: always if
    /// it goes from its storage, else if that was asked for.
    pub(super) fn snapshots_go_first(&self) -> bool {
        let asked = self.snapshots.values().all(|s| !s.wanted);
        let waits = match self.origin {
            Origin::Created => true,
            Origin::Attached => asked,
            Origin::Declared => false,
        };
        waits && !self.snapshots.is_empty()
    }

    /// Whether `new` is this volume with another size and nothing else.
    pub(super) fn differs_in_size(&self, new: &Self) -> bool {
        let without_size = |options: &Value| {
            let mut options = options.as_object().cloned().unwrap_or_default();
            options.remove("size");
            options
        };
        self.context == new.context
            && self.place == new.place
            && self.read_only == new.read_only
            && new.options.get("size").is_some()
            && without_size(&self.options) == without_size(&new.options)
    }

    pub(super) fn want_size(&mut self, size: Value) {
        if self.resize.as_ref().is_none_or(|r| r.to != size) {
            self.resize = Some(Pending::new(size));
        }
    }

    /// Has it keep the size that it has, or get it back from a resize under way.
    pub(super) fn keep_size(&mut self) {
        let size = self.options.get("size").cloned();
        let under_way = self.running == Some(VolumeAct::Resize);
        self.resize = size.filter(|_| under_way).map(Pending::new);
    }

    fn withdraw_change(&mut self) {
        let running = self.running;
        // One that has failed this way before may be going on.
        self.rollback
            .take_if(|r| r.retry.failures == 0 && !matches!(running, Some(VolumeAct::Rollback(_))));
        if self.origin != Origin::Declared {
            self.resize
                .take_if(|r| r.retry.failures == 0 && running != Some(VolumeAct::Resize));
        }
    }

    /// One of the acts of [`VolumeAct::is_change`] has ended.
    pub(super) fn change_ended(
        &mut self,
        act: VolumeAct,
        result: Result<Outcome, Error>,
        now: Millis,
    ) {
        match (act, result) {
            (VolumeAct::Snapshot(id) | VolumeAct::RemoveSnapshot(id), result) => {
                self.snapshot_act_ended(act, id, result.err(), now);
            }
            (VolumeAct::Rollback(id), Ok(_)) => {
                if self.rollback.as_ref().is_some_and(|r| r.to == id) {
                    self.rollback = None;
                }
            }
            (VolumeAct::Rollback(_), Err(error)) => {
                if is_over(&error) {
                    self.rollback = None;
                    self.refused = Some(error);
                } else if let Some(rollback) = &mut self.rollback {
                    rollback.retry.failed(error, now);
                }
            }
            (_, Ok(Outcome::Resized(size))) => {
                if self.resize.as_ref().is_some_and(|r| r.to == size) {
                    self.resize = None;
                }
                if let Some(options) = self.options.as_object_mut() {
                    options.insert("size".into(), size);
                }
            }
            (_, Ok(_)) => self.resize = None,
            (_, Err(error)) => {
                // What is declared goes on being asked for.
                if is_over(&error) && self.origin != Origin::Declared {
                    self.resize = None;
                    self.refused = Some(error);
                } else if let Some(resize) = &mut self.resize {
                    resize.retry.failed(error, now);
                }
            }
        }
    }

    fn snapshot_act_ended(
        &mut self,
        act: VolumeAct,
        id: SnapshotId,
        error: Option<Error>,
        now: Millis,
    ) {
        let found = self.snapshots.iter_mut().find(|(_, s)| s.id == id);
        let Some((name, snapshot)) = found else {
            return;
        };
        match (error, act) {
            (Some(error), _) => {
                let refused = error.kind == ErrorKind::Busy && !snapshot.wanted;
                snapshot.retry.failed(error, now);
                if refused && self.wanted {
                    // Something needs it: it is not to vanish once that is gone.
                    snapshot.wanted = snapshot.made;
                } else if refused {
                    self.keep_after_all();
                }
            }
            (None, VolumeAct::Snapshot(_)) => {
                snapshot.made = true;
                snapshot.retry.succeeded();
            }
            (None, _) => {
                let name = name.clone();
                self.snapshots.remove(&name);
            }
        }
    }
}

/// Whether two targets are one, or one lies below the other.
pub fn overlap(a: &str, b: &str) -> bool {
    let below = |a: &str, b: &str| a.strip_prefix(b).is_some_and(|rest| rest.starts_with('/'));
    a == b || below(a, b) || below(b, a)
}

/// Whether the plugin has answered for good. After the others the change may be going on, and the
/// volume cannot be used before it is known to have ended.
fn is_over(error: &Error) -> bool {
    !matches!(
        error.kind,
        ErrorKind::Timeout | ErrorKind::Plugin | ErrorKind::Cancelled
    )
}
