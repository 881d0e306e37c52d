//! Being told that a mount table has changed.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::MountTable;

/// Watches one mount table by `poll(2)`. A dying FUSE client or server is no change of the table.
///
/// For an event loop: [`AsFd`] gives a descriptor that becomes ready with `POLLPRI | POLLERR`.
#[derive(Debug)]
pub struct Watch {
    file: File,
}

impl Watch {
    /// Watches the table of process `pid`, for as long as it lives and stays in its namespace.
    ///
    /// # Errors
    /// When its table cannot be opened.
    pub fn of_pid(pid: i32) -> io::Result<Self> {
        File::open(format!("/proc/{pid}/mountinfo")).map(Self::new)
    }

    /// Watches an open `mountinfo` file; opened by a thread inside a mount namespace, it goes on
    /// showing that namespace.
    pub fn new(file: File) -> Self {
        Self { file }
    }

    /// Waits for a change since the last call (or since opening), for at most `limit`.
    ///
    /// # Errors
    /// Those of `poll(2)`.
    pub fn wait(&self, limit: Duration) -> io::Result<bool> {
        let timeout = Timespec::try_from(limit).map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut fds = [PollFd::new(&self.file, PollFlags::PRI)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// The table as it is now.
    ///
    /// # Errors
    /// As [`MountTable::read`].
    pub fn table(&self) -> io::Result<MountTable> {
        io::Seek::seek(&mut (&self.file), io::SeekFrom::Start(0))?;
        MountTable::read(&self.file)
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
