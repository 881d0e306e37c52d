//! Connections and calls.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::wire::{Endpoint, MEDIA_TYPE, Reply, Request};
use super::{Caller, Scope, VolumeBackend};
use crate::error::{Error, ErrorKind, Result};
use crate::name::{Kind, VolumeName};

/// Bytes of a request's body.
const LARGEST_BODY: usize = 1 << 20;
/// How long a peer may take to send a request's body.
const BODY_DEADLINE: Duration = Duration::from_secs(10);
/// How long calls under way may go on once the server is to stop.
const DRAIN: Duration = Duration::from_secs(10);
/// Connections served at once; further ones queue up in the kernel.
const MOST_CONNECTIONS: usize = 512;

/// The reason a connection is closed without a reply.
#[derive(Debug, thiserror::Error)]
enum Unanswered {
    #[error("the request's body did not arrive")]
    NoBody,
    #[error("{0}; no reply, so that dockerd keeps its record of the volume")]
    WouldForget(Error),
}

struct Server<B> {
    kind: Kind,
    scope: Scope,
    backend: B,
}

/// Accepts and answers until `stop` ends, then drains.
pub(super) async fn run<B: VolumeBackend>(
    kind: Kind,
    scope: Scope,
    listener: UnixListener,
    backend: B,
    stop: impl Future<Output = ()>,
) {
    let server = Arc::new(Server {
        kind,
        scope,
        backend,
    });
    let (stopping, stopped) = watch::channel(false);
    let mut connections = JoinSet::new();
    tokio::select! {
        never = accept(&server, &listener, &mut connections, &stopped) => match never {},
        () = stop => {}
    }
    drop(listener);
    // Nobody listens if there is no connection.
    let _ = stopping.send(true);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, drained).await.is_err() {
        let left = connections.len();
        tracing::warn!(kind = %server.kind, "{left} calls of dockerd cut off at the end");
        connections.shutdown().await;
    }
}

async fn accept<B: VolumeBackend>(
    server: &Arc<Server<B>>,
    listener: &UnixListener,
    connections: &mut JoinSet<()>,
    stopped: &watch::Receiver<bool>,
) -> Infallible {
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let place = Arc::clone(&places)
            .acquire_owned()
            .await
            .expect("the semaphore is never closed");
        while connections.try_join_next().is_some() {}
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::error!(kind = %server.kind, "cannot accept a connection: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (server, stopped) = (Arc::clone(server), stopped.clone());
        connections.spawn(async move {
            server.converse(stream, stopped).await;
            drop(place);
        });
    }
}

impl<B: VolumeBackend> Server<B> {
    /// Serves one connection to its end.
    async fn converse(self: Arc<Self>, stream: UnixStream, mut stopped: watch::Receiver<bool>) {
        let caller = match admitted(&stream) {
            Ok(caller) => caller,
            Err(why) => {
                tracing::warn!(kind = %self.kind, "connection refused: {why}");
                return;
            }
        };
        let server = Arc::clone(&self);
        let service = service_fn(move |request| {
            let server = Arc::clone(&server);
            async move { server.answer(caller, request).await }
        });
        // dockerd keeps connections open between calls: no limit on the wait for the next one.
        let mut connection = std::pin::pin!(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(None)
                .max_buf_size(64 * 1024)
                .serve_connection(TokioIo::new(stream), service)
        );
        let ended = tokio::select! {
            result = connection.as_mut() => Some(result),
            _ = stopped.wait_for(|stopped| *stopped) => None,
        };
        let result = match ended {
            Some(result) => result,
            None => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = result {
            let error = Error::internal("connection ended").caused_by(&error);
            tracing::debug!(kind = %self.kind, "{error}");
        }
    }

    async fn answer(
        self: Arc<Self>,
        caller: Caller,
        request: hyper::Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, Unanswered> {
        let path = request.uri().path();
        let Some(endpoint) = Endpoint::from_path(path) else {
            let text = format!("{path} is not part of the volume plugin protocol");
            return Ok(reply(StatusCode::NOT_FOUND, &Reply::error(text)));
        };
        if request.method() != Method::POST {
            let text = format!("{path} takes POST only");
            return Ok(reply(StatusCode::METHOD_NOT_ALLOWED, &Reply::error(text)));
        }
        let body = match read_body(request.into_body()).await? {
            Some(body) => body,
            None => {
                let error = Reply::error("the request is larger than 1 MiB");
                return Ok(reply(StatusCode::PAYLOAD_TOO_LARGE, &error));
            }
        };
        let started = Instant::now();
        let outcome = match parse(endpoint, &body) {
            Ok(request) => Arc::clone(&self).call(endpoint, request, caller).await,
            Err(error) => Err(error),
        };
        let elapsed = started.elapsed();
        match outcome {
            Ok(ok) => {
                tracing::debug!(kind = %self.kind, ?endpoint, ?elapsed, "answered");
                Ok(reply(StatusCode::OK, &ok))
            }
            Err(error) => {
                let unknown = error.kind == ErrorKind::NotFound;
                if endpoint == Endpoint::Get && unknown {
                    tracing::debug!(kind = %self.kind, ?endpoint, ?elapsed, "{error}");
                } else {
                    tracing::warn!(kind = %self.kind, ?endpoint, ?elapsed, "{error}");
                }
                refuse(endpoint, error)
            }
        }
    }

    /// Runs the call in a task of its own, so that dockerd's hanging up does not stop it half
    /// way, and answers by the endpoint's deadline.
    async fn call(
        self: Arc<Self>,
        endpoint: Endpoint,
        request: Request,
        caller: Caller,
    ) -> Result<Reply> {
        let limit = endpoint.deadline();
        let call = tokio::spawn(async move { self.dispatch(endpoint, request, caller).await });
        match tokio::time::timeout(limit, call).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(panic)) => Err(Error::internal(format!("{endpoint:?} failed"))
                .cause(panic)
                .remedy("this is a fault in laz-core: please report it with its log")),
            Err(_) => Err(Error::new(
                ErrorKind::Timeout,
                format!("{endpoint:?} has taken more than {} s", limit.as_secs()),
            )
            .remedy("it goes on; see `laz status`")),
        }
    }

    async fn dispatch(
        &self,
        endpoint: Endpoint,
        request: Request,
        caller: Caller,
    ) -> Result<Reply> {
        let (kind, backend) = (&self.kind, &self.backend);
        let mut reply = Reply::default();
        if !endpoint.names_a_volume() {
            match endpoint {
                Endpoint::Activate => reply.implements = Some(["VolumeDriver"]),
                Endpoint::Capabilities => reply.capabilities = Some(self.scope.into()),
                _ => {
                    let volumes = backend.list(kind).await?;
                    reply.volumes = Some(volumes.into_iter().map(Into::into).collect());
                }
            }
            return Ok(reply);
        }
        let name = VolumeName::new(request.name.as_str())?;
        let mount_id = request.id.clone().unwrap_or_default();
        match endpoint {
            Endpoint::Create => backend.create(kind, name, request.options()).await?,
            Endpoint::Remove => backend.remove(kind, name).await?,
            Endpoint::Mount => {
                reply.mountpoint = Some(backend.mount(kind, name, mount_id, caller).await?);
            }
            Endpoint::Unmount => backend.unmount(kind, name, mount_id, caller).await?,
            Endpoint::Path => {
                reply.mountpoint = Some(backend.path(kind, name).await?.unwrap_or_default());
            }
            _ => reply.volume = Some(backend.get(kind, name).await?.into()),
        }
        Ok(reply)
    }
}

/// Admits root, and whoever core itself runs as.
fn admitted(stream: &UnixStream) -> Result<Caller> {
    let unknown = |error| Error::internal("the peer is not known").cause(error);
    let uid = stream.peer_cred().map_err(unknown)?.uid();
    if uid != 0 && uid != rustix::process::geteuid().as_raw() {
        let text = format!("user {uid} may not act as dockerd");
        return Err(Error::new(ErrorKind::PermissionDenied, text));
    }
    Caller::of_peer(stream).map_err(unknown)
}

/// The body; none if it is too large.
async fn read_body(body: Incoming) -> Result<Option<Bytes>, Unanswered> {
    let read = Limited::new(body, LARGEST_BODY).collect();
    match tokio::time::timeout(BODY_DEADLINE, read).await {
        Ok(Ok(body)) => Ok(Some(body.to_bytes())),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Ok(None),
        Ok(Err(_)) | Err(_) => Err(Unanswered::NoBody),
    }
}

fn parse(endpoint: Endpoint, body: &[u8]) -> Result<Request> {
    if body.trim_ascii().is_empty() {
        if endpoint.names_a_volume() {
            return Err(Error::internal(format!(
                "{endpoint:?} came without its content: the connection to laz-core was lost in the middle of the call"
            ))
            .remedy("try again"));
        }
        return Ok(Request::default());
    }
    serde_json::from_slice(body).map_err(|error| {
        Error::internal(format!(
            "{endpoint:?} came with content that is not what Docker sends"
        ))
        .cause(error)
    })
}

/// The reply to a call that failed; none where a reply would make dockerd forget a volume.
fn refuse(endpoint: Endpoint, error: Error) -> Result<Response<Full<Bytes>>, Unanswered> {
    let there_is_no_such_volume =
        matches!(error.kind, ErrorKind::NotFound | ErrorKind::InvalidArgument);
    if endpoint == Endpoint::Get && !there_is_no_such_volume {
        return Err(Unanswered::WouldForget(error));
    }
    Ok(reply(StatusCode::OK, &Reply::error(error)))
}

fn reply(status: StatusCode, reply: &Reply) -> Response<Full<Bytes>> {
    let mut body = serde_json::to_vec(reply).expect("a reply has string keys only");
    body.push(b'\n');
    Response::builder()
        .status(status)
        .header(CONTENT_TYPE, MEDIA_TYPE)
        .body(Full::new(Bytes::from(body)))
        .expect("status and header are valid")
}
