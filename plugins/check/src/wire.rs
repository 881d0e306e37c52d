//! Core's end of the wire, with a limit on every wait and an eye on the protocol.

use std::collections::{HashMap, HashSet};
use std::io::{ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use lazarette_core::frame;
use lazarette_core::message::{FromPlugin, Method, Outcome, ToPlugin, Version};
use lazarette_core::{Error, Manifest};
use lazarette_linux::fd_passing;
use serde_json::Value;

use crate::subject::Failed;

/// What a plugin says first.
#[derive(Debug, Clone)]
pub(crate) struct Greeting {
    pub(crate) protocol: Version,
    pub(crate) manifest: Manifest,
    pub(crate) instance: String,
    pub(crate) open: bool,
}

/// The end of a call.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) result: Result<Value, Error>,
    pub(crate) fd: Option<OwnedFd>,
}

/// A connection.
pub(crate) struct Wire {
    stream: UnixStream,
    last: u64,
    waiting: HashSet<u64>,
    early: HashMap<u64, Reply>,
    /// Log lines and reports of progress so far.
    pub(crate) chatter: usize,
}

impl Wire {
    /// Connects without a word.
    pub(crate) fn silent(socket: &Path) -> Result<Self, Failed> {
        let stream = UnixStream::connect(socket)
            .map_err(|e| Failed::new(format!("cannot connect to {}: {e}", socket.display())))?;
        stream.set_write_timeout(Some(Duration::from_secs(10)))?;
        Ok(Self {
            stream,
            last: 0,
            waiting: HashSet::new(),
            early: HashMap::new(),
            chatter: 0,
        })
    }

    /// Says hello as `protocol`, and hears the plugin's.
    pub(crate) fn hello(&mut self, protocol: Version, limit: Duration) -> Result<Greeting, Failed> {
        self.send(&ToPlugin::Hello {
            protocol,
            context: "check".into(),
        })?;
        match self.receive(Instant::now() + limit)? {
            Some((
                FromPlugin::Hello {
                    protocol,
                    manifest,
                    instance,
                    open,
                },
                None,
            )) => Ok(Greeting {
                protocol,
                manifest: *manifest,
                instance,
                open,
            }),
            Some(_) => Err(Failed::new("its first message is not hello")),
            None => Err(Failed::new(
                "it closed the connection instead of saying hello",
            )),
        }
    }

    pub(crate) fn send(&mut self, message: &ToPlugin) -> Result<(), Failed> {
        frame::write(&mut self.stream, message)
            .map_err(|e| Failed::new(format!("it does not take a message: {e}")))
    }

    /// Sends bytes that are no message. The plugin may close before it has read all.
    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// The next message; none at the end of the stream.
    fn receive(&mut self, end: Instant) -> Result<Option<(FromPlugin, Option<OwnedFd>)>, Failed> {
        let mut header = [0; frame::HEADER];
        let fd = match self.fill(&mut header, end) {
            Ok(fd) => fd,
            Err(e)
                if matches!(
                    e.kind(),
                    ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset
                ) =>
            {
                return Ok(None);
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Err(Failed::new("it does not answer in time"));
            }
            Err(e) => return Err(Failed::new(format!("the connection broke: {e}"))),
        };
        let length = frame::body_length(header)
            .map_err(|e| Failed::new(format!("it sends what is no frame: {e}")))?;
        let mut body = vec![0; length];
        let more = self
            .fill(&mut body, end)
            .map_err(|e| Failed::new(format!("a frame is not complete: {e}")))?;
        if more.is_some() {
            return Err(Failed::new(
                "a descriptor comes with another byte than the first of its frame",
            ));
        }
        let message = frame::decode(&body).map_err(|e| {
            let text: String = String::from_utf8_lossy(&body).chars().take(160).collect();
            Failed::new(format!("it sends what is no message: {e}: {text}"))
        })?;
        Ok(Some((message, fd)))
    }

    fn fill(&mut self, buffer: &mut [u8], end: Instant) -> std::io::Result<Option<OwnedFd>> {
        let left = end.saturating_duration_since(Instant::now());
        // Zero would mean without a limit.
        self.stream
            .set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        fd_passing::receive(&self.stream, buffer)
    }

    /// Starts a call.
    pub(crate) fn begin(&mut self, method: Method, deadline: Duration) -> Result<u64, Failed> {
        self.last += 1;
        self.send(&ToPlugin::Call {
            id: self.last,
            deadline_ms: u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX),
            method,
        })?;
        self.waiting.insert(self.last);
        Ok(self.last)
    }

    /// Waits for the end of the call `id`, keeping the ends of others.
    pub(crate) fn end(&mut self, id: u64, limit: Duration) -> Result<Reply, Failed> {
        let end = Instant::now() + limit;
        loop {
            if let Some(reply) = self.early.remove(&id) {
                return Ok(reply);
            }
            let Some((message, fd)) = self.receive(end)? else {
                return Err(Failed::new("it closed the connection instead of answering"));
            };
            self.take(message, fd)?;
        }
    }

    fn take(&mut self, message: FromPlugin, received: Option<OwnedFd>) -> Result<(), Failed> {
        match message {
            FromPlugin::Reply { id, outcome, fd } => {
                if !self.waiting.remove(&id) {
                    return Err(Failed::new(format!(
                        "it answers call {id}, which nobody waits for"
                    )));
                }
                if fd != received.is_some() {
                    return Err(Failed::new("`fd` of a reply is not what came with it"));
                }
                let result = match outcome {
                    Outcome::Ok(value) => Ok(value),
                    Outcome::Error(error) => Err(error),
                };
                let reply = Reply {
                    result,
                    fd: received,
                };
                self.early.insert(id, reply);
            }
            FromPlugin::Hello { .. } => return Err(Failed::new("it says hello twice")),
            FromPlugin::Progress { share, .. }
                if share.is_some_and(|share| !(0.0..=1.0).contains(&share)) =>
            {
                return Err(Failed::new("its progress is not between 0 and 1"));
            }
            _ if received.is_some() => {
                return Err(Failed::new("a descriptor comes with what is no reply"));
            }
            _ => self.chatter += 1,
        }
        Ok(())
    }

    /// Sends a frame that makes no sense as a call: it may answer an error, which is returned, or
    /// close the connection.
    pub(crate) fn nonsense(
        &mut self,
        frame: &[u8],
        limit: Duration,
    ) -> Result<Option<Error>, Failed> {
        self.send_bytes(frame);
        let end = Instant::now() + limit;
        loop {
            match self.receive(end)? {
                None => return Ok(None),
                Some((FromPlugin::Reply { outcome, .. }, _)) => {
                    return match outcome {
                        Outcome::Error(error) => Ok(Some(error)),
                        Outcome::Ok(value) => Err(Failed::new(format!(
                            "it answers {value} instead of an error"
                        ))),
                    };
                }
                Some(_) => {}
            }
        }
    }

    /// Whether the plugin closes the connection within `limit`, whatever it says before.
    pub(crate) fn is_closed(&mut self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        loop {
            match self.fill(&mut [0], end) {
                Ok(_) => {}
                Err(e) => {
                    return matches!(
                        e.kind(),
                        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset
                    );
                }
            }
        }
    }
}
