//! Steps on volumes that exist: snapshots, bringing a volume back to one, another size.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::settings::limits;
use super::steps::{Hands, params};
use crate::error::{Error, Result};
use crate::message::Method;
use crate::name::VolumeName;
use crate::planner::{Outcome, VolumeEntry};
use crate::volume::{Created, Removed, SnapshotId};

impl Hands {
    /// A call that may take long: whoever watches the volume is told how far it is.
    pub(super) async fn work_on<T: DeserializeOwned>(
        &self,
        name: &VolumeName,
        volume: &VolumeEntry,
        method: Method,
        limit: Duration,
    ) -> Result<T> {
        let link = self.link(&volume.context)?;
        match self.watchers.of(name) {
            Some(watcher) => link.watched(method, limit, watcher).await,
            None => Ok(link.call(method, limit).await?.0),
        }
    }

    pub(super) async fn snapshot(
        &self,
        volume: &VolumeEntry,
        snapshot: SnapshotId,
    ) -> Result<Outcome> {
        let method = Method::Snapshot {
            volume: params(volume),
            snapshot,
        };
        let link = self.link(&volume.context)?;
        link.call::<Created>(method, limits::CHANGE).await?;
        Ok(Outcome::Done)
    }

    pub(super) async fn remove_snapshot(
        &self,
        name: &VolumeName,
        volume: &VolumeEntry,
        snapshot: SnapshotId,
    ) -> Result<Outcome> {
        let method = Method::RemoveSnapshot {
            volume: params(volume),
            snapshot,
        };
        let removed = match self.link(&volume.context) {
            Ok(link) => link.call::<Removed>(method, limits::CHANGE).await,
            Err(error) => Err(error),
        };
        match removed {
            Ok(_) => Ok(Outcome::Done),
            Err(error) if volume.forced && !volume.wanted => {
                let what = format!("a snapshot of volume \"{name}\" is forgotten: {error}");
                self.say(volume, what);
                Ok(Outcome::Done)
            }
            Err(error) => Err(error),
        }
    }

    pub(super) async fn roll_back(
        &self,
        name: &VolumeName,
        volume: &VolumeEntry,
        snapshot: SnapshotId,
    ) -> Result<Outcome> {
        // The view has it no more; the container's own copy must go, too.
        let link = self.link(&volume.context)?;
        let unmount = Method::Unmount { id: volume.id };
        link.call::<Value>(unmount, limits::CHANGE).await?;
        let method = Method::Rollback {
            volume: params(volume),
            snapshot,
        };
        self.work_on::<Value>(name, volume, method, limits::LONG_CHANGE)
            .await?;
        self.say(
            volume,
            format!("volume \"{name}\": brought back to a snapshot"),
        );
        Ok(Outcome::Done)
    }

    pub(super) async fn resize(&self, name: &VolumeName, volume: &VolumeEntry) -> Result<Outcome> {
        let Some(resize) = &volume.resize else {
            return Err(Error::internal(format!(
                "volume \"{name}\" has the size that it is to have"
            )));
        };
        let mut volume_then = params(volume);
        if let Some(options) = volume_then.options.as_object_mut() {
            options.insert("size".into(), resize.to.clone());
        }
        let method = Method::Resize {
            volume: volume_then,
        };
        self.work_on::<Value>(name, volume, method, limits::LONG_CHANGE)
            .await?;
        self.say(
            volume,
            format!("volume \"{name}\": its size is {} now", resize.to),
        );
        Ok(Outcome::Resized(resize.to.clone()))
    }
}
