//! The world as `laz status` shows it.

use super::world::{ContextEntry, ContextStage, VolumeEntry};
use super::{ContextAct, Millis, World};
use crate::control::{ContextPhase, ContextStatus, VolumePhase, VolumeStatus};
use crate::error::Error;
use crate::name::{ContextName, Kind, VolumeName};
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
            .then(|| super::apply::no_image(&context.kind, &self.kinds));
        let reason = context
            .health
            .reason
            .clone()
            .filter(|_| context.health.state != HealthState::Healthy);
        let error = no_image.as_ref().or(context.retry.error.as_ref());
        ContextStatus {
            name: name.clone(),
            kind: context.kind.clone(),
            phase: if no_image.is_some() {
                ContextPhase::Failed
            } else {
                context_phase(context, now)
            },
            health: match error {
                Some(_) if context.stage < ContextStage::Open => HealthState::Faulted,
                _ => context.health.state,
            },
            reason: reason.or_else(|| error.map(Error::to_string)),
            retry_in_seconds: context.retry.seconds_left(now),
            declared: context.declared,
            container: context
                .container
                .as_ref()
                .map(|id| id.chars().take(12).collect()),
            abandoned: context.abandoned,
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
            // A context without any trouble of its own says nothing of a volume that is not mounted.
            (None, Some(c)) => (c.health.state, c.health.reason.clone()),
            (None, None) => (
                HealthState::Faulted,
                Some(format!("its context \"{}\" is gone", volume.context)),
            ),
        };
        let reason = match &volume.retry.error {
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
            retry_in_seconds: volume.retry.seconds_left(now),
            mountpoint: volume.attached.as_ref().map(|a| a.target.clone()),
            source: volume.attached.as_ref().map(|a| a.source.clone()),
            read_only: volume.read_only,
            required: volume.required,
            origin: volume.origin,
            used_by: volume.used_by.iter().cloned().collect(),
            created_at: volume.created_at.clone(),
        }
    }
}

fn unknown_kind() -> Kind {
    Kind::new("unknown").expect("a valid kind")
}

fn context_phase(context: &ContextEntry, now: Millis) -> ContextPhase {
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
        () if volume.running.is_some() || volume.should_be_attached() || !volume.made => {
            VolumePhase::Pending
        }
        () => VolumePhase::Idle,
    }
}
