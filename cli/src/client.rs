//! One request to core, within a time limit.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use lazarette_core::control::{Request, Response};
use lazarette_core::frame;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::failure::Failure;

/// Time limits unless the operator gives one.
const TO_LOOK: Duration = Duration::from_secs(10);
const TO_CHANGE: Duration = Duration::from_secs(180);
/// For an image that comes over a network or takes the place of another.
const TO_INSTALL: Duration = Duration::from_secs(600);
/// How much of an archive is sent at once.
const CHUNK: usize = 256 * 1024;

/// Where core is, and how long to wait for it.
pub(crate) struct Client {
    socket: PathBuf,
    limit: Option<Duration>,
}

impl Client {
    pub(crate) fn new(socket: PathBuf, seconds: Option<u32>) -> Self {
        Self {
            socket,
            limit: seconds.map(|seconds| Duration::from_secs(seconds.into())),
        }
    }

    /// Asks, and gives the value of the answer. Words of progress go to `progress`.
    ///
    /// # Errors
    /// Core's own, and those of reaching it.
    pub(crate) fn ask<T: DeserializeOwned>(
        &self,
        request: &Request,
        progress: &mut dyn FnMut(Value) -> Result<(), Failure>,
    ) -> Result<T, Failure> {
        let limit = self.limit.unwrap_or(match request {
            Request::Status
            | Request::VolumeInspect { .. }
            | Request::ConfigCheck { .. }
            | Request::ConfigSchema
            | Request::Kinds
            | Request::Plugins
            | Request::Logs { .. } => TO_LOOK,
            Request::PluginInstall(_) => TO_INSTALL,
            _ => TO_CHANGE,
        });
        // An action takes as long as it takes (one may copy a pool), unless the operator says more.
        let endless = match request {
            Request::Logs { follow, .. } => *follow,
            Request::Act { .. } => self.limit.is_none(),
            _ => false,
        };
        let mut stream = self.send(request, limit)?;
        if endless {
            stream.deadline = None;
        }
        self.answer(&mut stream, limit, progress)
    }

    /// Asks with an archive behind the request, in frames of bytes.
    ///
    /// # Errors
    /// Those of [`ask`](Self::ask), and of reading the archive.
    pub(crate) fn upload<T: DeserializeOwned>(
        &self,
        request: &Request,
        archive: &mut dyn Read,
    ) -> Result<T, Failure> {
        let limit = self.limit.unwrap_or(TO_INSTALL);
        let mut stream = self.send(request, limit)?;
        let mut chunk = vec![0; CHUNK];
        loop {
            let read = archive.read(&mut chunk).map_err(|source| Failure::File {
                verb: "read",
                path: "the archive".into(),
                source,
            })?;
            let header = u32::try_from(read).unwrap_or(u32::MAX).to_le_bytes();
            let sent = stream.write_all(&header);
            sent.and_then(|()| stream.write_all(&chunk[..read]))
                .map_err(|error| self.broken(error, limit))?;
            if read == 0 {
                return self.answer(&mut stream, limit, &mut |_| Ok(()));
            }
        }
    }

    fn send(&self, request: &Request, limit: Duration) -> Result<Limited, Failure> {
        let frame = frame::encode(request).map_err(Failure::TooLarge)?;
        let deadline = Instant::now() + limit;
        let stream = self.connect(limit)?;
        let mut stream = Limited {
            stream,
            deadline: Some(deadline),
        };
        stream
            .write_all(&frame)
            .map_err(|error| self.broken(error, limit))?;
        Ok(stream)
    }

    fn answer<T: DeserializeOwned>(
        &self,
        mut stream: &mut Limited,
        limit: Duration,
        progress: &mut dyn FnMut(Value) -> Result<(), Failure>,
    ) -> Result<T, Failure> {
        loop {
            let response = frame::read::<Response>(&mut stream)
                .map_err(|error| self.broken(error, limit))?
                .ok_or_else(|| Failure::Lost {
                    socket: self.socket.clone(),
                    source: None,
                })?;
            match response {
                Response::Item(item) => progress(item)?,
                Response::Failed(error) => return Err(Failure::Core(error)),
                Response::Done(value) => {
                    return serde_json::from_value(value).map_err(|error| Failure::Garbled {
                        socket: self.socket.clone(),
                        source: error.into(),
                    });
                }
            }
        }
    }

    /// Asks for a value that comes without progress worth showing.
    ///
    /// # Errors
    /// Those of [`ask`](Self::ask).
    pub(crate) fn get<T: DeserializeOwned>(&self, request: &Request) -> Result<T, Failure> {
        self.ask(request, &mut |_| Ok(()))
    }

    /// Connects in a thread of its own: a connect to a listener that accepts nobody blocks.
    fn connect(&self, limit: Duration) -> Result<UnixStream, Failure> {
        let (sender, receiver) = mpsc::channel();
        let socket = self.socket.clone();
        std::thread::spawn(move || {
            // Nobody is left to tell after the time limit.
            let _ = sender.send(UnixStream::connect(socket));
        });
        match receiver.recv_timeout(limit) {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(source)) => Err(Failure::Unreachable {
                socket: self.socket.clone(),
                source,
            }),
            Err(_) => Err(self.timed_out(limit)),
        }
    }

    fn broken(&self, source: io::Error, limit: Duration) -> Failure {
        let socket = self.socket.clone();
        match source.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => self.timed_out(limit),
            io::ErrorKind::InvalidData => Failure::Garbled { socket, source },
            _ => Failure::Lost {
                socket,
                source: Some(source),
            },
        }
    }

    fn timed_out(&self, limit: Duration) -> Failure {
        Failure::TimedOut {
            socket: self.socket.clone(),
            seconds: limit.as_secs(),
        }
    }
}

/// A stream whose reads and writes all end at one moment, however slowly the bytes trickle.
struct Limited {
    stream: UnixStream,
    deadline: Option<Instant>,
}

impl Limited {
    fn left(&self) -> io::Result<Option<Duration>> {
        let Some(deadline) = self.deadline else {
            return Ok(None);
        };
        match deadline.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(io::ErrorKind::TimedOut.into()),
            left => Ok(Some(left)),
        }
    }
}

impl Read for Limited {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        self.stream.read(buffer)
    }
}

impl Write for Limited {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        self.stream.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
