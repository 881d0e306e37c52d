//! What is asked of a volume that exists: snapshots, bringing it back to one, clones, another
//! size, another name.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::requests::{Reply, answer, not_in_use, now_rfc3339};
use super::settings::limits;
use super::supervisor::Supervisor;
use super::waiting::Goal;
use crate::cloud_config::laid_over;
use crate::control::{Origin, SnapshotStatus, VolumeStatus};
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::{Capability, Manifest};
use crate::name::{ContextName, SnapshotName, VolumeName};
use crate::planner::{Event, Place, SnapshotEntry, VolumeEntry, snapshot_status};
use crate::volume::{CloneSource, SnapshotId, Volume};

/// The option with which kinds let their users say what becomes of a thing that was taken over.
const ON_REMOVE: &str = "on_remove";

/// A clone that is asked for.
#[derive(Debug, Clone)]
pub struct NewClone {
    /// The volume to clone.
    pub source: VolumeName,
    /// Its snapshot to clone; none: the volume as it is.
    pub snapshot: Option<SnapshotName>,
    /// The name of the new volume.
    pub name: VolumeName,
    /// What is to be different from the options of the source.
    pub options: BTreeMap<String, String>,
}

impl Supervisor {
    /// Takes a snapshot; answers once its plugin has.
    pub fn snapshot(
        &mut self,
        name: VolumeName,
        snapshot: Option<SnapshotName>,
        reply: Reply<SnapshotStatus>,
    ) {
        let wanted = self.snapshot_to_be(&name, snapshot);
        let (snapshot, entry) = match wanted {
            Ok(wanted) => wanted,
            Err(error) => return answer(reply, Err(error)),
        };
        let id = entry.id;
        let event = Event::SnapshotWanted(name.clone(), snapshot.clone(), entry);
        if let Err(error) = self.apply_durably([event]) {
            return answer(reply, Err(error));
        }
        let goal = Goal::Taken(id);
        let volume = name.clone();
        self.wait_for(&name, goal, limits::CREATE_WAIT, move |s, result| {
            let result = result.and_then(|()| s.snapshot_status(&volume, &snapshot));
            if result.is_err() {
                // Nobody was told that it exists.
                s.apply(Event::SnapshotUnwanted(volume, snapshot));
            }
            answer(reply, result);
        });
    }

    fn snapshot_to_be(
        &self,
        name: &VolumeName,
        snapshot: Option<SnapshotName>,
    ) -> Result<(SnapshotName, SnapshotEntry)> {
        let volume = self.changeable(name, Capability::Snapshot, "take snapshots")?;
        let now = now_rfc3339();
        let snapshot = match snapshot {
            Some(snapshot) => snapshot,
            // 2026-01-02T03:04:05Z: a colon is not allowed in a name.
            None => SnapshotName::new(now.replace(':', ""))?,
        };
        match volume.snapshots.get(&snapshot) {
            None => Ok((snapshot, SnapshotEntry::new(SnapshotId::random(), now))),
            Some(old) if !old.wanted => Err(Error::new(
                ErrorKind::Busy,
                format!("snapshot \"{snapshot}\" of volume \"{name}\" is being removed"),
            )
            .remedy("use another name, or try again once it is gone")),
            Some(old) => Err(Error::new(
                ErrorKind::AlreadyExists,
                format!(
                    "volume \"{name}\" has a snapshot \"{snapshot}\" of {}",
                    old.created_at
                ),
            )
            .remedy("use another name, or remove that one first")),
        }
    }

    fn snapshot_status(
        &self,
        name: &VolumeName,
        snapshot: &SnapshotName,
    ) -> Result<SnapshotStatus> {
        let volume = self.volume(name)?;
        let entry = known_snapshot(name, volume, snapshot)?;
        Ok(snapshot_status(snapshot, entry, volume))
    }

    /// Removes a snapshot; answers once it is gone.
    pub fn remove_snapshot(&mut self, name: VolumeName, snapshot: SnapshotName, reply: Reply<()>) {
        let found = self.unless_draining().and_then(|()| {
            let volume = self.volume(&name)?;
            let id = known_snapshot(&name, volume, &snapshot)?.id;
            if volume.rollback.as_ref().is_some_and(|r| r.to == id) {
                return Err(Error::new(
                    ErrorKind::Busy,
                    format!("volume \"{name}\" is being brought back to \"{snapshot}\""),
                )
                .remedy("remove the snapshot once that is done"));
            }
            Ok(id)
        });
        let kept = found.and_then(|id| {
            self.apply_durably([Event::SnapshotUnwanted(name.clone(), snapshot)])?;
            Ok(id)
        });
        match kept {
            Err(error) => answer(reply, Err(error)),
            Ok(id) => {
                let goal = Goal::SnapshotGone(id);
                self.wait_for(&name, goal, limits::REMOVE_WAIT, move |_, result| {
                    answer(reply, result)
                });
            }
        }
    }

    /// Brings a volume that nothing uses back to a snapshot; answers once that is done.
    pub fn roll_back(
        &mut self,
        name: VolumeName,
        snapshot: &SnapshotName,
        reply: Reply<VolumeStatus>,
    ) {
        let found = self
            .changeable(&name, Capability::Rollback, "be brought back to a snapshot")
            .and_then(|volume| {
                let entry = known_snapshot(&name, volume, snapshot)?;
                if !entry.made || !entry.wanted {
                    return Err(Error::new(
                        ErrorKind::Busy,
                        format!("snapshot \"{snapshot}\" is being taken or removed"),
                    )
                    .remedy("try again in a moment"));
                }
                not_in_use(&name, volume)?;
                no_change_pending(&name, volume)?;
                Ok(entry.id)
            });
        match found {
            Err(error) => answer(reply, Err(error)),
            Ok(id) => {
                let event = Event::RollbackWanted(name.clone(), id);
                self.change(name, event, Goal::RolledBack, reply);
            }
        }
    }

    /// Gives a volume another size; answers once it has it.
    pub fn resize(&mut self, name: VolumeName, size: String, reply: Reply<VolumeStatus>) {
        match self.size_to_be(&name, size) {
            Err(error) => answer(reply, Err(error)),
            Ok(None) => answer(reply, self.inspect(&name)),
            Ok(Some(size)) => {
                let event = Event::ResizeWanted(name.clone(), size.clone());
                self.change(name, event, Goal::Resized(size), reply);
            }
        }
    }

    /// The value of the option `size`; none if it is what the volume has.
    fn size_to_be(&self, name: &VolumeName, size: String) -> Result<Option<Value>> {
        let volume = self.changeable(name, Capability::Resize, "be given another size")?;
        self.not_given(name, volume)?;
        no_change_pending(name, volume)?;
        let options = [("size".to_owned(), size)].into();
        let manifest = self.manifest_of(&volume.context)?;
        let all = laid_over(&object(&volume.options), &options, &manifest.volume_schema)?;
        let size = all.get("size").cloned();
        Ok(size.filter(|size| volume.options.get("size") != Some(size)))
    }

    /// A rollback or a resize: kept, and waited for.
    fn change(&mut self, name: VolumeName, event: Event, goal: Goal, reply: Reply<VolumeStatus>) {
        if let Err(error) = self.apply_durably([event]) {
            return answer(reply, Err(error));
        }
        let volume = name.clone();
        self.wait_for(&name, goal, limits::LONG_CHANGE_WAIT, move |s, result| {
            if result.is_err() {
                // Unless it has begun: then it is finished.
                s.apply(Event::ChangeWithdrawn(volume.clone()));
            }
            answer(reply, result.and_then(|()| s.inspect(&volume)));
        });
    }

    /// Makes a volume with the content of another one; answers once its plugin has.
    pub fn clone_volume(&mut self, new: NewClone, reply: Reply<VolumeStatus>) {
        let name = new.name.clone();
        if self.is_leaving(&name) {
            return self.once_gone(name, reply, move |supervisor, reply| {
                supervisor.clone_volume(new, reply);
            });
        }
        match self.clone_to_be(new) {
            Err(error) => answer(reply, Err(error)),
            Ok(entry) => {
                let events = vec![Event::VolumeWanted(name.clone(), Box::new(entry))];
                self.make(name, events, Goal::Cloned, limits::LONG_CHANGE_WAIT, reply);
            }
        }
    }

    fn clone_to_be(&self, new: NewClone) -> Result<VolumeEntry> {
        let source = self.changeable(&new.source, Capability::Clone, "be cloned")?;
        if self.world.volumes.contains_key(&new.name) {
            return Err(Error::new(
                ErrorKind::AlreadyExists,
                format!("there is a volume \"{}\"", new.name),
            )
            .remedy("use another name"));
        }
        let snapshot = match &new.snapshot {
            None => None,
            Some(snapshot) => {
                let entry = known_snapshot(&new.source, source, snapshot)?;
                Some(entry).filter(|s| s.wanted && s.made).map(|s| s.id)
            }
        };
        if snapshot.is_none() != new.snapshot.is_none() {
            return Err(
                Error::new(ErrorKind::Busy, "the snapshot is being taken or removed")
                    .remedy("try again in a moment"),
            );
        }
        let manifest = self.manifest_of(&source.context)?;
        let mut options = object(&source.options);
        // What names a thing that existed before names the source's; a clone is made, and goes.
        if let Some(url) = &manifest.url
            && options.remove(&url.path).is_some()
        {
            options.remove(ON_REMOVE);
        }
        let options = laid_over(&options, &new.options, &manifest.volume_schema)?;
        let context = source.context.clone();
        let mut entry = VolumeEntry::declared(context, options, String::new(), source.read_only);
        entry.place = Place::Docker;
        entry.origin = Origin::Created;
        entry.created_at = now_rfc3339();
        entry.source = Some(CloneSource {
            volume: Volume {
                id: source.id,
                options: source.options.clone(),
            },
            snapshot,
        });
        Ok(entry)
    }

    /// Gives a volume that nothing uses another name.
    pub fn rename(&mut self, name: VolumeName, to: VolumeName, reply: Reply<VolumeStatus>) {
        if self.is_leaving(&to) {
            return self.once_gone(to.clone(), reply, move |supervisor, reply| {
                supervisor.rename(name, to, reply);
            });
        }
        let renamed = self.renamable(&name, &to).and_then(|()| {
            let from = name;
            self.apply_durably([Event::VolumeRenamed {
                from,
                to: to.clone(),
            }])?;
            self.inspect(&to)
        });
        answer(reply, renamed);
    }

    fn renamable(&self, name: &VolumeName, to: &VolumeName) -> Result<()> {
        self.unless_draining()?;
        let volume = self.removable(name)?;
        not_in_use(name, volume)?;
        if self.world.volumes.contains_key(to) {
            return Err(Error::new(
                ErrorKind::AlreadyExists,
                format!("there is a volume \"{to}\""),
            )
            .remedy("use another name"));
        }
        let waited_for = self.waiters.iter().any(|w| w.volume == *name);
        if !volume.wanted || volume.running.is_some() || waited_for {
            return Err(busy(name));
        }
        Ok(())
    }

    /// The volume `name`, if it can be worked on and its kind has `capability`.
    fn changeable(
        &self,
        name: &VolumeName,
        capability: Capability,
        operation: &str,
    ) -> Result<&VolumeEntry> {
        self.unless_draining()?;
        let volume = self.volume(name)?;
        let manifest = self.manifest_of(&volume.context)?;
        if !manifest.capabilities.contains(&capability) {
            return Err(self.unsupported(manifest, capability, operation));
        }
        if !volume.wanted || !volume.made {
            return Err(busy(name));
        }
        Ok(volume)
    }

    pub(super) fn unsupported(
        &self,
        manifest: &Manifest,
        capability: Capability,
        operation: &str,
    ) -> Error {
        let kinds = self.world.kinds.iter();
        let can = kinds.filter(|(_, k)| k.manifest.capabilities.contains(&capability));
        let names: Vec<&str> = can.map(|(kind, _)| kind.as_str()).collect();
        let error = Error::unsupported(operation, manifest.kind.as_str());
        error.remedy(match names.is_empty() {
            true => "no kind of storage here can".to_owned(),
            false => format!("the kinds that can: {}", names.join(", ")),
        })
    }

    pub(super) fn manifest_of(&self, context: &ContextName) -> Result<&Manifest> {
        self.manifest(&self.context(context)?.kind)
    }
}

/// A snapshot of the volume.
///
/// # Errors
/// `NotFound` naming those that there are.
pub(super) fn known_snapshot<'a>(
    name: &VolumeName,
    volume: &'a VolumeEntry,
    snapshot: &SnapshotName,
) -> Result<&'a SnapshotEntry> {
    volume.snapshots.get(snapshot).ok_or_else(|| {
        let names: Vec<&str> = volume.snapshots.keys().map(SnapshotName::as_str).collect();
        Error::not_found(format!("volume \"{name}\" has no snapshot \"{snapshot}\"")).remedy(
            match names.is_empty() {
                true => "it has none".to_owned(),
                false => format!("it has: {}", names.join(", ")),
            },
        )
    })
}

/// Refuses a volume for which a rollback or a resize is asked for already.
fn no_change_pending(name: &VolumeName, volume: &VolumeEntry) -> Result<()> {
    let resize = volume.resize.is_some() && volume.origin != Origin::Declared;
    let what = match () {
        () if volume.rollback.is_some() => "being brought back to a snapshot",
        () if resize => "being given another size",
        () => return Ok(()),
    };
    Err(
        Error::new(ErrorKind::Busy, format!("volume \"{name}\" is {what}"))
            .remedy("try again once that is done: see laz volume inspect"),
    )
}

fn busy(name: &VolumeName) -> Error {
    let message = format!("volume \"{name}\" is being made, changed or removed");
    Error::new(ErrorKind::Busy, message).remedy("try again in a moment")
}

fn object(options: &Value) -> Map<String, Value> {
    options.as_object().cloned().unwrap_or_default()
}
