//! Who uses volumes: Docker's holds, held against its containers.
//!
//! Docker counts for itself and forgets its counts when it dies. So counts alone would drift: what
//! no container uses is let go of, but never while a container may just be starting, because
//! Docker has its volumes mounted first and shows it as running later.

use std::collections::{BTreeMap, BTreeSet};

use super::supervisor::Supervisor;
use super::user_engine::ContainerUse;
use super::volume_api::Caller;
use crate::name::VolumeName;
use crate::planner::{DOCKER_VOLUMES, Event, Millis};

/// How long a container may take from the mount of its volumes until it is shown as running.
const START: Millis = 60_000;

/// What core knows of Docker's holds beside their counts.
#[derive(Default)]
pub(super) struct Holds {
    /// When Docker last took hold of a volume; what it held before core started is not in it.
    taken_at: BTreeMap<VolumeName, Millis>,
    /// The process that calls the volume API.
    caller: Option<Caller>,
    /// The process that answers on Docker's own socket: the same, or the one that made that socket.
    engine: Option<Caller>,
    /// When another Docker than before was first heard of: it knows nothing of earlier holds.
    changed_at: Option<Millis>,
}

impl Holds {
    /// Takes note of a hold.
    pub(super) fn taken(&mut self, name: &VolumeName, now: Millis) {
        self.taken_at.insert(name.clone(), now);
    }

    /// Whether a volume that no container uses at `now` may be let go of.
    fn is_over(&self, name: &VolumeName, now: Millis) -> bool {
        let taken = self.taken_at.get(name).copied().unwrap_or(0);
        let forgotten = self.changed_at.is_some_and(|changed| taken < changed);
        forgotten || taken.saturating_add(START) < now
    }
}

impl Supervisor {
    /// Takes note of who calls the volume API.
    pub fn note_docker(&mut self, caller: Caller) {
        let known = self.holds.caller.or(self.holds.engine);
        self.holds.caller = Some(caller);
        if known.is_some_and(|known| known != caller) {
            self.docker_changed();
        }
    }

    /// Takes note of who answers on Docker's own socket.
    pub(super) fn note_engine(&mut self, process: Caller) {
        let known = self.holds.engine.replace(process);
        if known.is_none_or(|known| known == process) || self.holds.caller == Some(process) {
            return;
        }
        if self.holds.caller.is_some() {
            self.holds.caller = Some(process);
        }
        self.docker_changed();
    }

    /// Another Docker has no counts; of a container that lived on, it will let go just once.
    fn docker_changed(&mut self) {
        self.holds.changed_at = Some(self.now());
        let (unused, collapse) = (BTreeSet::new(), true);
        self.apply(Event::HoldsReconciled { unused, collapse });
    }

    /// Takes in a listing of all containers.
    pub(super) fn take_containers(&mut self, containers: &[ContainerUse]) {
        let now = self.now();
        let mut used_by: BTreeMap<VolumeName, BTreeSet<String>> = BTreeMap::new();
        for (name, volume) in &self.world.volumes {
            let target = volume.target();
            let users = containers
                .iter()
                .filter(|c| (c.is_live() || c.state == "created") && uses(c, name, &target));
            let users: BTreeSet<String> = users.map(|c| c.name.clone()).collect();
            if !users.is_empty() {
                used_by.insert(name.clone(), users);
            }
        }
        let held = self
            .world
            .volumes
            .iter()
            .filter(|(_, v)| !v.holds.is_empty());
        let unused = held
            .map(|(name, _)| name)
            .filter(|name| !used_by.contains_key(*name) && self.holds.is_over(name, now))
            .cloned()
            .collect();
        let volumes = &self.world.volumes;
        self.holds
            .taken_at
            .retain(|name, _| volumes.contains_key(name));
        self.apply(Event::UsedBy(used_by));
        self.apply(Event::HoldsReconciled {
            unused,
            collapse: false,
        });
    }
}

/// Whether `container` uses the volume: as Docker's volume of that name, or a path below its target.
pub fn uses(container: &ContainerUse, name: &VolumeName, target: &str) -> bool {
    container.mounts.iter().any(|m| {
        let below = m
            .source
            .strip_prefix(target)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        m.volume.as_deref() == Some(name.as_str()) || (below && !target.starts_with(DOCKER_VOLUMES))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_dead_docker_held_is_over_before_a_container_could_have_started() {
        let name = VolumeName::new("v").unwrap();
        let mut holds = Holds::default();
        assert!(!holds.is_over(&name, START), "from before core started");
        assert!(holds.is_over(&name, START + 1));
        holds.taken(&name, 100_000);
        assert!(!holds.is_over(&name, 160_000) && holds.is_over(&name, 160_001));
        holds.changed_at = Some(100_001);
        assert!(holds.is_over(&name, 100_002), "its Docker is dead");
        holds.taken(&name, 100_003);
        assert!(
            !holds.is_over(&name, 100_004),
            "the next Docker has taken hold"
        );
    }
}
