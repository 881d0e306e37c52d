//! Core's end of the volume API and of the control socket: questions put to the supervisor.

use std::collections::BTreeMap;

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

use super::requests::Reply;
use super::supervisor::{Message, Supervisor};
use super::volume_api::{Caller, DockerVolume, VolumeBackend};
use crate::control::NewVolume;
use crate::error::{Error, ErrorKind, Result};
use crate::name::{ContextName, Kind, VolumeName};

/// Puts questions to the supervisor. Cheap to clone.
#[derive(Clone)]
pub struct Backend {
    messages: UnboundedSender<Message>,
}

impl Backend {
    /// One that asks the supervisor behind `messages`.
    pub fn new(messages: UnboundedSender<Message>) -> Self {
        Self { messages }
    }

    /// Runs `question` on the supervisor; it answers by the [`Reply`], now or later.
    ///
    /// # Errors
    /// Those of the answer; `Internal` if core is ending.
    pub async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Supervisor, Reply<T>) + Send + 'static,
    ) -> Result<T> {
        let ending = || Error::internal("core is ending");
        let (reply, answer) = oneshot::channel();
        let message = Message::Ask(Box::new(move |supervisor: &mut Supervisor| {
            question(supervisor, reply)
        }));
        self.messages.send(message).map_err(|_| ending())?;
        answer.await.map_err(|_| ending())?
    }

    /// The same for what depends on the kinds that there are: soon after core's start it waits until
    /// they are known.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub async fn ask_informed<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Supervisor, Reply<T>) + Send + 'static,
    ) -> Result<T> {
        self.ask(move |supervisor, reply| {
            let question = move |supervisor: &mut Supervisor| question(supervisor, reply);
            if let Some(question) = supervisor.unless_early(question) {
                question(supervisor);
            }
        })
        .await
    }

    /// Answers from the state as it is now.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Supervisor) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.ask(move |supervisor, reply| super::requests::answer(reply, look(supervisor)))
            .await
    }
}

impl VolumeBackend for Backend {
    async fn create(
        &self,
        kind: &Kind,
        name: VolumeName,
        mut options: BTreeMap<String, String>,
    ) -> Result<()> {
        // The one option that is core's own: which context.
        let context = options
            .remove("context")
            .map(ContextName::new)
            .transpose()?;
        let new = NewVolume {
            name,
            kind: Some(kind.clone()),
            context,
            options,
        };
        self.ask(move |supervisor, reply| supervisor.create(new, reply))
            .await
            .map(|_| ())
    }

    async fn remove(&self, kind: &Kind, name: VolumeName) -> Result<()> {
        let kind = kind.clone();
        let removed = self
            .ask(
                move |supervisor, reply| match supervisor.docker_volume(&kind, &name) {
                    Ok(_) => supervisor.remove_for_docker(name, reply),
                    Err(error) => super::requests::answer(reply, Err(error)),
                },
            )
            .await;
        match removed {
            // Docker asks again after an answer that was lost: it is gone, as it should be.
            Err(error) if error.kind == ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    async fn mount(
        &self,
        kind: &Kind,
        name: VolumeName,
        mount_id: String,
        caller: Caller,
    ) -> Result<String> {
        let kind = kind.clone();
        self.ask(
            move |supervisor, reply| match supervisor.docker_volume(&kind, &name) {
                Ok(_) => supervisor.mount(name, mount_id, caller, reply),
                Err(error) => super::requests::answer(reply, Err(error)),
            },
        )
        .await
    }

    async fn unmount(
        &self,
        _: &Kind,
        name: VolumeName,
        mount_id: String,
        caller: Caller,
    ) -> Result<()> {
        self.ask(move |supervisor, reply| supervisor.unmount(name, mount_id, caller, reply))
            .await
    }

    async fn get(&self, kind: &Kind, name: VolumeName) -> Result<DockerVolume> {
        let kind = kind.clone();
        self.look(move |supervisor| supervisor.docker_volume(&kind, &name))
            .await
    }

    async fn list(&self, kind: &Kind) -> Result<Vec<DockerVolume>> {
        let kind = kind.clone();
        self.look(move |supervisor| Ok(supervisor.docker_volumes(&kind)))
            .await
    }

    async fn path(&self, kind: &Kind, name: VolumeName) -> Result<Option<String>> {
        self.get(kind, name).await.map(|volume| volume.mountpoint)
    }
}
