//! The planner against a fake plugin, engine and kernel, from a seed.
//!
//! Steps end in any order, fail at random, and core dies at random (everything under way is
//! forgotten, what is kept is what the store and the mount table keep). In all that time the
//! rules below hold, and when the faults stop the world becomes what was asked for.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::*;
use crate::control::Origin;
use crate::error::{Error, ErrorKind};
use crate::manifest::Manifest;
use crate::name::{ContextName, Kind, VolumeName};

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

/// What exists outside core: it survives core's death.
#[derive(Default)]
struct Outside {
    running: BTreeSet<ContextName>,
    backing: BTreeSet<String>,
    mounts: BTreeMap<String, Attachment>,
    next_mount: u64,
}

struct Simulation {
    chance: Chance,
    now: Millis,
    world: World,
    outside: Outside,
    under_way: Vec<Step>,
    faults: bool,
}

fn kinds() -> BTreeMap<Kind, KindEntry> {
    let manifest = Manifest {
        kind: Kind::new("fake").unwrap(),
        version: "1".into(),
        context_schema: json!({}),
        volume_schema: json!({}),
        capabilities: BTreeSet::new(),
        privileges: crate::manifest::Privileges::default(),
        url: None,
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
            faults: true,
        }
    }

    fn ask_something(&mut self) {
        let name = volume_name(self.chance.below(6));
        match self.chance.below(5) {
            0 | 1 => {
                let context = context_name(self.chance.below(3));
                let kind = Kind::new("fake").unwrap();
                let entry = ContextEntry::new(kind, json!({"n": 1}), false);
                let mut volume =
                    VolumeEntry::declared(context.clone(), json!({}), format!("x/{name}"), false);
                volume.origin = Origin::Created;
                if self.chance.in_a_hundred(60) {
                    volume.place = Place::Docker;
                }
                // One transaction, as core does it: a context without volumes is let go.
                let both = [
                    Event::VolumeWanted(name, Box::new(volume)),
                    Event::ContextMade(context, Box::new(entry)),
                ];
                for event in both {
                    self.world.apply(event, self.now);
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
            _ => self.world.apply(
                Event::VolumeUnwanted {
                    name,
                    forced: false,
                },
                self.now,
            ),
        }
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
            if matches!(act, VolumeAct::Attach | VolumeAct::Create) {
                assert!(
                    self.world.contexts[&volume.context].is_ready(),
                    "{name}: {act:?} in a context that is not ready"
                );
            }
        }
        if let Step::Context(name, ContextAct::Close | ContextAct::Stop) = step {
            let kept = |v: &VolumeEntry| !self.world.draining || v.attached.is_some();
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
        let result = if before {
            Err(self.error())
        } else {
            self.act(&step)
        };
        let after = self.faults && self.chance.in_a_hundred(10);
        let result = if after { Err(self.error()) } else { result };
        self.world.apply(Event::StepEnded(step, result), self.now);
    }

    fn error(&mut self) -> Error {
        let kind = if self.chance.in_a_hundred(80) {
            ErrorKind::Unreachable
        } else {
            ErrorKind::PermissionDenied
        };
        Error::new(kind, "the dice say no")
    }

    fn act(&mut self, step: &Step) -> Result<Outcome, Error> {
        let gone = || Err(Error::internal("core no longer knows it"));
        match step {
            Step::Context(name, act) => match act {
                ContextAct::Start => {
                    self.outside.running.insert(name.clone());
                    Ok(Outcome::Started("id".into()))
                }
                ContextAct::Link if !self.outside.running.contains(name) => {
                    Err(Error::internal("no container"))
                }
                ContextAct::Link => Ok(Outcome::Linked { open: false }),
                ContextAct::Open => {
                    let Some(context) = self.world.contexts.get(name) else {
                        return gone();
                    };
                    Ok(Outcome::Opened(context.config.clone()))
                }
                ContextAct::List => Ok(Outcome::Listed(Vec::new())),
                ContextAct::Close => Ok(Outcome::Done),
                ContextAct::Stop => {
                    self.outside.running.remove(name);
                    Ok(Outcome::Done)
                }
            },
            Step::Volume(name, act) => {
                let Some(volume) = self.world.volumes.get(name) else {
                    return gone();
                };
                let (id, target) = (volume.id.to_string(), volume.target());
                match act {
                    VolumeAct::Create => {
                        self.outside.backing.insert(id);
                    }
                    VolumeAct::Attach | VolumeAct::Heal => {
                        assert!(
                            self.outside.backing.contains(&id),
                            "{name} is mounted before it is made"
                        );
                        self.outside.next_mount += 1;
                        let mount_id = self.outside.next_mount;
                        let made = Attachment {
                            target: target.clone(),
                            source: id,
                            mount_id,
                            device: (0, 1),
                        };
                        let there = self.outside.mounts.entry(target).or_insert(made);
                        return Ok(Outcome::Attached(there.clone()));
                    }
                    VolumeAct::Detach => {
                        self.outside.mounts.remove(&target);
                    }
                    VolumeAct::Remove => {
                        self.outside.backing.remove(&id);
                    }
                }
                Ok(Outcome::Done)
            }
        }
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
            self.world.volumes.insert(name, volume);
        }
        for (name, context) in old.contexts {
            let mut entry = ContextEntry::new(context.kind, context.config, context.declared);
            entry.wanted = context.wanted;
            entry.unsure = true;
            self.world.contexts.insert(name, entry);
        }
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
            assert!(
                volume.made && self.outside.backing.contains(&volume.id.to_string()),
                "{name} was never made"
            );
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
            backing, self.outside.backing,
            "nothing removed leaves anything behind"
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
