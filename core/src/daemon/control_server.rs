//! The control socket: [`crate::control`] over length-framed JSON, a task for each client.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use serde::Serialize;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use super::backend::Backend;
use super::requests::{Attach, answer};
use super::steps::Hands;
use super::supervisor::Message;
use crate::control::{Request, Response};
use crate::error::{Error, Result};
use crate::frame;
use crate::name::ContextName;

/// A client that says nothing for so long is let go.
const IDLE: Duration = Duration::from_secs(300);

/// How long a request waits for user Docker to list its containers.
const LISTING: Duration = Duration::from_secs(3);

/// Serves clients until the task is dropped.
pub async fn serve(listener: UnixListener, backend: Backend, hands: Arc<Hands>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let client = Client {
                    stream,
                    backend: backend.clone(),
                    hands: Arc::clone(&hands),
                };
                tokio::spawn(client.serve());
            }
            Err(error) => {
                // Out of descriptors, as a rule: others will be closed.
                tracing::warn!("control socket: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

struct Client {
    stream: UnixStream,
    backend: Backend,
    hands: Arc<Hands>,
}

impl Client {
    async fn serve(mut self) {
        loop {
            let request = match tokio::time::timeout(IDLE, self.read()).await {
                Ok(Ok(Some(request))) => request,
                Ok(Ok(None)) | Err(_) => return,
                Ok(Err(error)) => {
                    // The next frame cannot be found any more.
                    let refused = Error::invalid("this request is not one core knows")
                        .cause(error)
                        .remedy("is this laz older or newer than core?");
                    let _ = self.write(&Response::Failed(refused)).await;
                    return;
                }
            };
            let response = match self.answer(request).await {
                Ok(value) => Response::Done(value),
                Err(error) => Response::Failed(error),
            };
            if self.write(&response).await.is_err() {
                return;
            }
        }
    }

    async fn read(&mut self) -> io::Result<Option<Request>> {
        let mut header = [0; frame::HEADER];
        if self.stream.read(&mut header[..1]).await? == 0 {
            return Ok(None);
        }
        self.stream.read_exact(&mut header[1..]).await?;
        let mut body = vec![0; frame::body_length(header)?];
        self.stream.read_exact(&mut body).await?;
        frame::decode(&body).map(Some)
    }

    async fn write(&mut self, response: &Response) -> io::Result<()> {
        let frame = match frame::encode(response) {
            Ok(frame) => frame,
            Err(error) => frame::encode(&Response::Failed(
                Error::internal("the answer is too large").cause(error),
            ))?,
        };
        self.stream.write_all(&frame).await
    }

    async fn answer(&mut self, request: Request) -> Result<Value> {
        let backend = self.backend.clone();
        match request {
            Request::Status => json(&backend.look(|s| Ok(s.status())).await?),
            Request::VolumeInspect { name } => {
                json(&backend.look(move |s| s.inspect(&name)).await?)
            }
            Request::VolumeCreate(new) => {
                json(&backend.ask(move |s, reply| s.create(new, reply)).await?)
            }
            Request::VolumeRemove { name, force } => {
                self.look_who_uses_what().await;
                let removed = backend.ask(move |s, reply| s.remove(name, force, reply));
                json(&removed.await?)
            }
            Request::Attach {
                url,
                name,
                options,
                read_only,
            } => {
                let attach = Attach {
                    url,
                    name,
                    options,
                    read_only,
                };
                json(&backend.ask(move |s, reply| s.attach(attach, reply)).await?)
            }
            Request::Detach { name, lazy } => {
                self.look_who_uses_what().await;
                let detached = backend.ask(move |s, reply| s.detach(name, lazy, reply));
                json(&detached.await?)
            }
            Request::ConfigCheck { text } => json(
                &backend
                    .look(move |s| Ok(s.configuration.check(&text)))
                    .await?,
            ),
            Request::ConfigSet { text } => {
                let set = backend.ask(move |s, reply| {
                    let problems = s.configuration.set(&text);
                    s.declare();
                    answer(reply, problems);
                });
                json(&set.await?)
            }
            Request::ConfigSchema => backend.look(|s| Ok(s.configuration.schema())).await,
            Request::Kinds => {
                let manifests = |s: &super::supervisor::Supervisor| {
                    Ok(s.world
                        .kinds
                        .values()
                        .map(|k| k.manifest.clone())
                        .collect::<Vec<_>>())
                };
                json(&backend.look(manifests).await?)
            }
            Request::Logs {
                context,
                tail,
                follow,
            } => self.logs(context, tail, follow).await,
            Request::Drain => json(&backend.ask(super::supervisor::Supervisor::drain).await?),
        }
    }

    /// Has user Docker's containers listed anew: the last listing may be older than the end of the
    /// last container that had the volume. A user Docker that is away has to be done without.
    async fn look_who_uses_what(&self) {
        if let Ok(Ok(containers)) = timeout(LISTING, self.hands.user.containers()).await {
            // Core is ending if nobody listens.
            let listed = Message::UserContainers(containers);
            let _ = self.hands.messages.send(listed);
        }
    }

    /// What the container says, and before it what core has to say of it.
    async fn logs(
        &mut self,
        context: ContextName,
        tail: Option<usize>,
        follow: bool,
    ) -> Result<Value> {
        let name = context.clone();
        let known = self
            .backend
            .look(move |s| Ok((s.world.contexts.contains_key(&name), s.lines_of(&name))))
            .await?;
        let (true, lines) = known else {
            return Err(Error::not_found(format!("no context \"{context}\""))
                .remedy("laz status shows the contexts"));
        };
        let first = lines.len().saturating_sub(tail.unwrap_or(usize::MAX));
        for line in &lines[first..] {
            self.item(format!("core: {line}")).await?;
        }
        // A context whose container never started has nothing but core's own lines.
        let Ok(stream) = self.hands.system.logs(&context, tail, follow).await else {
            return Ok(Value::Null);
        };
        let mut stream = std::pin::pin!(stream);
        while let Some(line) = stream.next().await {
            self.item(line?).await?;
        }
        Ok(Value::Null)
    }

    async fn item(&mut self, line: String) -> Result<()> {
        self.write(&Response::Item(Value::String(line)))
            .await
            .map_err(|e| Error::internal("the client went away").cause(e))
    }
}

fn json<T: Serialize>(value: &T) -> Result<Value> {
    serde_json::to_value(value).map_err(|e| Error::internal("an answer that is not JSON").cause(e))
}
