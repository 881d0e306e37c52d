//! What the simulation has in the place of the engine, the plugins and the kernel.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::error::Error;
use crate::name::ContextName;
use crate::volume::SnapshotId;

/// What exists outside core: it survives core's death.
#[derive(Default)]
pub(super) struct Outside {
    pub(super) running: BTreeSet<ContextName>,
    /// The volumes in the storage: their size and their snapshots.
    pub(super) backing: BTreeMap<String, Backing>,
    pub(super) mounts: BTreeMap<String, Attachment>,
    pub(super) next_mount: u64,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Backing {
    pub(super) size: u64,
    pub(super) snapshots: BTreeSet<SnapshotId>,
}

impl Outside {
    /// Does what a step says, as the engine, the plugin and the kernel would.
    pub(super) fn act(&mut self, world: &World, step: &Step) -> Result<Outcome, Error> {
        let gone = || Err(Error::internal("core no longer knows it"));
        match step {
            Step::Context(name, act) => match act {
                ContextAct::Start => {
                    self.running.insert(name.clone());
                    Ok(Outcome::Started("id".into()))
                }
                ContextAct::Link if !self.running.contains(name) => {
                    Err(Error::internal("no container"))
                }
                ContextAct::Link => Ok(Outcome::Linked { open: false }),
                ContextAct::Open => {
                    let Some(context) = world.contexts.get(name) else {
                        return gone();
                    };
                    Ok(Outcome::Opened(context.config.clone()))
                }
                ContextAct::List => Ok(Outcome::Listed(Vec::new())),
                ContextAct::Close => Ok(Outcome::Done),
                ContextAct::Stop => {
                    self.running.remove(name);
                    Ok(Outcome::Done)
                }
            },
            Step::Volume(name, act) => {
                let Some(volume) = world.volumes.get(name) else {
                    return gone();
                };
                let (id, target) = (volume.id.to_string(), volume.target());
                match act {
                    VolumeAct::Create => {
                        let fresh = Backing {
                            size: 1,
                            ..Backing::default()
                        };
                        self.backing.entry(id).or_insert(fresh);
                    }
                    VolumeAct::Attach | VolumeAct::Heal => {
                        assert!(
                            self.backing.contains_key(&id),
                            "{name} is mounted before it is made"
                        );
                        self.next_mount += 1;
                        let mount_id = self.next_mount;
                        let made = Attachment {
                            target: target.clone(),
                            source: id,
                            mount_id,
                            device: (0, 1),
                        };
                        let there = self.mounts.entry(target).or_insert(made);
                        return Ok(Outcome::Attached(there.clone()));
                    }
                    VolumeAct::Detach => {
                        self.mounts.remove(&target);
                    }
                    VolumeAct::Remove => {
                        let gone = self.backing.remove(&id).unwrap_or_default();
                        assert!(
                            gone.snapshots.is_empty(),
                            "{name} is removed before its snapshots"
                        );
                    }
                    VolumeAct::Snapshot(snapshot) => {
                        self.backing_of(&id).snapshots.insert(*snapshot);
                    }
                    VolumeAct::RemoveSnapshot(snapshot) => {
                        if let Some(backing) = self.backing.get_mut(&id) {
                            backing.snapshots.remove(snapshot);
                        }
                    }
                    VolumeAct::Rollback(snapshot) => {
                        assert!(!self.mounts.contains_key(&target), "{name}");
                        if !self.backing_of(&id).snapshots.contains(snapshot) {
                            return Err(Error::not_found("no such snapshot"));
                        }
                    }
                    VolumeAct::Resize => {
                        let Some(size) = volume.resize.as_ref().map(|r| r.to.clone()) else {
                            return gone();
                        };
                        self.backing_of(&id).size = size.as_u64().unwrap();
                        return Ok(Outcome::Resized(size));
                    }
                }
                Ok(Outcome::Done)
            }
        }
    }

    fn backing_of(&mut self, id: &str) -> &mut Backing {
        let backing = self.backing.get_mut(id);
        backing.expect("what is made is there")
    }
}
