//! The connection to core: one at a time, written to by every thread.

use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lazarette_core::Error;
use lazarette_core::context::Level;
use lazarette_core::frame;
use lazarette_core::message::{FromPlugin, Outcome};
use lazarette_linux::fd_passing;
use lazarette_linux::mount::DetachedMount;

/// A core that does not read for so long is gone.
const WRITE_LIMIT: Duration = Duration::from_secs(5);

/// A connection's number: they are counted from 1.
pub(crate) type Connection = u64;

/// Where replies, progress and log lines go.
#[derive(Default)]
pub(crate) struct Link {
    current: Mutex<Current>,
}

#[derive(Default)]
struct Current {
    connection: Connection,
    /// The minor version of the protocol that core said it speaks.
    minor: u16,
    stream: Option<UnixStream>,
}

impl Link {
    /// Makes `stream` the connection, in place of the one before, and says `hello` on it; the peer
    /// speaks the protocol's minor version `minor`.
    pub(crate) fn replace(
        &self,
        stream: UnixStream,
        minor: u16,
        hello: &FromPlugin,
    ) -> std::io::Result<Connection> {
        stream.set_write_timeout(Some(WRITE_LIMIT))?;
        let mut current = self.lock();
        if let Some(old) = current.stream.take() {
            log(
                Level::Info,
                "core connected anew; the old connection is closed",
            );
            let _ = old.shutdown(Shutdown::Both);
        }
        current.connection += 1;
        current.minor = minor;
        current.stream = Some(stream);
        // Before any other thread can write: hello is the first message.
        let connection = current.connection;
        write(&mut current, connection, hello, None);
        Ok(connection)
    }

    /// Forgets `connection` if it is still the current one.
    pub(crate) fn close(&self, connection: Connection) {
        let mut current = self.lock();
        if current.connection == connection
            && let Some(stream) = current.stream.take()
        {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Sends `message` on `connection`, or nowhere if that is gone.
    pub(crate) fn send(&self, connection: Connection, message: &FromPlugin) {
        self.send_with(connection, message, None);
    }

    /// Sends the end of the call `id`, with `mount` if it made one.
    pub(crate) fn reply(
        &self,
        connection: Connection,
        id: u64,
        outcome: Outcome,
        mount: Option<&DetachedMount>,
    ) {
        let reply = FromPlugin::Reply {
            id,
            outcome,
            fd: mount.is_some(),
        };
        self.send_with(connection, &reply, mount);
    }

    /// Writes a line to the container's log and to core.
    pub(crate) fn log(&self, level: Level, message: &str) {
        log(level, message);
        let message = message.to_owned();
        self.tell(&FromPlugin::Log { level, message });
    }

    /// Sends `message`, which belongs to no call, to whoever is connected.
    pub(crate) fn tell(&self, message: &FromPlugin) {
        let mut current = self.lock();
        let connection = current.connection;
        write(&mut current, connection, message, None);
    }

    fn send_with(
        &self,
        connection: Connection,
        message: &FromPlugin,
        mount: Option<&DetachedMount>,
    ) {
        write(&mut self.lock(), connection, message, mount);
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write(
    current: &mut Current,
    connection: Connection,
    message: &FromPlugin,
    mount: Option<&DetachedMount>,
) {
    let Some(stream) = current.stream.as_ref() else {
        return;
    };
    if current.connection != connection || message.since() > current.minor {
        return;
    }
    let sent = match frame::encode(message) {
        Ok(frame) => fd_passing::send(stream, &frame, mount.map(AsFd::as_fd)),
        Err(error) => match too_large(message, &error) {
            Some(frame) => fd_passing::send(stream, &frame, None),
            None => return,
        },
    };
    if let Err(error) = sent {
        log(
            Level::Warn,
            &format!("core cannot be written to ({error}); the connection is closed"),
        );
        let _ = stream.shutdown(Shutdown::Both);
        current.stream = None;
    }
}

/// The reply instead of one that does not fit into a frame.
fn too_large(message: &FromPlugin, error: &std::io::Error) -> Option<Vec<u8>> {
    let FromPlugin::Reply { id, .. } = message else {
        return None;
    };
    let outcome = Outcome::Error(Error::internal("the reply cannot be sent").cause(error));
    let (id, fd) = (*id, false);
    frame::encode(&FromPlugin::Reply { id, outcome, fd }).ok()
}

/// Writes a line to standard error: the container's log.
pub(crate) fn log(level: Level, message: &str) {
    let level = match level {
        Level::Error => "error",
        Level::Warn => "warning",
        Level::Info => "info",
        Level::Debug => "debug",
    };
    // One write per line, and no panic if nobody reads.
    let line: String = message
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let _ = std::io::Write::write_all(
        &mut std::io::stderr(),
        format!("{level}: {line}\n").as_bytes(),
    );
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn hello_comes_first_however_much_is_logged() {
        let link = Link::default();
        let end = AtomicBool::new(false);
        // Whatever message is first; this one needs no manifest.
        let hello = FromPlugin::Log {
            level: Level::Info,
            message: "hello".into(),
        };
        let line = FromPlugin::Log {
            level: Level::Info,
            message: "a line".into(),
        };
        thread::scope(|scope| {
            scope.spawn(|| {
                while !end.load(Ordering::Relaxed) {
                    link.tell(&line);
                }
            });
            let firsts: Vec<_> = (0..300)
                .map(|_| {
                    let (ours, mut theirs) = UnixStream::pair().unwrap();
                    let connection = link.replace(ours, 0, &hello).unwrap();
                    let first = frame::read::<FromPlugin>(&mut theirs).unwrap();
                    link.close(connection);
                    first
                })
                .collect();
            end.store(true, Ordering::Relaxed);
            assert!(firsts.iter().all(|first| first.as_ref() == Some(&hello)));
        });
    }
}
