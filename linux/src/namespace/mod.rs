//! Mount namespaces: made, pinned to a file, found again, entered.
//!
//! A thread of a program with several threads may enter a mount namespace only after it has stopped
//! sharing its root and working directory (`unshare(CLONE_FS)`), and it can never share them again.
//! So everything here happens in a fresh thread, which ends afterwards. There is no forked child.

#[cfg(feature = "view")]
mod pinned;
#[cfg(feature = "view")]
mod resident;

use std::ffi::CStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, mpsc};
use std::thread;
use std::time::Duration;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{MountPropagationFlags, UnmountFlags};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
#[cfg(feature = "view")]
use sys_mount::MountFlags;

#[cfg(feature = "view")]
pub(crate) use resident::Resident;

use crate::mountinfo::{MountTable, Watch};
use crate::process::Process;
use crate::syscall::{self, MountAttributes};

/// Source name of every tmpfs that we mount; it tells ours from others in a mount table.
#[cfg(feature = "view")]
pub(crate) const OURS: &str = "lazarette";
const ROOT: &CStr = c"/";
/// Stack of a thread inside a namespace; nothing recursive runs there.
const STACK: usize = 256 * 1024;

/// Threads that outlived their deadline inside [`MountNamespace::enter_for`]; each holds the strong
/// end of its entry for as long as it runs.
static STUCK: Mutex<Vec<Weak<()>>> = Mutex::new(Vec::new());

/// How many threads are stuck in a system call inside a namespace, beyond their deadline.
pub fn stuck_threads() -> usize {
    stuck().len()
}

/// The entries of [`STUCK`] whose threads still run.
fn stuck() -> MutexGuard<'static, Vec<Weak<()>>> {
    let mut stuck = STUCK.lock().unwrap_or_else(PoisonError::into_inner);
    stuck.retain(|thread| thread.strong_count() > 0);
    stuck
}

/// What can go wrong with a mount namespace.
#[derive(Debug, thiserror::Error)]
#[error("mount namespace {subject}: {action} failed{hint}")]
pub struct NamespaceError {
    /// Which namespace: a pin's path, `of process 12`, `new`.
    pub subject: String,
    /// What was tried.
    pub action: &'static str,
    hint: &'static str,
    /// Why it failed.
    #[source]
    pub source: io::Error,
}

impl NamespaceError {
    /// True when the work did not end within its time limit.
    pub fn is_timeout(&self) -> bool {
        self.source.kind() == io::ErrorKind::TimedOut
    }

    fn new(subject: impl Into<String>, action: &'static str, source: io::Error) -> Self {
        let hint = match source.raw_os_error() {
            Some(libc::EPERM) => "; run as root (CAP_SYS_ADMIN)",
            _ => "",
        };
        Self {
            subject: subject.into(),
            action,
            hint,
            source,
        }
    }
}

/// An open mount namespace. It exists for as long as this, a pin or a process in it exists.
#[derive(Debug)]
pub struct MountNamespace {
    file: File,
    name: String,
}

impl MountNamespace {
    /// Makes a namespace with a copy of all mounts of this process, every one private, and runs
    /// `setup` in it.
    ///
    /// # Errors
    /// A [`NamespaceError`] without `CAP_SYS_ADMIN` or out of resources, or the error of `setup`.
    pub fn create<E>(setup: impl FnOnce(&Inside) -> Result<(), E> + Send) -> Result<Self, E>
    where
        E: From<NamespaceError> + Send,
    {
        let fail = |action, error| E::from(NamespaceError::new("(new)", action, error));
        let proc = open_proc().map_err(|error| fail("opening /proc", error))?;
        in_fresh_thread(|| {
            syscall::unshare_thread(true).map_err(|error| fail("unshare", error))?;
            let private = MountAttributes {
                propagation: libc::MS_PRIVATE,
                ..MountAttributes::default()
            };
            syscall::mount_setattr(CWD, ROOT, true, private)
                .map_err(|error| fail("making all mounts private", error))?;
            rustix::process::umask(Mode::from_raw_mode(0o022));
            let inside = Inside { proc };
            let file = rustix::fs::openat(
                &inside.proc,
                "thread-self/ns/mnt",
                OFlags::RDONLY | OFlags::CLOEXEC,
                Mode::empty(),
            )
            .map_err(|error| fail("opening /proc/thread-self/ns/mnt", error.into()))?;
            setup(&inside)?;
            Ok(Self {
                file: file.into(),
                name: "(new)".to_owned(),
            })
        })
        .map_err(|error| fail("starting a thread", error))?
    }

    /// The namespace of the calling thread.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn current() -> Result<Self, NamespaceError> {
        Self::open(
            Path::new("/proc/thread-self/ns/mnt"),
            "of this thread".to_owned(),
        )
    }

    /// The namespace of `process`. The check that the process still lives comes after the opening,
    /// so this is never the namespace of another process that got the same number.
    ///
    /// # Errors
    /// When the process has ended, or without the right to look at it.
    pub fn of_process(process: &Process) -> Result<Self, NamespaceError> {
        let name = format!("of process {}", process.pid());
        let path = PathBuf::from(format!("/proc/{}/ns/mnt", process.pid()));
        let namespace = Self::open(&path, name.clone())?;
        if !process.is_alive() {
            let gone = io::Error::from_raw_os_error(libc::ESRCH);
            return Err(NamespaceError::new(name, "looking at the process", gone));
        }
        Ok(namespace)
    }

    /// The namespace pinned at `pin` by [`MountNamespace::pin`].
    ///
    /// # Errors
    /// When there is no such file, or it is not a mount namespace (nothing is pinned there).
    pub fn open_pin(pin: &Path) -> Result<Self, NamespaceError> {
        Self::open(pin, pin.display().to_string())
    }

    fn open(path: &Path, name: String) -> Result<Self, NamespaceError> {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(path)
            .map_err(|error| NamespaceError::new(&name, "opening it", error))?;
        match syscall::namespace_type(file.as_fd()) {
            Ok(libc::CLONE_NEWNS) => Ok(Self { file, name }),
            Ok(_) | Err(_) => Err(NamespaceError::new(
                name,
                "opening it",
                io::Error::new(io::ErrorKind::InvalidData, "this is not a mount namespace"),
            )),
        }
    }

    /// Pins the namespace to the file `pin`, so that it outlives this process. The directory of
    /// `pin` becomes a private tmpfs of mode 0700, unless it is one of ours already. Pinning the
    /// same namespace again does nothing; another one pinned there is replaced.
    ///
    /// # Errors
    /// When the directory cannot be made, or the mounts are refused.
    #[cfg(feature = "view")]
    pub fn pin(&self, pin: &Path) -> Result<(), NamespaceError> {
        let fail = |action| {
            let subject = pin.display().to_string();
            move |error: io::Error| NamespaceError::new(subject, action, error)
        };
        let directory = pin.parent().unwrap_or(Path::new("/"));
        std::fs::create_dir_all(directory).map_err(fail("making its directory"))?;
        prepare_pin_directory(directory).map_err(fail("mounting a private tmpfs for it"))?;
        if let Ok(pinned) = Self::open_pin(pin) {
            if pinned.is_same(self) {
                return Ok(());
            }
            rustix::mount::unmount(pin, UnmountFlags::DETACH)
                .map_err(|error| fail("replacing the old pin")(error.into()))?;
        }
        OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(pin)
            .map_err(fail("making the file"))?;
        let source = format!("/proc/thread-self/fd/{}", fd_number(&self.file));
        rustix::mount::mount_bind(source, pin)
            .map_err(|error| fail("binding the namespace")(error.into()))
    }

    /// Removes a pin; no error if there is none. The namespace ends with its last process.
    ///
    /// # Errors
    /// When it cannot be unmounted or its file not removed.
    pub fn unpin(pin: &Path) -> Result<(), NamespaceError> {
        let fail =
            |error: io::Error| NamespaceError::new(pin.display().to_string(), "unpinning", error);
        match rustix::mount::unmount(pin, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            // EINVAL: not mounted.
            Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(fail(error.into())),
        }
        match std::fs::remove_file(pin) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(fail(error)),
            _ => Ok(()),
        }
    }

    /// True when both are the same namespace.
    pub fn is_same(&self, other: &Self) -> bool {
        matches!((self.id(), other.id()), (Ok(ours), Ok(theirs)) if ours == theirs)
    }

    /// Device and inode number, which tell namespaces apart while they exist.
    ///
    /// # Errors
    /// Those of `fstat(2)`.
    pub fn id(&self) -> io::Result<(u64, u64)> {
        let metadata = self.file.metadata()?;
        Ok((metadata.dev(), metadata.ino()))
    }

    /// Another descriptor of the same namespace.
    ///
    /// # Errors
    /// When out of descriptors.
    pub fn duplicate_fd(&self) -> Result<OwnedFd, NamespaceError> {
        self.file
            .try_clone()
            .map(OwnedFd::from)
            .map_err(|error| NamespaceError::new(&self.name, "duplicating its descriptor", error))
    }

    /// Runs `work` in a fresh thread inside this namespace, and waits for it without a limit. For
    /// work that cannot block on a storage server.
    ///
    /// # Errors
    /// When the namespace cannot be entered. A panic of `work` goes on in the caller.
    pub fn enter<T: Send>(
        &self,
        work: impl FnOnce(&Inside) -> T + Send,
    ) -> Result<T, NamespaceError> {
        let proc = self.open_proc()?;
        in_fresh_thread(|| {
            let inside = self.enter_this_thread(proc)?;
            Ok(work(&inside))
        })
        .map_err(|error| NamespaceError::new(&self.name, "starting a thread", error))?
    }

    /// Like [`MountNamespace::enter`], for work that may hang: after `limit` the thread is left to
    /// itself, counted in [`stuck_threads`], and the error is `TimedOut`.
    ///
    /// # Errors
    /// As [`MountNamespace::enter`], and `TimedOut`.
    pub fn enter_for<T: Send + 'static>(
        &self,
        limit: Duration,
        work: impl FnOnce(&Inside) -> T + Send + 'static,
    ) -> Result<T, NamespaceError> {
        let proc = self.open_proc()?;
        let copy = self.try_clone()?;
        let (sender, receiver) = mpsc::sync_channel(1);
        let running = Arc::new(());
        let ticket = Arc::downgrade(&running);
        let body = move || {
            let result = copy.enter_this_thread(proc).map(|inside| work(&inside));
            drop(running);
            // Nobody listens when the limit has passed; the result is then nobody's.
            let _ = sender.send(result);
        };
        thread::Builder::new()
            .name("namespace".to_owned())
            .stack_size(STACK)
            .spawn(body)
            .map_err(|error| NamespaceError::new(&self.name, "starting a thread", error))?;
        match receiver.recv_timeout(limit) {
            Ok(result) => result,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                stuck().push(ticket);
                Err(self.late())
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                let died = io::Error::other("the thread panicked");
                Err(NamespaceError::new(&self.name, "work in it", died))
            }
        }
    }

    fn late(&self) -> NamespaceError {
        let late = io::Error::new(io::ErrorKind::TimedOut, "it hangs in the kernel");
        NamespaceError::new(&self.name, "work in it", late)
    }

    /// Another handle of the same namespace.
    ///
    /// # Errors
    /// When out of descriptors.
    pub fn try_clone(&self) -> Result<Self, NamespaceError> {
        Ok(Self {
            file: self.duplicate_fd()?.into(),
            name: self.name.clone(),
        })
    }

    /// The mount table of this namespace.
    ///
    /// # Errors
    /// When the namespace cannot be entered or the table not be read.
    pub fn mount_table(&self) -> Result<MountTable, NamespaceError> {
        self.enter(Inside::mount_table)?
            .map_err(|error| NamespaceError::new(&self.name, "reading its mount table", error))
    }

    /// Watches the mount table of this namespace.
    ///
    /// # Errors
    /// As [`MountNamespace::mount_table`].
    pub fn watch(&self) -> Result<Watch, NamespaceError> {
        self.enter(|inside| inside.open_table().map(Watch::new))?
            .map_err(|error| NamespaceError::new(&self.name, "reading its mount table", error))
    }

    fn open_proc(&self) -> Result<OwnedFd, NamespaceError> {
        open_proc().map_err(|error| NamespaceError::new(&self.name, "opening /proc", error))
    }

    /// Moves the calling thread, which must be fresh, into this namespace for the rest of its life.
    pub(crate) fn enter_this_thread(&self, proc: OwnedFd) -> Result<Inside, NamespaceError> {
        let fail = |error: io::Error| NamespaceError::new(&self.name, "entering it", error);
        syscall::unshare_thread(false).map_err(fail)?;
        move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Mount))
            .map_err(|error| fail(error.into()))?;
        rustix::process::umask(Mode::from_raw_mode(0o022));
        Ok(Inside { proc })
    }
}

impl AsFd for MountNamespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Proof of running inside a mount namespace, and the way to look at it: paths mean what they mean
/// there, the working directory is its root, the umask is 022.
#[derive(Debug)]
pub struct Inside {
    /// `/proc` of where we come from; the namespace may have another one, or none.
    proc: OwnedFd,
}

impl Inside {
    /// The mount table of this namespace.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn mount_table(&self) -> io::Result<MountTable> {
        MountTable::read(&self.open_table()?)
    }

    fn open_table(&self) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.proc, "thread-self/mountinfo", flags, Mode::empty())?;
        Ok(fd.into())
    }
}

pub(crate) fn open_proc() -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open("/proc", flags, Mode::empty())?)
}

/// Runs `work` in a thread of its own and waits for it; a panic goes on in the caller.
fn in_fresh_thread<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let handle = thread::Builder::new()
            .name("namespace".to_owned())
            .stack_size(STACK)
            .spawn_scoped(scope, work)?;
        Ok(handle
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// Makes `directory` a private tmpfs of ours if it is not one yet: a namespace file can only be
/// bound where that mount does not propagate into the namespace itself.
#[cfg(feature = "view")]
fn prepare_pin_directory(directory: &Path) -> io::Result<()> {
    let table = MountTable::of_thread()?;
    let real = std::fs::canonicalize(directory)?;
    if table
        .top_at(&real)
        .is_some_and(|row| row.source == OURS && row.is_private())
    {
        return Ok(());
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    // Dropping what this returns leaves the mount in place.
    sys_mount::Mount::builder()
        .fstype("tmpfs")
        .flags(flags)
        .data("mode=0700,size=1m")
        .mount(OURS, &real)?;
    rustix::mount::mount_change(&real, MountPropagationFlags::PRIVATE)?;
    Ok(())
}

fn fd_number(fd: &impl AsFd) -> i32 {
    std::os::fd::AsRawFd::as_raw_fd(&fd.as_fd())
}

#[cfg(test)]
mod tests;
