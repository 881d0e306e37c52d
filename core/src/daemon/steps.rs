//! Doing what the planner says: one [`Step`] at a time, each in a task of its own with a deadline.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{Instant, sleep, timeout};

use super::admission::{Admission, Candidate};
use super::link::{Link, LinkEvent};
use super::settings::{Settings, limits};
use super::supervisor::Message;
use super::system_engine::{ContainerSpec, SystemEngine};
use super::usage::uses;
use super::user_engine::UserEngine;
use super::view::{Expected, View};
use super::watchers::Watchers;
use crate::control::Origin;
use crate::error::{Error, ErrorKind, Result};
use crate::message::{Method, VolumeParams};
use crate::name::{ContextName, VolumeName};
use crate::planner::{
    Attachment, ContextAct, ContextEntry, Event, KindEntry, Outcome, Step, VolumeAct, VolumeEntry,
};
use crate::volume::{Created, ListedVolume, Mounted, Removed};

/// How often it is tried again to remove what a failed create has left, with growing pauses: half a
/// minute in all.
const CLEANUPS: u32 = 5;

/// What steps work with; shared by all of them.
pub struct Hands {
    /// What core was started with.
    pub settings: Settings,
    /// The engine of the storage containers.
    pub system: SystemEngine,
    /// The engine of the users' containers.
    pub user: UserEngine,
    /// The namespace in which user Docker runs.
    pub view: View,
    /// Where to say what happens meanwhile.
    pub messages: UnboundedSender<Message>,
    /// Who is told how far the work on a volume is.
    pub watchers: Watchers,
    /// Has the images on system Docker looked at now.
    pub(super) look_again: Notify,
    /// Which images may serve.
    pub(super) admission: Admission,
    /// Held while kernel modules are built.
    pub(super) building: tokio::sync::Mutex<()>,
    links: Mutex<Links>,
}

#[derive(Default)]
struct Links {
    by_context: BTreeMap<ContextName, (u64, Link)>,
    generation: u64,
}

/// What a step needs to know of the world at its start.
pub enum Order {
    /// For a step on a context.
    Context(Box<(ContextEntry, Option<KindEntry>)>),
    /// For a step on a volume.
    Volume(Box<VolumeEntry>),
}

impl Hands {
    /// Puts the parts together.
    pub fn new(
        settings: Settings,
        system: SystemEngine,
        user: UserEngine,
        view: View,
        messages: UnboundedSender<Message>,
    ) -> Self {
        Self {
            admission: Admission::new(&settings.built_in_images),
            settings,
            system,
            user,
            view,
            messages,
            watchers: Watchers::default(),
            look_again: Notify::new(),
            building: tokio::sync::Mutex::default(),
            links: Mutex::default(),
        }
    }

    /// Does `step`. Whatever it comes to, it ends.
    pub async fn take(self: Arc<Self>, step: Step, order: Order) -> Result<Outcome> {
        match (step, order) {
            (Step::Context(name, act), Order::Context(known)) => match act {
                ContextAct::Start => self.start(&name, known.0, known.1).await,
                ContextAct::Link => self.connect(&name).await,
                ContextAct::Open => self.open(&name, known.0.config).await,
                ContextAct::List => self.list(&name).await,
                ContextAct::Close => self.close(&name).await,
                ContextAct::Stop => self.stop(&name).await,
            },
            (Step::Volume(name, act), Order::Volume(volume)) => match act {
                VolumeAct::Create => self.create(&name, &volume).await,
                VolumeAct::Attach => self.attach(&name, &volume).await,
                VolumeAct::Heal => self.heal(&name, &volume).await,
                VolumeAct::Detach => self.detach(name, &volume).await,
                VolumeAct::Remove => self.remove(&name, &volume).await,
                VolumeAct::Snapshot(id) => self.snapshot(&volume, id).await,
                VolumeAct::RemoveSnapshot(id) => self.remove_snapshot(&name, &volume, id).await,
                VolumeAct::Rollback(id) => self.roll_back(&name, &volume, id).await,
                VolumeAct::Resize => self.resize(&name, &volume).await,
            },
            (step, _) => Err(Error::internal(format!(
                "{step:?} was ordered with what another step needs"
            ))),
        }
    }

    /// Whether `generation` is that of the connection in use.
    pub fn is_current(&self, name: &ContextName, generation: u64) -> bool {
        self.lock()
            .by_context
            .get(name)
            .is_some_and(|(current, _)| *current == generation)
    }

    /// Lets go of the connection to `name`.
    pub fn forget_link(&self, name: &ContextName) {
        self.lock().by_context.remove(name);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Links> {
        self.links
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(super) fn link(&self, name: &ContextName) -> Result<Link> {
        self.lock()
            .by_context
            .get(name)
            .map(|(_, link)| link.clone())
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::Plugin,
                    format!("the plugin host of \"{name}\" is not connected"),
                )
            })
    }

    async fn start(
        &self,
        name: &ContextName,
        context: ContextEntry,
        kind: Option<KindEntry>,
    ) -> Result<Outcome> {
        let kind = kind.ok_or_else(|| {
            Error::not_found(format!("no image serves kind \"{}\"", context.kind))
        })?;
        // The policy may have changed since the images were read.
        self.admission.judge(Candidate {
            kind: &context.kind,
            version: &kind.manifest.version,
            image: &kind.image,
        })?;
        let doing = |what: String| {
            let event = Event::ContextDoing(name.clone(), Some(what));
            let _ = self.messages.send(Message::Event(event));
        };
        self.provide_modules(&kind.manifest.privileges, &doing)
            .await?;
        let directory = self.settings.context_directory(name.as_str());
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .map_err(|e| {
                Error::internal(format!("cannot make {}", directory.display())).cause(e)
            })?;
        let spec = ContainerSpec {
            context: name.clone(),
            image_id: kind.image,
            privileges: kind.manifest.privileges,
            run_directory: directory,
            grace: limits::GRACE,
        };
        let ensured = within(
            limits::START,
            "starting its container",
            self.system.ensure_container(&spec),
        )
        .await?;
        Ok(Outcome::Started(ensured.id))
    }

    /// Waits for the plugin host's socket; a container that has just been started needs a moment.
    async fn connect(&self, name: &ContextName) -> Result<Outcome> {
        let socket = self
            .settings
            .context_directory(name.as_str())
            .join("plugin.sock");
        let until = Instant::now() + limits::LINK;
        let generation = {
            let mut links = self.lock();
            links.by_context.remove(name);
            links.generation += 1;
            links.generation
        };
        loop {
            let events = self.link_events(name.clone(), generation);
            match Link::connect(&socket, name.as_str(), Duration::from_secs(10), events).await {
                Ok(link) => {
                    let open = link.open;
                    self.lock()
                        .by_context
                        .insert(name.clone(), (generation, link));
                    return Ok(Outcome::Linked { open });
                }
                Err(error) if Instant::now() >= until => return Err(error),
                Err(_) => sleep(Duration::from_millis(50)).await,
            }
            if !self
                .system
                .containers()
                .await?
                .iter()
                .any(|c| c.context == *name && c.running)
            {
                let _ = self
                    .messages
                    .send(Message::Event(Event::ContainerLost(name.clone())));
                return Err(Error::new(
                    ErrorKind::Plugin,
                    format!("the container of \"{name}\" ended"),
                )
                .remedy(format!("see: laz logs {name}")));
            }
        }
    }

    fn link_events(
        &self,
        context: ContextName,
        generation: u64,
    ) -> impl Fn(LinkEvent) + Send + use<> {
        let messages = self.messages.clone();
        move |event| {
            let message = match event {
                LinkEvent::Changed => Message::HealthChanged(context.clone()),
                LinkEvent::Line(level, line) => Message::Line {
                    context: context.clone(),
                    level,
                    line,
                },
                LinkEvent::Closed(error) => Message::LinkClosed {
                    context: context.clone(),
                    generation,
                    error,
                },
            };
            // Core is ending if nobody listens.
            let _ = messages.send(message);
        }
    }

    async fn open(&self, name: &ContextName, config: Value) -> Result<Outcome> {
        let method = Method::Open {
            config: config.clone(),
        };
        self.link(name)?.call::<Value>(method, limits::OPEN).await?;
        Ok(Outcome::Opened(config))
    }

    async fn list(&self, name: &ContextName) -> Result<Outcome> {
        let (listed, _) = self
            .link(name)?
            .call::<Vec<ListedVolume>>(Method::List, limits::CHANGE)
            .await?;
        Ok(Outcome::Listed(listed))
    }

    async fn close(&self, name: &ContextName) -> Result<Outcome> {
        self.link(name)?
            .call::<Value>(Method::Close, limits::OPEN)
            .await?;
        Ok(Outcome::Done)
    }

    async fn stop(&self, name: &ContextName) -> Result<Outcome> {
        self.forget_link(name);
        within(
            limits::START,
            "stopping its container",
            self.system.stop_and_remove(name, limits::GRACE),
        )
        .await?;
        let directory = self.settings.context_directory(name.as_str());
        match std::fs::remove_dir_all(&directory) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(Error::internal(format!("cannot remove {}", directory.display())).cause(e))
            }
            _ => Ok(Outcome::Done),
        }
    }

    async fn create(&self, name: &VolumeName, volume: &VolumeEntry) -> Result<Outcome> {
        let new = params(volume);
        let (method, limit) = match volume.source.clone() {
            None => (Method::Create { volume: new }, limits::CHANGE),
            Some(source) => (
                Method::Clone {
                    volume: new,
                    source,
                },
                limits::LONG_CHANGE,
            ),
        };
        self.work_on::<Created>(name, volume, method, limit).await?;
        Ok(Outcome::Done)
    }

    async fn mount(&self, volume: &VolumeEntry) -> Result<(Mounted, OwnedFd)> {
        let method = Method::Mount {
            volume: params(volume),
            read_only: volume.read_only,
        };
        let (mounted, fd) = self
            .link(&volume.context)?
            .call::<Mounted>(method, limits::MOUNT)
            .await?;
        let fd = fd.ok_or_else(|| {
            Error::new(
                ErrorKind::Plugin,
                format!(
                    "the plugin of \"{}\" sent no mount with its reply",
                    volume.context
                ),
            )
        })?;
        Ok((mounted, fd))
    }

    async fn attach(&self, name: &VolumeName, volume: &VolumeEntry) -> Result<Outcome> {
        let (mounted, fd) = self.mount(volume).await?;
        let expected = Expected::new(&mounted, volume.read_only);
        let attachment = self
            .view
            .attach(volume.root(), volume.target(), fd, expected)
            .await?;
        self.say(
            volume,
            format!(
                "volume \"{name}\": {} is mounted at {}",
                attachment.source, attachment.target
            ),
        );
        Ok(Outcome::Attached(attachment))
    }

    /// A fresh mount first, then the dead one goes: in the view and in every running container
    /// that has it. The containers keep running; what they hold open in the dead mount stays dead.
    async fn heal(&self, name: &VolumeName, volume: &VolumeEntry) -> Result<Outcome> {
        let Some(dead) = volume.attached.clone() else {
            return Err(Error::internal(format!("volume \"{name}\" is not mounted")));
        };
        // The plugin's own copy is as dead; mounting again must not find it.
        let unmount = Method::Unmount { id: volume.id };
        self.link(&volume.context)?
            .call::<Value>(unmount, limits::CHANGE)
            .await?;
        let (mounted, fd) = self.mount(volume).await?;
        let expected = Expected::new(&mounted, volume.read_only);
        let attachment = self
            .view
            .replace(volume.root(), dead.target.clone(), fd, expected)
            .await?;
        let healed = self.heal_containers(name, volume, &dead).await;
        self.say(
            volume,
            format!(
                "volume \"{name}\": replaced a dead mount, also in {healed} running containers"
            ),
        );
        Ok(Outcome::Attached(attachment))
    }

    async fn heal_containers(
        &self,
        name: &VolumeName,
        volume: &VolumeEntry,
        dead: &Attachment,
    ) -> usize {
        let places = match self.places_of(name, &dead.target).await {
            Ok(places) => places,
            Err(error) => {
                tracing::warn!("volume \"{name}\": cannot ask which containers have it: {error}");
                return 0;
            }
        };
        let mut healed = 0;
        for (container, pid, path) in places {
            match self.heal_container(volume, dead, pid, path).await {
                Ok(()) => healed += 1,
                Err(error) => self.say(
                    volume,
                    format!("volume \"{name}\" in container {container}: {error}"),
                ),
            }
        }
        healed
    }

    /// A mount can be placed once, so the plugin makes one for each place.
    async fn heal_container(
        &self,
        volume: &VolumeEntry,
        dead: &Attachment,
        pid: i32,
        path: String,
    ) -> Result<()> {
        let (mounted, fd) = self.mount(volume).await?;
        let expected = Expected::new(&mounted, volume.read_only);
        self.view
            .replace_in_container(pid, path, fd, expected, dead.device)
            .await
    }

    /// Where running containers have the volume: their name, first process and path.
    async fn places_of(
        &self,
        name: &VolumeName,
        target: &str,
    ) -> Result<Vec<(String, i32, String)>> {
        let mut containers = self.user.containers().await?;
        containers.retain(|c| c.is_live() && uses(c, name, target));
        let ids: Vec<String> = containers.iter().map(|c| c.id.clone()).collect();
        let pids = self.user.pids(&ids).await?;
        let mut places = Vec::new();
        for container in containers {
            let Some(pid) = pids.get(&container.id) else {
                continue;
            };
            // A path below the volume is another mount root: it cannot be told from here.
            let mounts = container
                .mounts
                .into_iter()
                .filter(|m| m.volume.as_deref() == Some(name.as_str()) || m.source == target);
            places.extend(mounts.map(|m| (container.name.clone(), *pid, m.destination)));
        }
        Ok(places)
    }

    async fn detach(&self, name: VolumeName, volume: &VolumeEntry) -> Result<Outcome> {
        self.view
            .detach(volume.root(), volume.target(), volume.forced)
            .await?;
        // Who waits for the mount to go need not wait for the plugin, too.
        let detached = Message::Event(Event::Detached(name));
        let _ = self.messages.send(detached);
        if let Ok(link) = self.link(&volume.context) {
            let unmount = Method::Unmount { id: volume.id };
            // The plugin's copy hides nothing and goes with its container at the latest.
            if let Err(error) = link.call::<Value>(unmount, limits::CHANGE).await {
                self.say(
                    volume,
                    format!("cannot unmount the container's own copy: {error}"),
                );
            }
        }
        Ok(Outcome::Done)
    }

    async fn remove(&self, name: &VolumeName, volume: &VolumeEntry) -> Result<Outcome> {
        if volume.origin != Origin::Created {
            return Ok(Outcome::Done);
        }
        let removed = match self.link(&volume.context) {
            Ok(link) => {
                link.call::<Removed>(
                    Method::Remove {
                        volume: params(volume),
                    },
                    limits::CHANGE,
                )
                .await
            }
            Err(error) => Err(error),
        };
        match removed {
            Ok(_) => Ok(Outcome::Done),
            Err(error) if volume.forced && !may_go_yet(volume, &error) => {
                self.say(volume, format!("volume \"{name}\" is forgotten: {error}"));
                Ok(Outcome::Done)
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn say(&self, volume: &VolumeEntry, line: String) {
        let context = volume.context.clone();
        let _ = self.messages.send(Message::Line {
            context,
            level: crate::context::Level::Info,
            line,
        });
    }
}

pub(super) fn params(volume: &VolumeEntry) -> VolumeParams {
    VolumeParams {
        id: volume.id,
        options: volume.options.clone(),
    }
}

/// Ends `work` with an error if it takes longer than `limit`.
async fn within<T>(
    limit: Duration,
    what: &str,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    timeout(limit, work).await.unwrap_or_else(|_| {
        Err(Error::new(
            ErrorKind::Timeout,
            format!("{what} did not end within {} s", limit.as_secs()),
        ))
    })
}

/// Whether what a failed create has left may go at another try: its storage answers, and something was
/// in the way. Where the storage is away the name is free at once.
fn may_go_yet(volume: &VolumeEntry, error: &Error) -> bool {
    let in_the_way = matches!(error.kind, ErrorKind::Busy | ErrorKind::Internal);
    !volume.made && in_the_way && volume.retry.failures < CLEANUPS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_failed_create_has_left_is_removed_again_where_the_storage_answers() {
        let context = ContextName::new("fast").unwrap();
        let options = serde_json::json!({});
        let mut volume = VolumeEntry::declared(context, options, "fast/x".into(), false);
        let error = |kind| Error::new(kind, "cannot remove it");
        for (kind, again) in [
            (ErrorKind::Internal, true),
            (ErrorKind::Busy, true),
            (ErrorKind::Unreachable, false),
            (ErrorKind::Timeout, false),
            (ErrorKind::Plugin, false),
        ] {
            assert_eq!(may_go_yet(&volume, &error(kind)), again, "{kind:?}");
        }
        for _ in 0..CLEANUPS {
            assert!(may_go_yet(&volume, &error(ErrorKind::Internal)));
            volume.retry.failed(error(ErrorKind::Internal), 0);
        }
        assert!(!may_go_yet(&volume, &error(ErrorKind::Internal)));
        volume.retry.succeeded();
        volume.made = true;
        assert!(!may_go_yet(&volume, &error(ErrorKind::Internal)));
    }
}
