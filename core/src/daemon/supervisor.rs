//! The actor that owns the [`World`]: takes in what happens, keeps it, plans, and sends steps off.
//!
//! It never waits for storage, an engine or a plugin: those are steps, each in a task of its own.
//! So every question that the world can answer is answered at once, whatever hangs elsewhere.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::time::{Instant, sleep_until};

use super::configuration::Configuration;
use super::engine_client::EngineIdentity;
use super::health::Questions;
use super::requests::{Reply, answer, now_rfc3339};
use super::settings::limits;
use super::steps::{Hands, Order};
use super::store::Store;
use super::usage::Holds;
use super::user_engine::ContainerUse;
use super::waiting::{Early, Waiter};
use super::whole_contexts::ContextWaiter;
use crate::context::Level;
use crate::control::EngineStatus;
use crate::error::{Error, ErrorKind, Result};
use crate::name::{ContextName, Kind};
use crate::planner::{
    Event, KindEntry, Millis, Outcome, RefusedKind, Step, VolumeAct, VolumeEntry, World,
};

/// Lines kept of a context's log beside what its container keeps.
const KEPT_LINES: usize = 200;
/// Bytes kept of these lines.
const KEPT_BYTES: usize = 256 << 10;

/// What reaches the supervisor.
pub enum Message {
    /// Something for the world.
    Event(Event),
    /// A step has ended.
    Ended(Step, Result<Outcome>),
    /// A question or request, answered by running it on the supervisor.
    Ask(Box<dyn FnOnce(&mut Supervisor) + Send>),
    /// A line for a context's log.
    Line {
        /// Which context.
        context: ContextName,
        /// How loud.
        level: Level,
        /// The line.
        line: String,
    },
    /// The plugin of a context says that its health is another one now.
    HealthChanged(ContextName),
    /// A connection to a plugin host is over.
    LinkClosed {
        /// Which context.
        context: ContextName,
        /// Which connection.
        generation: u64,
        /// Why.
        error: Error,
    },
    /// The images on system Docker were read, or could not be.
    Images(Result<Images>),
    /// An engine (`system` or `user`) answers.
    EngineUp(&'static str, EngineIdentity),
    /// An engine does not answer; why.
    EngineDown(&'static str, String),
    /// A storage container ended or was removed.
    ContainerGone {
        /// Whose it was.
        context: ContextName,
        /// Its identity.
        id: String,
    },
    /// All containers of user Docker, as just listed.
    UserContainers(Vec<ContainerUse>),
    /// Leave what is there and end.
    Stop,
}

/// What the images on system Docker are good for.
pub struct Images {
    /// The kinds that they serve.
    pub kinds: BTreeMap<Kind, KindEntry>,
    /// The kinds that they could serve but may not.
    pub refused: BTreeMap<Kind, RefusedKind>,
    /// Why others are not used.
    pub problems: BTreeSet<String>,
}

/// The actor.
pub struct Supervisor {
    pub(super) world: World,
    pub(super) hands: Arc<Hands>,
    pub(super) waiters: Vec<Waiter>,
    pub(super) context_waiters: Vec<ContextWaiter>,
    pub(super) early: Vec<Early>,
    pub(super) configuration: Configuration,
    pub(super) image_problems: BTreeSet<String>,
    pub(super) engines: BTreeMap<&'static str, EngineStatus>,
    drains: Vec<(Millis, Reply<()>)>,
    store: Store,
    store_error: Option<Error>,
    unsaved: bool,
    started: Instant,
    lines: BTreeMap<ContextName, VecDeque<String>>,
    pub(super) holds: Holds,
    pub(super) questions: Questions,
    ready: Readiness,
    stopping: bool,
}

/// What has to be there before user Docker is started.
#[derive(Default)]
struct Readiness {
    images_read: bool,
    said: bool,
    say: Option<Box<dyn FnOnce() + Send>>,
}

impl Supervisor {
    /// A supervisor of what `store` has kept and of `configuration`; `say_ready` is called once.
    ///
    /// # Errors
    /// Those of the store.
    pub fn new(
        hands: Arc<Hands>,
        mut store: Store,
        configuration: Configuration,
        boot_id: &str,
        say_ready: Box<dyn FnOnce() + Send>,
    ) -> Result<Self> {
        let mut world = World::default();
        store.load(&mut world, boot_id)?;
        let mut supervisor = Self {
            world,
            hands,
            waiters: Vec::new(),
            context_waiters: Vec::new(),
            early: Vec::new(),
            configuration,
            image_problems: BTreeSet::new(),
            engines: BTreeMap::new(),
            drains: Vec::new(),
            store,
            store_error: None,
            unsaved: true,
            started: Instant::now(),
            lines: BTreeMap::new(),
            holds: Holds::default(),
            questions: Questions::default(),
            ready: Readiness {
                say: Some(say_ready),
                ..Readiness::default()
            },
            stopping: false,
        };
        for name in ["system", "user"] {
            supervisor.engine(name, None, Some("not heard of yet".into()));
        }
        supervisor.declare();
        Ok(supervisor)
    }

    /// Runs until it is told to stop.
    pub async fn run(mut self, mut messages: UnboundedReceiver<Message>) {
        while !self.stopping {
            let wake = self.next_wakeup();
            tokio::select! {
                message = messages.recv() => match message {
                    Some(message) => self.take(message),
                    None => break,
                },
                () = sleep_until(wake) => {}
            }
            while let Ok(message) = messages.try_recv() {
                self.take(message);
            }
            self.advance();
        }
        self.save();
    }

    /// Milliseconds since core started.
    pub fn now(&self) -> Millis {
        Millis::try_from(self.started.elapsed().as_millis()).unwrap_or(Millis::MAX)
    }

    /// Tells the world what has happened.
    pub fn apply(&mut self, event: Event) {
        if let Event::Held(name, _) = &event {
            self.holds.taken(name, self.now());
        }
        self.unsaved |= event.changes_what_is_kept();
        let now = self.now();
        self.world.apply(event, now);
    }

    /// Tells the world what is asked for, and keeps it on the disk.
    ///
    /// # Errors
    /// Those of the store: the world is then as it was.
    pub fn apply_durably(&mut self, events: impl IntoIterator<Item = Event>) -> Result<()> {
        let before = self.world.clone();
        for event in events {
            self.apply(event);
        }
        self.store
            .save(&self.world)
            .inspect_err(|_| self.world = before)
    }

    /// Whether the machine came up so short ago that networks and servers may still be missing.
    pub fn is_booting(&self) -> bool {
        self.now() < u64::try_from(limits::BOOT.as_millis()).unwrap_or(u64::MAX)
    }

    /// The last lines that core and the plugin host said of a context.
    pub fn lines_of(&self, context: &ContextName) -> Vec<String> {
        self.lines
            .get(context)
            .into_iter()
            .flatten()
            .cloned()
            .collect()
    }

    /// Whether required volumes are there, or their time was up.
    pub fn is_ready(&self) -> bool {
        self.ready.said
    }

    /// Whether every required volume is mounted, and the one that user Docker lives on.
    pub fn required_is_there(&self) -> bool {
        self.world.required_are_attached() && self.missing_data_root().is_none()
    }

    /// The data root of user Docker, if nothing is mounted there.
    pub fn missing_data_root(&self) -> Option<String> {
        let root = self.configuration.data_root()?;
        let mut attached = self
            .world
            .volumes
            .values()
            .filter_map(|v| v.attached.as_ref());
        (!attached.any(|a| a.target == root)).then_some(root)
    }

    /// Whether the images on system Docker were read since core's start.
    pub fn knows_kinds(&self) -> bool {
        self.ready.images_read
    }

    /// Trouble with core's own state, if there is any.
    pub fn store_error(&self) -> Option<&Error> {
        self.store_error.as_ref()
    }

    /// Puts the declared contexts and volumes into the world.
    pub fn declare(&mut self) {
        self.tell_admission();
        let (contexts, volumes) = self.configuration.declared();
        self.apply(Event::Declared { contexts, volumes });
        self.date_volumes();
    }

    /// Gives those that have just been declared or listed the time: the planner has no clock.
    fn date_volumes(&mut self) {
        let undated = |v: &&mut VolumeEntry| v.created_at.is_empty();
        for volume in self.world.volumes.values_mut().filter(undated) {
            volume.created_at = now_rfc3339();
        }
    }

    /// Reads the cloud-config again.
    pub fn reload(&mut self) {
        self.configuration.reload();
        self.declare();
    }

    /// The kinds of the volumes that are there, whatever images there are now.
    pub fn kinds_in_use(&self) -> BTreeSet<Kind> {
        let made = self.world.volumes.values().filter(|v| v.made);
        made.filter_map(|v| Some(self.world.contexts.get(&v.context)?.kind.clone()))
            .collect()
    }

    /// Writes a line into a context's log.
    pub fn line(&mut self, context: &ContextName, level: Level, line: &str) {
        match level {
            Level::Error => tracing::error!("{context}: {line}"),
            Level::Warn => tracing::warn!("{context}: {line}"),
            Level::Info => tracing::info!("{context}: {line}"),
            Level::Debug => tracing::debug!("{context}: {line}"),
        }
        let lines = self.lines.entry(context.clone()).or_default();
        lines.push_back(line.to_owned());
        while lines.len() > KEPT_LINES || lines.iter().map(String::len).sum::<usize>() > KEPT_BYTES
        {
            lines.pop_front();
        }
    }

    fn next_wakeup(&self) -> Instant {
        let now = self.now();
        let waiters = self
            .waiters
            .iter()
            .map(|w| w.deadline)
            .chain(self.context_waiters.iter().map(ContextWaiter::deadline))
            .chain(self.early.iter().map(|e| e.deadline))
            .chain(self.drains.iter().map(|d| d.0))
            .min();
        let steps = self.world.next_wakeup(now);
        let health = (!self.world.contexts.is_empty()).then_some(self.questions.next);
        let ready = (!self.ready.said).then(|| self.required_deadline());
        let next = [waiters, steps, health, ready]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(now + 60_000);
        self.started + Duration::from_millis(next.max(now))
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Event(event) => self.apply(event),
            Message::Ended(step, result) => self.step_ended(step, result),
            Message::Ask(question) => question(self),
            Message::Line {
                context,
                level,
                line,
            } => self.line(&context, level, &line),
            Message::HealthChanged(context) => {
                self.questions.changed.insert(context);
            }
            Message::LinkClosed {
                context,
                generation,
                error,
            } => {
                if self.hands.is_current(&context, generation) {
                    self.hands.forget_link(&context);
                    self.line(&context, Level::Warn, &error.to_string());
                    self.apply(Event::LinkLost(context, error));
                }
            }
            Message::Images(images) => self.take_images(images),
            Message::EngineUp(name, identity) => {
                self.engine(name, Some(identity.version), None);
                if name == "user" {
                    self.note_engine(identity.process);
                }
            }
            Message::EngineDown(name, reason) => {
                self.engine(name, None, Some(reason));
                if name == "system" {
                    self.apply(Event::SystemEngineLost);
                }
            }
            Message::ContainerGone { context, id } => {
                // Not the one that was replaced.
                let current = self
                    .world
                    .contexts
                    .get(&context)
                    .and_then(|c| c.container.as_ref());
                if current == Some(&id) {
                    self.hands.forget_link(&context);
                    self.line(&context, Level::Warn, "its container ended");
                    self.apply(Event::ContainerLost(context));
                }
            }
            Message::UserContainers(containers) => self.take_containers(&containers),
            Message::Stop => self.stopping = true,
        }
    }

    fn step_ended(&mut self, step: Step, result: Result<Outcome>) {
        if let Err(error) = &result {
            let context = match &step {
                Step::Context(name, _) => Some(name.clone()),
                Step::Volume(name, _) => self.world.volumes.get(name).map(|v| v.context.clone()),
            };
            if let Some(context) = context {
                self.line(
                    &context,
                    Level::Warn,
                    &format!("{}: {error}", describe(&step)),
                );
            }
        }
        let removed = matches!(step, Step::Volume(_, VolumeAct::Remove)) && result.is_ok();
        let context = match &step {
            Step::Context(name, _) => Some(name.clone()),
            Step::Volume(..) => None,
        };
        self.apply(Event::StepEnded(step, result));
        self.date_volumes();
        if removed {
            // A declared volume that was changed has gone; now the new one may come.
            self.declare();
        }
        if let Some(name) = context.filter(|name| !self.world.contexts.contains_key(name)) {
            self.lines.remove(&name);
        }
    }

    fn advance(&mut self) {
        self.settle_early();
        self.save();
        let now = self.now();
        for step in self.world.plan(now) {
            self.begin(step);
        }
        self.ask_health();
        self.settle_waiters();
        self.settle_context_waiters();
        self.settle_drains();
        self.say_ready();
    }

    fn save(&mut self) {
        if !self.unsaved {
            return;
        }
        match self.store.save(&self.world) {
            Ok(()) => {
                self.unsaved = false;
                self.store_error = None;
            }
            Err(error) => {
                if self.store_error.as_ref() != Some(&error) {
                    tracing::error!("{error}");
                }
                self.store_error = Some(error);
            }
        }
    }

    fn begin(&mut self, step: Step) {
        let order = match &step {
            Step::Context(name, _) => self.world.contexts.get(name).map(|context| {
                let kind = self.world.kinds.get(&context.kind).cloned();
                Order::Context(Box::new((context.clone(), kind)))
            }),
            Step::Volume(name, _) => self
                .world
                .volumes
                .get(name)
                .map(|v| Order::Volume(Box::new(v.clone()))),
        };
        let Some(order) = order else { return };
        tracing::debug!("{}", describe(&step));
        self.world.begin(&step);
        let hands = Arc::clone(&self.hands);
        tokio::spawn(async move {
            let messages = hands.messages.clone();
            // In a task of its own, so that a panic in a step is an error and not a step for ever.
            let work = tokio::spawn(hands.take(step.clone(), order));
            let result = work
                .await
                .unwrap_or_else(|e| Err(Error::internal("a step panicked").cause(e)));
            let _ = messages.send(Message::Ended(step, result));
        });
    }

    fn required_deadline(&self) -> Millis {
        let wait = self
            .configuration
            .required_wait()
            .unwrap_or(limits::REQUIRED_WAIT);
        Millis::try_from(wait.as_millis()).unwrap_or(Millis::MAX)
    }

    fn say_ready(&mut self) {
        let required = self.ready.images_read && self.required_is_there();
        let late = self.now() >= self.required_deadline();
        if self.ready.said || !(required || late) {
            return;
        }
        if !required {
            tracing::warn!("ready without some of what is required: the time for it is up");
        }
        self.ready.said = true;
        if let Some(say) = self.ready.say.take() {
            say();
        }
    }

    fn engine(&mut self, name: &'static str, version: Option<String>, reason: Option<String>) {
        let reachable = reason.is_none();
        let known = self.engines.get(name).and_then(|e| e.version.clone());
        let status = EngineStatus {
            name: name.into(),
            reachable,
            version: version.or(known),
            reason,
        };
        self.engines.insert(name, status);
    }

    fn take_images(&mut self, images: Result<Images>) {
        match images {
            Ok(Images {
                kinds,
                refused,
                problems,
            }) => {
                for problem in problems.difference(&self.image_problems) {
                    tracing::warn!("{problem}");
                }
                self.image_problems = problems;
                if refused != self.world.refused {
                    self.apply(Event::Refused(refused));
                }
                self.ready.images_read = true;
                if kinds != self.world.kinds {
                    self.configuration.check_kinds(&kinds);
                    self.apply(Event::Kinds(kinds));
                    self.declare();
                }
            }
            Err(error) => self.engine("system", None, Some(error.to_string())),
        }
    }

    /// Unmounts and closes everything, takes on nothing new; answers once that is done.
    pub fn drain(&mut self, reply: Reply<()>) {
        self.world.draining = true;
        for volume in self.world.volumes.values_mut() {
            volume.retry.now();
        }
        let deadline = self.now() + u64::try_from(limits::DRAIN.as_millis()).unwrap_or(u64::MAX);
        self.drains.push((deadline, reply));
    }

    fn settle_drains(&mut self) {
        let (now, drained) = (self.now(), self.world.is_drained());
        let over = |deadline: Millis| drained || now >= deadline;
        let (done, waiting) = std::mem::take(&mut self.drains)
            .into_iter()
            .partition(|(deadline, _)| over(*deadline));
        self.drains = waiting;
        for (_, reply) in done {
            let left: Vec<String> = self
                .world
                .volumes
                .values()
                .filter_map(|v| Some(v.attached.as_ref()?.target.clone()))
                .collect();
            let late = || {
                Error::new(ErrorKind::Timeout, "not everything could be unmounted")
                    .cause(left.join(", "))
            };
            answer(reply, if drained { Ok(()) } else { Err(late()) });
        }
    }

    /// For parts that send on their own.
    pub fn messages(&self) -> UnboundedSender<Message> {
        self.hands.messages.clone()
    }
}

fn describe(step: &Step) -> String {
    match step {
        Step::Context(name, act) => {
            format!("context \"{name}\": {}", format!("{act:?}").to_lowercase())
        }
        Step::Volume(name, act) => {
            format!("volume \"{name}\": {}", format!("{act:?}").to_lowercase())
        }
    }
}
