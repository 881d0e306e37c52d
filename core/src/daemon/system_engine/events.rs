//! What happens to the storage containers without core's doing.

use bollard::models::EventMessage;
use tokio::sync::mpsc;

use super::{CONTEXT_LABEL, SystemEngine};
use crate::daemon::engine_client::{EngineIdentity, Follow, Outage};
use crate::error::Error;
use crate::name::ContextName;

/// Something that core has to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SystemEvent {
    /// The engine answers (again). Whatever happened before this is not told one by one: look at
    /// [`SystemEngine::containers`] now.
    Up(EngineIdentity),
    /// The engine does not answer; it is tried again. Sent once per outage and reason.
    Down(Error),
    /// A storage container ended.
    Died {
        /// Whose it was.
        context: ContextName,
        /// Its identity.
        id: String,
        /// What it ended with, if the engine says.
        exit_code: Option<i64>,
    },
    /// A storage container started.
    Started {
        /// Whose it is.
        context: ContextName,
        /// Its identity.
        id: String,
    },
    /// A storage container was removed.
    Removed {
        /// Whose it was.
        context: ContextName,
        /// Its identity.
        id: String,
    },
}

impl SystemEngine {
    /// Watches the storage containers in a task of its own until the receiver is dropped. An
    /// event may be told twice.
    pub fn watch(&self) -> mpsc::Receiver<SystemEvent> {
        let (sender, receiver) = mpsc::channel(64);
        let engine = self.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = engine.follow_for_ever(&sender) => {}
                () = sender.closed() => {}
            }
        });
        receiver
    }

    async fn follow_for_ever(&self, sender: &mpsc::Sender<SystemEvent>) {
        let mut outage = Outage::default();
        while let Err(error) = self.follow(sender, &mut outage).await {
            if outage.is_news(&error) && sender.send(SystemEvent::Down(error)).await.is_err() {
                return;
            }
            outage.wait().await;
        }
    }

    /// Follows one run of the engine. Ends well only if nobody listens any more.
    async fn follow(
        &self,
        sender: &mpsc::Sender<SystemEvent>,
        outage: &mut Outage,
    ) -> Result<(), Error> {
        let names = ["die", "start", "destroy"];
        let mut follow = Follow::begin(&self.client, &names, Some(CONTEXT_LABEL)).await?;
        outage.ends();
        let up = SystemEvent::Up(follow.identity.clone());
        if sender.send(up).await.is_err() {
            return Ok(());
        }
        loop {
            let message = follow.next().await?;
            if let Some(event) = read(message)
                && sender.send(event).await.is_err()
            {
                return Ok(());
            }
        }
    }
}

fn read(message: EventMessage) -> Option<SystemEvent> {
    let actor = message.actor?;
    let (id, attributes) = (actor.id?, actor.attributes.unwrap_or_default());
    let context = ContextName::new(attributes.get(CONTEXT_LABEL)?.as_str()).ok()?;
    match message.action.as_deref()? {
        "die" => {
            let exit_code = attributes
                .get("exitCode")
                .and_then(|code| code.parse().ok());
            Some(SystemEvent::Died {
                context,
                id,
                exit_code,
            })
        }
        "start" => Some(SystemEvent::Started { context, id }),
        "destroy" => Some(SystemEvent::Removed { context, id }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_death_is_read_with_its_exit_code_and_foreign_containers_are_left_out() {
        let message = |labels: serde_json::Value| {
            let mut attributes = json!({"exitCode": "137", "image": "x"});
            let map = attributes.as_object_mut().unwrap();
            map.extend(labels.as_object().unwrap().clone());
            let text = json!({"Type": "container", "Action": "die",
                              "Actor": {"ID": "abc", "Attributes": attributes}});
            serde_json::from_value::<EventMessage>(text).unwrap()
        };
        assert_eq!(
            read(message(json!({"dev.lazarette.context": "nas"}))),
            Some(SystemEvent::Died {
                context: ContextName::new("nas").unwrap(),
                id: "abc".into(),
                exit_code: Some(137)
            })
        );
        assert_eq!(read(message(json!({}))), None);
        assert_eq!(
            read(message(json!({"dev.lazarette.context": "../x"}))),
            None
        );
    }
}
