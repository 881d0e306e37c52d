//! Asking plugins how they are.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::flood::shown;
use super::settings::limits;
use super::steps::Hands;
use super::supervisor::{Message, Supervisor};
use crate::error::Result;
use crate::message::Method;
use crate::name::ContextName;
use crate::planner::{Event, Millis};
use crate::volume::Health;

/// How often plugins are asked how they are.
const HEALTH_EVERY: Millis = 2_000;

/// Who is asked, and when.
#[derive(Debug, Default)]
pub(super) struct Questions {
    /// Who has not replied yet.
    asked: BTreeSet<ContextName>,
    /// Whose plugins say that it is another one since they were last asked.
    pub(super) changed: BTreeSet<ContextName>,
    /// When all are asked next.
    pub(super) next: Millis,
}

impl Supervisor {
    /// Asks all plugins how they are when it is time, and before that those that say that it has
    /// changed.
    pub(super) fn ask_health(&mut self) {
        let now = self.now();
        let all = now >= self.questions.next;
        if all {
            self.questions.next = now + HEALTH_EVERY;
        }
        let changed = std::mem::take(&mut self.questions.changed);
        let contexts = self.world.contexts.iter();
        let due = contexts.filter(|(name, c)| c.is_ready() && (all || changed.contains(*name)));
        let due: Vec<_> = due.map(|(name, _)| name.clone()).collect();
        for name in due {
            if self.questions.asked.insert(name.clone()) {
                self.ask_health_of(name);
            } else if changed.contains(&name) {
                // What is being answered may be older than the change.
                self.questions.changed.insert(name);
            }
        }
    }

    fn ask_health_of(&self, name: ContextName) {
        let hands = Arc::clone(&self.hands);
        tokio::spawn(async move {
            let report = hands.health(&name).await;
            let _ = hands
                .messages
                .send(Message::Ask(Box::new(move |s: &mut Supervisor| {
                    s.questions.asked.remove(&name);
                    s.apply(Event::Health(name, report));
                })));
        });
    }
}

impl Hands {
    /// Asks the plugin of `name` how it is.
    ///
    /// # Errors
    /// `Plugin` without a connection; those of the call.
    pub async fn health(&self, name: &ContextName) -> Result<Health> {
        let link = self.link(name)?;
        let (mut health, _) = link.call::<Health>(Method::Health, limits::HEALTH).await?;
        let own = health.volumes.iter_mut().map(|volume| &mut volume.reason);
        for reason in own.chain([&mut health.reason]).flatten() {
            *reason = shown(reason);
        }
        Ok(health)
    }
}
