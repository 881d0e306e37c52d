//! Which steps to take now.

use super::world::{ContextEntry, ContextStage, VolumeEntry};
use super::{ContextAct, Millis, Step, VolumeAct, World};
use crate::control::Origin;
use crate::name::{ContextName, VolumeName};

/// So many workers given up on, and no new ones are sent to that context: its storage swallows them.
const MOST_ABANDONED: u32 = 8;

impl World {
    /// The steps to take at `now`. Nothing is changed: see [`World::begin`].
    pub fn plan(&self, now: Millis) -> Vec<Step> {
        let contexts = self.contexts.iter().filter_map(|(name, context)| {
            let act = self.next_for_context(name, context)?;
            // What is stopped is not waited for when it goes.
            let goes = context.crashes.stopped && act == ContextAct::Stop;
            let due = context.retry.is_due(now) || goes;
            (due && context.running.is_none()).then(|| Step::Context(name.clone(), act))
        });
        let idle = |(_, v): &(&VolumeName, &VolumeEntry)| v.running.is_none();
        let volumes = self.volumes.iter().filter(idle).filter_map(|(name, v)| {
            let acts = self.acts_for_volume(v).into_iter().flatten();
            let (act, _) = acts.into_iter().find(|(_, at)| *at <= now)?;
            Some(Step::Volume(name.clone(), act))
        });
        contexts.chain(volumes).collect()
    }

    /// When [`plan`](Self::plan) will have something that it has not at `now`, without any event.
    pub fn next_wakeup(&self, now: Millis) -> Option<Millis> {
        let contexts = self
            .contexts
            .iter()
            .filter(|(name, c)| c.running.is_none() && self.next_for_context(name, c).is_some());
        let volumes = self.volumes.values().filter(|v| v.running.is_none());
        let acts = volumes.flat_map(|v| self.acts_for_volume(v).into_iter().flatten());
        let times = contexts
            .map(|(_, c)| c.retry.not_before)
            .chain(acts.map(|(_, at)| at));
        times.filter(|&t| t > now).min()
    }

    /// Marks a step of [`plan`](Self::plan) as under way.
    pub fn begin(&mut self, step: &Step) {
        match step {
            Step::Context(name, act) => {
                if let Some(context) = self.contexts.get_mut(name) {
                    context.running = Some(*act);
                    if context.crashes.stopped && *act != ContextAct::Stop {
                        context.crashes.resume();
                    }
                }
            }
            Step::Volume(name, act) => {
                if let Some(volume) = self.volumes.get_mut(name) {
                    volume.running = Some(*act);
                }
            }
        }
    }

    /// Whether, the machine going down, nothing of ours is mounted or open any more.
    pub fn is_drained(&self) -> bool {
        self.contexts
            .values()
            .all(|c| c.stage == ContextStage::Absent && c.running.is_none() && !c.unsure)
            && self
                .volumes
                .values()
                .all(|v| v.attached.is_none() && v.running.is_none())
    }

    fn next_for_draining(&self, name: &ContextName, context: &ContextEntry) -> Option<ContextAct> {
        let in_use =
            |v: &VolumeEntry| v.context == *name && (v.attached.is_some() || v.running.is_some());
        match context.stage {
            _ if self.volumes.values().any(in_use) => None,
            ContextStage::Absent if !context.unsure => None,
            // What cannot be closed is stopped all the same: there is one budget for everything.
            ContextStage::Open if context.retry.failures == 0 => Some(ContextAct::Close),
            _ => Some(ContextAct::Stop),
        }
    }

    fn next_for_context(&self, name: &ContextName, context: &ContextEntry) -> Option<ContextAct> {
        if self.draining {
            return self.next_for_draining(name, context);
        }
        if !context.wanted {
            return self.next_for_leaving(name, context);
        }
        if !context.is_ready() && self.rival(name, context).is_some() {
            return None;
        }
        if let Some(act) = self.next_for_stopped(name, context) {
            return Some(act);
        }
        match context.stage {
            // Without an image there is nothing to start; a new image arrives as an event.
            ContextStage::Absent => self
                .kinds
                .contains_key(&context.kind)
                .then_some(ContextAct::Start),
            ContextStage::Container => Some(ContextAct::Link),
            ContextStage::Linked => Some(ContextAct::Open),
            ContextStage::Open if context.opened_with.as_ref() != Some(&context.config) => {
                Some(ContextAct::Open)
            }
            ContextStage::Open if context.listed.is_none() => Some(ContextAct::List),
            ContextStage::Open => None,
        }
    }

    fn next_for_leaving(&self, name: &ContextName, context: &ContextEntry) -> Option<ContextAct> {
        if self.volumes.values().any(|v| v.context == *name) {
            return None;
        }
        match context.stage {
            ContextStage::Open => Some(ContextAct::Close),
            _ => Some(ContextAct::Stop),
        }
    }

    /// What is to be done to a volume, the first that is due first, and when each is due.
    fn acts_for_volume(&self, volume: &VolumeEntry) -> [Option<(VolumeAct, Millis)>; 3] {
        let context = self.contexts.get(&volume.context);
        let ready = !self.draining
            && context.is_some_and(|c| {
                c.stage == ContextStage::Open
                    && c.abandoned < MOST_ABANDONED
                    && (c.is_ready() || !volume.wanted)
            });
        // With its storage away they go as the volume itself does.
        let forced = volume.forced && !volume.wanted && !self.draining;
        let kept = volume.wanted || volume.snapshots_go_first();
        let snapshot = ((ready || forced) && kept && (volume.made || !volume.wanted))
            .then(|| volume.snapshot_act())
            .flatten();
        let resize = volume
            .resize
            .as_ref()
            .filter(|_| ready && volume.wanted && volume.made && volume.rollback.is_none())
            .map(|r| (VolumeAct::Resize, r.retry.not_before));
        let main = self.main_act(volume, ready);
        [snapshot, resize, main]
    }

    fn main_act(&self, volume: &VolumeEntry, ready: bool) -> Option<(VolumeAct, Millis)> {
        let act = self.next_for_volume(volume, ready)?;
        let at = match (act, &volume.rollback) {
            (VolumeAct::Rollback(_), Some(rollback)) => rollback.retry.not_before,
            _ => volume.retry.not_before,
        };
        Some((act, at))
    }

    fn next_for_volume(&self, volume: &VolumeEntry, ready: bool) -> Option<VolumeAct> {
        if self.draining {
            return (volume.attached.is_some() || volume.unsure).then_some(VolumeAct::Detach);
        }
        let context = self.contexts.get(&volume.context);
        if !volume.should_be_attached() && (volume.attached.is_some() || volume.unsure) {
            return Some(VolumeAct::Detach);
        }
        if !volume.wanted {
            // Of the others, nothing is to be removed in the storage.
            let at_once = volume.origin != Origin::Created || volume.forced;
            let gone = |c: &ContextEntry| !c.wanted && c.stage == ContextStage::Absent;
            let gone = context.is_none_or(gone);
            if volume.snapshots_go_first() && !gone {
                return None;
            }
            return (ready || at_once || gone).then_some(VolumeAct::Remove);
        }
        if !ready {
            return None;
        }
        if !volume.made {
            return Some(VolumeAct::Create);
        }
        if let Some(rollback) = &volume.rollback {
            return Some(VolumeAct::Rollback(rollback.to));
        }
        if volume.should_be_attached() && volume.attached.is_none() {
            return Some(VolumeAct::Attach);
        }
        volume.is_stale().then_some(VolumeAct::Heal)
    }
}
