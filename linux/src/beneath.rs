//! Paths below a directory that nobody can lead astray: no symbolic links, no way out, no other mount.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, ResolveFlags, Uid, chownat, mkdirat, openat2};
use rustix::io::Errno;

use crate::mount::MountError;

/// How a directory below another is reached.
const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS);
const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Checks that `path` is made of plain names only: not empty, not absolute, no `.` or `..`, no NUL.
///
/// # Errors
/// [`MountError::BadPath`] that says what is wrong.
pub fn check_relative(path: &Path) -> Result<(), MountError> {
    let bad = |reason| {
        Err(MountError::BadPath {
            path: path.to_owned(),
            reason,
        })
    };
    let bytes = path.as_os_str().as_bytes();
    if bytes.is_empty() {
        return bad("it is empty");
    }
    if bytes.contains(&0) {
        return bad("it contains a NUL byte");
    }
    // On the bytes: `components` would quietly normalise `a//b`, `a/./b` and `a/`.
    for name in bytes.split(|byte| *byte == b'/') {
        match name {
            b"" => return bad("it is absolute or has an empty part"),
            b"." | b".." => return bad("it has a part '.' or '..'"),
            name if name.len() > 255 => return bad("a part of it is longer than 255 bytes"),
            _ => {}
        }
    }
    Ok(())
}

/// Opens the directory at the absolute `path` in the namespace of this thread, without following
/// symbolic links.
pub(crate) fn open_absolute(path: &Path) -> rustix::io::Result<OwnedFd> {
    if !path.is_absolute() {
        return Err(Errno::INVAL);
    }
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    retry(|| openat2(CWD, path, DIRECTORY, Mode::empty(), resolve))
}

/// Opens a directory below `root` on the same mount, as an `O_PATH` descriptor. `EXDEV`: a mount is
/// on the way or at the end.
pub(crate) fn open_directory(root: &impl AsFd, relative: &Path) -> rustix::io::Result<OwnedFd> {
    let resolve = BENEATH | ResolveFlags::NO_XDEV;
    retry(|| openat2(root, relative, DIRECTORY, Mode::empty(), resolve))
}

/// Like [`open_directory`], but enters a mount at the end. May ask that mount's server.
pub(crate) fn open_mounted(parent: &impl AsFd, name: &Path) -> rustix::io::Result<OwnedFd> {
    retry(|| openat2(parent, name, DIRECTORY, Mode::empty(), BENEATH))
}

/// The directory that holds the last part of `relative`, and that part. `relative` was checked.
pub(crate) fn open_parent<'a>(
    root: &impl AsFd,
    relative: &'a Path,
) -> rustix::io::Result<(OwnedFd, &'a Path)> {
    let name = relative.file_name().map(Path::new).ok_or(Errno::INVAL)?;
    let parent = relative.parent().filter(|parent| parent != &Path::new(""));
    let directory = open_directory(root, parent.unwrap_or(Path::new(".")))?;
    Ok((directory, name))
}

/// `BENEATH` look-ups fail with `EAGAIN` when anything is renamed meanwhile.
fn retry<T>(mut open: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    for _ in 0..128 {
        match open() {
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return result,
        }
    }
    Err(Errno::AGAIN)
}

/// Makes the directory `relative` below `root` and those on the way. Whether the last one was made.
pub(crate) fn create_directories(
    root: &impl AsFd,
    relative: &Path,
    mode: u32,
    owner: Option<(u32, u32)>,
) -> io::Result<bool> {
    let mut directory: Option<OwnedFd> = None;
    let mut created = false;
    for component in relative.components() {
        let Component::Normal(name) = component else {
            return Err(Errno::INVAL.into());
        };
        let name = Path::new(name);
        let (made, next) = match &directory {
            None => create_directory(root, name, mode, owner)?,
            Some(directory) => create_directory(directory, name, mode, owner)?,
        };
        directory = Some(next);
        created = made;
    }
    Ok(created)
}

/// Makes the directory `relative` below `root` and those on the way, mode 0755, across mounts.
pub(crate) fn make_all(root: &impl AsFd, relative: &Path) -> rustix::io::Result<()> {
    let mut directory = openat2(root, ".", DIRECTORY, Mode::empty(), BENEATH)?;
    for name in relative.components() {
        let name: &Path = name.as_ref();
        match mkdirat(&directory, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
        directory = open_mounted(&directory, name)?;
    }
    Ok(())
}

fn create_directory(
    parent: &impl AsFd,
    name: &Path,
    mode: u32,
    owner: Option<(u32, u32)>,
) -> io::Result<(bool, OwnedFd)> {
    let made = match mkdirat(parent, name, Mode::from_raw_mode(mode & 0o777)) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(error) => return Err(error.into()),
    };
    let fd = open_directory(parent, name)?;
    if made {
        // By the descriptor (through its empty path), so that a link put there meanwhile is not followed.
        if let Some((uid, gid)) = owner {
            let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
            chownat(&fd, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)?;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let readable = openat2(&fd, ".", flags, Mode::empty(), BENEATH)?;
        rustix::fs::fchmod(readable, Mode::from_raw_mode(mode & 0o7777))?;
    }
    Ok((made, fd))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_relative_paths_pass() {
        for good in ["a", "a/b", "...", "a..b", "ä", "a b", "-x"] {
            check_relative(Path::new(good)).unwrap();
        }
        let long = "x".repeat(256);
        for bad in [
            "", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "a/./b", "../a", "a\0b", &long,
        ] {
            assert!(check_relative(Path::new(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn links_and_ways_out_are_refused_and_modes_are_exact() {
        use std::os::unix::fs::PermissionsExt;
        let temporary = tempfile::tempdir().unwrap();
        let root = open_absolute(&temporary.path().canonicalize().unwrap()).unwrap();
        assert!(create_directories(&root, Path::new("a/b"), 0o2775, None).unwrap());
        assert!(!create_directories(&root, Path::new("a/b"), 0o700, None).unwrap());
        let metadata = temporary.path().join("a/b").metadata().unwrap();
        assert_eq!(metadata.permissions().mode() & 0o7777, 0o2775);
        std::os::unix::fs::symlink("a", temporary.path().join("link")).unwrap();
        assert_eq!(
            open_directory(&root, Path::new("link")).unwrap_err(),
            Errno::LOOP
        );
        assert!(create_directories(&root, Path::new("link/c"), 0o755, None).is_err());
        assert!(!temporary.path().join("a/c").exists());
        assert_eq!(
            open_directory(&root, Path::new("../x")).unwrap_err(),
            Errno::XDEV
        );
    }
}
