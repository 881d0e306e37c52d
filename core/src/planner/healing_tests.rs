//! What becomes of volumes whose mount is dead.

use serde_json::json;

use super::*;
use crate::error::{Error, ErrorKind};
use crate::manifest::Manifest;
use crate::name::{ContextName, Kind, SnapshotName, VolumeName};
use crate::volume::{Health, HealthState, SnapshotId, VolumeHealth};

fn context() -> ContextName {
    ContextName::new("c").unwrap()
}

fn volume() -> VolumeName {
    VolumeName::new("v").unwrap()
}

fn heal() -> Step {
    Step::Volume(volume(), VolumeAct::Heal)
}

fn attachment(mount_id: u64) -> Attachment {
    Attachment {
        target: "/mnt/v".into(),
        source: "fake".into(),
        mount_id,
        device: (0, 1),
    }
}

/// With one volume, which is mounted.
fn mounted() -> World {
    let kind = Kind::new("fake").unwrap();
    let manifest: Manifest = serde_json::from_value(json!({
        "kind": "fake", "version": "1", "context_schema": {}, "volume_schema": {},
        "capabilities": [], "privileges": {}
    }))
    .unwrap();
    let entry = KindEntry {
        image: "sha256:1".into(),
        manifest,
    };
    let mut world = World::default();
    world.apply(Event::Kinds([(kind.clone(), entry)].into()), 0);
    let declared = VolumeEntry::declared(context(), json!({}), "v".into(), false);
    world.apply(
        Event::Declared {
            contexts: [(context(), (kind, json!({})))].into(),
            volumes: [(volume(), declared)].into(),
        },
        0,
    );
    for _ in 0..10 {
        for step in world.plan(0) {
            world.begin(&step);
            let outcome = match &step {
                Step::Context(_, ContextAct::Start) => Outcome::Started("id".into()),
                Step::Context(_, ContextAct::Link) => Outcome::Linked { open: false },
                Step::Context(_, ContextAct::Open) => Outcome::Opened(json!({})),
                Step::Context(_, ContextAct::List) => Outcome::Listed(Vec::new()),
                Step::Volume(_, VolumeAct::Attach) => Outcome::Attached(attachment(1)),
                _ => Outcome::Done,
            };
            world.apply(Event::StepEnded(step, Ok(outcome)), 0);
        }
    }
    assert_eq!(world.volumes[&volume()].attached, Some(attachment(1)));
    world
}

/// The plugin's report, in which the volume is stale or is not named.
fn report(world: &World, stale: bool) -> Event {
    let volumes = world.volumes.values().filter(|_| stale);
    let volumes = volumes.map(|v| VolumeHealth {
        id: v.id,
        state: HealthState::Stale,
        reason: Some("its client has ended".into()),
    });
    let health = Health {
        volumes: volumes.collect(),
        ..Health::healthy()
    };
    Event::Health(context(), Ok(health))
}

#[test]
fn a_dead_mount_is_replaced_until_that_has_worked_though_the_plugin_has_forgotten_it() {
    let mut world = mounted();
    let stale = report(&world, true);
    assert!(stale.changes_what_is_kept());
    world.apply(stale, 0);
    assert_eq!(world.plan(0), [heal()]);
    world.begin(&heal());
    let error = Error::new(ErrorKind::Unreachable, "no brick answers");
    world.apply(Event::StepEnded(heal(), Err(error)), 0);
    // Its mount was let go before another could be made, so there is nothing that it calls stale.
    let fine = report(&world, false);
    assert!(!fine.changes_what_is_kept());
    world.apply(fine, 0);
    let status = world.volume_status(&volume(), &world.volumes[&volume()], 0);
    assert_eq!(status.health, HealthState::Stale);
    assert_eq!(world.plan(0), [], "at once after a failure");
    assert_eq!(world.plan(60_000), [heal()]);
    world.begin(&heal());
    let healed = Ok(Outcome::Attached(attachment(2)));
    world.apply(Event::StepEnded(heal(), healed), 60_000);
    assert_eq!(world.plan(120_000), []);
    let status = world.volume_status(&volume(), &world.volumes[&volume()], 60_000);
    assert_eq!((status.health, status.reason), (HealthState::Healthy, None));
}

#[test]
fn a_dead_mount_that_is_gone_is_not_replaced() {
    let mut world = mounted();
    let stale = report(&world, true);
    world.apply(stale, 0);
    world.apply(Event::ViewObserved([].into()), 0);
    let attach = Step::Volume(volume(), VolumeAct::Attach);
    assert_eq!(world.plan(0).as_slice(), std::slice::from_ref(&attach));
    world.begin(&attach);
    let mounted = Ok(Outcome::Attached(attachment(2)));
    world.apply(Event::StepEnded(attach, mounted), 0);
    assert_eq!(world.plan(60_000), []);
}

#[test]
fn what_a_plugin_says_of_a_snapshot_is_told_by_its_name() {
    let mut world = mounted();
    let id = SnapshotId::random();
    let entry = SnapshotEntry::new(id, String::new());
    let one = SnapshotName::new("one").unwrap();
    let own = world.volumes.get_mut(&volume()).unwrap();
    own.snapshots.insert(one, entry);
    let own = own.id;
    let mut health = Health::because(HealthState::Degraded, format!("the snapshot {id} is lost"));
    health.volumes.push(VolumeHealth {
        id: own,
        state: HealthState::Degraded,
        reason: Some(format!("{own} and {id}")),
    });
    world.apply(Event::Health(context(), Ok(health)), 0);
    let said = world.contexts[&context()].health.reason.as_deref();
    assert_eq!(said, Some("the snapshot v@one is lost"));
    let (_, said) = world.volumes[&volume()].health.clone().unwrap();
    assert_eq!(said.as_deref(), Some("v and v@one"));
}
