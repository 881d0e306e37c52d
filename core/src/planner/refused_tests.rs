//! What becomes of contexts whose plugin may not serve.

use serde_json::json;

use super::*;
use crate::control::ContextPhase;
use crate::error::{Error, ErrorKind};
use crate::manifest::Manifest;
use crate::name::{ContextName, Kind};
use crate::volume::HealthState;

fn entry() -> KindEntry {
    let manifest: Manifest = serde_json::from_value(json!({
        "kind": "fake", "version": "1", "context_schema": {}, "volume_schema": {},
        "capabilities": [], "privileges": {}
    }))
    .unwrap();
    let image = "sha256:1".into();
    KindEntry { image, manifest }
}

fn kind() -> Kind {
    Kind::new("fake").unwrap()
}

fn name() -> ContextName {
    ContextName::new("c").unwrap()
}

fn refuse(world: &mut World) {
    let why = Error::new(ErrorKind::PermissionDenied, "plugin \"fake\"")
        .cause("it is not signed")
        .remedy("sign it");
    let entry = entry();
    world.apply(
        Event::Refused([(kind(), RefusedKind { entry, why })].into()),
        0,
    );
    world.apply(Event::Kinds([].into()), 0);
}

fn allow(world: &mut World) {
    world.apply(Event::Refused([].into()), 0);
    world.apply(Event::Kinds([(kind(), entry())].into()), 0);
}

fn declared() -> World {
    let mut world = World::default();
    let contexts = [(name(), (kind(), json!({})))].into();
    let volumes = [].into();
    world.apply(Event::Declared { contexts, volumes }, 0);
    world
}

#[test]
fn a_context_is_not_started_says_why_and_starts_once_its_plugin_may_serve() {
    let mut world = declared();
    refuse(&mut world);
    assert_eq!(world.plan(1_000), []);
    let status = world.context_statuses(0).remove(0);
    assert_eq!(status.phase, ContextPhase::Failed);
    let said = "plugin \"fake\": it is not signed; sign it";
    assert_eq!(status.reason.as_deref(), Some(said));
    assert_eq!(world.no_image(&kind()).to_string(), said);
    allow(&mut world);
    assert_eq!(
        world.plan(1_000),
        [Step::Context(name(), ContextAct::Start)]
    );
}

#[test]
fn a_context_that_runs_goes_on_and_says_that_it_cannot_be_started_again() {
    let mut world = declared();
    allow(&mut world);
    for act in [ContextAct::Start, ContextAct::Link, ContextAct::Open] {
        let step = Step::Context(name(), act);
        assert_eq!(world.plan(0).as_slice(), std::slice::from_ref(&step));
        world.begin(&step);
        let outcome = match act {
            ContextAct::Start => Outcome::Started("id".into()),
            ContextAct::Link => Outcome::Linked { open: false },
            _ => Outcome::Opened(json!({})),
        };
        world.apply(Event::StepEnded(step, Ok(outcome)), 0);
    }
    refuse(&mut world);
    let list = Step::Context(name(), ContextAct::List);
    assert_eq!(world.plan(0), [list], "nothing is stopped");
    let status = world.context_statuses(0).remove(0);
    assert_eq!(status.phase, ContextPhase::Ready);
    assert_eq!(status.health, HealthState::Degraded);
    let reason = status.reason.unwrap();
    assert!(
        reason.contains("goes on") && reason.contains("sign it"),
        "{reason}"
    );

    // Its container is gone: there it ends.
    world.apply(Event::ContainerLost(name()), 0);
    assert_eq!(world.plan(1_000), []);
    assert_eq!(world.context_statuses(0)[0].phase, ContextPhase::Failed);
    allow(&mut world);
    assert!(world.context_statuses(0)[0].reason.is_none());
}

#[test]
fn the_version_of_a_removed_plugin_is_known_until_it_is_installed_again() {
    let mut world = World::default();
    for (version, known) in [(Some("2"), Some("2")), (Some("3"), Some("3")), (None, None)] {
        let event = Event::Removed(kind(), version.map(str::to_owned));
        assert!(event.changes_what_is_kept());
        world.apply(event, 0);
        assert_eq!(world.removed.get(&kind()).map(String::as_str), known);
    }
}

#[test]
fn signatures_of_images_that_are_gone_go_when_another_comes() {
    let mut world = World::default();
    for (image, there) in [
        ("1", vec!["1"]),
        ("2", vec!["1", "2"]),
        ("3", vec!["2", "3"]),
    ] {
        let signed = Event::Signed {
            image: image.into(),
            signature: format!("of {image}"),
            there: there.into_iter().map(str::to_owned).collect(),
        };
        assert!(signed.changes_what_is_kept());
        world.apply(signed, 0);
    }
    let left: Vec<&str> = world.signatures.values().map(String::as_str).collect();
    assert_eq!(left, ["of 2", "of 3"]);
}
