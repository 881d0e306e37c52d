//! The table of early mounts, and what else must be there before anything else can run.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::error::{Error, all, chain};
use crate::layout::Layout;
use crate::phase::Outcome;

/// A file system that is mounted before anything else happens.
struct EarlyMount {
    fstype: &'static str,
    target: &'static str,
    flags: MountFlags,
    data: &'static std::ffi::CStr,
    /// Whether the machine works without it.
    optional: bool,
}

const SAFE: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);
const DATA: MountFlags = SAFE.union(MountFlags::NOEXEC);

/// In this order. What is mounted already (by the initial RAM disk) stays as it is.
const MOUNTS: [EarlyMount; 11] = [
    row("proc", "/proc", DATA, c"", false),
    row("sysfs", "/sys", DATA, c"", false),
    row("devtmpfs", "/dev", MountFlags::NOSUID, c"mode=0755", false),
    row(
        "devpts",
        "/dev/pts",
        MountFlags::NOSUID.union(MountFlags::NOEXEC),
        c"gid=5,mode=620,ptmxmode=666",
        false,
    ),
    row("tmpfs", "/dev/shm", SAFE, c"mode=1777", false),
    row("mqueue", "/dev/mqueue", DATA, c"", true),
    row("tmpfs", "/run", SAFE, c"mode=0755", false),
    row("tmpfs", "/tmp", SAFE, c"mode=1777", false),
    row("cgroup2", "/sys/fs/cgroup", DATA, c"", false),
    row("securityfs", "/sys/kernel/security", DATA, c"", true),
    row("fusectl", "/sys/fs/fuse/connections", DATA, c"", true),
];

const fn row(
    fstype: &'static str,
    target: &'static str,
    flags: MountFlags,
    data: &'static std::ffi::CStr,
    optional: bool,
) -> EarlyMount {
    EarlyMount {
        fstype,
        target,
        flags,
        data,
        optional,
    }
}

/// Controllers that the engines hand on to containers.
const CONTROLLERS: [&str; 5] = ["cpuset", "cpu", "io", "memory", "pids"];

/// Links that programs expect in `/dev`.
const DEVICE_LINKS: [(&str, &str); 4] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
];

/// Directories made at each boot, with their modes.
const DIRECTORIES: [(&str, u32); 6] = [
    ("/run/lazarette", 0o755),
    ("/run/lazarette/init", 0o700),
    ("/run/lock", 0o1777),
    ("/var/lib/lazarette", 0o700),
    ("/var/log/lazarette", 0o755),
    ("/var/lib/lazarette/conf/cloud-config.d", 0o755),
];

/// How many files a process may have open: engines hold several per container.
const OPEN_FILES: u64 = 1 << 20;

/// Mounts the table, makes `/` shared (what engines expect of a host: a container may then be told
/// to follow later mounts), hands the controllers down and makes the directories.
///
/// # Errors
/// [`Error::Several`] with everything that failed; all the rest was done.
pub fn prepare(layout: &Layout) -> Result<Outcome, Error> {
    let mut failures = Vec::new();
    let mut missing = Vec::new();
    for row in &MOUNTS {
        match mount_row(row, layout) {
            Ok(()) => {}
            Err(_) if row.optional => missing.push(row.fstype),
            Err(error) => failures.push(chain(&error)),
        }
    }
    let flags = MountPropagationFlags::SHARED | MountPropagationFlags::REC;
    if let Err(error) = mount_change(&layout.root, flags) {
        failures.push(format!("cannot make / shared: {error}"));
    }
    if let Err(error) = raise_open_files() {
        failures.push(format!("cannot raise the number of open files: {error}"));
    }
    let mut tell = |result: Result<(), Error>| {
        if let Err(error) = result {
            failures.push(chain(&error));
        }
    };
    let cgroup = layout.at("/sys/fs/cgroup");
    tell(hand_down(&cgroup));
    tell(make_directory(&layout.cgroup(), 0o755));
    for (path, mode) in DIRECTORIES {
        tell(make_directory(&layout.at(path), mode));
    }
    for (path, target) in DEVICE_LINKS {
        tell(make_link(&layout.at(path), target));
    }
    tell(make_link(&layout.at("/var/run"), "/run"));
    all(failures)?;
    Ok(if missing.is_empty() {
        Outcome::Done
    } else {
        Outcome::Noted(format!("this kernel has no {}", missing.join(", ")))
    })
}

/// Raises the limit, at least as far as it may be raised.
fn raise_open_files() -> Result<(), Errno> {
    let both = |limit| Rlimit {
        current: limit,
        maximum: limit,
    };
    match setrlimit(Resource::Nofile, both(Some(OPEN_FILES))) {
        // Without CAP_SYS_RESOURCE.
        Err(Errno::PERM) => {
            let most = getrlimit(Resource::Nofile).maximum;
            setrlimit(Resource::Nofile, both(most))
        }
        result => result,
    }
}

fn mount_row(row: &EarlyMount, layout: &Layout) -> Result<(), Error> {
    let target = layout.at(row.target);
    if is_mount_root(&target) {
        return Ok(());
    }
    if !target.is_dir() {
        make_directory(&target, 0o755)?;
    }
    let failed = |source: Errno| Error::Mount {
        fstype: row.fstype.into(),
        target: target.clone(),
        source: source.into(),
    };
    match mount(row.fstype, &target, row.fstype, row.flags, row.data) {
        // Mounted by somebody in a way that the kernel does not show as a mount of its own.
        Ok(()) | Err(Errno::BUSY) => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

/// Whether a file system is mounted at `path`. (The mount table cannot tell before /proc is there.)
fn is_mount_root(path: &Path) -> bool {
    statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE)
        .is_ok_and(|stat| stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Enables in `cgroup` for its children those of [`CONTROLLERS`] that the kernel has.
///
/// # Errors
/// When one is there and cannot be enabled.
pub fn hand_down(cgroup: &Path) -> Result<(), Error> {
    let list = cgroup.join("cgroup.controllers");
    let present =
        fs::read_to_string(&list).map_err(|source| Error::file("read", list.clone(), source))?;
    let control = cgroup.join("cgroup.subtree_control");
    for controller in CONTROLLERS {
        if present.split_whitespace().any(|name| name == controller) {
            fs::write(&control, format!("+{controller}"))
                .map_err(|source| Error::file("enable a controller in", &control, source))?;
        }
    }
    Ok(())
}

/// Makes a directory and its parents; it may be there already.
///
/// # Errors
/// When it cannot be made.
pub fn make_directory(path: &Path, mode: u32) -> Result<(), Error> {
    let failed = |source| Error::file("make", path, source);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    match fs::DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        result => result.map_err(failed),
    }
}

fn make_link(path: &Path, target: &str) -> Result<(), Error> {
    match symlink(target, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(Error::file("make the link", path, error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_of_every_row_come_before_it() {
        for (index, row) in MOUNTS.iter().enumerate() {
            for later in &MOUNTS[index + 1..] {
                assert!(
                    !Path::new(row.target).starts_with(later.target),
                    "{} would hide {}",
                    later.target,
                    row.target
                );
            }
        }
    }

    #[test]
    fn a_directory_that_is_there_is_fine_and_a_file_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/b");
        make_directory(&path, 0o700).unwrap();
        make_directory(&path, 0o700).unwrap();
        fs::write(directory.path().join("file"), "").unwrap();
        let error = make_directory(&directory.path().join("file"), 0o700).unwrap_err();
        assert!(chain(&error).contains("/file"), "{}", chain(&error));
    }

    #[test]
    fn only_controllers_that_exist_are_handed_down() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(
            directory.path().join("cgroup.controllers"),
            "memory hugetlb\n",
        )
        .unwrap();
        hand_down(directory.path()).unwrap();
        let written = fs::read_to_string(directory.path().join("cgroup.subtree_control")).unwrap();
        assert_eq!(written, "+memory");
    }
}
