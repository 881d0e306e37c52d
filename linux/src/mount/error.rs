//! What can go wrong with a mount.

use std::io;
use std::path::{Path, PathBuf};

use crate::namespace::NamespaceError;

/// A mount that could not be cloned, placed, replaced or taken away.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MountError {
    /// The kernel refused.
    #[error("{path:?}: {action} failed{hint}")]
    System {
        /// What it was about.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What to do about it; begins with `; ` unless empty.
        hint: &'static str,
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
    /// Nothing is mounted where a mount should be.
    #[error("{0:?} is a plain directory, nothing is mounted there; the mount before has failed")]
    NotMounted(PathBuf),
    /// Another file system is mounted there than expected.
    #[error("{path:?} is a file system of type {found}, expected {expected}; the mount is refused")]
    WrongFileSystem {
        /// What it was about.
        path: PathBuf,
        /// The accepted types.
        expected: String,
        /// The type found.
        found: String,
    },
    /// Another part of the file system came than was asked for.
    #[error(
        "{path:?} shows {found:?} of its file system, expected {expected:?}; the mount is refused"
    )]
    WrongRoot {
        /// What it was about.
        path: PathBuf,
        /// The sub-directory asked for.
        expected: PathBuf,
        /// The directory found.
        found: PathBuf,
    },
    /// Something else is mounted at the target already.
    #[error("{target:?} is taken by {by}; detach that first")]
    Occupied {
        /// The target.
        target: PathBuf,
        /// File system type and source of what is there.
        by: String,
    },
    /// A path that leads elsewhere than it says, or nowhere.
    #[error("{path:?} is refused: {reason}")]
    BadPath {
        /// The path.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Processes use it.
    #[error("{0:?} is in use; stop what uses it, or detach it lazily")]
    Busy(PathBuf),
    /// It hangs in the kernel: its server does not answer.
    #[error(
        "{target:?} could not be unmounted within its time limit, because its server does not answer; detach it lazily, or bring the server back"
    )]
    Stuck {
        /// The target.
        target: PathBuf,
    },
    /// The namespace could not be entered.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
}

/// A closure that wraps the kernel's reason.
pub(crate) fn system<E: Into<io::Error>>(
    path: &Path,
    action: &'static str,
) -> impl FnOnce(E) -> MountError {
    let path = path.to_owned();
    move |error| {
        let source = error.into();
        let hint = match source.raw_os_error() {
            Some(libc::EPERM) => "; this needs CAP_SYS_ADMIN",
            Some(libc::ENOSYS) => {
                "; this needs Linux 5.12 or later, and a seccomp filter that allows it"
            }
            Some(libc::ELOOP) => "; a symbolic link is in the way",
            Some(libc::ENOTCONN) => "; the file system's process has died",
            Some(libc::ESTALE) => "; the server no longer knows this export",
            _ => "",
        };
        MountError::System {
            path,
            action,
            hint,
            source,
        }
    }
}
