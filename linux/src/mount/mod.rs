//! Mounts as descriptors: cloned and checked where they were made, described without asking a server.
//!
//! A [`DetachedMount`] is a mount that is attached nowhere and travels as a file descriptor. It is
//! made from a [`MountRoot`], which is checked to be the root of a mount of the expected file system
//! type: after a failed mount, a plain directory of the container would otherwise be handed out.
//! Attaching it is the business of [`view`](crate::view) alone.
//!
//! [`MountFacts`] say what a mount is. On Linux 6.8 and later they come from `statmount(2)`, which
//! costs the same whatever the number of mounts; else from the mount table.

mod detached;
mod error;
mod facts;

pub use detached::{DetachedMount, MountRoot, clone_tree_verified};
pub use error::MountError;
pub(crate) use error::system;
pub use facts::{Expected, Lookup, MountFacts, MountId, statmount_works};
pub(crate) use facts::{facts_of, facts_of_path_fd};

use rustix::fd::AsFd;

use crate::syscall::{self, MountAttributes};

/// How a mount is placed. `nosuid` and `nodev` are always set and cannot be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MountOptions {
    /// Read-only, sub-mounts included.
    pub read_only: bool,
    /// No program on it can be executed.
    pub no_exec: bool,
}

impl MountOptions {
    fn attributes(self) -> u64 {
        let mut set = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
        if self.read_only {
            set |= libc::MOUNT_ATTR_RDONLY;
        }
        if self.no_exec {
            set |= libc::MOUNT_ATTR_NOEXEC;
        }
        set
    }
}

/// The one place where the attributes of a mount that will be seen by users are set: nosuid and
/// nodev, private propagation, and what `options` add; on all of its sub-mounts too.
pub(crate) fn constrain(mount: &impl AsFd, options: MountOptions) -> std::io::Result<()> {
    let attributes = MountAttributes {
        set: options.attributes(),
        clear: 0,
        propagation: libc::MS_PRIVATE,
    };
    syscall::mount_setattr(mount.as_fd(), c"", true, attributes)
}

/// Makes a mount and its sub-mounts private; placing it below a shared one has made it shared.
pub(crate) fn make_private(mount: &impl AsFd) -> std::io::Result<()> {
    let attributes = MountAttributes {
        propagation: libc::MS_PRIVATE,
        ..MountAttributes::default()
    };
    syscall::mount_setattr(mount.as_fd(), c"", true, attributes)
}
