//! Mounts that are attached nowhere, and the checked roots that they are cloned from.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::mount::{OpenTreeFlags, open_tree};

use super::{Expected, Lookup, MountError, MountFacts, facts_of_path_fd, system};
use crate::beneath;
use crate::mountinfo::MountTable;

/// A mount, with its sub-mounts, that is attached nowhere: a descriptor that can be passed to another
/// process. Dropping it drops the mount.
#[derive(Debug)]
pub struct DetachedMount(OwnedFd);

impl DetachedMount {
    /// Takes a descriptor that a plugin host has sent. It is checked when it is attached.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// The descriptor.
    pub fn into_fd(self) -> OwnedFd {
        self.0
    }

    /// Clones what `directory` (an `O_PATH` descriptor will do) and everything mounted below it show.
    ///
    /// This does not check that `directory` is the root of a mount; see [`MountRoot`].
    ///
    /// # Errors
    /// The errno of `open_tree(2)`: `EPERM` without `CAP_SYS_ADMIN`, `EINVAL` when the mount is
    /// unbindable or in another namespace.
    pub fn clone_tree(directory: &impl AsFd) -> std::io::Result<Self> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_RECURSIVE
            | OpenTreeFlags::AT_EMPTY_PATH;
        Ok(Self(open_tree(directory, "", flags)?))
    }
}

impl AsFd for DetachedMount {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A directory that was found to be the root of a mount of an expected file system type. Everything
/// is done by the same descriptor, so what was checked is what is cloned.
#[derive(Debug)]
pub struct MountRoot {
    fd: OwnedFd,
    path: PathBuf,
    facts: MountFacts,
}

impl MountRoot {
    /// Opens the mount at `path`, an absolute path without symbolic links, in the namespace of this
    /// thread.
    ///
    /// # Errors
    /// [`MountError::NotMounted`] when `path` is a plain directory, [`MountError::WrongFileSystem`]
    /// when something else is mounted there.
    pub fn open(path: &Path, expected: &Expected) -> Result<Self, MountError> {
        Self::open_by(path, expected, Lookup::Auto)
    }

    /// [`MountRoot::open`] with a chosen way to look the mount up.
    ///
    /// # Errors
    /// As [`MountRoot::open`].
    pub fn open_by(path: &Path, expected: &Expected, lookup: Lookup) -> Result<Self, MountError> {
        let fd = beneath::open_absolute(path).map_err(system(path, "opening the mount"))?;
        let (facts, is_root) = facts_of_path_fd(&fd, lookup, MountTable::of_thread)
            .map_err(system(path, "looking up the mount"))?;
        if !is_root {
            return Err(MountError::NotMounted(path.to_owned()));
        }
        expected.check(path, &facts)?;
        Ok(Self {
            fd,
            path: path.to_owned(),
            facts,
        })
    }

    /// What is mounted here.
    pub fn facts(&self) -> &MountFacts {
        &self.facts
    }

    /// Clones the mount with everything below it.
    ///
    /// # Errors
    /// When the kernel refuses; see [`DetachedMount::clone_tree`].
    pub fn clone_tree(&self) -> Result<DetachedMount, MountError> {
        DetachedMount::clone_tree(&self.fd).map_err(system(&self.path, "cloning the mount"))
    }

    /// Clones a sub-directory, which must lie on this very mount and be reached without symbolic
    /// links. Asks the server.
    ///
    /// # Errors
    /// [`MountError::BadPath`] when `relative` is not a plain relative path;
    /// [`MountError::System`] with `ENOENT`, `ELOOP` (a link), `EXDEV` (another mount on the way).
    pub fn clone_subtree(&self, relative: &Path) -> Result<DetachedMount, MountError> {
        let path = self.checked(relative)?;
        let fd = beneath::open_directory(&self.fd, relative)
            .map_err(system(&path, "opening the sub-directory"))?;
        DetachedMount::clone_tree(&fd).map_err(system(&path, "cloning the sub-directory"))
    }

    /// Makes a sub-directory, and those on the way to it, with the permission bits `mode`
    /// (independent of the umask) and the owner, where given. True when it was made, false when it
    /// was there; what was there is left as it is. Asks the server.
    ///
    /// # Errors
    /// As [`MountRoot::clone_subtree`], and those of mkdir, chmod and chown.
    pub fn create_directory(
        &self,
        relative: &Path,
        mode: u32,
        owner: Option<(u32, u32)>,
    ) -> Result<bool, MountError> {
        let path = self.checked(relative)?;
        beneath::create_directories(&self.fd, relative, mode, owner)
            .map_err(system(&path, "making the sub-directory"))
    }

    fn checked(&self, relative: &Path) -> Result<PathBuf, MountError> {
        beneath::check_relative(relative)?;
        Ok(self.path.join(relative))
    }
}

/// The hand-off's first half in one call: the mount at `path`, checked and cloned.
///
/// # Errors
/// As [`MountRoot::open`] and [`MountRoot::clone_tree`].
pub fn clone_tree_verified(path: &Path, expected: &Expected) -> Result<DetachedMount, MountError> {
    MountRoot::open(path, expected)?.clone_tree()
}
