//! Requests that wait for the world to get somewhere.

use serde_json::Value;

use super::settings::limits;
use super::supervisor::Supervisor;
use crate::error::{Error, ErrorKind, Result};
use crate::name::{ContextName, VolumeName};
use crate::planner::{Millis, Retry, SnapshotEntry, VolumeAct, VolumeEntry};
use crate::volume::SnapshotId;

/// So many failures of plugins in a row, and a clone is given up.
const CLONE_ATTEMPTS: u32 = 4;

/// What a request waits for.
#[derive(Debug, Clone, PartialEq)]
pub enum Goal {
    /// The plugin has made the volume. The first failure is the answer.
    Made,
    /// The plugin has made the volume from another one. A plugin host that dies over it is not the
    /// answer: the next one goes on with what is copied. Other failures are.
    Cloned,
    /// The volume is mounted in the view. A failure that may pass is waited out.
    Attached,
    /// The volume is not mounted in the view. Failing that is not an error: it is tried on.
    Detached,
    /// The volume is no more. The first failure is the answer.
    Gone,
    /// The plugin has taken a snapshot. The first failure is the answer.
    Taken(SnapshotId),
    /// The snapshot is no more. The first failure is the answer.
    SnapshotGone(SnapshotId),
    /// The volume has been brought back to a snapshot. What may be going on is waited out.
    RolledBack,
    /// The volume has this `size`. What may be going on is waited out.
    Resized(Value),
}

impl Goal {
    /// Whether it can only be reached while the volume is there to stay and its context works.
    fn needs_the_volume(&self) -> bool {
        !matches!(self, Self::Detached | Self::Gone | Self::SnapshotGone(_))
    }

    /// What holds the failures that count.
    fn retry<'a>(&self, volume: &'a VolumeEntry) -> Option<&'a Retry> {
        match self {
            Self::Taken(id) | Self::SnapshotGone(id) => snapshot(volume, *id).map(|s| &s.retry),
            Self::RolledBack | Self::Resized(_) => None,
            Self::Gone => {
                let of_snapshots = volume.snapshots.values().map(|s| &s.retry);
                Some(
                    of_snapshots
                        .into_iter()
                        .find(|r| r.error.is_some())
                        .unwrap_or(&volume.retry),
                )
            }
            Self::Made | Self::Cloned | Self::Attached | Self::Detached => Some(&volume.retry),
        }
    }
}

fn snapshot(volume: &VolumeEntry, id: SnapshotId) -> Option<&SnapshotEntry> {
    volume.snapshots.values().find(|s| s.id == id)
}

/// How a waiter is answered.
pub(super) type Answer = Box<dyn FnOnce(&mut Supervisor, Result<()>) + Send>;

/// A request that waits.
pub struct Waiter {
    /// For which volume.
    pub volume: VolumeName,
    /// For what.
    pub goal: Goal,
    /// Until when.
    pub deadline: Millis,
    /// The volume's failures in a row when the wait began: only later ones count.
    pub failures: u32,
    /// How it is answered.
    pub(super) answer: Answer,
}

/// A request that came before core knew what kinds there are.
pub struct Early {
    /// Until when it waits for that.
    pub deadline: Millis,
    /// The request.
    pub request: Box<dyn FnOnce(&mut Supervisor) + Send>,
}

impl Supervisor {
    /// Puts `request` off until the images on system Docker were read for the first time; gives
    /// it back if they were, or if they have been waited for long enough.
    pub fn unless_early<F>(&mut self, request: F) -> Option<F>
    where
        F: FnOnce(&mut Self) + Send + 'static,
    {
        let deadline = Millis::try_from(limits::KINDS.as_millis()).unwrap_or(Millis::MAX);
        if self.knows_kinds() || self.now() >= deadline {
            return Some(request);
        }
        let request = Box::new(request);
        self.early.push(Early { deadline, request });
        None
    }

    /// Lets the requests that came early have their turn once it is time.
    pub fn settle_early(&mut self) {
        let (knows, now) = (self.knows_kinds(), self.now());
        let early = std::mem::take(&mut self.early);
        let (due, early) = early.into_iter().partition(|e| knows || now >= e.deadline);
        self.early = early;
        for Early { request, .. } in due {
            request(self);
        }
    }

    /// Lets `answer` be called once `volume` has reached `goal`, cannot, or `limit` has passed.
    pub fn wait_for(
        &mut self,
        volume: &VolumeName,
        goal: Goal,
        limit: std::time::Duration,
        answer: impl FnOnce(&mut Self, Result<()>) + Send + 'static,
    ) {
        let limit = Millis::try_from(limit.as_millis()).unwrap_or(Millis::MAX);
        let failures = self
            .world
            .volumes
            .get(volume)
            .and_then(|v| goal.retry(v))
            .map_or(0, |r| r.failures);
        let deadline = self.now().saturating_add(limit);
        self.waiters.push(Waiter {
            volume: volume.clone(),
            goal,
            deadline,
            failures,
            answer: Box::new(answer),
        });
    }

    /// Answers those whose wait is over.
    pub fn settle_waiters(&mut self) {
        // An answer may change the world and so end other waits; those are seen the next time round.
        let waiting = std::mem::take(&mut self.waiters);
        let mut over = Vec::new();
        for waiter in waiting {
            match self.verdict(&waiter) {
                Some(result) => over.push((waiter.answer, result)),
                None => self.waiters.push(waiter),
            }
        }
        for (answer, result) in over {
            answer(self, result);
        }
    }

    fn verdict(&self, waiter: &Waiter) -> Option<Result<()>> {
        let Some(volume) = self.world.volumes.get(&waiter.volume) else {
            return Some(match waiter.goal {
                Goal::Gone | Goal::Detached | Goal::SnapshotGone(_) => Ok(()),
                _ => Err(Error::not_found(format!(
                    "volume \"{}\" was removed meanwhile",
                    waiter.volume
                ))),
            });
        };
        if let Some(refused) = self.refused(waiter, volume) {
            return Some(Err(refused));
        }
        let idle = volume.running.is_none();
        let reached = match &waiter.goal {
            Goal::Made | Goal::Cloned => volume.made,
            Goal::Attached => volume.attached.is_some() && idle && !volume.is_stale(),
            Goal::Detached => {
                let leaving = volume.running == Some(VolumeAct::Detach);
                volume.attached.is_none() && !volume.unsure && (idle || leaving)
            }
            Goal::Gone => false,
            Goal::Taken(id) => snapshot(volume, *id).is_some_and(|s| s.made),
            Goal::SnapshotGone(id) => snapshot(volume, *id).is_none(),
            Goal::RolledBack => volume.rollback.is_none(),
            Goal::Resized(size) => volume.options.get("size") == Some(size),
        };
        if reached {
            return Some(Ok(()));
        }
        if waiter.goal.needs_the_volume() && !volume.wanted {
            let message = format!("volume \"{}\" is being removed", waiter.volume);
            return Some(Err(Error::new(ErrorKind::Busy, message)));
        }
        let final_error = self.final_error(waiter, volume);
        let late = || self.now() >= waiter.deadline;
        match (final_error, &waiter.goal) {
            (Some(_), Goal::Detached) => Some(Ok(())),
            (Some(error), _) => Some(Err(error)),
            (None, Goal::Detached) if late() => Some(Ok(())),
            (None, _) if late() => Some(Err(self.too_late(waiter, volume))),
            (None, _) => None,
        }
    }

    /// The failure that ends the wait before its time, if there is one.
    fn final_error(&self, waiter: &Waiter, volume: &VolumeEntry) -> Option<Error> {
        let retry = waiter.goal.retry(volume);
        let failed = retry.map_or(0, |r| r.failures.saturating_sub(waiter.failures));
        let fresh = retry.filter(|_| failed > 0).and_then(|r| r.error.clone());
        let own = match waiter.goal {
            Goal::Attached => fresh.filter(|e| is_definite(e.kind)),
            Goal::Cloned => {
                fresh.filter(|e| e.kind != ErrorKind::Plugin || failed >= CLONE_ATTEMPTS)
            }
            _ => fresh,
        };
        own.or_else(|| {
            let context = self.world.contexts.get(&volume.context)?;
            if !waiter.goal.needs_the_volume() {
                let unmounts = waiter.goal == Goal::Detached;
                let works = unmounts || volume.forced || volume.running.is_some();
                return self.world.stopped(&volume.context).filter(|_| !works);
            }
            let hopeless = self.hopeless(&volume.context);
            hopeless.filter(|_| !context.is_ready())
        })
    }

    /// Why a context will not come up unless somebody changes something.
    pub(super) fn hopeless(&self, name: &ContextName) -> Option<Error> {
        let context = self.world.contexts.get(name)?;
        let failed = context.retry.error.clone().filter(|e| is_definite(e.kind));
        let rival = self.world.rival(name, context);
        rival.or_else(|| self.world.stopped(name)).or(failed)
    }

    /// Why the change that is waited for was given up, if it was.
    fn refused(&self, waiter: &Waiter, volume: &VolumeEntry) -> Option<Error> {
        let given_up = match &waiter.goal {
            Goal::RolledBack => volume.rollback.is_none(),
            Goal::Resized(size) => {
                volume.resize.is_none() && volume.options.get("size") != Some(size)
            }
            _ => false,
        };
        volume.refused.clone().filter(|_| given_up)
    }

    fn too_late(&self, waiter: &Waiter, volume: &VolumeEntry) -> Error {
        let what = match &waiter.goal {
            Goal::Made | Goal::Cloned => "is not made yet",
            Goal::Attached => "cannot be mounted yet",
            Goal::Detached | Goal::Gone => "cannot be removed yet",
            Goal::Taken(_) => "has no snapshot yet",
            Goal::SnapshotGone(_) => "still has the snapshot",
            Goal::RolledBack => "is not brought back yet",
            Goal::Resized(_) => "does not have the new size yet",
        };
        let error = Error::new(
            ErrorKind::Timeout,
            format!("volume \"{}\" {what}", waiter.volume),
        );
        match self
            .world
            .volume_status(&waiter.volume, volume, self.now())
            .reason
        {
            Some(reason) => error
                .cause(reason)
                .remedy("core goes on trying: see laz status"),
            None => error.remedy("core goes on trying: see laz status"),
        }
    }
}

/// Whether waiting for it to pass would only keep the user from the answer.
fn is_definite(kind: ErrorKind) -> bool {
    let told = matches!(
        kind,
        ErrorKind::NotFound
            | ErrorKind::PermissionDenied
            | ErrorKind::NoSpace
            | ErrorKind::Internal
    );
    told || !kind.is_transient()
}
