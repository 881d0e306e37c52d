//! What an event changes.

use std::collections::{BTreeMap, BTreeSet};

use super::world::{Attachment, ContextEntry, ContextStage, Place, VolumeEntry};
use super::{ContextAct, Event, Millis, Outcome, Step, VolumeAct, World};
use crate::control::Origin;
use crate::error::{Error, ErrorKind};
use crate::name::{ContextName, Kind, VolumeName};
use crate::volume::{Health, HealthState, ListedVolume, VolumeId};

/// Failures in a row after which a volume that cannot be unmounted counts as quarantined.
const QUARANTINE_AFTER: u32 = 3;

/// Failures of a context to open in a row after which what may have been begun in it is given up.
const GIVE_UP_AFTER: u32 = 3;

impl World {
    /// Takes in `event` at `now`. Events about what is no longer there change nothing.
    pub fn apply(&mut self, event: Event, now: Millis) {
        match event {
            Event::Kinds(kinds) => self.take_kinds(kinds),
            Event::Refused(refused) => self.refused = refused,
            Event::Signed {
                image,
                signature,
                there,
            } => {
                self.signatures.retain(|image, _| there.contains(image));
                self.signatures.insert(image, signature);
            }
            Event::Removed(kind, Some(version)) => drop(self.removed.insert(kind, version)),
            Event::Removed(kind, None) => drop(self.removed.remove(&kind)),
            Event::Declared { contexts, volumes } => {
                self.declare_contexts(contexts);
                self.declare_volumes(volumes);
            }
            Event::ContextMade(name, entry) => self.keep_context(name, *entry).wanted = true,
            Event::ContextAttached(name, entry) => self.attach_context(name, *entry),
            Event::ContextDetached(name) => self.detach_context(&name),
            Event::ContextResumed(name) => {
                if let Some(context) = self.contexts.get_mut(&name) {
                    context.begin_anew();
                }
            }
            Event::ContextDoing(name, what) => {
                if let Some(context) = self.contexts.get_mut(&name) {
                    context.doing = what;
                }
            }
            Event::VolumeWanted(name, entry) => {
                // A context that was on its way out has a volume again, and stays.
                if let Some(context) = self.contexts.get_mut(&entry.context) {
                    context.wanted = true;
                }
                self.volumes.entry(name).or_insert(*entry);
            }
            Event::VolumeUnwanted { name, forced } => self.unwant(&name, forced),
            Event::VolumeRenamed { .. }
            | Event::SnapshotWanted(..)
            | Event::SnapshotUnwanted(..)
            | Event::RollbackWanted(..)
            | Event::ResizeWanted(..)
            | Event::ChangeWithdrawn(_) => self.take_change(event),
            Event::Held(name, id) => {
                if let Some(volume) = self.volumes.get_mut(&name) {
                    *volume.holds.entry(id).or_insert(0) += 1;
                    volume.retry.now();
                }
            }
            Event::Released(name, id) => self.release(&name, &id),
            Event::StepEnded(Step::Context(name, act), result) => {
                self.context_step_ended(&name, act, result, now)
            }
            Event::StepEnded(Step::Volume(name, act), result) => {
                self.volume_step_ended(&name, act, result, now)
            }
            Event::Detached(name) => {
                if let Some(volume) = self.volumes.get_mut(&name) {
                    volume.detached();
                }
            }
            Event::LinkLost(name, error) => {
                self.fall_back(&name, ContextStage::Container, Some(error), now)
            }
            Event::SystemEngineLost => self.forgive_deaths(),
            Event::ContainerLost(name) => self.fall_back(&name, ContextStage::Absent, None, now),
            Event::Health(name, report) => self.take_health(&name, report),
            Event::ViewObserved(mounts) => self.observe_view(&mounts),
            Event::UsedBy(mut uses) => {
                for (name, volume) in &mut self.volumes {
                    volume.used_by = uses.remove(name).unwrap_or_default();
                }
            }
            Event::HoldsReconciled { unused, collapse } => self.reconcile_holds(&unused, collapse),
            Event::Abandoned(name, count) => {
                if let Some(context) = self.contexts.get_mut(&name) {
                    context.abandoned = count;
                }
            }
        }
        self.let_automatic_contexts_go();
    }

    fn declare_contexts(&mut self, mut declared: BTreeMap<ContextName, (Kind, serde_json::Value)>) {
        for (name, context) in &mut self.contexts {
            match declared.remove(name) {
                Some((kind, config)) => {
                    if context.config != config {
                        context.listed = None;
                        context.begin_anew();
                    }
                    if std::mem::take(&mut context.attached) {
                        context.listed = None;
                    }
                    context.declared = true;
                    context.wanted = true;
                    context.kind = kind;
                    context.config = config;
                }
                // Volumes that Docker made in it keep it: nothing acknowledged is lost.
                None if context.declared => context.declared = false,
                None => {}
            }
        }
        for (name, (kind, config)) in declared {
            self.keep_context(name, ContextEntry::new(kind, config, true));
        }
    }

    /// The context `name`; `entry` if there is none. One that was on its way out and is asked for
    /// again stays.
    fn keep_context(&mut self, name: ContextName, mut entry: ContextEntry) -> &mut ContextEntry {
        entry.since = self.next_since();
        self.contexts.entry(name).or_insert(entry)
    }

    fn attach_context(&mut self, name: ContextName, entry: ContextEntry) {
        let context = self.keep_context(name, entry);
        context.wanted = true;
        if !context.declared {
            context.attached = true;
            context.listed = None;
            context.begin_anew();
        }
    }

    /// Its volumes go from the view and are forgotten, and it with the last of them.
    fn detach_context(&mut self, name: &ContextName) {
        let Some(context) = self.contexts.get_mut(name) else {
            return;
        };
        context.attached = false;
        for (volume_name, volume) in &mut self.volumes {
            if volume.origin == Origin::Attached && is_of_list(name, volume_name, volume) {
                volume.wanted = false;
                volume.holds.clear();
            }
        }
    }

    fn declare_volumes(&mut self, mut declared: BTreeMap<VolumeName, VolumeEntry>) {
        let resizable = self.resizable_contexts();
        for (name, volume) in &mut self.volumes {
            if volume.origin != Origin::Declared {
                continue;
            }
            match declared.remove(name) {
                Some(new) if same_place(volume, &new) => {
                    volume.wanted = true;
                    volume.required = new.required;
                    volume.keep_size();
                }
                Some(new) if resizable.contains(&new.context) && volume.differs_in_size(&new) => {
                    volume.wanted = true;
                    volume.required = new.required;
                    volume.want_size(new.options["size"].clone());
                }
                // Changed in place: the old one goes first, the new one comes with the next look.
                Some(_) => volume.wanted = false,
                None if self
                    .contexts
                    .get(&volume.context)
                    .is_some_and(|c| c.declared && is_listed(c, name, &volume.context)) => {}
                None => volume.wanted = false,
            }
        }
        for (name, mut volume) in declared {
            volume.id = VolumeId::declared(&volume.context, &name);
            self.insert_with_its_snapshots(name, volume);
        }
    }

    fn unwant(&mut self, name: &VolumeName, forced: bool) {
        if let Some(volume) = self.volumes.get_mut(name) {
            let context = self.contexts.get(&volume.context);
            // Nobody was told that it exists, and nobody is there who could remove it.
            let never = !volume.made && context.is_some_and(|c| c.crashes.stopped);
            volume.wanted = false;
            volume.forced |= forced || never;
            volume.holds.clear();
            volume.retry.succeeded();
            // A lazy detach removes nothing.
            if volume.origin == Origin::Created || (volume.origin == Origin::Attached && !forced) {
                volume.unwant_snapshots();
            }
        }
    }

    fn release(&mut self, name: &VolumeName, id: &str) {
        let Some(volume) = self.volumes.get_mut(name) else {
            return;
        };
        if let Some(count) = volume.holds.get_mut(id) {
            *count -= 1;
            if *count == 0 {
                volume.holds.remove(id);
            }
        }
        if volume.holds.is_empty() {
            volume.retry.now();
        }
    }

    fn context_step_ended(
        &mut self,
        name: &ContextName,
        act: ContextAct,
        result: Result<Outcome, Error>,
        now: Millis,
    ) {
        let Some(context) = self.contexts.get_mut(name) else {
            return;
        };
        context.running = None;
        context.doing = None;
        match result {
            Err(error) => {
                // An opened context is not lost because a list or a close failed.
                if act == ContextAct::Link && context.retry.failures >= 3 {
                    context.stage = ContextStage::Absent;
                    context.unsure = true;
                }
                context.unsure |= act == ContextAct::Start;
                let stopped = context.step_failed(name, act, error, now);
                let hopeless = stopped || context.retry.failures >= GIVE_UP_AFTER;
                if context.stage < ContextStage::Open && hopeless {
                    self.give_up_what_was_never_made(name);
                }
            }
            Ok(outcome) => {
                let goes_on = matches!(act, ContextAct::Start | ContextAct::Link);
                if !goes_on && !context.crashes.stopped {
                    context.retry.succeeded();
                }
                self.context_moved_on(name, act, outcome);
            }
        }
    }

    /// Nobody was told that these exist, and the storage in which they may have been begun does
    /// not come.
    fn give_up_what_was_never_made(&mut self, context: &ContextName) {
        for volume in self.volumes.values_mut().filter(|v| v.context == *context) {
            volume.forced |= !volume.wanted && !volume.made;
        }
    }

    fn context_moved_on(&mut self, name: &ContextName, act: ContextAct, outcome: Outcome) {
        let Some(context) = self.contexts.get_mut(name) else {
            return;
        };
        match outcome {
            Outcome::Started(id) => {
                context.container = Some(id);
                context.unsure = false;
                context.stage = ContextStage::Container;
            }
            // Opened again in any case: it is idempotent, and core then knows with which options.
            Outcome::Linked { .. } => context.stage = ContextStage::Linked,
            Outcome::Opened(config) => {
                context.stage = ContextStage::Open;
                context.opened_with = Some(config);
                context.listed = None;
                self.try_volumes_now(name);
            }
            Outcome::Listed(listed) => self.take_list(name, listed),
            Outcome::Attached(_) | Outcome::Resized(_) | Outcome::Done => match act {
                ContextAct::Close => {
                    context.stage = ContextStage::Linked;
                    context.opened_with = None;
                }
                ContextAct::Stop if !context.wanted => {
                    self.contexts.remove(name);
                }
                ContextAct::Stop => {
                    context.stage = ContextStage::Absent;
                    context.unsure = false;
                }
                _ => {}
            },
        }
    }

    /// Declared volumes of the context's own list appear below `/mnt/<context>/`; if it was
    /// attached as a whole, all of them do.
    fn take_list(&mut self, name: &ContextName, listed: Vec<ListedVolume>) {
        let Some(context) = self.contexts.get_mut(name) else {
            return;
        };
        let (declared, attached) = (context.declared, context.attached);
        context.listed = Some(listed.clone());
        let wanted: BTreeMap<VolumeName, ListedVolume> = listed
            .into_iter()
            .filter(|l| attached || (l.declared && declared))
            .filter_map(|l| Some((listed_name(name, &l.name)?, l)))
            .collect();
        for (volume_name, volume) in &mut self.volumes {
            if !is_of_list(name, volume_name, volume) {
                continue;
            }
            if !wanted.contains_key(volume_name) {
                volume.wanted = false;
            } else if declared {
                volume.origin = Origin::Declared;
            }
        }
        for (volume_name, l) in wanted {
            let read_only = l
                .options
                .get("read_only")
                .and_then(serde_json::Value::as_bool)
                .unwrap_or(false);
            let mut entry = VolumeEntry::declared(
                name.clone(),
                l.options,
                format!("{name}/{}", l.name),
                read_only,
            );
            entry.id = VolumeId::declared(name, &volume_name);
            if self.taken(&volume_name, &entry.target()) {
                continue;
            }
            if attached {
                entry.origin = Origin::Attached;
            }
            self.insert_with_its_snapshots(volume_name, entry);
        }
    }

    fn volume_step_ended(
        &mut self,
        name: &VolumeName,
        act: VolumeAct,
        result: Result<Outcome, Error>,
        now: Millis,
    ) {
        let Some(volume) = self.volumes.get_mut(name) else {
            return;
        };
        volume.running = None;
        if act.is_change() {
            return volume.change_ended(act, result, now);
        }
        let outcome = match result {
            Ok(outcome) => outcome,
            Err(error) => {
                if act == VolumeAct::Remove && error.kind == ErrorKind::Busy {
                    volume.keep_after_all();
                }
                volume.retry.failed(error, now);
                volume.unsure |= matches!(act, VolumeAct::Attach | VolumeAct::Heal);
                volume.quarantined =
                    act == VolumeAct::Detach && volume.retry.failures >= QUARANTINE_AFTER;
                return;
            }
        };
        if act != VolumeAct::Detach {
            volume.retry.succeeded();
        }
        match (act, outcome) {
            (VolumeAct::Create, _) => {
                volume.made = true;
                volume.source = None;
            }
            (VolumeAct::Attach | VolumeAct::Heal, Outcome::Attached(attachment)) => {
                volume.attached = Some(attachment);
                volume.unsure = false;
                volume.health = None;
                volume.dead = false;
            }
            (VolumeAct::Detach, _) => volume.detached(),
            (VolumeAct::Remove, _) => self.forget_volume(name),
            _ => {}
        }
    }

    fn fall_back(
        &mut self,
        name: &ContextName,
        stage: ContextStage,
        error: Option<Error>,
        now: Millis,
    ) {
        let Some(context) = self.contexts.get_mut(name) else {
            return;
        };
        if context.stage > stage {
            context.stage = stage;
            context.opened_with = None;
            match error {
                _ if context.crashes.stopped => {}
                Some(error) if context.plugin_died(name, &error, now) => {
                    self.give_up_what_was_never_made(name);
                    return;
                }
                Some(error) if context.retry.failures > 0 => context.retry.failed(error, now),
                Some(error) => context.retry.error = Some(error),
                None => context.retry.now(),
            }
        }
        if stage == ContextStage::Absent {
            context.container = None;
        }
    }

    fn take_health(&mut self, name: &ContextName, report: Result<Health, Error>) {
        let mut report = match report {
            Ok(report) => report,
            Err(error) => Health::because(HealthState::Unreachable, error.to_string()),
        };
        self.name_in_reasons(name, &mut report);
        let Some(context) = self.contexts.get_mut(name) else {
            return;
        };
        let back =
            report.state == HealthState::Healthy && context.health.state != HealthState::Healthy;
        context.health = report;
        let mut volumes: BTreeMap<_, _> = context
            .health
            .volumes
            .iter()
            .map(|v| (v.id, (v.state, v.reason.clone())))
            .collect();
        for volume in self.volumes.values_mut().filter(|v| v.context == *name) {
            volume.health = volumes.remove(&volume.id);
            let stale = matches!(volume.health, Some((HealthState::Stale, _)));
            volume.dead |= stale && volume.attached.is_some();
        }
        if back {
            self.try_volumes_now(name);
        }
    }

    fn try_volumes_now(&mut self, context: &ContextName) {
        for volume in self.volumes.values_mut().filter(|v| v.context == *context) {
            volume.retry.now();
        }
    }

    /// The mount table is right and what core believed is wrong.
    fn observe_view(&mut self, mounts: &BTreeMap<String, Attachment>) {
        for volume in self.volumes.values_mut() {
            let busy = matches!(
                volume.running,
                Some(VolumeAct::Attach | VolumeAct::Detach | VolumeAct::Heal)
            );
            if busy {
                continue;
            }
            let target = volume.target();
            volume.attached = mounts.get(&target).map(|seen| match &volume.attached {
                Some(known) if known.mount_id == seen.mount_id => known.clone(),
                _ => seen.clone(),
            });
            volume.unsure = false;
            if volume.attached.is_some() {
                volume.made = true;
            } else {
                volume.dead = false;
            }
        }
    }

    fn reconcile_holds(&mut self, unused: &BTreeSet<VolumeName>, collapse: bool) {
        for (name, volume) in &mut self.volumes {
            if unused.contains(name) {
                volume.holds.clear();
            } else if collapse {
                volume.holds.values_mut().for_each(|count| *count = 1);
            }
        }
    }

    fn let_automatic_contexts_go(&mut self) {
        for (name, context) in &mut self.contexts {
            if !context.declared && !context.attached && context.wanted {
                context.wanted = self.volumes.values().any(|v| v.context == *name);
            }
        }
    }
}

impl VolumeEntry {
    /// A declared volume below `/mnt`, of which nothing has been observed.
    pub fn declared(
        context: ContextName,
        options: serde_json::Value,
        path: String,
        read_only: bool,
    ) -> Self {
        Self {
            id: crate::volume::VolumeId::random(),
            context,
            options,
            origin: Origin::Declared,
            read_only,
            required: false,
            place: Place::Mnt(path),
            created_at: String::new(),
            wanted: true,
            forced: false,
            made: false,
            source: None,
            snapshots: BTreeMap::new(),
            rollback: None,
            resize: None,
            refused: None,
            holds: BTreeMap::new(),
            attached: None,
            unsure: false,
            quarantined: false,
            running: None,
            retry: super::Retry::default(),
            health: None,
            dead: false,
            used_by: BTreeSet::new(),
        }
    }
}

impl VolumeEntry {
    fn detached(&mut self) {
        if self.unsure {
            // What a failed attach may have left is away: why it failed is what its user wants to know.
            self.retry.given_up();
        } else if self.retry.failures > 0 {
            self.retry.succeeded();
        }
        self.attached = None;
        self.unsure = false;
        self.quarantined = false;
        self.health = None;
        self.dead = false;
    }
}

fn same_place(old: &VolumeEntry, new: &VolumeEntry) -> bool {
    old.context == new.context
        && old.options == new.options
        && old.place == new.place
        && old.read_only == new.read_only
}

/// The name under which a volume that a context lists itself is known: `<context>.<name>`.
pub(super) fn listed_name(context: &ContextName, name: &str) -> Option<VolumeName> {
    VolumeName::new(format!("{context}.{name}")).ok()
}

/// Whether `volume` is one that its context lists by itself and nobody has made or named.
pub(super) fn is_of_list(context: &ContextName, name: &VolumeName, volume: &VolumeEntry) -> bool {
    volume.context == *context
        && volume.origin != Origin::Created
        && is_own_name(context, name)
        && volume.id == VolumeId::declared(context, name)
}

fn is_own_name(context: &ContextName, name: &VolumeName) -> bool {
    name.as_str()
        .strip_prefix(context.as_str())
        .is_some_and(|rest| rest.starts_with('.'))
}

fn is_listed(context: &ContextEntry, name: &VolumeName, context_name: &ContextName) -> bool {
    // Until the plugin has listed, what was listed before stays.
    is_own_name(context_name, name)
        && context.listed.as_ref().is_none_or(|l| {
            l.iter()
                .any(|l| listed_name(context_name, &l.name).as_ref() == Some(name))
        })
}
