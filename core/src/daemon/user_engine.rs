//! The user Docker, watched from a distance: whether it answers, and which of its containers
//! use which volumes.
//!
//! It is never asked inside a call of the volume API: dockerd may be waiting for that call while
//! it holds a container's lock. The watcher is a task of its own, and it *lists* containers,
//! which the engine answers from a copy without any lock; only [`UserEngine::pids`] looks at
//! single containers, and has a deadline.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use bollard::models::{ContainerSummary, MountPoint};
use bollard::query_parameters::ListContainersOptionsBuilder;
use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout_at};

use super::engine_client::{EngineClient, EngineIdentity, Follow, Outage};
use super::system_engine::Chunks;
use crate::error::{Error, ErrorKind, Result};

/// For a listing.
const LIST: Duration = Duration::from_secs(10);
/// For a look at one container.
const INSPECT: Duration = Duration::from_secs(5);
/// How long events are gathered before the containers are listed.
const GATHER: Duration = Duration::from_millis(150);
/// How often the containers are listed although no event came.
const REFRESH: Duration = Duration::from_secs(30);
/// Events after which a container's use of volumes may be another.
const EVENTS: [&str; 5] = ["create", "start", "die", "destroy", "rename"];

/// What became of the user Docker or of its containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserEvent {
    /// It answers (again); a listing follows.
    Up(EngineIdentity),
    /// It does not answer; it is tried again. Sent once per outage and reason.
    Down(Error),
    /// All containers it has, running or not.
    Containers(Vec<ContainerUse>),
}

/// A container and what it uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerUse {
    /// Its identity.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its state in the engine's words (`running`, `exited`, …).
    pub state: String,
    /// What it mounts.
    pub mounts: Vec<MountUse>,
}

impl ContainerUse {
    /// Whether its mounts are in place now: it runs, is paused or is being restarted.
    pub fn is_live(&self) -> bool {
        matches!(self.state.as_str(), "running" | "paused" | "restarting")
    }
}

/// One mount of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountUse {
    /// The volume's name; none for a bind mount.
    pub volume: Option<String>,
    /// The volume's driver; none for a bind mount.
    pub driver: Option<String>,
    /// Where it comes from, in the view.
    pub source: String,
    /// Where it goes, in the container.
    pub destination: String,
}

/// For an image to be read.
const TRANSFER: Duration = Duration::from_secs(290);

/// A client of the user Docker. Cheap to clone; survives the engine's restarts.
#[derive(Debug, Clone)]
pub struct UserEngine {
    client: EngineClient,
}

impl UserEngine {
    /// The engine behind `socket`, which need not exist yet.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self {
            client: EngineClient::new("user Docker", socket),
        }
    }

    /// Its API socket.
    pub fn socket(&self) -> &Path {
        self.client.socket()
    }

    /// The image `name` as an archive, read while it is taken.
    ///
    /// # Errors
    /// `NotFound` if it has no such image; the engine's.
    pub async fn image(&self, name: &str) -> Result<Chunks> {
        let what = format!("find image {name}");
        let inspect = self.client.call(&what, INSPECT, |docker| async move {
            docker.inspect_image(name).await
        });
        inspect.await?;
        let docker = self.client.docker().await?;
        let name = name.to_owned();
        let (sender, chunks) = mpsc::channel(4);
        tokio::spawn(async move {
            let mut parts = pin!(docker.export_image(&name));
            let end = Instant::now() + TRANSFER;
            while let Ok(Some(part)) = timeout_at(end, parts.next()).await {
                if sender.send(part.map_err(io::Error::other)).await.is_err() {
                    return;
                }
            }
            if Instant::now() >= end {
                // Nobody may take half of it for all of it.
                let _ = sender.send(Err(io::ErrorKind::TimedOut.into())).await;
            }
        });
        Ok(chunks)
    }

    /// Watches the engine in a task of its own until the receiver is dropped.
    pub fn watch(&self) -> mpsc::Receiver<UserEvent> {
        let (sender, receiver) = mpsc::channel(16);
        let engine = self.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = engine.follow_for_ever(&sender) => {}
                () = sender.closed() => {}
            }
        });
        receiver
    }

    /// All containers, running or not.
    ///
    /// # Errors
    /// The engine's.
    pub async fn containers(&self) -> Result<Vec<ContainerUse>> {
        let options = ListContainersOptionsBuilder::new().all(true).build();
        let found = self
            .client
            .call("list its containers", LIST, |docker| async move {
                docker.list_containers(Some(options)).await
            })
            .await?;
        Ok(found.into_iter().map(Into::into).collect())
    }

    /// The first processes of those of `ids` that run, as the engine's PID namespace counts.
    /// Waits for a container that is just being started or stopped: not for the volume API.
    ///
    /// # Errors
    /// The engine's; a container that is gone is none.
    pub async fn pids(&self, ids: &[String]) -> Result<BTreeMap<String, i32>> {
        let mut pids = BTreeMap::new();
        for id in ids {
            let found = self
                .client
                .call("inspect a container", INSPECT, |docker| async move {
                    docker.inspect_container(id, None).await
                })
                .await;
            match found {
                Ok(found) => {
                    let pid = found.state.and_then(|state| state.pid).unwrap_or(0);
                    if let Ok(pid @ 1..) = i32::try_from(pid) {
                        pids.insert(id.clone(), pid);
                    }
                }
                Err(error) if error.kind == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(pids)
    }

    async fn follow_for_ever(&self, sender: &mpsc::Sender<UserEvent>) {
        let mut outage = Outage::default();
        while let Err(error) = self.follow(sender, &mut outage).await {
            if outage.is_news(&error) && sender.send(UserEvent::Down(error)).await.is_err() {
                return;
            }
            outage.wait().await;
        }
    }

    /// Follows one run of the engine. Ends well only if nobody listens any more.
    async fn follow(&self, sender: &mpsc::Sender<UserEvent>, outage: &mut Outage) -> Result<()> {
        let mut follow = Follow::begin(&self.client, &EVENTS, None).await?;
        let mut containers = self.containers().await?;
        outage.ends();
        let up = UserEvent::Up(follow.identity.clone());
        if sender.send(up).await.is_err() {
            return Ok(());
        }
        loop {
            let listing = UserEvent::Containers(containers);
            if sender.send(listing).await.is_err() {
                return Ok(());
            }
            if let Ok(event) = timeout_at(Instant::now() + REFRESH, follow.next()).await {
                event?;
                let gathered = sleep(GATHER);
                tokio::pin!(gathered);
                loop {
                    tokio::select! {
                        () = &mut gathered => break,
                        event = follow.next() => drop(event?),
                    }
                }
            }
            containers = self.containers().await?;
        }
    }
}

impl From<ContainerSummary> for ContainerUse {
    fn from(found: ContainerSummary) -> Self {
        let names = found.names.unwrap_or_default();
        let name = names.first().map_or("", String::as_str);
        let mounts = found.mounts.unwrap_or_default();
        Self {
            id: found.id.unwrap_or_default(),
            name: name.trim_start_matches('/').to_owned(),
            state: found
                .state
                .map(|state| state.to_string())
                .unwrap_or_default(),
            mounts: mounts.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<MountPoint> for MountUse {
    fn from(mount: MountPoint) -> Self {
        let said = |text: Option<String>| text.filter(|text| !text.is_empty());
        Self {
            volume: said(mount.name),
            driver: said(mount.driver),
            source: mount.source.unwrap_or_default(),
            destination: mount.destination.unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_listing_of_docker_20_10_is_read() {
        let text = json!({
            "Id": "4f1c", "Names": ["/web"], "Image": "busybox", "State": "running",
            "Mounts": [
                {"Type": "volume", "Name": "media", "Source": "", "Destination": "/data",
                 "Driver": "nfs", "Mode": "z", "RW": true, "Propagation": ""},
                {"Type": "bind", "Source": "/mnt/nas/x", "Destination": "/x",
                 "Mode": "", "RW": true, "Propagation": "rprivate"}
            ]
        });
        let summary: ContainerSummary = serde_json::from_value(text).unwrap();
        let container = ContainerUse::from(summary);
        assert!(container.is_live());
        assert_eq!(container.name, "web");
        assert_eq!(container.mounts[0].volume.as_deref(), Some("media"));
        assert_eq!(container.mounts[0].driver.as_deref(), Some("nfs"));
        assert_eq!(container.mounts[1].volume, None);
        assert_eq!(container.mounts[1].driver, None);
        assert_eq!(container.mounts[1].source, "/mnt/nas/x");
    }
}
