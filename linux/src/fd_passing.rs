//! Bytes and at most one file descriptor over a Unix stream socket (`SCM_RIGHTS`).
//!
//! A mount travels as a descriptor beside the reply that describes it. Received descriptors are
//! close-on-exec from the start. Anything but one descriptor, or control data that did not fit, is an
//! error: whoever sends that is not our plugin host.
//!
//! [`send`] and [`receive`] block; [`try_send`] and [`try_receive`] make one system call each and
//! suit a non-blocking socket (`WouldBlock` as usual).

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// Who is at the other end of a socket, as of when it connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credentials {
    /// Process ID, as seen in our PID namespace; 0 if it has none there.
    pub pid: i32,
    /// Effective user ID.
    pub uid: u32,
    /// Effective group ID.
    pub gid: u32,
}

/// The credentials of the process that connected (or, at the client's end, that listens).
///
/// # Errors
/// When `socket` is not a connected Unix socket.
pub fn peer_credentials(socket: &impl AsFd) -> io::Result<Credentials> {
    let peer = crate::syscall::peer_credentials(socket.as_fd())?;
    Ok(Credentials {
        pid: peer.pid,
        uid: peer.uid,
        gid: peer.gid,
    })
}

/// Sends all of `bytes`, and `fd` with the first of them.
///
/// # Errors
/// Those of `sendmsg(2)`; `InvalidInput` when there are no bytes to carry the descriptor.
pub fn send(socket: &UnixStream, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let mut sent = 0;
    let mut fd = fd;
    while sent < bytes.len() || (fd.is_some() && bytes.is_empty()) {
        match try_send(socket, &bytes[sent..], fd) {
            Ok(count) => {
                sent += count;
                fd = None;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Fills `buffer`, and returns the descriptor that came with its bytes, if any.
///
/// # Errors
/// `UnexpectedEof` when the peer closed before `buffer` was full; `InvalidData` when more than one
/// descriptor came, or other control data; those of `recvmsg(2)`.
pub fn receive(socket: &UnixStream, buffer: &mut [u8]) -> io::Result<Option<OwnedFd>> {
    let mut filled = 0;
    let mut received = None;
    while filled < buffer.len() {
        match try_receive(socket, &mut buffer[filled..]) {
            Ok((0, _)) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok((count, fd)) => {
                filled += count;
                if fd.is_some() && received.is_some() {
                    return Err(invalid("more than one file descriptor in a message"));
                }
                received = received.or(fd);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(received)
}

/// One `sendmsg(2)`: returns how many of `bytes` were sent; `fd` went with them.
///
/// # Errors
/// Those of `sendmsg(2)`, `WouldBlock` among them; `InvalidInput` for a descriptor without bytes.
pub fn try_send(socket: &impl AsFd, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> io::Result<usize> {
    if bytes.is_empty() && fd.is_some() {
        return Err(io::Error::new(
            ErrorKind::InvalidInput,
            "a file descriptor needs at least one byte to travel with",
        ));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = fd.as_slice();
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(invalid("no room for a file descriptor"));
    }
    let sent = sendmsg(
        socket,
        &[IoSlice::new(bytes)],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    Ok(sent)
}

/// One `recvmsg(2)`: returns how many bytes came (0: the peer closed) and the descriptor with them.
///
/// # Errors
/// Those of `recvmsg(2)`, `WouldBlock` among them; `InvalidData` as for [`receive`].
pub fn try_receive(socket: &impl AsFd, buffer: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    // Room for two, so that a second one is seen and closed rather than cut off.
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = recvmsg(
        socket,
        &mut [IoSliceMut::new(buffer)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )
    .map_err(|error| match error {
        // The peer died with our unread bytes in its queue: for us it is simply gone.
        Errno::CONNRESET => io::Error::from(ErrorKind::UnexpectedEof),
        other => other.into(),
    })?;
    let mut fds = Vec::new();
    for item in control.drain() {
        match item {
            RecvAncillaryMessage::ScmRights(rights) => fds.extend(rights),
            _ => return Err(invalid("unexpected control data")),
        }
    }
    if message.flags.contains(ReturnFlags::CTRUNC) || fds.len() > 1 {
        return Err(invalid("more than one file descriptor in a message"));
    }
    Ok((message.bytes, fds.pop()))
}

fn invalid(reason: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn a_file_arrives_readable_and_close_on_exec() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"stores").unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        send(&ours, b"hello", Some(file.as_fd())).unwrap();
        let mut buffer = [0; 5];
        let fd = receive(&theirs, &mut buffer).unwrap().unwrap();
        assert_eq!(&buffer, b"hello");
        let flags = rustix::io::fcntl_getfd(&fd).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        let mut text = String::new();
        std::fs::File::from(fd).read_to_string(&mut text).unwrap();
        assert_eq!(text, "stores");
    }

    #[test]
    fn large_messages_are_sent_and_received_whole() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
        let copy = bytes.clone();
        let fd = tempfile::tempfile().unwrap();
        let sender = std::thread::spawn(move || send(&ours, &copy, Some(fd.as_fd())));
        let mut buffer = vec![0; bytes.len()];
        assert!(receive(&theirs, &mut buffer).unwrap().is_some());
        sender.join().unwrap().unwrap();
        assert!(buffer == bytes);
    }

    #[test]
    fn several_descriptors_are_refused_and_closed() {
        for count in [2, 3, 20] {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let (reader, writer) = std::io::pipe().unwrap();
            let fds = vec![writer.as_fd(); count];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(20))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
            sendmsg(
                &ours,
                &[IoSlice::new(b"x")],
                &mut control,
                SendFlags::empty(),
            )
            .unwrap();
            let error = receive(&theirs, &mut [0]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidData, "{count} descriptors");
            drop(writer);
            // End of file shows that no copy of the writing end stayed open here.
            let mut reader = reader;
            assert_eq!(reader.read(&mut [0]).unwrap(), 0, "{count} descriptors");
        }
    }

    #[test]
    fn a_closed_peer_is_an_unexpected_end() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (&ours).write_all(b"ab").unwrap();
        drop(ours);
        let error = receive(&theirs, &mut [0; 3]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_descriptor_needs_a_byte() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let fd = tempfile::tempfile().unwrap();
        let error = send(&ours, b"", Some(fd.as_fd())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }

    #[test]
    fn the_peer_of_a_pair_is_this_process() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let peer = peer_credentials(&ours).unwrap();
        assert_eq!(peer.pid, i32::try_from(std::process::id()).unwrap());
        assert_eq!(peer.uid, rustix::process::geteuid().as_raw());
    }
}
