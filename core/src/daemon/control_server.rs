//! The control socket: [`crate::control`] over length-framed JSON, a task for each client.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use hyper::body::Bytes;
use serde::Serialize;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::acts::Acting;
use super::backend::Backend;
use super::change_requests::NewClone;
use super::requests::{Attach, answer};
use super::steps::Hands;
use super::supervisor::Message;
use crate::control::{PluginInstall, Progress, Request, Response};
use crate::error::{Error, ErrorKind, Result};
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
            Request::VolumeRemove {
                name,
                force,
                snapshots,
            } => {
                look_who_uses_what(&self.hands).await;
                let removed = backend.ask(move |s, reply| s.remove(name, force, snapshots, reply));
                json(&removed.await?)
            }
            Request::VolumeRename { .. }
            | Request::VolumeResize { .. }
            | Request::VolumeClone { .. }
            | Request::VolumeRollback { .. }
            | Request::VolumeSnapshot { .. }
            | Request::SnapshotRemove { .. } => self.change(request).await,
            Request::Act {
                on,
                action,
                parameters,
            } => {
                let acting = backend.ask_informed(move |s, reply| {
                    answer(reply, s.acting(&on, &action, &parameters));
                });
                let acting = acting.await?;
                self.act(acting).await
            }
            Request::ContextResume { name } => {
                let resumed = backend.ask(move |s, reply| answer(reply, s.resume(name)));
                json(&resumed.await?)
            }
            Request::Scan { kinds } => {
                let scanners =
                    backend.ask_informed(move |s, reply| answer(reply, s.scanners(&kinds)));
                let scanners = scanners.await?;
                let scanned = self.hands.scan(scanners).await;
                json(&backend.look(move |s| Ok(s.name_owners(scanned))).await?)
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
                look_who_uses_what(&self.hands).await;
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
            Request::Kinds => json(&backend.look(|s| Ok(s.manifests())).await?),
            Request::Plugins => json(&backend.look(|s| Ok(s.plugins())).await?),
            Request::PluginInstall(wanted) => self.install(wanted).await,
            Request::PluginRemove { kind } => {
                json(&self.hands.remove_plugin(&backend, kind).await?)
            }
            Request::Logs {
                context,
                tail,
                follow,
            } => self.logs(context, tail, follow).await,
            Request::Drain => json(&backend.ask(super::supervisor::Supervisor::drain).await?),
        }
    }

    /// Installs a plugin.
    async fn install(&mut self, wanted: PluginInstall) -> Result<Value> {
        let hands = Arc::clone(&self.hands);
        let turn = hands.admission.turn().await;
        let before = hands.system.all_images().await;
        // An engine that cannot list its images takes in none: what was there does not matter.
        let install = hands
            .admission
            .begin(turn, before.clone().unwrap_or_default());
        // The OS starts its own images by their names.
        let of_the_os = hands.system.names(hands.admission.built_in()).await;
        let names = match &wanted.image {
            Some(image) => hands.fetch_plugin(image).await,
            // Taken in even if it will be refused: the next request begins behind it.
            None => self.upload().await,
        };
        let images = hands.images_of(names).await;
        hands.system.name_again(&of_the_os?).await?;
        before?;
        let installed = hands.install_plugin(&self.backend, images?, &install, wanted);
        json(&installed.await?)
    }

    /// Passes an archive on to system Docker; the names of what is in it.
    async fn upload(&mut self) -> Result<Vec<String>> {
        let (sender, chunks) = mpsc::channel(4);
        let hands = Arc::clone(&self.hands);
        let loading = tokio::spawn(async move { hands.system.load(chunks).await });
        loop {
            let chunk = timeout(IDLE, self.chunk()).await;
            let chunk = chunk.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            let over = chunk.as_ref().is_ok_and(Bytes::is_empty);
            let broken = chunk.is_err();
            if !over {
                // An engine that has ended early says why.
                let _ = sender.send(chunk).await;
            }
            if over || broken {
                break;
            }
        }
        drop(sender);
        let ended = |e| Error::internal("loading an image ended early").cause(e);
        loading.await.map_err(ended)?
    }

    async fn chunk(&mut self) -> io::Result<Bytes> {
        let mut header = [0; frame::HEADER];
        self.stream.read_exact(&mut header).await?;
        let mut body = vec![0; frame::body_length(header)?];
        self.stream.read_exact(&mut body).await?;
        Ok(body.into())
    }

    /// What is asked of a volume that exists, telling how far it is.
    async fn change(&mut self, request: Request) -> Result<Value> {
        let (_unwatched, silence) = mpsc::unbounded_channel();
        let progress = match &request {
            Request::VolumeResize { name, .. }
            | Request::VolumeRollback { name, .. }
            | Request::VolumeClone { name, .. } => self.hands.watchers.watch(name.clone()),
            _ => silence,
        };
        let work = change(self.backend.clone(), Arc::clone(&self.hands), request);
        self.telling(work, progress).await
    }

    /// Runs an action, telling how far it is, for as long as the client stays.
    async fn act(&mut self, acting: Acting) -> Result<Value> {
        let (sender, progress) = mpsc::unbounded_channel();
        let hands = Arc::clone(&self.hands);
        self.telling(async move { hands.act(acting, sender).await }, progress)
            .await
    }

    /// Waits for `work`, telling how far it is; drops it if the client goes.
    async fn telling(
        &mut self,
        work: impl Future<Output = Result<Value>>,
        mut progress: mpsc::UnboundedReceiver<Progress>,
    ) -> Result<Value> {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => {
                    while let Ok(word) = progress.try_recv() {
                        self.item(json(&word)?).await?;
                    }
                    return done;
                }
                Some(word) = progress.recv() => self.item(json(&word)?).await?,
                // A client says nothing while it waits.
                _ = self.stream.readable() => {
                    let there = |e: &io::Error| e.kind() == io::ErrorKind::WouldBlock;
                    if !self.stream.try_read(&mut [0]).as_ref().is_err_and(there) {
                        return Err(Error::new(ErrorKind::Cancelled, "the client went away"));
                    }
                }
            }
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
            self.item(format!("core: {line}").into()).await?;
        }
        // A context whose container never started has nothing but core's own lines.
        let Ok(stream) = self.hands.system.logs(&context, tail, follow).await else {
            return Ok(Value::Null);
        };
        let mut stream = std::pin::pin!(stream);
        while let Some(line) = stream.next().await {
            self.item(line?.into()).await?;
        }
        Ok(Value::Null)
    }

    async fn item(&mut self, item: Value) -> Result<()> {
        self.write(&Response::Item(item))
            .await
            .map_err(|e| Error::internal("the client went away").cause(e))
    }
}

/// What is asked of a volume that exists.
async fn change(backend: Backend, hands: Arc<Hands>, request: Request) -> Result<Value> {
    match request {
        Request::VolumeRename { name, to } => {
            look_who_uses_what(&hands).await;
            let renamed = backend.ask(move |s, reply| s.rename(name, to, reply));
            json(&renamed.await?)
        }
        Request::VolumeResize { name, size } => {
            let resized = backend.ask_informed(move |s, reply| s.resize(name, size, reply));
            json(&resized.await?)
        }
        Request::VolumeClone {
            source,
            snapshot,
            name,
            options,
        } => {
            let new = NewClone {
                source,
                snapshot,
                name,
                options,
            };
            let made = backend.ask_informed(move |s, reply| s.clone_volume(new, reply));
            json(&made.await?)
        }
        Request::VolumeRollback { name, snapshot } => {
            look_who_uses_what(&hands).await;
            let done = backend.ask_informed(move |s, reply| s.roll_back(name, &snapshot, reply));
            json(&done.await?)
        }
        Request::VolumeSnapshot { name, snapshot } => {
            let taken = backend.ask_informed(move |s, reply| s.snapshot(name, snapshot, reply));
            json(&taken.await?)
        }
        Request::SnapshotRemove { name, snapshot } => {
            let removed =
                backend.ask_informed(move |s, reply| s.remove_snapshot(name, snapshot, reply));
            json(&removed.await?)
        }
        other => Err(Error::internal(format!("no change of a volume: {other:?}"))),
    }
}

/// Has user Docker's containers listed anew: the last listing may be older than the end of the
/// last container that had the volume. A user Docker that is away has to be done without.
async fn look_who_uses_what(hands: &Hands) {
    if let Ok(Ok(containers)) = timeout(LISTING, hands.user.containers()).await {
        // Core is ending if nobody listens.
        let _ = hands.messages.send(Message::UserContainers(containers));
    }
}

fn json<T: Serialize>(value: &T) -> Result<Value> {
    serde_json::to_value(value).map_err(|e| Error::internal("an answer that is not JSON").cause(e))
}
