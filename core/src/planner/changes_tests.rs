//! Changes of volumes and contexts, one situation each; the simulation mixes them.

use serde_json::{Value, json};

use super::*;
use crate::control::{ContextPhase, Origin, SnapshotPhase};
use crate::error::{Error, ErrorKind};
use crate::manifest::Manifest;
use crate::name::{ContextName, Kind, SnapshotName, VolumeName};
use crate::volume::{ListedVolume, SnapshotId};

fn context() -> ContextName {
    ContextName::new("tank").unwrap()
}

fn volume() -> VolumeName {
    VolumeName::new("db").unwrap()
}

fn kind() -> Kind {
    Kind::new("fake").unwrap()
}

fn kinds() -> Event {
    let manifest: Manifest = serde_json::from_value(json!({
        "kind": "fake", "version": "1", "context_schema": {}, "volume_schema": {},
        "capabilities": ["resize"], "privileges": {}, "exclusive": "pool"
    }))
    .unwrap();
    let image = "sha256:1".into();
    Event::Kinds([(kind(), KindEntry { image, manifest })].into())
}

fn declared(size: &str) -> Event {
    let options = json!({"size": size, "compression": "lz4"});
    let entry = VolumeEntry::declared(context(), options, "tank/db".into(), false);
    Event::Declared {
        contexts: [(context(), (kind(), json!({"pool": "tank"})))].into(),
        volumes: [(volume(), entry)].into(),
    }
}

/// A world with a declared volume that is made.
fn world() -> World {
    let mut world = World::default();
    world.apply(kinds(), 0);
    world.apply(declared("10G"), 0);
    open(&mut world, &context());
    ended(&mut world, VolumeAct::Create, Ok(Outcome::Done));
    world
}

fn open(world: &mut World, name: &ContextName) {
    let config = world.contexts[name].config.clone();
    for (act, outcome) in [
        (ContextAct::Start, Outcome::Started("id".into())),
        (ContextAct::Link, Outcome::Linked { open: false }),
        (ContextAct::Open, Outcome::Opened(config)),
        (ContextAct::List, Outcome::Listed(Vec::new())),
    ] {
        let step = Step::Context(name.clone(), act);
        assert!(world.plan(0).contains(&step), "{step:?}");
        world.apply(Event::StepEnded(step, Ok(outcome)), 0);
    }
}

fn ended(world: &mut World, act: VolumeAct, result: Result<Outcome, Error>) {
    let step = Step::Volume(volume(), act);
    world.begin(&step);
    world.apply(Event::StepEnded(step, result), 0);
}

fn attached(world: &mut World) {
    let target = world.volumes[&volume()].target();
    let attachment = Attachment {
        target,
        source: "tank/db".into(),
        mount_id: 1,
        device: (0, 1),
    };
    ended(world, VolumeAct::Attach, Ok(Outcome::Attached(attachment)));
}

fn acts(world: &World, now: Millis) -> Vec<VolumeAct> {
    let of_volume = |step| match step {
        Step::Volume(_, act) => Some(act),
        Step::Context(..) => None,
    };
    world.plan(now).into_iter().filter_map(of_volume).collect()
}

fn error(kind: ErrorKind) -> Error {
    Error::new(kind, "no")
}

#[test]
fn a_declared_size_that_is_changed_is_a_resize_and_stays_asked_for() {
    let mut world = world();
    attached(&mut world);
    world.apply(declared("20G"), 0);
    assert_eq!(acts(&world, 0), [VolumeAct::Resize]);
    ended(
        &mut world,
        VolumeAct::Resize,
        Err(error(ErrorKind::NoSpace)),
    );
    assert_eq!(acts(&world, 0), [], "not at once again");
    assert_eq!(acts(&world, 100_000), [VolumeAct::Resize]);
    let status = &world.volume_statuses(0)[0];
    assert_eq!(status.new_size.as_deref(), Some("20G"));
    assert_eq!(status.reason.as_deref(), Some("no"));
    let done = Outcome::Resized("20G".into());
    ended(&mut world, VolumeAct::Resize, Ok(done));
    assert_eq!(world.volumes[&volume()].options["size"], "20G");
    world.apply(declared("20G"), 0);
    assert_eq!(acts(&world, 0), []);
    // Back again while the next one is under way: that one is undone after it.
    world.apply(declared("30G"), 0);
    world.begin(&Step::Volume(volume(), VolumeAct::Resize));
    world.apply(declared("20G"), 0);
    let done = Outcome::Resized("30G".into());
    ended(&mut world, VolumeAct::Resize, Ok(done));
    assert_eq!(acts(&world, 0), [VolumeAct::Resize]);
}

#[test]
fn a_resize_that_is_refused_is_given_up_and_one_without_word_is_not() {
    let mut world = world();
    world.volumes.get_mut(&volume()).unwrap().origin = Origin::Created;
    let want = || Event::ResizeWanted(volume(), json!("20G"));
    world.apply(want(), 0);
    ended(
        &mut world,
        VolumeAct::Resize,
        Err(error(ErrorKind::InvalidArgument)),
    );
    let db = &world.volumes[&volume()];
    assert!(db.resize.is_none() && db.refused.is_some());
    world.apply(want(), 0);
    ended(
        &mut world,
        VolumeAct::Resize,
        Err(error(ErrorKind::Timeout)),
    );
    world.apply(Event::ChangeWithdrawn(volume()), 0);
    let db = &world.volumes[&volume()];
    assert!(db.resize.is_some() && db.refused.is_none());
}

#[test]
fn a_rollback_waits_for_the_mount_to_go_and_mounts_again_after_it() {
    let mut world = world();
    attached(&mut world);
    let id = SnapshotId::random();
    world.apply(Event::RollbackWanted(volume(), id), 0);
    assert_eq!(acts(&world, 0), [VolumeAct::Detach]);
    ended(&mut world, VolumeAct::Detach, Ok(Outcome::Done));
    let rollback = VolumeAct::Rollback(id);
    assert_eq!(acts(&world, 0), [rollback]);
    ended(&mut world, rollback, Err(error(ErrorKind::Timeout)));
    assert_eq!(acts(&world, 0), [], "it may be going on");
    ended(&mut world, rollback, Ok(Outcome::Done));
    assert_eq!(acts(&world, 0), [VolumeAct::Attach]);
}

#[test]
fn snapshots_of_a_declared_volume_are_there_when_it_is_declared_again() {
    let mut world = world();
    let name = SnapshotName::new("s").unwrap();
    let id = SnapshotId::random();
    let entry = SnapshotEntry::new(id, String::new());
    world.apply(Event::SnapshotWanted(volume(), name.clone(), entry), 0);
    let take = VolumeAct::Snapshot(id);
    assert_eq!(acts(&world, 0), [take]);
    assert_eq!(
        world.volume_statuses(0)[0].snapshots[0].phase,
        SnapshotPhase::Pending
    );
    ended(&mut world, take, Ok(Outcome::Done));
    let nothing = Event::Declared {
        contexts: [(context(), (kind(), json!({"pool": "tank"})))].into(),
        volumes: [].into(),
    };
    world.apply(nothing, 0);
    assert_eq!(acts(&world, 0), [VolumeAct::Remove], "its data stays");
    ended(&mut world, VolumeAct::Remove, Ok(Outcome::Done));
    assert!(world.volumes.is_empty() && world.left.len() == 1);
    world.apply(declared("10G"), 0);
    assert_eq!(world.volumes[&volume()].snapshots[&name].id, id);
    assert!(world.left.is_empty());
}

#[test]
fn snapshots_of_an_attached_volume_go_first_if_that_is_asked_for_and_stay_if_it_is_lazy() {
    for (forced, first) in [(false, true), (true, false)] {
        let mut world = world();
        let id = SnapshotId::random();
        let mut entry = SnapshotEntry::new(id, String::new());
        entry.made = true;
        let db = world.volumes.get_mut(&volume()).unwrap();
        db.origin = Origin::Attached;
        db.snapshots.insert(SnapshotName::new("s").unwrap(), entry);
        let name = volume();
        world.apply(Event::VolumeUnwanted { name, forced }, 0);
        let act = match first {
            true => VolumeAct::RemoveSnapshot(id),
            false => VolumeAct::Remove,
        };
        assert_eq!(acts(&world, 0), [act]);
        ended(&mut world, act, Ok(Outcome::Done));
        let left = if first {
            vec![VolumeAct::Remove]
        } else {
            vec![]
        };
        assert_eq!(acts(&world, 0), left);
    }
}

#[test]
fn what_something_else_needs_stays_and_does_not_vanish_later() {
    let mut world = world();
    let name = SnapshotName::new("s").unwrap();
    let id = SnapshotId::random();
    let mut entry = SnapshotEntry::new(id, String::new());
    entry.made = true;
    let db = world.volumes.get_mut(&volume()).unwrap();
    db.origin = Origin::Created;
    db.snapshots.insert(name.clone(), entry);
    attached(&mut world);
    let remove = VolumeAct::RemoveSnapshot(id);
    let ask = Event::SnapshotUnwanted(volume(), name.clone());
    world.apply(ask, 0);
    ended(&mut world, remove, Err(error(ErrorKind::Busy)));
    assert_eq!(acts(&world, 100_000), []);
    assert!(world.volumes[&volume()].snapshots[&name].wanted);

    let ask = Event::VolumeUnwanted {
        name: volume(),
        forced: false,
    };
    world.apply(ask, 0);
    ended(&mut world, VolumeAct::Detach, Ok(Outcome::Done));
    assert_eq!(acts(&world, 0), [remove]);
    ended(&mut world, remove, Err(error(ErrorKind::Busy)));
    let db = &world.volumes[&volume()];
    assert!(db.wanted && db.snapshots[&name].wanted);
    assert!(
        db.snapshots[&name].retry.error.is_some(),
        "who asked is told"
    );
    assert_eq!(acts(&world, 100_000), [VolumeAct::Attach]);
}

#[test]
fn what_nobody_was_told_of_is_undone() {
    let mut world = world();
    let name = SnapshotName::new("s").unwrap();
    let id = SnapshotId::random();
    let entry = SnapshotEntry::new(id, String::new());
    world.apply(Event::SnapshotWanted(volume(), name, entry), 0);
    let db = world.volumes.get_mut(&volume()).unwrap();
    db.undo_what_nobody_was_told();
    assert!(acts(&world, 0).contains(&VolumeAct::RemoveSnapshot(id)));
}

fn listed(name: &str, declared: bool) -> ListedVolume {
    ListedVolume {
        name: name.into(),
        options: json!({}),
        declared,
    }
}

fn attach(world: &mut World, name: &str, config: Value) -> ContextName {
    let name = ContextName::new(name).unwrap();
    let entry = ContextEntry::new(kind(), config, false);
    world.apply(Event::ContextAttached(name.clone(), Box::new(entry)), 0);
    name
}

#[test]
fn an_attached_context_shows_all_it_lists_and_takes_it_along_when_it_goes() {
    let mut world = World::default();
    world.apply(kinds(), 0);
    let name = attach(&mut world, "tank", json!({"pool": "tank"}));
    open(&mut world, &name);
    let list = Step::Context(name.clone(), ContextAct::List);
    // One of them has been attached by itself.
    let single = VolumeEntry::declared(name.clone(), json!({}), "tank/c".into(), false);
    let single_name = VolumeName::new("c").unwrap();
    world.apply(
        Event::VolumeWanted(single_name.clone(), Box::new(single)),
        0,
    );
    let volumes = vec![listed("a", false), listed("b", true), listed("c", false)];
    let outcome = || Ok(Outcome::Listed(volumes.clone()));
    world.apply(Event::StepEnded(list.clone(), outcome()), 0);
    assert_eq!(world.volumes.len(), 3);
    world.apply(
        Event::VolumeUnwanted {
            name: single_name.clone(),
            forced: false,
        },
        0,
    );
    let gone = Step::Volume(single_name, VolumeAct::Remove);
    world.apply(Event::StepEnded(gone, Ok(Outcome::Done)), 0);
    assert!(world.plan(0).contains(&list), "its place is free now");
    world.apply(Event::StepEnded(list, outcome()), 0);
    let targets: Vec<String> = world.volumes.values().map(VolumeEntry::target).collect();
    assert_eq!(targets, ["/mnt/tank/a", "/mnt/tank/b", "/mnt/tank/c"]);
    world.apply(Event::ContextDetached(name.clone()), 0);
    assert!(world.volumes.values().all(|v| !v.wanted));
    for (volume, _) in world.volumes.clone() {
        let step = Step::Volume(volume, VolumeAct::Remove);
        assert!(world.plan(0).contains(&step));
        world.apply(Event::StepEnded(step, Ok(Outcome::Done)), 0);
    }
    let close = Step::Context(name, ContextAct::Close);
    assert_eq!(world.plan(0), [close]);
}

#[test]
fn the_second_to_claim_a_thing_waits_until_the_first_is_gone() {
    let mut world = World::default();
    world.apply(kinds(), 0);
    let pool = json!({"pool": "tank"});
    let first = attach(&mut world, "zeta", pool.clone());
    let second = attach(&mut world, "alpha", pool.clone());
    let other = attach(&mut world, "other", json!({"pool": "else"}));
    let start = |name: &ContextName| Step::Context(name.clone(), ContextAct::Start);
    assert_eq!(world.plan(0), [start(&other), start(&first)]);
    let refused = world.refusal(&kind(), &pool).unwrap().to_string();
    assert!(refused.contains("pool \"tank\" belongs to"), "{refused}");
    assert!(world.refusal(&kind(), &json!({"pool": "x"})).is_none());
    let statuses = world.context_statuses(0);
    assert_eq!(statuses[0].phase, ContextPhase::Failed);
    let reason = statuses[0].reason.clone().unwrap();
    assert!(reason.contains("belongs to context \"zeta\""), "{reason}");
    // Until it is gone altogether.
    world.apply(Event::ContextDetached(first.clone()), 0);
    assert!(!world.plan(0).contains(&start(&second)));
    let stop = Step::Context(first, ContextAct::Stop);
    world.apply(Event::StepEnded(stop, Ok(Outcome::Done)), 0);
    assert!(world.plan(0).contains(&start(&second)));
}

#[test]
fn what_takes_long_in_a_start_is_the_reason_until_it_has_ended() {
    let mut world = World::default();
    world.apply(kinds(), 0);
    let name = attach(&mut world, "tank", json!({}));
    let start = Step::Context(name.clone(), ContextAct::Start);
    world.begin(&start);
    let doing = Event::ContextDoing(name, Some("building kernel module zfs".into()));
    world.apply(doing, 0);
    let reason = |world: &World| world.context_statuses(0)[0].reason.clone();
    assert_eq!(reason(&world).unwrap(), "building kernel module zfs");
    let failed = Error::not_found("cannot build").cause("gcc: no such file");
    world.apply(Event::StepEnded(start, Err(failed)), 0);
    assert_eq!(reason(&world).unwrap(), "cannot build: gcc: no such file");
}
