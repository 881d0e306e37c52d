//! `laz attach` and `laz detach`: of a volume, and of a context as a whole.

use serde_json::Value;

use super::requests::{Attach, Reply, answer, not_in_use, without_snapshots};
use super::resolve::{Prepared, differing};
use super::settings::limits;
use super::supervisor::Supervisor;
use super::urls::UrlTarget;
use super::waiting::{Answer, Goal};
use crate::control::{Attached, ContextStatus, Origin, Scanned, VolumeStatus};
use crate::error::{Error, ErrorKind, Result};
use crate::name::{ContextName, Kind, VolumeName};
use crate::planner::{ContextEntry, Event, Millis, Place, VolumeEntry};

/// A request that waits for a context.
pub(super) struct ContextWaiter {
    name: ContextName,
    goal: ContextGoal,
    deadline: Millis,
    answer: Answer,
}

impl ContextWaiter {
    /// Until when it waits.
    pub(super) fn deadline(&self) -> Millis {
        self.deadline
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ContextGoal {
    /// It is open and has listed its volumes.
    Open,
    /// It is no more.
    Gone,
}

impl From<VolumeStatus> for Attached {
    fn from(volume: VolumeStatus) -> Self {
        Self::Volume(Box::new(volume))
    }
}

impl Supervisor {
    /// Takes over what a URL names; answers once it is mounted, or open.
    pub fn attach(&mut self, attach: Attach, reply: Reply<Attached>) {
        let request = move |supervisor: &mut Self| supervisor.attach_now(attach, reply);
        if let Some(request) = self.unless_early(request) {
            request(self);
        }
    }

    fn attach_now(&mut self, attach: Attach, reply: Reply<Attached>) {
        match self.url_target(&attach) {
            Err(error) => answer(reply, Err(error)),
            Ok(UrlTarget::Volume(new, _)) if self.is_leaving(&new.name) => {
                self.once_gone(new.name, reply, move |supervisor, reply| {
                    supervisor.attach_now(attach, reply);
                });
            }
            Ok(UrlTarget::Volume(new, path)) => {
                let place = Place::Mnt(path);
                match self.prepare(&new, place, Origin::Attached, attach.read_only) {
                    Err(error) => answer(reply, Err(error)),
                    Ok(Prepared::Exists) => {
                        answer(reply, self.inspect(&new.name).map(Attached::from));
                    }
                    Ok(Prepared::New(events)) => {
                        let limit = limits::CREATE_WAIT;
                        self.make(new.name, events, Goal::Attached, limit, reply);
                    }
                }
            }
            Ok(UrlTarget::Context {
                name,
                named,
                kind,
                config,
            }) => match self.context_to_be(&attach, name, named, &kind, &config) {
                Err(error) => answer(reply, Err(error)),
                Ok(name) => self.attach_context(name, kind, config, reply),
            },
        }
    }

    /// The name of the context that is to be attached: a new one, or one that was made for a
    /// volume or attached before.
    fn context_to_be(
        &self,
        attach: &Attach,
        name: ContextName,
        named: bool,
        kind: &Kind,
        config: &Value,
    ) -> Result<ContextName> {
        self.unless_draining()?;
        let taken = |what: String| Error::new(ErrorKind::AlreadyExists, what);
        if attach.read_only {
            return Err(Error::invalid(format!(
                "\"{}\" names a whole context, which cannot be attached for reading only",
                attach.url
            ))
            .remedy("name a volume in the URL, or leave --read-only out"));
        }
        if let Some((there, context)) = self.context_with(kind, config) {
            if context.declared {
                return Err(taken(format!("context \"{there}\" has it already"))
                    .cause("the cloud-config declares it")
                    .remedy(format!(
                        "see: laz status; its volumes are below /mnt/{there}"
                    )));
            }
            if named && *there != name {
                return Err(taken(format!("context \"{there}\" has it already"))
                    .remedy("leave the name out"));
            }
            return Ok(there.clone());
        }
        if let Some(refusal) = self.world.refusal(kind, config) {
            return Err(refusal);
        }
        let attached = |v: &VolumeEntry| v.origin == Origin::Attached;
        if self.world.contexts.contains_key(&name)
            || self.world.volumes.get(name.as_str()).is_some_and(attached)
        {
            return Err(taken(format!("the name \"{name}\" is taken"))
                .remedy("give it another one with --name"));
        }
        Ok(name)
    }

    /// The context that has what `config` names.
    fn context_with(&self, kind: &Kind, config: &Value) -> Option<(&ContextName, &ContextEntry)> {
        let given = config.as_object().cloned().unwrap_or_default();
        let mut contexts = self.world.contexts.iter();
        contexts.find(|(_, c)| c.kind == *kind && differing(&given, &c.config).is_none())
    }

    /// Says of what was found which context has it already: a kind that looks does not know the
    /// contexts.
    pub(super) fn name_owners(&self, mut scanned: Vec<Scanned>) -> Vec<Scanned> {
        for found in scanned.iter_mut().flat_map(|one| &mut one.found) {
            let Some(url) = found.url.clone() else {
                continue;
            };
            let Ok(UrlTarget::Context { kind, config, .. }) = self.url_target(&Attach::of(url))
            else {
                continue;
            };
            if let Some((owner, _)) = self.context_with(&kind, &config) {
                let detail = found.detail.iter();
                let has = [format!("context {owner} has it")];
                let detail: Vec<&str> = has.iter().chain(detail).map(String::as_str).collect();
                found.detail = Some(detail.join("; "));
                found.url = None;
            }
        }
        scanned
    }

    fn attach_context(
        &mut self,
        name: ContextName,
        kind: Kind,
        config: Value,
        reply: Reply<Attached>,
    ) {
        let was_attached = self.world.contexts.get(&name).is_some_and(|c| c.attached);
        let entry = ContextEntry::new(kind, config, false);
        if let Err(error) =
            self.apply_durably([Event::ContextAttached(name.clone(), Box::new(entry))])
        {
            return answer(reply, Err(error));
        }
        let attached = name.clone();
        self.wait_for_context(
            &name,
            ContextGoal::Open,
            limits::CREATE_WAIT,
            move |s, r| {
                if r.is_err() && !was_attached {
                    s.apply(Event::ContextDetached(attached.clone()));
                }
                let status = r.and_then(|()| s.context_status(&attached));
                answer(reply, status.map(|s| Attached::Context(Box::new(s))));
            },
        );
    }

    /// Has a context that waits or is stopped tried again now.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn resume(&mut self, name: ContextName) -> Result<ContextStatus> {
        self.context(&name)?;
        self.apply(Event::ContextResumed(name.clone()));
        self.context_status(&name)
    }

    fn context_status(&self, name: &ContextName) -> Result<ContextStatus> {
        let mut contexts = self.world.context_statuses(self.now()).into_iter();
        let found = contexts.find(|c| c.name == *name);
        found.ok_or_else(|| Error::not_found(format!("no context \"{name}\"")))
    }

    /// Takes back an attach; answers once it is gone.
    pub fn detach(&mut self, name: VolumeName, lazy: bool, reply: Reply<()>) {
        let context = ContextName::new(name.as_str()).ok();
        let context = context.filter(|c| {
            self.world.contexts.contains_key(c) && !self.world.volumes.contains_key(&name)
        });
        if let Some(context) = context {
            return self.detach_context(context, lazy, reply);
        }
        let detachable = self.volume(&name).and_then(|volume| {
            self.not_given(&name, volume)?;
            if volume.origin == Origin::Created {
                return Err(
                    Error::invalid(format!("volume \"{name}\" was created, not attached"))
                        .remedy(format!("use: laz volume rm {name}")),
                );
            }
            if lazy {
                return Ok(());
            }
            not_in_use(&name, volume)?;
            without_snapshots(&name, volume)
        });
        match detachable {
            Err(error) => answer(reply, Err(error)),
            Ok(()) => self.let_go(name, lazy, reply),
        }
    }

    fn detach_context(&mut self, name: ContextName, lazy: bool, reply: Reply<()>) {
        let listed = match self.detachable_context(&name, lazy) {
            Ok(listed) => listed,
            Err(error) => return answer(reply, Err(error)),
        };
        let forced = |name: VolumeName| Event::VolumeUnwanted { name, forced: true };
        let mut events = vec![Event::ContextDetached(name.clone())];
        events.extend(listed.into_iter().filter(|_| lazy).map(forced));
        if let Err(error) = self.apply_durably(events) {
            return answer(reply, Err(error));
        }
        let limit = limits::REMOVE_WAIT;
        self.wait_for_context(&name, ContextGoal::Gone, limit, move |_, result| {
            answer(reply, result)
        });
    }

    /// The volumes that go with the context, if it can be detached.
    fn detachable_context(&self, name: &ContextName, lazy: bool) -> Result<Vec<VolumeName>> {
        let context = self.context(name)?;
        if context.declared {
            return Err(Error::invalid(format!(
                "context \"{name}\" is declared in the cloud-config"
            ))
            .remedy("take it out there: laz config set"));
        }
        if !context.attached {
            return Err(Error::invalid(format!(
                "context \"{name}\" was made for its volumes, not attached"
            ))
            .remedy("it goes with the last of them"));
        }
        let of_context = self
            .world
            .volumes
            .iter()
            .filter(|(_, v)| v.context == *name);
        let (listed, others): (Vec<_>, Vec<_>) = of_context.partition(|(n, v)| v.is_of_list(n));
        if !others.is_empty() {
            let names: Vec<&str> = others.iter().map(|(n, _)| n.as_str()).collect();
            return Err(Error::new(
                ErrorKind::Busy,
                format!("context \"{name}\" has volumes: {}", names.join(", ")),
            )
            .remedy("remove or detach them first"));
        }
        for (volume_name, volume) in listed.iter().filter(|_| !lazy) {
            not_in_use(volume_name, volume)?;
        }
        Ok(listed.into_iter().map(|(name, _)| name.clone()).collect())
    }

    fn wait_for_context(
        &mut self,
        name: &ContextName,
        goal: ContextGoal,
        limit: std::time::Duration,
        answer: impl FnOnce(&mut Self, Result<()>) + Send + 'static,
    ) {
        let limit = Millis::try_from(limit.as_millis()).unwrap_or(Millis::MAX);
        self.context_waiters.push(ContextWaiter {
            name: name.clone(),
            goal,
            deadline: self.now().saturating_add(limit),
            answer: Box::new(answer),
        });
    }

    /// Answers those whose wait for a context is over.
    pub(super) fn settle_context_waiters(&mut self) {
        let mut over = Vec::new();
        let now = self.now();
        for mut waiter in std::mem::take(&mut self.context_waiters) {
            match self.context_verdict(&waiter) {
                Some(result) => over.push((waiter.answer, result)),
                None => {
                    // One that is late waits for what takes long: looked at again in a second.
                    if now >= waiter.deadline {
                        waiter.deadline = now + 1_000;
                    }
                    self.context_waiters.push(waiter);
                }
            }
        }
        for (answer, result) in over {
            answer(self, result);
        }
    }

    fn context_verdict(&self, waiter: &ContextWaiter) -> Option<Result<()>> {
        let name = &waiter.name;
        let Some(context) = self.world.contexts.get(name) else {
            return Some(match waiter.goal {
                ContextGoal::Gone => Ok(()),
                ContextGoal::Open => Err(Error::not_found(format!(
                    "context \"{name}\" was taken away meanwhile"
                ))),
            });
        };
        let open = context.is_ready() && context.listed.is_some();
        // Building kernel modules may take long, and is told.
        let late = self.now() >= waiter.deadline && context.doing.is_none();
        let what = match waiter.goal {
            ContextGoal::Open if open => return Some(Ok(())),
            ContextGoal::Open => {
                if let Some(error) = self.hopeless(name) {
                    return Some(Err(error));
                }
                "is not open yet"
            }
            ContextGoal::Gone => "is not closed yet",
        };
        late.then(|| {
            let error = Error::new(ErrorKind::Timeout, format!("context \"{name}\" {what}"));
            let error = match &context.retry.error {
                Some(cause) => error.cause(cause),
                None => error,
            };
            Err(error.remedy("see laz status"))
        })
    }
}
