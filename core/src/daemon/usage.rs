//! Which containers of user Docker use which volumes, and what that says of Docker's counts.

use std::collections::{BTreeMap, BTreeSet};

use super::supervisor::Supervisor;
use super::user_engine::ContainerUse;
use crate::name::VolumeName;
use crate::planner::{Event, MNT, Millis};

/// A volume that Docker took hold of so short ago is not judged by a listing of containers.
const HOLD_SETTLES: Millis = 60_000;

impl Supervisor {
    /// Takes in a listing of all containers that was begun at `since`.
    pub(super) fn take_containers(&mut self, since: Millis, containers: &[ContainerUse]) {
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
        let settled = |name: &VolumeName, margin: Millis| {
            self.held_at
                .get(name)
                .is_none_or(|held| held.saturating_add(margin) < since)
        };
        // After a restart of Docker its own counts are gone; else only what lies idle for long leaked.
        let margin = if self.collapse_holds { 0 } else { HOLD_SETTLES };
        let unused = self
            .world
            .volumes
            .iter()
            .filter(|(name, v)| {
                !v.holds.is_empty() && !used_by.contains_key(*name) && settled(name, margin)
            })
            .map(|(name, _)| name.clone())
            .collect();
        let collapse = std::mem::take(&mut self.collapse_holds);
        self.apply(Event::UsedBy(used_by));
        self.apply(Event::HoldsReconciled { unused, collapse });
    }
}

/// Whether `container` uses the volume: as Docker's volume of that name, or a path below its target.
pub fn uses(container: &ContainerUse, name: &VolumeName, target: &str) -> bool {
    container.mounts.iter().any(|m| {
        let below = m
            .source
            .strip_prefix(target)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        m.volume.as_deref() == Some(name.as_str()) || (below && target.starts_with(MNT))
    })
}
