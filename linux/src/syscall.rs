//! The system calls that no crate wraps, and what must run between `fork` and `exec`.
//!
//! This is the only file of the crate that holds `unsafe`. Every function has a safe signature: it
//! takes owned or borrowed descriptors and returns [`io::Result`] with the errno of the kernel.
//!
//! Numbers and layouts are those of `linux/mount.h`; system calls above 423 have the same number on
//! every architecture that Linux supports.

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process;

use rustix::thread::UnshareFlags;

/// `statmount(2)`, Linux 6.8; libc does not name it for every target yet.
const SYS_STATMOUNT: libc::c_long = 457;
/// Size of the fixed part of `struct statmount`; the strings follow it.
pub(crate) const STATMOUNT_HEADER: usize = 512;

/// Mount attributes for [`mount_setattr`], as in `struct mount_attr`.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct MountAttributes {
    /// `MOUNT_ATTR_*` bits to set.
    pub(crate) set: u64,
    /// `MOUNT_ATTR_*` bits to clear.
    pub(crate) clear: u64,
    /// `MS_PRIVATE`, `MS_SHARED`, `MS_SLAVE` or 0 to leave the propagation as it is.
    pub(crate) propagation: u64,
}

/// `mount_setattr(2)` on the mount that `path` (relative to `fd`) names; an empty path means `fd`.
///
/// # Errors
/// The errno of the kernel: `EINVAL` if `fd` is not the root of a mount, `EPERM` without
/// `CAP_SYS_ADMIN`, `ENOSYS` before Linux 5.12.
pub(crate) fn mount_setattr(
    fd: BorrowedFd<'_>,
    path: &CStr,
    recursive: bool,
    attributes: MountAttributes,
) -> io::Result<()> {
    let attr = libc::mount_attr {
        attr_set: attributes.set,
        attr_clr: attributes.clear,
        propagation: attributes.propagation,
        userns_fd: 0,
    };
    let mut flags = libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW;
    if recursive {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: `fd` is open for the call, `path` is NUL-terminated, and `attr` is a live
    // `struct mount_attr` of exactly the size passed; the kernel only reads them.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_raw_fd(),
            path.as_ptr(),
            flags,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    };
    check(result)
}

/// `struct mnt_id_req`, first version (24 bytes).
#[repr(C)]
struct MountIdRequest {
    size: u32,
    spare: u32,
    mount_id: u64,
    param: u64,
}

/// `statmount(2)`: fills `buffer` with a `struct statmount` of the mount with the unique ID `id` in
/// the mount namespace of the calling thread, holding the fields named by `mask`.
///
/// # Errors
/// The errno of the kernel: `ENOSYS` before Linux 6.8 (or under an old seccomp filter), `ENOENT` if
/// no such mount is in this namespace, `EOVERFLOW` if `buffer` is too small.
pub(crate) fn statmount(id: u64, mask: u64, buffer: &mut [u8]) -> io::Result<()> {
    let request = MountIdRequest {
        size: 24,
        spare: 0,
        mount_id: id,
        param: mask,
    };
    // SAFETY: `request` is live and says its own size; the kernel writes at most `buffer.len()`
    // bytes into `buffer`, any byte pattern is a valid `u8`, and flags must be 0.
    let result = unsafe {
        libc::syscall(
            SYS_STATMOUNT,
            &raw const request,
            buffer.as_mut_ptr(),
            buffer.len(),
            0,
        )
    };
    check(result)
}

/// `unshare(2)` for the calling thread with any of `CLONE_FS` and `CLONE_NEWNS`.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN` (for `CLONE_NEWNS`).
pub(crate) fn unshare_thread(new_mount_namespace: bool) -> io::Result<()> {
    let mut flags = UnshareFlags::FS;
    if new_mount_namespace {
        flags |= UnshareFlags::NEWNS;
    }
    // SAFETY: only CLONE_FILES makes `unshare` unsafe (descriptors of other threads would be
    // copied); neither CLONE_FS nor CLONE_NEWNS touches descriptors.
    unsafe { rustix::thread::unshare_unsafe(flags) }.map_err(io::Error::from)
}

/// `ioctl(NS_GET_NSTYPE)`: the `CLONE_NEW*` constant of the namespace that `fd` refers to.
///
/// # Errors
/// `ENOTTY` if `fd` is not a namespace file.
pub(crate) fn namespace_type(fd: BorrowedFd<'_>) -> io::Result<i32> {
    /// `_IO(0xb7, 0x3)` of `linux/nsfs.h`.
    const NS_GET_NSTYPE: libc::c_ulong = 0xb703;
    // SAFETY: NS_GET_NSTYPE takes no argument and reads or writes no memory of ours.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), NS_GET_NSTYPE as _) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

/// `getsockopt(SO_PEERCRED)`: process, user and group ID of the peer of a Unix socket. The process ID
/// is 0 for a peer outside our PID namespace (which rustix' non-zero type cannot hold).
///
/// # Errors
/// The errno of the kernel, for anything but a Unix socket.
pub(crate) fn peer_credentials(fd: BorrowedFd<'_>) -> io::Result<libc::ucred> {
    let mut peer = libc::ucred {
        pid: 0,
        uid: 0,
        gid: 0,
    };
    let mut size = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `size` bytes into `peer`, a live plain structure of that
    // size in which every bit pattern is valid.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut size,
        )
    };
    check(result.into())?;
    Ok(peer)
}

/// What a child does between `fork` and `exec`.
#[derive(Debug, Default)]
pub(crate) struct ChildSetup {
    /// Mount namespace to enter first.
    pub(crate) mount_namespace: Option<OwnedFd>,
    /// Start a session of its own (`setsid`).
    pub(crate) session: bool,
    /// Make standard input the controlling terminal of that session.
    pub(crate) controlling_terminal: bool,
    /// This process starts it, and it is killed when the thread that does so ends.
    pub(crate) dies_with: Option<u32>,
}

/// Makes `command` carry out `setup` in the child, and marks every descriptor from 3 on
/// close-on-exec there, so that nothing leaks into the program.
pub(crate) fn prepare_child(command: &mut process::Command, setup: ChildSetup) {
    let hook = move || run_in_child(&setup);
    // SAFETY: `run_in_child` only makes system calls and allocates nothing; the descriptor it uses
    // is owned by the closure, so it is open in the child.
    unsafe { command.pre_exec(hook) };
}

/// Async-signal-safe: system calls only.
fn run_in_child(setup: &ChildSetup) -> io::Result<()> {
    if let Some(namespace) = &setup.mount_namespace {
        // SAFETY: plain system call on an open descriptor; the child has a single thread.
        check(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNS) }.into())?;
    }
    if setup.session {
        // SAFETY: plain system call without arguments.
        check(unsafe { libc::setsid() }.into())?;
    }
    if setup.controlling_terminal {
        // SAFETY: TIOCSCTTY takes an integer argument; it touches no memory.
        check(unsafe { libc::ioctl(0, libc::TIOCSCTTY as _, 0) }.into())?;
    }
    if let Some(parent) = setup.dies_with {
        // SAFETY: plain system call; PR_SET_PDEATHSIG takes the number of a signal.
        check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) }.into())?;
        // SAFETY: plain system call without arguments.
        if u32::try_from(unsafe { libc::getppid() }) != Ok(parent) {
            // It ended before it could be watched.
            return Err(io::ErrorKind::NotFound.into());
        }
    }
    // SAFETY: plain system call; CLOSE_RANGE_CLOEXEC closes nothing now, so the pipe by which the
    // standard library reports a failed exec stays usable.
    let marked = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            3_u32,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    if marked != 0 {
        mark_one_by_one();
    }
    Ok(())
}

/// For kernels and seccomp filters without `close_range`: the same, descriptor by descriptor.
fn mark_one_by_one() {
    /// Far above what our processes ever open.
    const HIGHEST: libc::c_int = 65_536;
    let mut limit = MaybeUninit::<libc::rlimit>::uninit();
    // SAFETY: the kernel fills `limit` when it returns 0.
    let read = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, limit.as_mut_ptr()) };
    let highest = if read == 0 {
        // SAFETY: `getrlimit` returned 0, so `limit` is initialised.
        let soft = unsafe { limit.assume_init() }.rlim_cur;
        libc::c_int::try_from(soft).map_or(HIGHEST, |soft| soft.min(HIGHEST))
    } else {
        HIGHEST
    };
    for fd in 3..highest {
        // SAFETY: `fcntl(F_SETFD)` on a descriptor that is not open fails with EBADF, harmlessly.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
