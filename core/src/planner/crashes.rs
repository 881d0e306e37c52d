//! When a context whose plugin dies again and again is left alone.

use std::collections::{BTreeMap, VecDeque};

use super::world::{ContextEntry, ContextStage, KindEntry};
use super::{ContextAct, Millis, World};
use crate::error::{Error, ErrorKind};
use crate::name::{ContextName, Kind};

/// So many deaths within [`WINDOW`], and a context is stopped.
const MOST: usize = 8;
/// Deaths longer ago say nothing about the plugin of today.
const WINDOW: Millis = 300_000;
/// How long a stopped context is left alone; then it is tried again.
const PAUSE: Millis = 600_000;
/// What a plugin host counts for that cannot be reached for as long as core tries: it was started
/// again more than once in that time.
const UNREACHED: usize = 2;

/// How often a context's plugin has died.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Crashes {
    /// When, within the window.
    late: VecDeque<Millis>,
    /// How often since core's start, or since something was changed about it.
    pub count: u32,
    /// Whether the context is stopped for that.
    pub stopped: bool,
    /// Whether its container could not be stopped and is left alone.
    container_stays: bool,
}

impl Crashes {
    /// Notes a death at `now` that counts for `weight`; whether that was one too many.
    fn note(&mut self, weight: usize, now: Millis) -> bool {
        self.count = self.count.saturating_add(1);
        self.late.extend(std::iter::repeat_n(now, weight));
        while self
            .late
            .front()
            .is_some_and(|&then| then.saturating_add(WINDOW) < now)
        {
            self.late.pop_front();
        }
        self.late.len() >= MOST
    }

    /// Lets it be tried again, without forgetting how often it has died.
    pub(super) fn resume(&mut self) {
        let count = self.count;
        *self = Self::default();
        self.count = count;
    }
}

impl ContextEntry {
    /// Notes that the plugin has died, which `error` shows; stops the context if that happens all
    /// the time. Whether it is stopped.
    pub(super) fn plugin_died(&mut self, name: &ContextName, error: &Error, now: Millis) -> bool {
        self.died(name, error, 1, now)
    }

    fn died(&mut self, name: &ContextName, error: &Error, weight: usize, now: Millis) -> bool {
        if self.crashes.stopped || !self.crashes.note(weight, now) {
            return self.crashes.stopped;
        }
        self.crashes.stopped = true;
        let minutes = WINDOW / 60_000;
        self.retry.error = Some(
            Error::new(
                ErrorKind::Plugin,
                format!("context \"{name}\" is stopped because its plugin keeps dying"),
            )
            .cause(format!(
                "{} times so far, often within {minutes} minutes, the last time: {error}",
                self.crashes.count
            ))
            .remedy(format!(
                "see laz logs {name}; upgrade the plugin or change the context's options, then: \
                 laz pool resume {name}"
            )),
        );
        self.retry.not_before = now.saturating_add(PAUSE);
        true
    }

    /// Takes in that a step has failed; whether the context is stopped, now or from before.
    pub(super) fn step_failed(
        &mut self,
        name: &ContextName,
        act: ContextAct,
        error: Error,
        now: Millis,
    ) -> bool {
        // A container that has just gone is noticed here, too; and an engine that does not answer
        // says nothing about a plugin.
        let again = self.retry.failures > 0 && error.kind == ErrorKind::Plugin;
        if act == ContextAct::Link && again && self.died(name, &error, UNREACHED, now) {
            return true;
        }
        if self.crashes.stopped {
            // Its pause goes on, and so does what runs in there.
            self.crashes.container_stays |= act == ContextAct::Stop;
        } else {
            self.retry.failed(error, now);
        }
        self.crashes.stopped
    }

    /// Something about it was changed: what was before says nothing any more.
    pub(super) fn begin_anew(&mut self) {
        self.crashes = Crashes::default();
        self.retry.succeeded();
    }
}

impl World {
    /// Takes in what images there are now. Another image may do better than the one before.
    pub(super) fn take_kinds(&mut self, kinds: BTreeMap<Kind, KindEntry>) {
        for context in self.contexts.values_mut().filter(|c| c.crashes.count > 0) {
            let new = kinds.get(&context.kind).map(|kind| &kind.image);
            if new != self.kinds.get(&context.kind).map(|kind| &kind.image) {
                context.begin_anew();
            }
        }
        self.kinds = kinds;
    }

    /// Takes in that system Docker is away: its containers may end with it, which is no plugin's
    /// fault.
    pub(super) fn forgive_deaths(&mut self) {
        for context in self.contexts.values_mut() {
            context.crashes.late.clear();
        }
    }

    /// Why nothing can be asked of a context now, if it is stopped.
    pub fn stopped(&self, name: &ContextName) -> Option<Error> {
        let context = self.contexts.get(name)?;
        let error = context.retry.error.clone();
        error.filter(|_| context.crashes.stopped)
    }

    /// What is done at once with a stopped context that stays: its container goes, unless mounts
    /// may live on in it.
    pub(super) fn next_for_stopped(
        &self,
        name: &ContextName,
        context: &ContextEntry,
    ) -> Option<ContextAct> {
        let used = self
            .volumes
            .values()
            .any(|v| v.context == *name && (v.attached.is_some() || v.running.is_some()));
        let runs = context.stage > ContextStage::Absent && !context.crashes.container_stays;
        (context.crashes.stopped && runs && !used).then_some(ContextAct::Stop)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Event, Outcome, Step, VolumeEntry};
    use super::*;
    use crate::control::ContextPhase;
    use crate::manifest::Manifest;
    use serde_json::json;

    fn name() -> ContextName {
        ContextName::new("c").unwrap()
    }

    fn kinds(image: &str) -> BTreeMap<Kind, KindEntry> {
        let manifest: Manifest = serde_json::from_value(json!({
            "kind": "fake", "version": "1", "context_schema": {}, "volume_schema": {},
            "capabilities": [], "privileges": {}
        }))
        .unwrap();
        let image = image.into();
        [(manifest.kind.clone(), KindEntry { image, manifest })].into()
    }

    fn declare(world: &mut World, config: serde_json::Value, now: Millis) {
        let kind = Kind::new("fake").unwrap();
        let contexts = [(name(), (kind, config))].into();
        let volumes = BTreeMap::new();
        world.apply(Event::Declared { contexts, volumes }, now);
    }

    fn world() -> World {
        let mut world = World::default();
        world.apply(Event::Kinds(kinds("1")), 0);
        declare(&mut world, json!({}), 0);
        world
    }

    /// Brings the context up to the end; the acts that it took.
    fn up(world: &mut World, now: Millis) -> Vec<ContextAct> {
        let mut acts = Vec::new();
        while let Some(step) = world.plan(now).pop() {
            let Step::Context(_, act) = &step else {
                panic!("{step:?}");
            };
            acts.push(*act);
            let outcome = match act {
                ContextAct::Start => Outcome::Started("id".into()),
                ContextAct::Link => Outcome::Linked { open: false },
                ContextAct::Open => Outcome::Opened(world.contexts[&name()].config.clone()),
                ContextAct::List => Outcome::Listed(Vec::new()),
                ContextAct::Close | ContextAct::Stop => Outcome::Done,
            };
            world.begin(&step);
            world.apply(Event::StepEnded(step, Ok(outcome)), now);
        }
        acts
    }

    fn death() -> Error {
        Error::new(ErrorKind::Plugin, "the connection broke")
    }

    /// Lets it open and die until it is stopped; the time then.
    fn crash(world: &mut World, mut now: Millis) -> Millis {
        for died in 0..MOST {
            assert!(world.stopped(&name()).is_none(), "after {died}");
            up(world, now);
            assert!(world.contexts[&name()].is_ready(), "after {died}");
            world.apply(Event::LinkLost(name(), death()), now);
            now += 1_000;
        }
        now
    }

    #[test]
    fn one_that_opens_and_dies_again_and_again_is_stopped_with_the_reason_and_tried_much_later() {
        let mut world = world();
        let now = crash(&mut world, 0);
        let said = world.stopped(&name()).unwrap().to_string();
        assert!(
            said.contains("8 times") && said.contains("the connection broke"),
            "{said}"
        );
        assert!(said.contains("laz pool resume c"), "{said}");
        assert_eq!(
            up(&mut world, now),
            [ContextAct::Stop],
            "its container goes"
        );
        world.apply(Event::ContainerLost(name()), now);
        world.apply(Event::Health(name(), Err(death())), now);
        let status = world.context_statuses(now).remove(0);
        assert_eq!((status.phase, status.crashes), (ContextPhase::Stopped, 8));
        assert!(status.reason.unwrap().contains("keeps dying"));
        assert!(status.retry_in_seconds.unwrap() > 500);
        let later = world.next_wakeup(now).unwrap();
        assert!(later > now + PAUSE / 2);
        assert!(world.plan(later - 1).is_empty());
        up(&mut world, later);
        assert!(
            world.contexts[&name()].is_ready(),
            "by itself after a while"
        );
        assert_eq!(world.contexts[&name()].crashes.count, 8);
    }

    #[test]
    fn deaths_now_and_then_are_mended_for_ever() {
        let mut world = world();
        for death_ in 0..100 {
            let now = death_ * WINDOW / 5;
            up(&mut world, now);
            assert!(world.contexts[&name()].is_ready());
            world.apply(Event::LinkLost(name(), death()), now);
        }
        assert!(world.stopped(&name()).is_none());
    }

    #[test]
    fn options_an_image_or_the_operator_have_it_tried_at_once() {
        type Change = fn(&mut World, Millis);
        let changes: [(&str, Change); 3] = [
            ("options", |w, now| declare(w, json!({"other": 1}), now)),
            ("image", |w, now| w.apply(Event::Kinds(kinds("2")), now)),
            ("operator", |w, now| {
                w.apply(Event::ContextResumed(name()), now)
            }),
        ];
        for (what, change) in changes {
            let mut world = world();
            let now = crash(&mut world, 0);
            up(&mut world, now);
            declare(&mut world, json!({}), now);
            world.apply(Event::Kinds(kinds("1")), now);
            assert!(
                world.stopped(&name()).is_some(),
                "{what}: nothing has changed"
            );
            change(&mut world, now);
            assert!(world.stopped(&name()).is_none(), "{what}");
            up(&mut world, now);
            assert!(world.contexts[&name()].is_ready(), "{what}");
        }
    }

    #[test]
    fn a_plugin_host_that_never_says_hello_is_stopped_too() {
        let mut world = world();
        let (mut now, mut links) = (0, 0);
        while world.stopped(&name()).is_none() {
            let Some(step) = world.plan(now).pop() else {
                now = world.next_wakeup(now).unwrap();
                continue;
            };
            let result = match &step {
                Step::Context(_, ContextAct::Start) => Ok(Outcome::Started("id".into())),
                _ => {
                    links += 1;
                    now += 30_000;
                    Err(death())
                }
            };
            world.begin(&step);
            world.apply(Event::StepEnded(step, result), now);
            assert!(links < 20);
        }
        assert_eq!(links, 1 + MOST / UNREACHED);
    }

    #[test]
    fn an_engine_that_takes_its_containers_along_stops_no_context() {
        let mut world = world();
        let away = || Error::new(ErrorKind::Unreachable, "system Docker does not answer");
        let mut now = 0;
        for _ in 0..20 {
            up(&mut world, now);
            assert!(world.contexts[&name()].is_ready());
            world.apply(Event::LinkLost(name(), death()), now);
            world.apply(Event::SystemEngineLost, now);
            for _ in 0..6 {
                now = world.next_wakeup(now).unwrap_or(now);
                for step in world.plan(now) {
                    world.begin(&step);
                    world.apply(Event::StepEnded(step, Err(away())), now);
                }
            }
            world.apply(Event::ContainerLost(name()), now);
            now += 60_000;
            assert!(world.stopped(&name()).is_none());
        }
    }

    #[test]
    fn the_container_stays_while_a_volume_is_mounted_and_goes_when_the_machine_does() {
        let mut world = world();
        let volume = VolumeEntry {
            attached: Some(super::super::Attachment {
                target: "/mnt/x/v".into(),
                source: "s".into(),
                mount_id: 1,
                device: (0, 1),
            }),
            made: true,
            ..VolumeEntry::declared(name(), json!({}), "x/v".into(), false)
        };
        let volume_name = crate::name::VolumeName::new("v").unwrap();
        world.apply(
            Event::VolumeWanted(volume_name.clone(), Box::new(volume)),
            0,
        );
        let now = crash(&mut world, 0);
        assert!(world.plan(now).is_empty(), "a FUSE client may live in it");
        world.draining = true;
        world.volumes.remove(&volume_name);
        assert_eq!(up(&mut world, now), [ContextAct::Stop]);
        assert!(world.is_drained());
    }
}
