//! Making and deleting a volume's directory, and nothing else.
//!
//! Everything inside a share belongs to others and may change while we look at it. So each step is
//! made by descriptor, from the share's root downwards, without following links, without leaving
//! the mount.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::Path;

use lazarette_linux::mount::{Expected, MountError, MountRoot};
use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, ResolveFlags, openat2, unlinkat};
use rustix::io::Errno;

use crate::values::Subdirectory;
use crate::{Call, Created, Error, ErrorKind, Result};

/// Deeper trees are refused: each level holds a descriptor.
const DEEPEST: usize = 512;

const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

/// Makes `directory`, and those on the way to it, below `root`, which must be the root of a mount of
/// the type `fs_type`; one that is there is left as it is.
///
/// ```no_run
/// use lazarette_plugin::{Created, directory, values::Subdirectory};
///
/// let made = directory::make("/mnt/share".as_ref(), "nfs4", &Subdirectory::new("apps/one")?, 0o755)?;
/// println!("{}", if made == Created::Created { "new" } else { "there already" });
/// # Ok::<(), lazarette_plugin::Error>(())
/// ```
///
/// # Errors
/// `AlreadyExists` if a file has its place, and what the server refuses.
pub fn make(root: &Path, fs_type: &str, directory: &Subdirectory, mode: u32) -> Result<Created> {
    let what = format!("cannot make {directory}");
    let made = MountRoot::open(root, &Expected::types([fs_type]))
        .and_then(|root| root.create_directory(directory.as_str().as_ref(), mode, None));
    match made {
        Ok(true) => Ok(Created::Created),
        Ok(false) => Ok(Created::AlreadyExists),
        Err(MountError::System { source, .. }) => match Errno::from_io_error(&source) {
            Some(Errno::NOTDIR | Errno::EXIST) => Err(Error::new(ErrorKind::AlreadyExists, what)
                .cause("a file has its place")
                .remedy("move it away or choose another path")),
            Some(errno @ (Errno::ACCESS | Errno::PERM)) => {
                Err(Error::new(ErrorKind::PermissionDenied, what)
                    .cause(errno)
                    .remedy("the server does not let this host make it: make it there"))
            }
            Some(errno) => Err(explain(&what, errno)),
            None => Err(Error::internal(what).cause(source)),
        },
        Err(error) => Err(Error::internal(what).caused_by(&error)),
    }
}

/// Deletes `directory` below `root`, the root of a mount, with all that is in it. False if it was
/// not there. What is left after an error is deleted by the next try.
///
/// ```no_run
/// use lazarette_plugin::{Call, Removed, Result, directory, values::Subdirectory};
///
/// fn remove(call: &Call, name: &Subdirectory) -> Result<Removed> {
///     let there = directory::delete(call, "/mnt/share".as_ref(), name)?;
///     Ok(if there { Removed::Removed } else { Removed::AlreadyAbsent })
/// }
/// ```
///
/// # Errors
/// `Busy` if files in it are open or something is mounted in it; what the server refuses; those of
/// [`Call::check`].
pub fn delete(call: &Call, root: &Path, directory: &Subdirectory) -> Result<bool> {
    let what = format!("cannot delete {directory}");
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let no_links = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let root = openat2(CWD, root, flags, Mode::empty(), no_links).map_err(|e| explain(&what, e))?;
    let path = Path::new(directory.as_str());
    let (parent, name) = match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) if parent != Path::new("") => {
            match openat2(&root, parent, flags, Mode::empty(), BENEATH) {
                Ok(parent) => (parent, name),
                Err(Errno::NOENT) => return Ok(false),
                Err(errno) => return Err(explain(&what, errno)),
            }
        }
        (_, Some(name)) => (root, name),
        _ => return Err(Error::internal(what).cause("it is the share itself")),
    };
    let name = CString::new(std::os::unix::ffi::OsStrExt::as_bytes(name))
        .map_err(|e| Error::internal(what.clone()).cause(e))?;
    match open(&parent, &name) {
        Ok(top) => delete_tree(call, parent, name, top, &what).map(|()| true),
        Err(Errno::NOENT) => Ok(false),
        Err(Errno::NOTDIR) => Err(Error::new(ErrorKind::AlreadyExists, what)
            .cause("it is no directory, so it is not this volume's")
            .remedy("move it away, or remove the volume with on_remove: keep")),
        Err(errno) => Err(explain(&what, errno)),
    }
}

/// A directory on the way down: where it is, and what of it is still to be read.
struct Level {
    parent: OwnedFd,
    name: CString,
    entries: Dir,
}

fn delete_tree(
    call: &Call,
    parent: OwnedFd,
    name: CString,
    top: OwnedFd,
    what: &str,
) -> Result<()> {
    let level = |parent, name, fd: OwnedFd| -> Result<Level> {
        let entries = Dir::new(fd).map_err(|e| explain(what, e))?;
        Ok(Level {
            parent,
            name,
            entries,
        })
    };
    let mut levels = vec![level(parent, name, top)?];
    while let Some(current) = levels.last_mut() {
        call.check()?;
        let Some(entry) = current.entries.read() else {
            let Some(done) = levels.pop() else {
                break;
            };
            remove(&done.parent, &done.name, AtFlags::REMOVEDIR).map_err(|e| explain(what, e))?;
            continue;
        };
        let entry = entry.map_err(|e| explain(what, e))?;
        let name = entry.file_name();
        if name.to_bytes() == b"." || name.to_bytes() == b".." {
            continue;
        }
        let directory = current.entries.fd().map_err(|e| explain(what, e))?;
        match remove(&directory, name, AtFlags::empty()) {
            Ok(()) => continue,
            // Linux says EISDIR, others EPERM, for a directory.
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(errno) => return Err(explain(what, errno)),
        }
        let child = open(&directory, name).map_err(|e| explain(what, e))?;
        let parent = rustix::io::fcntl_dupfd_cloexec(directory, 0).map_err(|e| explain(what, e))?;
        let name = name.to_owned();
        if levels.len() >= DEEPEST {
            return Err(Error::new(ErrorKind::NoSpace, what)
                .cause(format!("its directories are more than {DEEPEST} deep"))
                .remedy("delete it on the server"));
        }
        levels.push(level(parent, name, child)?);
    }
    Ok(())
}

fn open(parent: &impl std::os::fd::AsFd, name: &std::ffi::CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat2(parent, name, flags, Mode::empty(), BENEATH) {
        Err(Errno::LOOP) => Err(Errno::NOTDIR),
        other => other,
    }
}

fn remove(
    parent: &impl std::os::fd::AsFd,
    name: &std::ffi::CStr,
    flags: AtFlags,
) -> Result<(), Errno> {
    match unlinkat(parent, name, flags) {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

fn explain(what: &str, errno: Errno) -> Error {
    let error = |kind, remedy: &str| Error::new(kind, what).cause(errno).remedy(remedy);
    match errno {
        Errno::BUSY | Errno::XDEV => error(
            ErrorKind::Busy,
            "something is mounted in it on the server or here: unmount that first",
        ),
        Errno::NOTEMPTY => error(
            ErrorKind::Busy,
            "files in it are open or just being made: stop what uses them; it is tried again",
        ),
        Errno::ACCESS | Errno::PERM => error(
            ErrorKind::PermissionDenied,
            "the server does not let this host's root delete it (root_squash?): delete it there",
        ),
        Errno::STALE => error(ErrorKind::Stale, "it is tried again by itself"),
        Errno::ROFS => error(
            ErrorKind::PermissionDenied,
            "the share is read-only: delete it on the server",
        ),
        _ => error(ErrorKind::Internal, "it is tried again by itself"),
    }
}

#[cfg(test)]
#[path = "directory_tests.rs"]
mod tests;
