//! Requests that wait for the world to get somewhere.

use super::settings::limits;
use super::supervisor::Supervisor;
use crate::error::{Error, ErrorKind, Result};
use crate::name::VolumeName;
use crate::planner::{Millis, VolumeAct, VolumeEntry};

/// What a request waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// The plugin has made the volume. The first failure is the answer.
    Made,
    /// The volume is mounted in the view. A failure that may pass is waited out.
    Attached,
    /// The volume is not mounted in the view. Failing that is not an error: it is tried on.
    Detached,
    /// The volume is no more. The first failure is the answer.
    Gone,
}

/// How a waiter is answered.
type Answer = Box<dyn FnOnce(&mut Supervisor, Result<()>) + Send>;

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
    pub answer: Answer,
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
            .map_or(0, |v| v.retry.failures);
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
                Goal::Gone | Goal::Detached => Ok(()),
                _ => Err(Error::not_found(format!(
                    "volume \"{}\" was removed meanwhile",
                    waiter.volume
                ))),
            });
        };
        let idle = volume.running.is_none();
        let reached = match waiter.goal {
            Goal::Made => volume.made,
            Goal::Attached => volume.attached.is_some() && idle && !volume.is_stale(),
            Goal::Detached => {
                let leaving = volume.running == Some(VolumeAct::Detach);
                volume.attached.is_none() && !volume.unsure && (idle || leaving)
            }
            Goal::Gone => false,
        };
        if reached {
            return Some(Ok(()));
        }
        if matches!(waiter.goal, Goal::Made | Goal::Attached) && !volume.wanted {
            let message = format!("volume \"{}\" is being removed", waiter.volume);
            return Some(Err(Error::new(ErrorKind::Busy, message)));
        }
        let final_error = self.final_error(waiter, volume);
        let late = || self.now() >= waiter.deadline;
        match (final_error, waiter.goal) {
            (Some(_), Goal::Detached) => Some(Ok(())),
            (Some(error), _) => Some(Err(error)),
            (None, Goal::Detached) if late() => Some(Ok(())),
            (None, _) if late() => Some(Err(self.too_late(waiter, volume))),
            (None, _) => None,
        }
    }

    /// The failure that ends the wait before its time, if there is one.
    fn final_error(&self, waiter: &Waiter, volume: &VolumeEntry) -> Option<Error> {
        let fresh = volume
            .retry
            .error
            .clone()
            .filter(|_| volume.retry.failures > waiter.failures);
        let own = match waiter.goal {
            Goal::Attached => fresh.filter(|e| is_definite(e.kind)),
            _ => fresh,
        };
        own.or_else(|| {
            let context = self.world.contexts.get(&volume.context)?;
            let hopeless = context.retry.error.clone().filter(|e| is_definite(e.kind));
            hopeless.filter(|_| {
                !context.is_ready() && matches!(waiter.goal, Goal::Made | Goal::Attached)
            })
        })
    }

    fn too_late(&self, waiter: &Waiter, volume: &VolumeEntry) -> Error {
        let what = match waiter.goal {
            Goal::Made => "is not made yet",
            Goal::Attached => "cannot be mounted yet",
            Goal::Detached | Goal::Gone => "cannot be removed yet",
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
