//! What Docker asks of core, by its volume API.

use serde_json::{Map, Value};

use super::requests::{Reply, answer, not_in_use, without_snapshots};
use super::settings::limits;
use super::supervisor::Supervisor;
use super::volume_api::{Caller, DockerVolume};
use super::waiting::Goal;
use crate::control::{Origin, VolumePhase};
use crate::error::{Error, ErrorKind, Result};
use crate::name::{Kind, VolumeName};
use crate::planner::{Event, Place, VolumeEntry};

impl Supervisor {
    /// The same for Docker, which asks only once none of its containers has the volume and knows
    /// that better than a listing of a moment ago. What it cannot know is who uses a path such as `/mnt/…`.
    pub fn remove_for_docker(&mut self, name: VolumeName, reply: Reply<()>) {
        let removable = self.removable(&name).and_then(|volume| {
            if volume.place != Place::Docker {
                not_in_use(&name, volume)?;
            }
            without_snapshots(&name, volume)
        });
        match removable {
            Err(error) => answer(reply, Err(error)),
            Ok(()) => self.let_go(name, false, reply),
        }
    }

    /// Docker wants to use a volume; answers with its mountpoint once it is mounted.
    pub fn mount(
        &mut self,
        name: VolumeName,
        mount_id: String,
        caller: Caller,
        reply: Reply<String>,
    ) {
        self.note_docker(caller);
        let usable = self.volume(&name).and_then(|volume| {
            if self.world.draining || !volume.wanted {
                return Err(Error::new(
                    ErrorKind::Busy,
                    format!("volume \"{name}\" is being removed"),
                ));
            }
            Ok(())
        });
        let held =
            usable.and_then(|()| self.apply_durably([Event::Held(name.clone(), mount_id.clone())]));
        if let Err(error) = held {
            return answer(reply, Err(error));
        }
        let wait = if self.is_booting() {
            limits::MOUNT_WAIT_AT_BOOT
        } else {
            limits::MOUNT_WAIT
        };
        let held = name.clone();
        self.wait_for(&name, Goal::Attached, wait, move |supervisor, result| {
            let result = result.map(|()| {
                supervisor
                    .world
                    .volumes
                    .get(&held)
                    .map(VolumeEntry::target)
                    .unwrap_or_default()
            });
            // Docker sends no Unmount for a Mount that failed; nor does one who has hung up.
            let lost = result.is_err();
            if reply.send(result).is_err() || lost {
                supervisor.apply(Event::Released(held, mount_id));
            }
        });
    }

    /// Docker no longer uses a volume; answers once that is kept and the mount is gone, or will be.
    pub fn unmount(
        &mut self,
        name: VolumeName,
        mount_id: String,
        caller: Caller,
        reply: Reply<()>,
    ) {
        self.note_docker(caller);
        if let Err(error) = self.apply_durably([Event::Released(name.clone(), mount_id)]) {
            return answer(reply, Err(error));
        }
        let still_wanted = self
            .world
            .volumes
            .get(&name)
            .is_none_or(VolumeEntry::should_be_attached);
        if still_wanted {
            return answer(reply, Ok(()));
        }
        self.wait_for(&name, Goal::Detached, limits::VIEW, move |_, result| {
            answer(reply, result)
        });
    }

    /// A volume of `kind` as Docker shows it.
    ///
    /// # Errors
    /// `NotFound` if there is none of that kind.
    pub fn docker_volume(&self, kind: &Kind, name: &VolumeName) -> Result<DockerVolume> {
        let volume = self.volume(name)?;
        if !volume.wanted && !volume.made {
            // Its create has failed. Docker would take what is left of it for a success of the next
            // one, and make a local volume of that name once it is gone.
            return Err(Error::not_found(format!("no volume \"{name}\"")));
        }
        match self.world.contexts.get(&volume.context) {
            Some(context) if context.kind == *kind => Ok(self.as_docker_volume(name, volume)),
            _ => Err(Error::not_found(format!(
                "no volume \"{name}\" of kind \"{kind}\""
            ))),
        }
    }

    /// All volumes of `kind` as Docker shows them, but for those that it may be having made or
    /// removed at this moment: it holds its own lock on them, and a listing would wait for that.
    pub fn docker_volumes(&self, kind: &Kind) -> Vec<DockerVolume> {
        let of_kind = |v: &VolumeEntry| {
            self.world
                .contexts
                .get(&v.context)
                .is_some_and(|c| c.kind == *kind)
        };
        let settled = |v: &VolumeEntry| v.wanted && (v.made || v.origin != Origin::Created);
        self.world
            .volumes
            .iter()
            .filter(|(_, v)| settled(v) && of_kind(v))
            .map(|(name, v)| self.as_docker_volume(name, v))
            .collect()
    }

    fn as_docker_volume(&self, name: &VolumeName, volume: &VolumeEntry) -> DockerVolume {
        let status = self.world.volume_status(name, volume, self.now());
        let mut shown = Map::new();
        shown.insert("context".into(), status.context.as_str().into());
        shown.insert("health".into(), json(&status.health));
        shown.insert("phase".into(), json(&status.phase));
        if let Some(source) = status.source {
            shown.insert("source".into(), source.into());
        }
        if let Some(reason) = status.reason.filter(|_| status.phase != VolumePhase::Idle) {
            shown.insert("reason".into(), reason.into());
        }
        DockerVolume {
            name: name.clone(),
            mountpoint: status.mountpoint,
            created_at: status.created_at,
            status: shown,
        }
    }
}

fn json(value: &impl serde::Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}
