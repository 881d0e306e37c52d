//! The tmpfs below which mounts are placed: read-only for everybody in the view, writable for us.

use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, unlinkat};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};

use super::{Attachment, Session, View, find_ours, mount_tmpfs};
use crate::beneath;
use crate::mount::{DetachedMount, Expected, MountError, MountOptions, system};
use crate::syscall::{self, MountAttributes};

/// Whether mounts below a target root show up in what was bound from it with `rslave` before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// No.
    Private,
    /// Yes: containers with `-v /mnt:/mnt:rslave` see later mounts. Each mount itself stays private.
    Shared,
}

/// What becomes of a directory on which there is no target root yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// One is mounted on it.
    Make,
    /// One is mounted on it if it is empty, so that nothing is covered.
    MakeOnEmpty,
    /// It stays as it is.
    Leave,
}

/// What preparing a directory came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prepared {
    /// It was made.
    Created,
    /// It was there.
    AlreadyThere,
}

/// A tmpfs of ours in the view.
#[derive(Debug, Clone)]
pub struct TargetRoot {
    inner: Arc<Inner>,
}

struct Inner {
    view: View,
    path: PathBuf,
    sharing: Sharing,
    /// The root of the read-only mount in the view.
    root: OwnedFd,
    /// A detached clone of that mount which is writable: nobody else has a way to it.
    writable: OwnedFd,
}

impl TargetRoot {
    pub(super) fn open(
        view: &View,
        path: &Path,
        sharing: Sharing,
        missing: Missing,
    ) -> Result<Option<Self>, MountError> {
        let target = path.to_owned();
        let opened = view.run(move |session| open_here(session, &target, sharing, missing))?;
        Ok(opened.map(|(root, writable)| Self {
            inner: Arc::new(Inner {
                view: view.clone(),
                path: path.to_owned(),
                sharing,
                root,
                writable,
            }),
        }))
    }

    /// Where it is mounted in the view.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// The view that it is in.
    pub fn view(&self) -> &View {
        &self.inner.view
    }

    pub(super) fn is_shared(&self) -> bool {
        self.inner.sharing == Sharing::Shared
    }

    pub(super) fn fd(&self) -> &OwnedFd {
        &self.inner.root
    }

    /// Attaches `mount` at `relative`, in the directory of that name, which is made if need be.
    ///
    /// The mount comes out nosuid, nodev and private, whatever it was, with `options` on top; its
    /// sub-mounts too. It is checked against `expected` before it becomes visible.
    ///
    /// # Errors
    /// [`MountError::WrongFileSystem`], [`MountError::WrongRoot`] when it is not as expected;
    /// [`MountError::Occupied`] when something else is mounted there; [`MountError::BadPath`];
    /// [`MountError::System`] when the kernel refuses, with `ELOOP`
    /// for a symbolic link in the way. Nothing is left behind then.
    pub fn attach(
        &self,
        relative: &Path,
        mount: DetachedMount,
        expected: &Expected,
        options: MountOptions,
    ) -> Result<Attachment, MountError> {
        let (root, relative) = (self.clone(), relative.to_owned());
        let expected = expected.clone();
        self.view()
            .run(move |session| session.attach(&root, &relative, mount, &expected, options))
    }

    /// Makes the directory `relative` and those on the way, mode 0755.
    ///
    /// [`TargetRoot::attach`] does this by itself.
    ///
    /// # Errors
    /// [`MountError::BadPath`] for anything but plain names; the errno of the kernel.
    pub fn prepare(&self, relative: &Path) -> Result<Prepared, MountError> {
        beneath::check_relative(relative)?;
        let made = beneath::create_directories(&self.inner.writable, relative, 0o755, None)
            .map_err(system(&self.path().join(relative), "making the target"))?;
        Ok(if made {
            Prepared::Created
        } else {
            Prepared::AlreadyThere
        })
    }

    /// Removes the directory `relative` and those above it that are empty then; no error if there is
    /// none. A directory that something is mounted on stays. Whether `relative` is gone.
    ///
    /// # Errors
    /// [`MountError::BadPath`]; [`MountError::Busy`] while something is mounted on or below it.
    pub fn remove(&self, relative: &Path) -> Result<bool, MountError> {
        let (root, relative) = (self.clone(), relative.to_owned());
        // In the view, because there the kernel refuses to remove a mount point; elsewhere it would
        // unmount what is on it.
        self.view().run(move |_| root.remove_here(&relative))
    }

    /// [`TargetRoot::remove`] for a thread in the view.
    pub(super) fn remove_here(&self, relative: &Path) -> Result<bool, MountError> {
        beneath::check_relative(relative)?;
        let path = self.path().join(relative);
        let mut next = Some(relative);
        let mut removed = false;
        while let Some(directory) = next.filter(|directory| !directory.as_os_str().is_empty()) {
            let result = beneath::open_parent(&self.inner.writable, directory)
                .and_then(|(parent, name)| unlinkat(parent, name, AtFlags::REMOVEDIR));
            match result {
                Ok(()) => removed = true,
                Err(Errno::NOENT) => {}
                // Above: others are using it.
                Err(Errno::NOTEMPTY | Errno::BUSY) if directory != relative => break,
                Err(Errno::NOTEMPTY | Errno::BUSY) => return Err(MountError::Busy(path)),
                Err(error) => return Err(system(&path, "removing the target")(error)),
            }
            next = directory.parent();
        }
        Ok(removed)
    }

    /// The directory `relative` on the mount in the view, for mounting on. `XDEV`: something is
    /// mounted there or on the way.
    pub(super) fn open_target(&self, relative: &Path) -> Result<OwnedFd, Errno> {
        beneath::open_directory(&self.inner.root, relative)
    }

    /// Whether something is mounted at `relative` or on the way to it, learnt without entering it.
    ///
    /// # Errors
    /// [`MountError::BadPath`]; the errno of the kernel.
    pub fn is_mounted(&self, relative: &Path) -> Result<bool, MountError> {
        beneath::check_relative(relative)?;
        match self.open_target(relative) {
            Err(Errno::XDEV) => Ok(true),
            Ok(_) | Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(system(&self.path().join(relative), "looking at the target")(error)),
        }
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TargetRoot")
            .field("path", &self.path)
            .field("sharing", &self.sharing)
            .finish_non_exhaustive()
    }
}

/// Finds the target root at `path`, or does with the directory what `missing` says, and opens it both
/// ways.
fn open_here(
    session: &Session,
    path: &Path,
    sharing: Sharing,
    missing: Missing,
) -> Result<Option<(OwnedFd, OwnedFd)>, MountError> {
    if find_ours(session.inside(), path)?.is_none() {
        match missing {
            Missing::Leave => return Ok(None),
            Missing::Make => {}
            Missing::MakeOnEmpty => refuse_to_cover(path)?,
        }
        mount_tmpfs(path, "0755", true)?;
    }
    // All of this is on our tmpfs: opening it asks no server.
    let root = beneath::open_absolute(path).map_err(system(path, "opening the target root"))?;
    let set = |fd: &OwnedFd, attributes, action| {
        syscall::mount_setattr(fd.as_fd(), c"", false, attributes).map_err(system(path, action))
    };
    let propagation = match sharing {
        Sharing::Private => libc::MS_PRIVATE,
        Sharing::Shared => libc::MS_SHARED,
    };
    let visible = MountAttributes {
        set: libc::MOUNT_ATTR_RDONLY
            | libc::MOUNT_ATTR_NOSUID
            | libc::MOUNT_ATTR_NODEV
            | libc::MOUNT_ATTR_NOEXEC,
        clear: 0,
        propagation,
    };
    set(&root, visible, "making the target root read-only")?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    let writable = open_tree(&root, "", flags).map_err(system(path, "cloning the target root"))?;
    let ours = MountAttributes {
        set: 0,
        clear: libc::MOUNT_ATTR_RDONLY,
        propagation: libc::MS_PRIVATE,
    };
    set(
        &writable,
        ours,
        "making our clone of the target root writable",
    )?;
    Ok(Some((root, writable)))
}

/// A directory that is not there covers nothing.
fn refuse_to_cover(path: &Path) -> Result<(), MountError> {
    let read = system(path, "reading the directory");
    match fs::read_dir(path).map(|mut entries| entries.next().transpose()) {
        Ok(Ok(None)) => Ok(()),
        Ok(Ok(Some(_))) => Err(MountError::BadPath {
            path: path.to_owned(),
            reason: "it is not empty, and volumes mounted there would cover what it holds",
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(Err(error)) | Err(error) => Err(read(error)),
    }
}
