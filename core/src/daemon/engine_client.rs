//! One engine's API socket: connects when asked, gives every call a deadline, and turns the
//! engine's errors into ours.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bollard::models::EventMessage;
use bollard::query_parameters::EventsOptionsBuilder;
use bollard::{API_DEFAULT_VERSION, Docker, errors::Error as EngineError};
use futures_util::{Stream, StreamExt};
use tokio::net::UnixStream;

use super::volume_api::Caller;
use crate::error::{Error, ErrorKind, Result};

/// How long an engine may take to say its version.
const HELLO: Duration = Duration::from_secs(5);
/// Seconds bollard itself gives a request to be begun to be answered: more than any deadline of ours.
const BACKSTOP_SECONDS: u64 = 300;

/// A client of one engine. Cheap to clone; survives the engine's restarts.
#[derive(Debug, Clone)]
pub(crate) struct EngineClient {
    /// `system Docker` or `user Docker`, for messages.
    engine: &'static str,
    socket: Arc<PathBuf>,
    docker: Arc<Mutex<Option<Docker>>>,
}

/// What an engine says of itself, and which process it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineIdentity {
    /// Its version (`26.1.5`).
    pub version: String,
    /// The process that listens on its API socket: dockerd, or the service manager if that made
    /// the socket.
    pub process: Caller,
}

impl EngineClient {
    pub(crate) fn new(engine: &'static str, socket: impl Into<PathBuf>) -> Self {
        Self {
            engine,
            socket: Arc::new(socket.into()),
            docker: Arc::default(),
        }
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Asks the engine who it is, and agrees on an API version with it.
    pub(crate) async fn hello(&self) -> Result<EngineIdentity> {
        self.hello_within(HELLO).await
    }

    async fn hello_within(&self, limit: Duration) -> Result<EngineIdentity> {
        let greeting = async {
            let process = UnixStream::connect(self.socket.as_path())
                .await
                .and_then(|stream| Caller::of_peer(&stream))
                .map_err(|error| self.absent().cause(error))?;
            let docker = self.open()?.negotiate_version().await;
            let docker = docker.map_err(|error| self.error("say its version", &error))?;
            let version = docker.version().await;
            let version = version.map_err(|error| self.error("say its version", &error))?;
            *self.slot() = Some(docker);
            Ok(EngineIdentity {
                version: version.version.unwrap_or_default(),
                process,
            })
        };
        match tokio::time::timeout(limit, greeting).await {
            Ok(result) => result,
            Err(_) => Err(self.too_slow("say its version", limit)),
        }
    }

    /// The API client; greets the engine first if that has not happened yet.
    pub(crate) async fn docker(&self) -> Result<Docker> {
        let known = self.slot().clone();
        if let Some(docker) = known {
            return Ok(docker);
        }
        self.hello().await?;
        self.open()
    }

    /// Has the engine do `what` (`start container x`) within `limit`.
    pub(crate) async fn call<T, F>(
        &self,
        what: &str,
        limit: Duration,
        request: impl FnOnce(Docker) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T, EngineError>>,
    {
        let docker = self.docker().await?;
        match tokio::time::timeout(limit, request(docker)).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => {
                let error = self.error(what, &error);
                if error.kind == ErrorKind::Unreachable {
                    // The next one there may be of another version.
                    *self.slot() = None;
                }
                Err(error)
            }
            Err(_) => Err(self.too_slow(what, limit)),
        }
    }

    /// `error`, which came when the engine was to do `what`.
    pub(crate) fn error(&self, what: &str, error: &EngineError) -> Error {
        let message = format!("{} cannot {what}", self.engine);
        match error {
            EngineError::DockerResponseServerError {
                status_code,
                message: reason,
            } => {
                let kind = match status_code {
                    400 => ErrorKind::InvalidArgument,
                    403 => ErrorKind::PermissionDenied,
                    404 => ErrorKind::NotFound,
                    409 => ErrorKind::Busy,
                    _ => ErrorKind::Internal,
                };
                Error::new(kind, message).cause(reason.trim())
            }
            EngineError::SocketNotFoundError(_) => self.absent().cause("it is not there"),
            EngineError::RequestTimeoutError => Error::new(ErrorKind::Timeout, message),
            EngineError::HyperLegacyError { .. }
            | EngineError::HyperResponseError { .. }
            | EngineError::IOError { .. } => Error::new(ErrorKind::Unreachable, message)
                .caused_by(error)
                .remedy(self.remedy()),
            other => Error::internal(message).caused_by(other),
        }
    }

    fn open(&self) -> Result<Docker> {
        let known = self.slot().clone();
        if let Some(docker) = known {
            return Ok(docker);
        }
        let socket = self.socket.to_string_lossy();
        Docker::connect_with_unix(&socket, BACKSTOP_SECONDS, API_DEFAULT_VERSION)
            .map_err(|error| self.error("be reached", &error))
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<Docker>> {
        // Nothing panics while holding it; its content is whole at any time.
        self.docker
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn absent(&self) -> Error {
        let message = format!(
            "{} does not listen on {}",
            self.engine,
            self.socket.display()
        );
        Error::new(ErrorKind::Unreachable, message).remedy(self.remedy())
    }

    fn too_slow(&self, what: &str, limit: Duration) -> Error {
        let message = format!(
            "{} did not {what} within {} s",
            self.engine,
            limit.as_secs()
        );
        Error::new(ErrorKind::Timeout, message).remedy(self.remedy())
    }

    fn remedy(&self) -> String {
        format!("is its dockerd running? see the log of {}", self.engine)
    }
}

/// The events of one run of an engine, from before it was asked who it is: nothing that happens
/// after [`begin`](Self::begin) is missed.
pub(crate) struct Follow {
    /// Who the engine is.
    pub(crate) identity: EngineIdentity,
    client: EngineClient,
    events: Pin<Box<dyn Stream<Item = Result<EventMessage, EngineError>> + Send>>,
}

impl Follow {
    /// Follows the events called `names` of containers, or of those that have `label`.
    pub(crate) async fn begin(
        client: &EngineClient,
        names: &[&str],
        label: Option<&str>,
    ) -> Result<Self> {
        // The subscription reaches the engine only when first polled: have it repeat since now.
        // A second more, because the engine counts whole ones.
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let since = now.as_secs().saturating_sub(1).to_string();
        let identity = client.hello().await?;
        let mut filters = HashMap::from([("type", vec!["container"]), ("event", names.to_vec())]);
        if let Some(label) = label {
            filters.insert("label", vec![label]);
        }
        let options = EventsOptionsBuilder::new()
            .since(&since)
            .filters(&filters)
            .build();
        let events = Box::pin(client.docker().await?.events(Some(options)));
        Ok(Self {
            identity,
            client: client.clone(),
            events,
        })
    }

    /// The next event. Cancel-safe.
    ///
    /// # Errors
    /// `Unreachable` once the engine has gone.
    pub(crate) async fn next(&mut self) -> Result<EventMessage> {
        match self.events.next().await {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(Error {
                kind: ErrorKind::Unreachable,
                ..self.client.error("tell its events", &error)
            }),
            None => {
                let message = format!("{} has closed the connection", self.client.engine);
                Err(Error::new(ErrorKind::Unreachable, message).remedy(self.client.remedy()))
            }
        }
    }
}

/// A time in which an engine does not answer: what was told of it, and the pause before it is tried
/// again, 0.1 s, doubled up to 2 s.
#[derive(Debug)]
pub(crate) struct Outage {
    told: Option<Error>,
    pause: Duration,
}

impl Outage {
    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(2);

    /// Whether `error` is another reason than the one before, or the first.
    pub(crate) fn is_news(&mut self, error: &Error) -> bool {
        let before = self.told.replace(error.clone());
        before.as_ref() != Some(error)
    }

    /// Waits until it may be tried again.
    pub(crate) async fn wait(&mut self) {
        tokio::time::sleep(self.next_pause()).await;
    }

    fn next_pause(&mut self) -> Duration {
        let longer = (self.pause * 2).min(Self::LONGEST);
        std::mem::replace(&mut self.pause, longer)
    }

    /// It answers.
    pub(crate) fn ends(&mut self) {
        *self = Self::default();
    }
}

impl Default for Outage {
    fn default() -> Self {
        Self {
            told: None,
            pause: Self::FIRST,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_absent_socket_is_unreachable_and_named() {
        let client = EngineClient::new("system Docker", "/nonexistent/docker.sock");
        let error = client.hello().await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unreachable);
        let text = error.to_string();
        assert!(
            text.contains("/nonexistent/docker.sock") && text.contains("system Docker"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn an_engine_that_does_not_answer_runs_into_the_deadline() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("docker.sock");
        let _mute = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let client = EngineClient::new("user Docker", path);
        let error = client.hello_within(Duration::from_millis(50)).await;
        assert_eq!(error.unwrap_err().kind, ErrorKind::Timeout);
    }

    #[test]
    fn an_outage_is_told_once_for_each_reason_and_the_pauses_grow() {
        let (away, slow) = (Error::internal("away"), Error::internal("slow"));
        let mut outage = Outage::default();
        for news in [true, false] {
            assert_eq!(outage.is_news(&away), news);
        }
        assert!(outage.is_news(&slow) && outage.is_news(&away));
        let pauses: Vec<_> = (0..7).map(|_| outage.next_pause().as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 2000, 2000]);
        outage.ends();
        assert!(outage.is_news(&away), "it is another one");
        assert_eq!(outage.next_pause(), Outage::FIRST);
    }

    #[test]
    fn the_engines_own_words_are_kept() {
        let client = EngineClient::new("system Docker", "/x");
        let error = client.error(
            "start container x",
            &EngineError::DockerResponseServerError {
                status_code: 404,
                message: "No such container: x\n".into(),
            },
        );
        assert_eq!(error.kind, ErrorKind::NotFound);
        assert_eq!(
            error.to_string(),
            "system Docker cannot start container x: No such container: x"
        );
    }
}
