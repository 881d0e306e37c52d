//! The receiving end of `NOTIFY_SOCKET` (sd_notify(3)): a program says `READY=1` and `STATUS=…`.

use std::fs;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use crate::error::Error;

/// The largest message that is read, in bytes.
const LARGEST: usize = 4096;
/// How much of a status is kept, in characters.
const STATUS: usize = 300;

/// What one message says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// `READY=1`.
    pub ready: bool,
    /// `STATUS=…`.
    pub status: Option<String>,
}

impl Message {
    /// Reads a message; lines that mean nothing to us are passed over.
    pub fn parse(bytes: &[u8]) -> Self {
        let mut message = Self::default();
        for line in String::from_utf8_lossy(bytes).lines() {
            match line.split_once('=') {
                Some(("READY", "1")) => message.ready = true,
                Some(("STATUS", text)) => {
                    message.status = Some(text.chars().take(STATUS).collect());
                }
                _ => {}
            }
        }
        message
    }
}

/// Makes the socket anew. Only root gets at it: its directory has mode 0700.
///
/// # Errors
/// When it cannot be bound.
pub fn bind(path: &Path) -> Result<UnixDatagram, Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Error::file("remove", path, error));
        }
        _ => {}
    }
    UnixDatagram::bind(path).map_err(|source| Error::file("listen on", path, source))
}

/// Waits for the next message.
///
/// # Errors
/// When the socket fails.
pub fn receive(socket: &UnixDatagram) -> io::Result<Message> {
    let mut buffer = [0; LARGEST];
    let length = socket.recv(&mut buffer)?;
    Ok(Message::parse(buffer.get(..length).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_and_status_are_read_and_the_rest_is_not() {
        let message = Message::parse(b"MAINPID=7\nSTATUS=waiting for nas: a=b\nREADY=1\n\xff");
        assert!(message.ready);
        assert_eq!(message.status.as_deref(), Some("waiting for nas: a=b"));
        assert_eq!(Message::parse(b"READY=0\nSTATUS"), Message::default());
    }

    #[test]
    fn a_stale_socket_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("core.notify");
        drop(bind(&path).unwrap());
        let socket = bind(&path).unwrap();
        let sender = UnixDatagram::unbound().unwrap();
        sender.send_to(b"READY=1", &path).unwrap();
        assert!(receive(&socket).unwrap().ready);
    }
}
