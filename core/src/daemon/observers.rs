//! Tasks that watch the outside and tell the supervisor: engines, images, the view.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at};

use super::backend::Backend;
use super::steps::Hands;
use super::supervisor::{Images, Message};
use super::system_engine::SystemEvent;
use super::user_engine::UserEvent;
use super::volume_api::{Scope, VolumeSocket};
use crate::error::{ErrorKind, Result};
use crate::manifest::Capability;
use crate::name::Kind;
use crate::planner::{Event, KindEntry, RefusedKind};

/// How often images are looked at, whatever else is heard: nothing tells that one came.
const IMAGES_EVERY: Duration = Duration::from_secs(10);
/// How often the view's mounts are looked at although nothing was heard.
const VIEW_EVERY: Duration = Duration::from_secs(10);

/// Watches the system Docker: its images, and the deaths of our containers.
pub async fn system_engine(hands: Arc<Hands>, mut doors: Doors) {
    let mut events = hands.system.watch();
    let mut look = interval_at(Instant::now() + IMAGES_EVERY, IMAGES_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let event = tokio::select! {
            _ = look.tick() => None,
            () = hands.look_again.notified() => None,
            event = events.recv() => match event {
                Some(event) => Some(event),
                None => return,
            },
        };
        let message = match event {
            None => Message::Images(read_images(&hands, &mut doors).await),
            Some(SystemEvent::Up(identity)) => {
                if hands
                    .messages
                    .send(Message::EngineUp("system", identity))
                    .is_err()
                {
                    return;
                }
                give_names_back(&hands).await;
                Message::Images(read_images(&hands, &mut doors).await)
            }
            Some(SystemEvent::Down(error)) => Message::EngineDown("system", error.to_string()),
            Some(SystemEvent::Died { context, id, .. } | SystemEvent::Removed { context, id }) => {
                Message::ContainerGone { context, id }
            }
            Some(SystemEvent::Started { .. }) => continue,
        };
        if hands.messages.send(message).is_err() {
            return;
        }
    }
}

/// Gives the OS's images the names that the OS calls them by: an archive may have taken one, if core
/// or the machine died while it was being loaded.
async fn give_names_back(hands: &Hands) {
    for (name, image) in hands.admission.built_in().names() {
        let pair = (name.to_owned(), image.to_owned());
        match hands.system.name_again(&[pair]).await {
            // The engine's disk is of another version of the OS.
            Err(error) if error.kind != ErrorKind::NotFound => tracing::warn!("{error}"),
            _ => {}
        }
    }
}

/// Reads what the images serve, and opens the front door of each new kind before core hears of it.
async fn read_images(hands: &Hands, doors: &mut Doors) -> Result<Images> {
    let of_the_os = hands.admission.built_in();
    let may = |image: &_| hands.may_serve(image);
    let found = hands.system.plugins(of_the_os, may).await?;
    let mut kinds = BTreeMap::new();
    for image in found.images {
        let shared = image.manifest.capabilities.contains(&Capability::Shared);
        doors
            .open(
                &image.kind,
                if shared { Scope::Global } else { Scope::Local },
            )
            .await;
        kinds.insert(
            image.kind,
            KindEntry {
                image: image.image_id,
                manifest: image.manifest,
            },
        );
    }
    doors.open_remembered().await;
    let refused = found.refused.into_iter().map(|(kind, (image, why))| {
        let (image, manifest) = (image.image_id, image.manifest);
        let entry = KindEntry { image, manifest };
        (kind, RefusedKind { entry, why })
    });
    let refused = refused.collect();
    let problems = found.problems.into_iter().collect();
    Ok(Images {
        kinds,
        refused,
        problems,
    })
}

/// The sockets of the volume API, one for each kind.
pub struct Doors {
    directory: PathBuf,
    record: PathBuf,
    backend: Backend,
    stop: watch::Receiver<bool>,
    open: BTreeMap<Kind, tokio::task::JoinHandle<()>>,
}

impl Doors {
    /// None yet; those to come lie in `directory`, are recorded in the directory `record`, and
    /// close when `stop` turns true.
    pub fn new(
        directory: PathBuf,
        record: PathBuf,
        backend: Backend,
        stop: watch::Receiver<bool>,
    ) -> Self {
        Self {
            directory,
            record,
            backend,
            stop,
            open: BTreeMap::new(),
        }
    }

    /// Serves `kind`, unless it is served. A failure is told, and tried again at the next look.
    pub async fn open(&mut self, kind: &Kind, scope: Scope) {
        if self.open.get(kind).is_some_and(|task| !task.is_finished()) {
            return;
        }
        let path = self.socket(kind);
        match VolumeSocket::bind(kind.clone(), path, scope).await {
            Err(error) => tracing::error!("{error}"),
            Ok(socket) => {
                if let Err(error) = self.note(kind) {
                    tracing::warn!("cannot record the socket of kind \"{kind}\": {error}");
                }
                let mut stop = self.stop.clone();
                let stopped = async move {
                    // The sender goes only when core does.
                    let _ = stop.wait_for(|stop| *stop).await;
                };
                self.open.insert(
                    kind.clone(),
                    tokio::spawn(socket.serve(self.backend.clone(), stopped)),
                );
            }
        }
    }
}

impl Doors {
    fn socket(&self, kind: &Kind) -> PathBuf {
        self.directory.join(format!("{kind}.sock"))
    }

    fn note(&self, kind: &Kind) -> io::Result<()> {
        fs::create_dir_all(&self.record)?;
        fs::write(self.record.join(kind.as_str()), "")
    }

    /// Serves the kinds that an earlier core served and no image serves any longer: Docker remembers
    /// each driver that it has seen as long as it runs, and would try its socket for 15 s whenever it
    /// lists volumes. The record lies on a file system that ends with the machine's run.
    async fn open_remembered(&mut self) {
        let noted: Vec<Kind> = fs::read_dir(&self.record)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|found| Kind::new(found.file_name().to_str()?).ok())
            .collect();
        for kind in noted {
            self.open(&kind, Scope::Local).await;
        }
    }
}

/// Watches the user Docker: whether it answers, and what its containers use.
pub async fn user_engine(hands: Arc<Hands>) {
    let mut events = hands.user.watch();
    while let Some(event) = events.recv().await {
        let message = match event {
            UserEvent::Up(identity) => Message::EngineUp("user", identity),
            UserEvent::Down(error) => Message::EngineDown("user", error.to_string()),
            UserEvent::Containers(containers) => Message::UserContainers(containers),
        };
        if hands.messages.send(message).is_err() {
            return;
        }
    }
}

/// Watches the mounts below our target roots.
pub async fn view(hands: Arc<Hands>) {
    let mut ticks = interval(VIEW_EVERY);
    loop {
        ticks.tick().await;
        match hands.view.observe().await {
            Ok(mounts) => {
                if hands
                    .messages
                    .send(Message::Event(Event::ViewObserved(mounts)))
                    .is_err()
                {
                    return;
                }
            }
            Err(error) => tracing::warn!("{error}"),
        }
    }
}
