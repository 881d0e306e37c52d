//! Core's end of the plugin wire ([`crate::message`]): one connection to one plugin host.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lazarette_linux::fd_passing;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

use super::flood::{Flood, shown, shown_error};
use crate::context::Level;
use crate::control::Progress;
use crate::error::{Error, ErrorKind, Result};
use crate::frame;
use crate::manifest::Manifest;
use crate::message::{FromPlugin, Method, Outcome, PROTOCOL, ToPlugin};

/// A reply: its value, and the mount that came with it.
type Reply = Result<(Value, Option<OwnedFd>)>;
type Pending = Arc<Mutex<HashMap<u64, Waiting>>>;

/// Who waits for a reply.
struct Waiting {
    reply: oneshot::Sender<Reply>,
    /// Where the call's progress goes; none: into the context's log.
    progress: Option<mpsc::UnboundedSender<Progress>>,
}

/// How many frames may wait to be written before a call waits, too.
const WRITE_QUEUE: usize = 64;

/// What a plugin host says without being asked.
#[derive(Debug)]
pub enum LinkEvent {
    /// The context's health has changed.
    Changed,
    /// A line for the context's log, or a call's progress.
    Line(Level, String),
    /// The connection is over; why.
    Closed(Error),
}

/// A connection to a plugin host, cheap to clone. It closes when the last clone is dropped.
#[derive(Clone)]
pub struct Link {
    writer: mpsc::Sender<Vec<u8>>,
    pending: Pending,
    next_id: Arc<AtomicU64>,
    context: Arc<str>,
    /// Another value after each start of the plugin host.
    pub instance: Arc<str>,
    /// Whether the plugin had the context open when core came.
    pub open: bool,
    /// What the plugin says of itself.
    pub manifest: Arc<Manifest>,
}

impl Link {
    /// Connects to the socket at `path`, exchanges hellos, and sends what is heard later to `events`.
    ///
    /// # Errors
    /// `Plugin` if nobody listens, the peer is not root, or it speaks another protocol; `Timeout`.
    pub async fn connect(
        path: &Path,
        context: &str,
        limit: Duration,
        events: impl Fn(LinkEvent) + Send + 'static,
    ) -> Result<Self> {
        timeout(limit, Self::handshake(path, context, events))
            .await
            .map_err(|_| {
                Error::new(
                    ErrorKind::Timeout,
                    format!("the plugin host of \"{context}\" does not say hello"),
                )
            })?
    }

    async fn handshake(
        path: &Path,
        context: &str,
        events: impl Fn(LinkEvent) + Send + 'static,
    ) -> Result<Self> {
        let what = format!("cannot reach the plugin host of \"{context}\"");
        let fail = |e: io::Error| Error::new(ErrorKind::Plugin, what.clone()).cause(e);
        let stream = UnixStream::connect(path).await.map_err(fail)?;
        if stream.peer_cred().map_err(fail)?.uid() != 0 {
            return Err(Error::new(ErrorKind::Plugin, what).cause("its peer is not root"));
        }
        let (mut reader, mut writer) = stream.into_split();
        let hello = ToPlugin::Hello {
            protocol: PROTOCOL,
            context: context.into(),
        };
        writer
            .write_all(&frame::encode(&hello).map_err(fail)?)
            .await
            .map_err(fail)?;
        let (first, _) = read_frame(&mut reader).await.map_err(fail)?;
        let FromPlugin::Hello {
            protocol,
            manifest,
            instance,
            open,
        } = first
        else {
            return Err(
                Error::new(ErrorKind::Plugin, what).cause("its first message is not a hello")
            );
        };
        if protocol.major != PROTOCOL.major {
            return Err(Error::new(ErrorKind::Plugin, what)
                .cause(format!(
                    "it speaks protocol {}, core speaks {}",
                    protocol.major, PROTOCOL.major
                ))
                .remedy("use an image that was built for this version of core"));
        }
        let (sender, queue) = mpsc::channel(WRITE_QUEUE);
        let pending = Pending::default();
        tokio::spawn(write_frames(writer, queue));
        tokio::spawn(read_frames(
            reader,
            Arc::clone(&pending),
            context.to_owned(),
            events,
        ));
        Ok(Self {
            writer: sender,
            pending,
            next_id: Arc::new(AtomicU64::new(1)),
            context: context.into(),
            instance: instance.into(),
            open,
            manifest: manifest.into(),
        })
    }

    /// Calls a method and waits for its end, `limit` at most; past that the plugin is told and no
    /// longer waited for.
    ///
    /// # Errors
    /// The plugin's own; `Timeout`; `Plugin` if the connection breaks or the reply has a wrong shape.
    pub async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        limit: Duration,
    ) -> Result<(T, Option<OwnedFd>)> {
        self.call_telling(method, limit, None).await
    }

    /// The same for a call whose progress somebody wants to see. If the future is dropped, the
    /// plugin is told that nobody waits any more.
    ///
    /// # Errors
    /// Those of [`call`](Self::call).
    pub async fn watched<T: DeserializeOwned>(
        &self,
        method: Method,
        limit: Duration,
        progress: mpsc::UnboundedSender<Progress>,
    ) -> Result<T> {
        let (value, _) = self.call_telling(method, limit, Some(progress)).await?;
        Ok(value)
    }

    async fn call_telling<T: DeserializeOwned>(
        &self,
        method: Method,
        limit: Duration,
        progress: Option<mpsc::UnboundedSender<Progress>>,
    ) -> Result<(T, Option<OwnedFd>)> {
        let name = method.name();
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let deadline_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        let call = frame::encode(&ToPlugin::Call {
            id,
            deadline_ms,
            method,
        })
        .map_err(|e| Error::invalid(format!("{name}: the request is too large")).cause(e))?;
        let (reply, receiver) = oneshot::channel();
        self.lock().insert(id, Waiting { reply, progress });
        let _forget = Forget { link: self, id };
        let gone = || self.broken(name);
        // A plugin host that has not read for long lets even this wait.
        let replied = timeout(limit, async {
            self.writer.send(call).await.map_err(|_| gone())?;
            receiver.await.map_err(|_| gone())?
        });
        let (value, fd) = match replied.await {
            Ok(reply) => reply?,
            Err(_) => return Err(self.too_late(name, limit)),
        };
        let value = serde_json::from_value(value).map_err(|e| {
            Error::new(
                ErrorKind::Plugin,
                format!(
                    "\"{}\": the plugin's reply to {name} has a wrong shape",
                    self.context
                ),
            )
            .cause(shown(&e.to_string()))
        })?;
        Ok((value, fd))
    }

    fn broken(&self, method: &str) -> Error {
        Error::new(
            ErrorKind::Plugin,
            format!(
                "\"{}\": the plugin host went away during {method}",
                self.context
            ),
        )
    }

    fn too_late(&self, method: &str, limit: Duration) -> Error {
        Error::new(
            ErrorKind::Timeout,
            format!(
                "\"{}\": {method} did not end within {} s",
                self.context,
                limit.as_secs()
            ),
        )
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Waiting>> {
        self.pending
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Takes a call out of the list however its future ends, and tells the plugin if it has not replied.
struct Forget<'a> {
    link: &'a Link,
    id: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        if self.link.lock().remove(&self.id).is_none() {
            return;
        }
        if let Ok(cancel) = frame::encode(&ToPlugin::Cancel { id: self.id }) {
            // A full queue means that the plugin does not read: it will not miss the word.
            let _ = self.link.writer.try_send(cancel);
        }
    }
}

async fn write_frames(mut writer: OwnedWriteHalf, mut queue: mpsc::Receiver<Vec<u8>>) {
    while let Some(frame) = queue.recv().await {
        // The reader sees the same end and reports it.
        if writer.write_all(&frame).await.is_err() {
            return;
        }
    }
}

async fn read_frames(
    mut reader: OwnedReadHalf,
    pending: Pending,
    context: String,
    events: impl Fn(LinkEvent),
) {
    let mut flood = Flood::new(Instant::now());
    let error = loop {
        match read_frame(&mut reader).await {
            Ok((message, fd)) => take_message(message, fd, &pending, &mut flood, &events),
            Err(e) => break e,
        }
        let pause = flood.pause();
        if !pause.is_zero() {
            sleep(pause).await;
        }
    };
    flood.tell(Instant::now(), |word| {
        events(LinkEvent::Line(Level::Warn, word));
    });
    let error = Error::new(
        ErrorKind::Plugin,
        format!("the connection to the plugin host of \"{context}\" broke"),
    )
    .cause(shown(&error.to_string()));
    let waiting: Vec<_> = {
        let mut pending = pending
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        pending.drain().collect()
    };
    for (_, waiting) in waiting {
        let _ = waiting.reply.send(Err(error.clone()));
    }
    events(LinkEvent::Closed(error));
}

fn take_message(
    message: FromPlugin,
    fd: Option<OwnedFd>,
    pending: &Pending,
    flood: &mut Flood,
    events: &impl Fn(LinkEvent),
) {
    let line = |level: Level, text: &str, flood: &mut Flood| {
        let tell = |word| events(LinkEvent::Line(Level::Warn, word));
        if flood.line(text.len(), Instant::now(), tell) {
            events(LinkEvent::Line(level, shown(text)));
        }
    };
    match message {
        FromPlugin::Reply { id, outcome, .. } => {
            let waiting = pending
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .remove(&id);
            // Nobody waits for the reply to a call that was given up.
            if let Some(waiting) = waiting {
                let reply = match outcome {
                    Outcome::Ok(value) => Ok((value, fd)),
                    Outcome::Error(error) => Err(shown_error(&error)),
                };
                let _ = waiting.reply.send(reply);
            }
        }
        FromPlugin::Progress { id, message, share } => {
            let watcher = pending
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .get(&id)
                .and_then(|waiting| waiting.progress.clone());
            if let Some(watcher) = watcher {
                if flood.progress(message.len(), Instant::now()) {
                    let message = shown(&message);
                    // Whoever watched may be about to go.
                    let _ = watcher.send(Progress { message, share });
                }
                return;
            }
            let share = share.map_or_else(String::new, |s| format!(" ({:.0} %)", s * 100.0));
            line(Level::Info, &format!("{message}{share}"), flood);
        }
        FromPlugin::Log { level, message } => line(level, &message, flood),
        FromPlugin::Changed => {
            if flood.change(Instant::now()) {
                events(LinkEvent::Changed);
            }
        }
        FromPlugin::Hello { .. } => line(Level::Warn, "a second hello: ignored", flood),
    }
}

/// Reads one frame with the descriptor that came with its first byte.
async fn read_frame(reader: &mut OwnedReadHalf) -> io::Result<(FromPlugin, Option<OwnedFd>)> {
    let mut header = [0; frame::HEADER];
    let mut filled = 0;
    let mut fd = None;
    while filled < header.len() {
        let (count, received) = receive(reader.as_ref(), &mut header[filled..]).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        filled += count;
        fd = fd.or(received);
    }
    let mut body = vec![0; frame::body_length(header)?];
    reader.read_exact(&mut body).await?;
    Ok((frame::decode(&body)?, fd))
}

async fn receive(stream: &UnixStream, buffer: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    stream
        .async_io(Interest::READABLE, || {
            fd_passing::try_receive(stream, buffer)
        })
        .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Version;
    use serde_json::json;
    use std::os::unix::net::UnixListener;

    fn manifest() -> Box<Manifest> {
        serde_json::from_value(json!({
            "kind": "fake", "version": "1", "context_schema": {}, "volume_schema": {},
            "capabilities": [], "privileges": {}
        }))
        .unwrap()
    }

    /// A plugin host in a thread: says hello, then does as `answer` says with each frame.
    fn host(
        major: u16,
        answer: impl Fn(&mut std::os::unix::net::UnixStream, ToPlugin) -> bool + Send + 'static,
    ) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("s")).unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let hello = FromPlugin::Hello {
                protocol: Version { major, minor: 0 },
                manifest: manifest(),
                instance: "1".into(),
                open: false,
            };
            frame::write(&mut stream, &hello).unwrap();
            while let Ok(Some(message)) = frame::read::<ToPlugin>(&mut stream) {
                if !answer(&mut stream, message) {
                    return;
                }
            }
        });
        directory
    }

    async fn connect(directory: &tempfile::TempDir) -> Result<Link> {
        Link::connect(
            &directory.path().join("s"),
            "c",
            Duration::from_secs(5),
            |_| (),
        )
        .await
    }

    #[tokio::test]
    async fn a_call_gets_its_own_reply_whatever_the_order() {
        let parked = Mutex::new(Vec::new());
        let directory = host(1, move |stream, message| {
            if let ToPlugin::Call { id, method, .. } = message {
                parked.lock().unwrap().push((id, method.name()));
            }
            let mut parked = parked.lock().unwrap();
            if parked.len() == 2 {
                for (id, name) in parked.drain(..).rev() {
                    let reply = FromPlugin::Reply {
                        id,
                        outcome: Outcome::Ok(json!(name)),
                        fd: false,
                    };
                    frame::write(stream, &reply).unwrap();
                }
            }
            true
        });
        let link = connect(&directory).await.unwrap();
        let limit = Duration::from_secs(5);
        let (a, b) = tokio::join!(
            link.call::<String>(Method::List, limit),
            link.call::<String>(Method::Health, limit)
        );
        assert_eq!(
            (a.unwrap().0.as_str(), b.unwrap().0.as_str()),
            ("list", "health")
        );
    }

    #[tokio::test]
    async fn a_host_that_dies_ends_its_calls_and_one_that_sleeps_is_given_up() {
        let directory = host(1, |_, message| matches!(message, ToPlugin::Hello { .. }));
        let link = connect(&directory).await.unwrap();
        let died = link
            .call::<Value>(Method::List, Duration::from_secs(5))
            .await
            .unwrap_err();
        assert_eq!(died.kind, ErrorKind::Plugin, "{died}");

        let directory = host(1, |_, _| true);
        let link = connect(&directory).await.unwrap();
        let late = link
            .call::<Value>(Method::List, Duration::from_millis(30))
            .await
            .unwrap_err();
        assert_eq!(late.kind, ErrorKind::Timeout, "{late}");
        assert!(link.lock().is_empty(), "a call given up is forgotten");
    }

    /// What it has not read fills the socket's buffer at last, and then core's own queue.
    #[tokio::test]
    async fn a_host_that_reads_nothing_for_long_is_given_up_as_soon() {
        let directory = host(1, |_, _| {
            loop {
                std::thread::park();
            }
        });
        let link = connect(&directory).await.unwrap();
        for call in 0..500 {
            let limit = Duration::from_millis(1);
            let late = link.call::<Value>(Method::List, limit);
            let late = timeout(Duration::from_secs(20), late).await;
            let late = late.unwrap_or_else(|_| panic!("call {call} has no end"));
            assert_eq!(late.unwrap_err().kind, ErrorKind::Timeout);
        }
        assert!(link.lock().is_empty());
    }

    #[tokio::test]
    async fn a_watched_call_tells_how_far_it_is_and_is_taken_back_when_it_is_dropped() {
        let (told, heard) = std::sync::mpsc::channel();
        let directory = host(1, move |stream, message| {
            match message {
                ToPlugin::Call { id, .. } => {
                    let progress = FromPlugin::Progress {
                        id,
                        message: "half".into(),
                        share: Some(0.5),
                    };
                    frame::write(stream, &progress).unwrap();
                }
                ToPlugin::Cancel { id } => told.send(id).unwrap(),
                ToPlugin::Hello { .. } => {}
            }
            true
        });
        let link = connect(&directory).await.unwrap();
        let (sender, mut progress) = mpsc::unbounded_channel();
        let call = link.watched::<Value>(Method::List, Duration::from_secs(60), sender);
        tokio::select! {
            _ = call => panic!("nobody replies"),
            word = progress.recv() => {
                let half = Progress { message: "half".into(), share: Some(0.5) };
                assert_eq!(word, Some(half));
            }
        }
        let cancelled =
            tokio::task::spawn_blocking(move || heard.recv_timeout(Duration::from_secs(5)));
        assert_eq!(cancelled.await.unwrap(), Ok(1));
        assert!(link.lock().is_empty());
    }

    #[tokio::test]
    async fn a_host_that_floods_is_heard_in_measure_and_its_reply_still_comes() {
        const SAID: usize = 1_500;
        let directory = host(1, move |stream, message| {
            let ToPlugin::Call { id, .. } = message else {
                return true;
            };
            for n in 0..SAID {
                let log = FromPlugin::Log {
                    level: Level::Info,
                    message: format!("\x1b[2J{}", "x".repeat(100_000)),
                };
                // As many changes as lines; a line in ten is as long as it can be.
                let log = match n % 10 {
                    0 => log,
                    _ => FromPlugin::Log {
                        level: Level::Info,
                        message: n.to_string(),
                    },
                };
                frame::write(stream, &log).unwrap();
                frame::write(stream, &FromPlugin::Changed).unwrap();
            }
            let error = Error::invalid("e\x07".repeat(100_000));
            let reply = FromPlugin::Reply {
                id,
                outcome: Outcome::Error(error),
                fd: false,
            };
            frame::write(stream, &reply).unwrap();
            true
        });
        let heard = Arc::new(Mutex::new(Vec::new()));
        let events = Arc::clone(&heard);
        let link = Link::connect(
            &directory.path().join("s"),
            "c",
            Duration::from_secs(5),
            move |event| events.lock().unwrap().push(event),
        )
        .await
        .unwrap();
        let error = link
            .call::<Value>(Method::List, Duration::from_secs(120))
            .await
            .unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidArgument);
        assert!(error.message.len() < 20_000 && !error.message.contains('\x07'));

        let heard = heard.lock().unwrap();
        let lines: Vec<_> = heard
            .iter()
            .filter_map(|event| match event {
                LinkEvent::Line(_, line) => Some(line),
                _ => None,
            })
            .collect();
        let changes = heard.len() - lines.len();
        assert!(lines.len() < SAID, "{} lines", lines.len());
        assert!(changes < SAID, "{changes} changes");
        assert!(
            lines
                .iter()
                .all(|line| line.len() < 9_000 && !line.contains('\x1b'))
        );
        assert!(
            lines
                .iter()
                .any(|line| line.contains("dropped: it says more than"))
        );
    }

    #[tokio::test]
    async fn another_protocol_and_a_malformed_frame_are_refused() {
        let error = connect(&host(2, |_, _| true))
            .await
            .err()
            .unwrap()
            .to_string();
        assert!(
            error.contains("protocol 2") && error.contains("built for this version"),
            "{error}"
        );

        let directory = host(1, |stream, message| {
            if matches!(message, ToPlugin::Call { .. }) {
                io::Write::write_all(stream, b"\x05\0\0\0hello").unwrap();
            }
            true
        });
        let link = connect(&directory).await.unwrap();
        let error = link
            .call::<Value>(Method::List, Duration::from_secs(5))
            .await
            .unwrap_err();
        assert_eq!(error.kind, ErrorKind::Plugin, "{error}");
    }
}
