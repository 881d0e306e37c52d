//! The world as `laz status` shows it.

use super::world::{ContextEntry, ContextStage, VolumeEntry};
use super::{ContextAct, Millis, SnapshotEntry, World};
use crate::control::{
    ContextPhase, ContextStatus, SnapshotPhase, SnapshotStatus, VolumePhase, VolumeStatus,
};
use crate::error::Error;
use crate::name::{ContextName, Kind, SnapshotName, VolumeName};
use crate::volume::HealthState;

impl World {
    /// All contexts, by name.
    pub fn context_statuses(&self, now: Millis) -> Vec<ContextStatus> {
        self.contexts
            .iter()
            .map(|(name, context)| self.context_status(name, context, now))
            .collect()
    }

    /// All volumes, by name.
    pub fn volume_statuses(&self, now: Millis) -> Vec<VolumeStatus> {
        self.volumes
            .iter()
            .map(|(name, volume)| self.volume_status(name, volume, now))
            .collect()
    }

    /// Whether every required volume is mounted.
    pub fn required_are_attached(&self) -> bool {
        self.volumes
            .values()
            .all(|v| !v.required || !v.wanted || v.attached.is_some())
    }

    fn context_status(
        &self,
        name: &ContextName,
        context: &ContextEntry,
        now: Millis,
    ) -> ContextStatus {
        let no_image = (!self.kinds.contains_key(&context.kind)
            && context.stage == ContextStage::Absent)
            .then(|| self.no_image(&context.kind));
        let reason = context
            .health
            .reason
            .clone()
            // What it said before it was stopped is not why nothing is tried.
            .filter(|_| context.health.state != HealthState::Healthy && !context.crashes.stopped);
        let rival = self.rival(name, context).filter(|_| !context.is_ready());
        let hopeless = no_image.as_ref().or(rival.as_ref());
        let error = hopeless.or(context.retry.error.as_ref());
        let unwelcome = self.unwelcome(context).map(|why| {
            format!("it goes on until its container ends, but may not be started again: {why}")
        });
        ContextStatus {
            name: name.clone(),
            kind: context.kind.clone(),
            phase: if hopeless.is_some() {
                ContextPhase::Failed
            } else {
                context_phase(context, now)
            },
            health: match error {
                Some(_) if context.stage < ContextStage::Open => HealthState::Faulted,
                _ if unwelcome.is_some() && context.health.state == HealthState::Healthy => {
                    HealthState::Degraded
                }
                _ => context.health.state,
            },
            reason: context
                .doing
                .clone()
                .or(reason)
                .or(unwelcome)
                .or_else(|| error.map(Error::to_string)),
            retry_in_seconds: context.retry.seconds_left(now),
            declared: context.declared,
            container: context
                .container
                .as_ref()
                .map(|id| id.chars().take(12).collect()),
            abandoned: context.abandoned,
            crashes: context.crashes.count,
            attached: context.attached,
            capacity: context.health.capacity,
            activities: context.health.activities.clone(),
        }
    }

    /// One volume.
    pub fn volume_status(
        &self,
        name: &VolumeName,
        volume: &VolumeEntry,
        now: Millis,
    ) -> VolumeStatus {
        let context = self.contexts.get(&volume.context);
        let (health, health_reason) = match (&volume.health, context) {
            (Some((state, reason)), _) => (*state, reason.clone()),
            (None, _) if volume.is_stale() => (HealthState::Stale, None),
            // A context without any trouble of its own says nothing of a volume that is not mounted.
            (None, Some(c)) => (c.health.state, c.health.reason.clone()),
            (None, None) => (
                HealthState::Faulted,
                Some(format!("its context \"{}\" is gone", volume.context)),
            ),
        };
        let reason = match volume.error() {
            Some(error) => Some(error.to_string()),
            None if volume.attached.is_none() && volume.should_be_attached() => {
                context.and_then(|c| self.context_status(&volume.context, c, now).reason)
            }
            None => health_reason.filter(|_| health != HealthState::Healthy),
        };
        VolumeStatus {
            name: name.clone(),
            id: volume.id,
            context: volume.context.clone(),
            kind: context.map_or_else(unknown_kind, |c| c.kind.clone()),
            options: volume.options.clone(),
            phase: volume_phase(volume, now),
            health,
            reason,
            // Nothing is tried for one that nobody uses.
            retry_in_seconds: volume
                .retry
                .seconds_left(now)
                .filter(|_| volume_phase(volume, now) != VolumePhase::Idle),
            mountpoint: volume.attached.as_ref().map(|a| a.target.clone()),
            source: volume.attached.as_ref().map(|a| a.source.clone()),
            read_only: volume.read_only,
            required: volume.required,
            origin: volume.origin,
            used_by: volume.used_by.iter().cloned().collect(),
            created_at: volume.created_at.clone(),
            size: size_of(&volume.options),
            new_size: volume.resize.as_ref().and_then(|r| size_text(&r.to)),
            snapshots: volume
                .snapshots
                .iter()
                .map(|(name, snapshot)| snapshot_status(name, snapshot, volume))
                .collect(),
        }
    }
}

/// The size that `options` give, as text.
fn size_of(options: &serde_json::Value) -> Option<String> {
    size_text(options.get("size")?)
}

fn size_text(size: &serde_json::Value) -> Option<String> {
    match size {
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// A snapshot of `volume`.
pub fn snapshot_status(
    name: &SnapshotName,
    snapshot: &SnapshotEntry,
    volume: &VolumeEntry,
) -> SnapshotStatus {
    SnapshotStatus {
        name: name.clone(),
        id: snapshot.id,
        created_at: snapshot.created_at.clone(),
        phase: match volume.rollback.as_ref() {
            _ if !snapshot.wanted => SnapshotPhase::Leaving,
            _ if !snapshot.made => SnapshotPhase::Pending,
            Some(rollback) if rollback.to == snapshot.id => SnapshotPhase::RollingBack,
            _ => SnapshotPhase::Taken,
        },
        reason: snapshot.retry.error.as_ref().map(Error::to_string),
    }
}

impl VolumeEntry {
    /// What went wrong last, of whatever is being done to it.
    fn error(&self) -> Option<&Error> {
        let rollback = self.rollback.as_ref().and_then(|r| r.retry.error.as_ref());
        let resize = self.resize.as_ref().and_then(|r| r.retry.error.as_ref());
        rollback.or(self.retry.error.as_ref()).or(resize)
    }
}

fn unknown_kind() -> Kind {
    Kind::new("unknown").expect("a valid kind")
}

fn context_phase(context: &ContextEntry, now: Millis) -> ContextPhase {
    if context.crashes.stopped {
        return ContextPhase::Stopped;
    }
    if context.running.is_none() && context.retry.error.is_some() && !context.retry.is_due(now) {
        return ContextPhase::Waiting;
    }
    match (context.stage, context.running) {
        (ContextStage::Absent, _) => ContextPhase::Starting,
        (ContextStage::Container, _) => ContextPhase::Connecting,
        (ContextStage::Linked, _) | (ContextStage::Open, Some(ContextAct::Open)) => {
            ContextPhase::Opening
        }
        (ContextStage::Open, _) => ContextPhase::Ready,
    }
}

fn volume_phase(volume: &VolumeEntry, now: Millis) -> VolumePhase {
    let waits =
        volume.running.is_none() && volume.retry.error.is_some() && !volume.retry.is_due(now);
    match () {
        () if volume.quarantined => VolumePhase::Quarantined,
        () if !volume.wanted => VolumePhase::Leaving,
        () if volume.attached.is_some() => VolumePhase::Mounted,
        () if waits => VolumePhase::Waiting,
        () if volume.running.is_some()
            || volume.should_be_attached()
            || volume.rollback.is_some()
            || !volume.made =>
        {
            VolumePhase::Pending
        }
        () => VolumePhase::Idle,
    }
}
