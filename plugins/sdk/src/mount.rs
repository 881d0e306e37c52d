//! Mounting inside the storage container: what most plugins need, idempotent and without a shell.
//!
//! Whatever is mounted here is private to the container; core forces `nosuid,nodev` on what it
//! hands on, and so do these functions.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use lazarette_linux::command::{Command, Failure};
use lazarette_linux::mountinfo::MountTable;
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

use crate::{Error, ErrorKind, OptionText, Result};

/// stat(1), which every image has.
const STAT: &str = "/usr/bin/stat";
/// How long a mount that is in use is tried again: whoever looks whether it answers uses it, too. And how
/// long one may take to go.
const IN_USE: Duration = Duration::from_secs(3);
/// Between two tries.
const STEP: Duration = Duration::from_millis(20);

/// Mounts a file system in memory at `path`, which is made if need be; nothing if one is mounted
/// there already. `size` is as in tmpfs(5): `64m`, `50%`.
///
/// ```no_run
/// use lazarette_plugin::{Host, Mounted, Result, VolumeId, fuse, mount};
///
/// fn prepare(host: &Host, volume: VolumeId) -> Result<Mounted> {
///     let path = fuse::place(host, volume);
///     mount::tmpfs(&path, "64m")?;
///     Ok(Mounted { path, subdirectory: None, fs_type: "tmpfs".into(), source: "tmpfs".into() })
/// }
/// ```
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
        // A refused volume leaves nothing; what is in use or not empty stays.
        let _ = std::fs::remove_dir(path);
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

/// Gives the file system in memory that is mounted at `path` another size.
///
/// ```no_run
/// # let path = std::path::Path::new("/mnt/volume");
/// lazarette_plugin::mount::resize_tmpfs(path, "128m")?;
/// # Ok::<(), lazarette_plugin::Error>(())
/// ```
///
/// # Errors
/// `InvalidArgument` for a bad size or one that what is in it exceeds, and what the kernel refuses.
pub fn resize_tmpfs(path: &Path, size: &str) -> Result<()> {
    let size = OptionText::new(size)?;
    let data = std::ffi::CString::new(format!("size={size}")).expect("option text has no NUL");
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount_remount(path, flags, data.as_c_str()).map_err(|errno| {
        let what = format!("cannot give the tmpfs at {} {size}", path.display());
        let kind = match errno {
            Errno::INVAL => ErrorKind::InvalidArgument,
            Errno::PERM | Errno::ACCESS => ErrorKind::PermissionDenied,
            _ => ErrorKind::Internal,
        };
        Error::new(kind, what).cause(errno)
    })
}

/// Unmounts what is mounted at `path` and removes the directory; nothing if there is neither. Waits a
/// few seconds for what uses it.
///
/// ```
/// let absent = std::path::Path::new("/no/such/place");
/// lazarette_plugin::mount::unmount(absent)?; // It may be repeated.
/// # Ok::<(), lazarette_plugin::Error>(())
/// ```
///
/// # Errors
/// `Busy` if something in this container goes on using it, and what the kernel refuses.
pub fn unmount(path: &Path) -> Result<()> {
    let what = || format!("cannot unmount {}", path.display());
    let end = Instant::now() + IN_USE;
    loop {
        match rustix::mount::unmount(path, UnmountFlags::NOFOLLOW) {
            Ok(()) | Err(Errno::INVAL) => break,
            Err(Errno::NOENT) => return Ok(()),
            Err(Errno::BUSY) if Instant::now() < end => thread::sleep(STEP),
            Err(Errno::BUSY) => {
                return Err(Error::new(ErrorKind::Busy, what())
                    .cause("something in the storage container uses it")
                    .remedy("it is tried again by itself"));
            }
            Err(errno) => return Err(Error::internal(what()).cause(errno)),
        }
    }
    match std::fs::remove_dir(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::internal(format!("cannot remove {}", path.display())).cause(e))
        }
        _ => Ok(()),
    }
}

/// Unmounts all that is mounted at `path`, without waiting for a server that is away: what does not
/// unmount within seconds is detached. Whether nothing is mounted there afterwards. The directory stays.
///
/// Everybody who has a copy of the mount keeps it. With `force`, for a FUSE client that is to be
/// replaced, their I/O ends: it aborts the connection between kernel and client.
///
/// ```
/// assert!(lazarette_plugin::mount::let_go("/no/such/place".as_ref(), false));
/// ```
pub fn let_go(path: &Path, force: bool) -> bool {
    let first = match force {
        true => UnmountFlags::FORCE,
        false => UnmountFlags::empty(),
    };
    for flags in [first, UnmountFlags::DETACH] {
        let path = path.to_owned();
        let (sender, receiver) = std::sync::mpsc::channel();
        let unmounting = thread::Builder::new()
            .name("unmount".into())
            .spawn(move || {
                let mut result = Ok(());
                while result.is_ok() {
                    result = rustix::mount::unmount(&path, flags | UnmountFlags::NOFOLLOW);
                }
                // Nobody waits any more: fine.
                let _ = sender.send(result);
            });
        if unmounting.is_err() {
            return false;
        }
        // EINVAL: no mount (any more). ENOENT: not even a directory.
        if let Ok(Err(Errno::INVAL | Errno::NOENT)) = receiver.recv_timeout(IN_USE) {
            return true;
        }
    }
    false
}

/// Whether `path` is the root of a mount. May block on a file system whose server is away.
///
/// ```
/// use lazarette_plugin::mount::is_root;
///
/// assert!(is_root("/proc".as_ref())? && !is_root("/proc/self".as_ref())?);
/// # Ok::<(), lazarette_plugin::Error>(())
/// ```
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

/// The type of what is mounted at `path` by the mount table (`ext4`, `fuse.sshfs`), if anything is.
/// Asks no server.
///
/// ```
/// use lazarette_plugin::mount::fs_type;
///
/// assert_eq!(fs_type("/proc".as_ref())?.as_deref(), Some("proc"));
/// assert_eq!(fs_type("/proc/self".as_ref())?, None);
/// # Ok::<(), lazarette_plugin::Error>(())
/// ```
///
/// # Errors
/// When the mount table cannot be read.
pub fn fs_type(path: &Path) -> Result<Option<String>> {
    let table = MountTable::of_thread()
        .map_err(|e| Error::internal("cannot read the mount table").cause(e))?;
    let row = table.top_at(path);
    Ok(row.map(|row| row.fs_type.to_string_lossy().into_owned()))
}

/// Asks the file system at `path` for a sign of life, in a child that is killed after `limit`: the
/// caller does not hang with it. Needs stat(1) in the image.
///
/// ```
/// use std::time::Duration;
/// use lazarette_plugin::{ErrorKind, mount};
///
/// let gone = mount::answers("/no/such/place".as_ref(), Duration::from_secs(30));
/// assert_eq!(gone.unwrap_err().kind, ErrorKind::Unreachable);
/// ```
///
/// # Errors
/// `Stale` if it is dead for good and must be mounted anew (the FUSE client has ended, a stale
/// handle), `Unreachable` if it does not answer.
pub fn answers(path: &Path, limit: Duration) -> Result<()> {
    let asked = Command::new(STAT)
        .args(["--file-system", "--format=%T", "--"])
        .arg(path)
        .deadline(limit)
        .run();
    let Err(error) = asked else {
        return Ok(());
    };
    let what = format!("{} does not answer", path.display());
    let dead = [Errno::NOTCONN, Errno::STALE, Errno::CONNABORTED].map(reason);
    Err(match error.failure {
        Failure::Deadline(_) | Failure::Abandoned { .. } => {
            Error::new(ErrorKind::Unreachable, what).cause(format!("no answer in {limit:?}"))
        }
        Failure::Exit(_) if dead.iter().any(|reason| error.stderr.contains(reason)) => {
            Error::new(ErrorKind::Stale, what).cause(error.stderr.trim())
        }
        Failure::Exit(_) => Error::new(ErrorKind::Unreachable, what).cause(error.stderr.trim()),
        other => Error::internal(what).cause(other),
    })
}

/// The text of an error number, as programs print it in the C locale.
fn reason(errno: Errno) -> String {
    let text = std::io::Error::from(errno).to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_mount_has_no_type_and_what_is_there_answers() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(fs_type(directory.path()).unwrap(), None);
        assert_eq!(
            fs_type(Path::new("/proc")).unwrap().as_deref(),
            Some("proc")
        );
        answers(directory.path(), Duration::from_secs(20)).unwrap();
        let absent = answers(&directory.path().join("no"), Duration::from_secs(20));
        let error = absent.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unreachable, "{error}");
        assert!(error.to_string().contains("No such file"), "{error}");
    }

    #[test]
    fn a_dead_client_is_told_by_the_words_of_the_c_library() {
        assert_eq!(
            reason(Errno::NOTCONN),
            "Transport endpoint is not connected"
        );
        assert_eq!(reason(Errno::STALE), "Stale file handle");
    }
}
