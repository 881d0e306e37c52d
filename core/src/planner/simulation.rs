//! The planner against a fake plugin, engine and kernel, from a seed.
//!
//! Steps end in any order, fail at random, and core dies at random (everything under way is
//! forgotten, what is kept is what the store and the mount table keep). In all that time the
//! rules below hold, and when the faults stop the world becomes what was asked for.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::fake_outside::Outside;
use super::*;
use crate::control::Origin;
use crate::error::{Error, ErrorKind};
use crate::manifest::{Capability, Manifest};
use crate::name::{ContextName, Kind, SnapshotName, VolumeName};
use crate::volume::{CloneSource, SnapshotId, Volume};

/// A small generator, so that a failing seed can be run again (xorshift64*).
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % n
    }
    fn in_a_hundred(&mut self, share: u64) -> bool {
        self.below(100) < share
    }
}

/// What was asked for and has been acknowledged: it must not be lost.
#[derive(Default)]
struct Told {
    snapshots: BTreeSet<SnapshotId>,
}

struct Simulation {
    chance: Chance,
    now: Millis,
    world: World,
    outside: Outside,
    under_way: Vec<Step>,
    told: Told,
    faults: bool,
}

fn kinds() -> BTreeMap<Kind, KindEntry> {
    let manifest = Manifest {
        kind: Kind::new("fake").unwrap(),
        version: "1".into(),
        context_schema: json!({}),
        volume_schema: json!({}),
        capabilities: [Capability::Resize].into(),
        privileges: crate::manifest::Privileges::default(),
        url: None,
        actions: Vec::new(),
        exclusive: Some("pool".into()),
    };
    [(
        manifest.kind.clone(),
        KindEntry {
            image: "sha256:1".into(),
            manifest,
        },
    )]
    .into()
}

fn context_name(n: u64) -> ContextName {
    ContextName::new(format!("c{n}")).unwrap()
}

fn volume_name(n: u64) -> VolumeName {
    VolumeName::new(format!("v{n}")).unwrap()
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut world = World::default();
        world.apply(Event::Kinds(kinds()), 0);
        Self {
            chance: Chance(seed.wrapping_mul(2).wrapping_add(0x9E37_79B9_7F4A_7C15)),
            now: 0,
            world,
            outside: Outside::default(),
            under_way: Vec::new(),
            told: Told::default(),
            faults: true,
        }
    }

    fn ask_something(&mut self) {
        let name = volume_name(self.chance.below(6));
        match self.chance.below(9) {
            0 | 1 => {
                let context = context_name(self.chance.below(3));
                let kind = Kind::new("fake").unwrap();
                let config = json!({"n": 1, "pool": context.as_str()});
                let entry = ContextEntry::new(kind, config, false);
                let mut volume = VolumeEntry::declared(
                    context.clone(),
                    json!({"size": 1}),
                    format!("x/{name}"),
                    false,
                );
                volume.origin = Origin::Created;
                if self.chance.in_a_hundred(60) {
                    volume.place = Place::Docker;
                }
                if self.chance.in_a_hundred(30) {
                    volume.source = self.clone_source(&context);
                }
                // One that was renamed may have its place.
                let target = volume.target();
                if self.world.volumes.values().any(|v| v.target() == target) {
                    return;
                }
                // As core does it: one transaction, as a context without volumes is let go, and
                // only the volume if there is a context that fits, be it on its way out.
                let exists = self.world.contexts.contains_key(&context);
                let volume = Event::VolumeWanted(name, Box::new(volume));
                self.world.apply(volume, self.now);
                if !exists {
                    let made = Event::ContextMade(context, Box::new(entry));
                    self.world.apply(made, self.now);
                }
            }
            2 => self.world.apply(
                Event::Held(name, format!("id{}", self.chance.below(2))),
                self.now,
            ),
            3 => self.world.apply(
                Event::Released(name, format!("id{}", self.chance.below(2))),
                self.now,
            ),
            4..=7 => self.ask_for_a_change(name),
            _ => {
                if let Some(volume) = self.world.volumes.get(&name) {
                    for snapshot in volume.snapshots.values() {
                        self.told.snapshots.remove(&snapshot.id);
                    }
                }
                let forced = false;
                let event = Event::VolumeUnwanted { name, forced };
                self.world.apply(event, self.now);
            }
        }
    }

    fn clone_source(&mut self, context: &ContextName) -> Option<CloneSource> {
        let made = |v: &&VolumeEntry| v.made && v.wanted && v.context == *context;
        let source = self.world.volumes.values().find(made)?;
        let volume = Volume {
            id: source.id,
            options: source.options.clone(),
        };
        Some(CloneSource {
            volume,
            snapshot: None,
        })
    }

    /// As core's requests do, which check before they ask.
    fn ask_for_a_change(&mut self, name: VolumeName) {
        let Some(volume) = self.world.volumes.get(&name) else {
            return;
        };
        if !(volume.wanted && volume.made) {
            return;
        }
        let snapshot = SnapshotName::new(format!("s{}", self.chance.below(3))).unwrap();
        let taken = volume
            .snapshots
            .get(&snapshot)
            .filter(|s| s.wanted && s.made);
        let event = match (self.chance.below(6), taken) {
            (0 | 1, _) => {
                let id = SnapshotId(uuid::Uuid::from_u128(u128::from(
                    self.chance.below(1 << 30),
                )));
                Event::SnapshotWanted(name, snapshot, SnapshotEntry::new(id, String::new()))
            }
            (2, Some(taken)) => {
                self.told.snapshots.remove(&taken.id);
                Event::SnapshotUnwanted(name, snapshot)
            }
            (3, Some(taken)) if volume.holds.is_empty() => Event::RollbackWanted(name, taken.id),
            (4, _) if volume.resize.is_none() => {
                Event::ResizeWanted(name, json!(1 + self.chance.below(5)))
            }
            (5, _) => {
                let to = volume_name(self.chance.below(6));
                Event::VolumeRenamed { from: name, to }
            }
            _ => Event::ChangeWithdrawn(name),
        };
        self.world.apply(event, self.now);
    }

    fn take_steps(&mut self) {
        for step in self.world.plan(self.now) {
            self.check_before(&step);
            self.world.begin(&step);
            self.under_way.push(step);
        }
    }

    fn check_before(&self, step: &Step) {
        let same = |other: &Step| match (step, other) {
            (Step::Context(a, _), Step::Context(b, _)) => a == b,
            (Step::Volume(a, _), Step::Volume(b, _)) => a == b,
            _ => false,
        };
        assert!(
            !self.under_way.iter().any(same),
            "two steps at once on one thing: {step:?}"
        );
        if let Step::Volume(name, act) = step {
            let volume = &self.world.volumes[name];
            if *act == VolumeAct::Remove {
                assert!(
                    volume.attached.is_none(),
                    "{name} is removed while it is mounted"
                );
            }
            if let VolumeAct::Rollback(_) = act {
                assert!(
                    volume.attached.is_none() && !volume.unsure,
                    "{name} is brought back while it is mounted"
                );
            }
            if let VolumeAct::Snapshot(_) | VolumeAct::Resize | VolumeAct::Rollback(_) = act {
                assert!(volume.made && volume.wanted, "{name}: {act:?}");
            }
            if !matches!(
                act,
                VolumeAct::Detach | VolumeAct::Remove | VolumeAct::RemoveSnapshot(_)
            ) {
                assert!(
                    self.world.contexts[&volume.context].is_ready(),
                    "{name}: {act:?} in a context that is not ready"
                );
            }
        }
        if let Step::Context(name, ContextAct::Close | ContextAct::Stop) = step {
            // One that is stopped leaves nothing running for what is not mounted.
            let stopped = self.world.contexts[name].crashes.stopped;
            let kept = |v: &VolumeEntry| !(self.world.draining || stopped) || v.attached.is_some();
            let used = self
                .world
                .volumes
                .values()
                .any(|v| v.context == *name && kept(v));
            assert!(!used, "{name} is closed under its volumes");
        }
    }

    /// Ends one of the steps under way: the outside changes, then perhaps the word of it is lost.
    fn end_a_step(&mut self) {
        if self.under_way.is_empty() {
            return;
        }
        let index = self.chance.below(self.under_way.len() as u64);
        let step = self.under_way.swap_remove(usize::try_from(index).unwrap());
        let before = self.faults && self.chance.in_a_hundred(25);
        let lost = || Error::new(ErrorKind::Timeout, "no word of it");
        let result = if before && self.is_half_done(&step) {
            // A plugin does not refuse what it has done.
            Err(lost())
        } else if before {
            Err(self.error())
        } else {
            self.act(&step)
        };
        let after = self.faults && self.chance.in_a_hundred(10);
        let result = if after { Err(lost()) } else { result };
        let told = match (&step, &result) {
            (Step::Volume(_, VolumeAct::Snapshot(id)), Ok(_)) => Some(*id),
            _ => None,
        };
        let known = told.filter(|id| self.is_wanted(*id));
        self.world.apply(Event::StepEnded(step, result), self.now);
        self.told.snapshots.extend(known);
    }

    fn is_half_done(&self, step: &Step) -> bool {
        let Step::Volume(name, act) = step else {
            return false;
        };
        let volume = self.world.volumes.get(name);
        volume.is_some_and(|v| {
            let backing = self.outside.backing.get(&v.id.to_string());
            match act {
                VolumeAct::Resize => backing.map(|b| b.size) != v.options["size"].as_u64(),
                VolumeAct::RemoveSnapshot(id) => backing.is_none_or(|b| !b.snapshots.contains(id)),
                VolumeAct::Remove => backing.is_none(),
                _ => false,
            }
        })
    }

    fn is_wanted(&self, id: SnapshotId) -> bool {
        let volumes = self.world.volumes.values().filter(|v| v.wanted);
        let mut snapshots = volumes.flat_map(|v| v.snapshots.values());
        snapshots.any(|s| s.id == id && s.wanted)
    }

    fn error(&mut self) -> Error {
        let kind = match self.chance.below(10) {
            0..5 => ErrorKind::Unreachable,
            5..7 => ErrorKind::Timeout,
            7..9 => ErrorKind::Busy,
            _ => ErrorKind::PermissionDenied,
        };
        Error::new(kind, "the dice say no")
    }

    fn act(&mut self, step: &Step) -> Result<Outcome, Error> {
        self.outside.act(&self.world, step)
    }

    /// Core dies and comes back with what the store keeps, then looks at the mount table.
    fn core_dies(&mut self) {
        self.under_way.clear();
        let old = std::mem::take(&mut self.world);
        self.world.apply(Event::Kinds(kinds()), self.now);
        for (name, mut volume) in old.volumes {
            volume.attached = None;
            volume.running = None;
            volume.retry = Retry::default();
            volume.undo_what_nobody_was_told();
            self.world.volumes.insert(name, volume);
        }
        for (name, context) in old.contexts {
            let mut entry = ContextEntry::new(context.kind, context.config, context.declared);
            entry.wanted = context.wanted;
            entry.attached = context.attached;
            entry.since = context.since;
            entry.unsure = true;
            self.world.contexts.insert(name, entry);
        }
        self.world.left = old.left;
        self.world
            .apply(Event::ViewObserved(self.outside.mounts.clone()), self.now);
    }

    fn something_dies(&mut self) {
        let name = context_name(self.chance.below(3));
        match self.chance.below(3) {
            0 => self.core_dies(),
            1 => {
                let event =
                    Event::LinkLost(name, Error::new(ErrorKind::Plugin, "the plugin host died"));
                self.world.apply(event, self.now);
            }
            _ => {
                self.outside.running.remove(&name);
                self.world.apply(Event::ContainerLost(name), self.now);
            }
        }
    }

    fn run(&mut self, rounds: u32) {
        for _ in 0..rounds {
            match self.chance.below(10) {
                0 | 1 => self.ask_something(),
                2 if self.faults => {
                    if self.chance.in_a_hundred(15) {
                        self.something_dies();
                    }
                }
                3..=5 => self.end_a_step(),
                _ => self.now += self.chance.below(700),
            }
            self.take_steps();
        }
    }

    fn settle(&mut self) {
        self.faults = false;
        self.world
            .apply(Event::ViewObserved(self.outside.mounts.clone()), self.now);
        for _ in 0..10_000 {
            self.take_steps();
            if self.under_way.is_empty() {
                match self.world.next_wakeup(self.now) {
                    Some(time) => self.now = time,
                    None => return,
                }
            }
            self.end_a_step();
        }
        panic!("never settles: {:?}", self.world.plan(self.now));
    }

    fn check_settled(&self) {
        for (name, volume) in &self.world.volumes {
            assert!(volume.wanted, "{name} is still leaving");
            let backing = self.outside.backing.get(&volume.id.to_string());
            let backing = backing.unwrap_or_else(|| panic!("{name} was never made"));
            assert!(volume.made && volume.source.is_none(), "{name}");
            assert!(
                volume.rollback.is_none() && volume.resize.is_none(),
                "{name}"
            );
            let size = volume.options["size"].as_u64().unwrap();
            assert_eq!(size, backing.size, "{name}");
            assert!(volume.snapshots.values().all(|s| s.wanted && s.made));
            let snapshots = volume.snapshots.values().map(|s| s.id).collect();
            assert_eq!(backing.snapshots, snapshots, "{name}");
            assert_eq!(
                volume.attached.is_some(),
                volume.should_be_attached(),
                "{name}"
            );
        }
        let mounted: BTreeSet<_> = self
            .world
            .volumes
            .values()
            .filter_map(|v| v.attached.as_ref().map(|a| a.target.clone()))
            .collect();
        assert_eq!(
            mounted,
            self.outside.mounts.keys().cloned().collect(),
            "the kernel agrees with the state"
        );
        let backing: BTreeSet<_> = self
            .world
            .volumes
            .values()
            .map(|v| v.id.to_string())
            .collect();
        assert_eq!(
            backing,
            self.outside.backing.keys().cloned().collect(),
            "nothing removed leaves anything behind"
        );
        let volumes = self.world.volumes.values();
        let there: BTreeSet<_> = volumes
            .flat_map(|v| v.snapshots.values().map(|s| s.id))
            .collect();
        let lost = |id: &&SnapshotId| !there.contains(id);
        assert!(
            self.told.snapshots.iter().find(lost).is_none(),
            "an acknowledged snapshot is lost"
        );
        let used: BTreeSet<_> = self
            .world
            .volumes
            .values()
            .map(|v| v.context.clone())
            .collect();
        assert_eq!(
            used,
            self.world.contexts.keys().cloned().collect(),
            "a context goes with its last volume"
        );
    }
}

#[test]
fn after_any_faults_the_world_becomes_what_was_asked_for() {
    let seeds: u64 = std::env::var("LAZARETTE_SEEDS")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or(2_000);
    for seed in 0..seeds {
        let outcome = std::panic::catch_unwind(|| {
            let mut simulation = Simulation::new(seed);
            simulation.run(400);
            simulation.settle();
            simulation.check_settled();
        });
        assert!(
            outcome.is_ok(),
            "seed {seed} (run with LAZARETTE_SEEDS={})",
            seed + 1
        );
    }
}

#[test]
fn draining_unmounts_and_closes_everything_and_forgets_nothing() {
    for seed in 0..200 {
        let mut simulation = Simulation::new(seed);
        simulation.run(300);
        let wanted = simulation.world.volumes.iter().filter(|(_, v)| v.wanted);
        let known: Vec<_> = wanted.map(|(name, _)| name.clone()).collect();
        simulation.world.draining = true;
        simulation.settle();
        assert!(
            simulation.world.is_drained() && simulation.outside.mounts.is_empty(),
            "seed {seed}"
        );
        let (running, world) = (&simulation.outside.running, &simulation.world);
        assert!(
            running.is_empty(),
            "seed {seed}: {running:?} of {:?}",
            world.contexts
        );
        assert!(
            known
                .iter()
                .all(|name| simulation.world.volumes.contains_key(name)),
            "seed {seed}"
        );
    }
}

#[test]
fn a_hung_context_does_not_hold_up_another() {
    let mut simulation = Simulation::new(1);
    simulation.faults = false;
    for n in 0..2 {
        let kind = Kind::new("fake").unwrap();
        let volume = VolumeEntry::declared(context_name(n), json!({}), format!("x/v{n}"), false);
        simulation
            .world
            .apply(Event::VolumeWanted(volume_name(n), Box::new(volume)), 0);
        let entry = ContextEntry::new(kind, json!({}), false);
        simulation
            .world
            .apply(Event::ContextMade(context_name(n), Box::new(entry)), 0);
    }
    let of_first = |s: &Step| match s {
        Step::Context(name, _) => *name == context_name(0),
        Step::Volume(name, _) => *name == volume_name(0),
    };
    for _ in 0..20 {
        simulation.take_steps();
        let (hung, moving): (Vec<_>, Vec<_>) = std::mem::take(&mut simulation.under_way)
            .into_iter()
            .partition(of_first);
        simulation.under_way = hung;
        for step in moving {
            let result = simulation.act(&step);
            simulation.world.apply(Event::StepEnded(step, result), 0);
        }
    }
    assert!(simulation.world.volumes[&volume_name(1)].attached.is_some());
    assert!(simulation.world.volumes[&volume_name(0)].attached.is_none());
}
