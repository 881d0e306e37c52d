//! Mounting inside the storage container: what most plugins need, idempotent and without a shell.
//!
//! Whatever is mounted here is private to the container; core forces `nosuid,nodev` on what it
//! hands on, and so do these functions.

use std::path::Path;

use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

use crate::{Error, ErrorKind, OptionText, Result};

/// Mounts a file system in memory at `path`, which is made if need be; nothing if one is mounted
/// there already. `size` is as in tmpfs(5): `64m`, `50%`.
///
/// # Errors
/// `InvalidArgument` for a bad size, and what the kernel refuses.
pub fn tmpfs(path: &Path, size: &str) -> Result<()> {
    let size = OptionText::new(size)?;
    std::fs::create_dir_all(path)
        .map_err(|e| Error::internal(format!("cannot make {}", path.display())).cause(e))?;
    if is_root(path)? {
        return Ok(());
    }
    let data =
        std::ffi::CString::new(format!("size={size},mode=0755")).expect("option text has no NUL");
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount("tmpfs", path, "tmpfs", flags, Some(data.as_c_str())).map_err(|errno| {
        let what = format!("cannot mount a tmpfs of {size} at {}", path.display());
        let kind = match errno {
            Errno::INVAL => ErrorKind::InvalidArgument,
            Errno::NOMEM | Errno::NOSPC => ErrorKind::NoSpace,
            Errno::PERM | Errno::ACCESS => ErrorKind::PermissionDenied,
            _ => ErrorKind::Internal,
        };
        Error::new(kind, what).cause(errno)
    })
}

/// Unmounts what is mounted at `path` and removes the directory; nothing if there is neither.
///
/// # Errors
/// `Busy` if something in this container uses it, and what the kernel refuses.
pub fn unmount(path: &Path) -> Result<()> {
    let what = || format!("cannot unmount {}", path.display());
    match rustix::mount::unmount(path, UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(Errno::INVAL) => {}
        Err(Errno::NOENT) => return Ok(()),
        Err(Errno::BUSY) => return Err(Error::new(ErrorKind::Busy, what()).cause(Errno::BUSY)),
        Err(errno) => return Err(Error::internal(what()).cause(errno)),
    }
    match std::fs::remove_dir(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::internal(format!("cannot remove {}", path.display())).cause(e))
        }
        _ => Ok(()),
    }
}

/// Whether `path` is the root of a mount. May block on a file system whose server is away.
///
/// # Errors
/// What the kernel refuses.
pub fn is_root(path: &Path) -> Result<bool> {
    use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::STATX_DONT_SYNC;
    let found = statx(CWD, path, flags, StatxFlags::TYPE)
        .map_err(|e| Error::internal(format!("cannot look at {}", path.display())).cause(e))?;
    Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}
