//! What this machine can do, found by trying: `laz doctor` shows it.
//!
//! Nothing here changes anything that outlives the call: system calls are tried with arguments that
//! they refuse, or in a mount namespace that ends with its thread.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
use rustix::thread::{CapabilitySet, capabilities};

use crate::mount::statmount_works;
use crate::namespace::{MountNamespace, NamespaceError};
use crate::syscall::{self, MountAttributes};
use crate::view::BENEATH;

/// Something of the kernel that the hand-off uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feature {
    /// Mounts as descriptors, Linux 5.2. Needed.
    OpenTree,
    /// Moving them into place, Linux 5.2. Needed.
    MoveMount,
    /// Making them nosuid and nodev before they are seen, Linux 5.12. Needed.
    MountSetattr,
    /// Paths that cannot be led astray, Linux 5.6. Needed.
    Openat2,
    /// Healing without a gap, Linux 6.5.
    MoveMountBeneath,
    /// Hand-offs that cost the same however many mounts there are, Linux 6.8.
    Statmount,
}

impl Feature {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::OpenTree,
        Self::MoveMount,
        Self::MountSetattr,
        Self::Openat2,
        Self::MoveMountBeneath,
        Self::Statmount,
    ];

    /// The name of the system call or flag.
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenTree => "open_tree",
            Self::MoveMount => "move_mount",
            Self::MountSetattr => "mount_setattr",
            Self::Openat2 => "openat2",
            Self::MoveMountBeneath => "MOVE_MOUNT_BENEATH",
            Self::Statmount => "statmount",
        }
    }

    /// Whether there is no hand-off without it.
    pub fn is_needed(self) -> bool {
        !matches!(self, Self::MoveMountBeneath | Self::Statmount)
    }

    /// Tries it.
    pub fn probe(self) -> Answer {
        match self {
            // Refused for its arguments (EBADF, EINVAL) by a kernel that has it.
            Self::OpenTree => told_apart(try_open_tree()),
            Self::MoveMount => told_apart(try_move_mount()),
            Self::MountSetattr => told_apart(try_mount_setattr()),
            Self::Openat2 => told_apart(try_openat2()),
            Self::MoveMountBeneath => beneath(),
            Self::Statmount if statmount_works() => Answer::Works,
            Self::Statmount => Answer::Absent,
        }
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What trying came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It is there.
    Works,
    /// The kernel (or its seccomp filter) does not have it.
    Absent,
    /// This process is not allowed to try; run as root.
    NotAllowed,
}

/// A kernel without a system call says ENOSYS; one that has it complains about something else.
fn told_apart(result: io::Result<()>) -> Answer {
    match result {
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => Answer::Absent,
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => Answer::NotAllowed,
        _ => Answer::Works,
    }
}

fn try_open_tree() -> io::Result<()> {
    open_tree(CWD, "/", OpenTreeFlags::OPEN_TREE_CLOEXEC)?;
    Ok(())
}

fn try_move_mount() -> io::Result<()> {
    // The root of all mounts cannot be moved.
    move_mount(CWD, "/", CWD, "/", MoveMountFlags::empty())?;
    Ok(())
}

fn try_mount_setattr() -> io::Result<()> {
    // Neither set nor cleared anything.
    syscall::mount_setattr(CWD, c"/", false, MountAttributes::default())
}

fn try_openat2() -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let resolve = rustix::fs::ResolveFlags::NO_SYMLINKS;
    rustix::fs::openat2(CWD, "/", flags, Mode::empty(), resolve)?;
    Ok(())
}

/// Slides a copy of a tmpfs beneath another in a namespace that ends with this call.
fn beneath() -> Answer {
    let tried = MountNamespace::create(|_| try_beneath().map_err(Tried::Kernel));
    match tried {
        Ok(_) => Answer::Works,
        Err(Tried::Kernel(Errno::INVAL | Errno::NOSYS)) => Answer::Absent,
        Err(_) => Answer::NotAllowed,
    }
}

enum Tried {
    Kernel(Errno),
    Namespace,
}

impl From<NamespaceError> for Tried {
    fn from(_: NamespaceError) -> Self {
        Self::Namespace
    }
}

fn try_beneath() -> Result<(), Errno> {
    let target = Path::new("/proc");
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("lazarette", target, "tmpfs", flags, c"size=4k")?;
    let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let copy = open_tree(CWD, target, clone)?;
    let how = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | BENEATH;
    move_mount(&copy, "", CWD, target, how)
}

/// The kernel's release, such as `6.12.57+deb13-amd64`.
pub fn kernel_release() -> String {
    rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned()
}

/// The file system types that the kernel has now; those of modules come when these are loaded.
///
/// # Errors
/// When `/proc/filesystems` cannot be read.
pub fn file_systems() -> io::Result<Vec<String>> {
    let text = std::fs::read_to_string("/proc/filesystems")?;
    Ok(parse_file_systems(&text))
}

/// `nodev\tproc` or `\text4` in each line.
fn parse_file_systems(text: &str) -> Vec<String> {
    let last = |line: &str| line.split_ascii_whitespace().last().map(str::to_owned);
    text.lines().filter_map(last).collect()
}

/// Where a kernel module is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Module {
    /// In the kernel itself.
    BuiltIn,
    /// Loaded.
    Loaded,
    /// In a file that `modprobe` finds.
    Available,
    /// Nowhere.
    Absent,
}

/// Where the module `name` is. `-` and `_` in the name are the same.
pub fn module(name: &str) -> Module {
    let directory = PathBuf::from("/lib/modules").join(kernel_release());
    // What cannot be read does not say that the module is there.
    let read = |path: PathBuf| std::fs::read_to_string(path).unwrap_or_default();
    if lists(&read(directory.join("modules.builtin")), name) {
        Module::BuiltIn
    } else if Path::new("/sys/module")
        .join(name.replace('-', "_"))
        .exists()
    {
        Module::Loaded
    } else if lists(&read(directory.join("modules.dep")), name) {
        Module::Available
    } else {
        Module::Absent
    }
}

/// Whether `modules.dep` or `modules.builtin` (a path of a `.ko` file begins each line) names it.
fn lists(text: &str, name: &str) -> bool {
    let wanted = name.replace('-', "_");
    text.lines().any(|line| {
        let path = line.split(':').next().unwrap_or_default();
        let file = path.rsplit('/').next().unwrap_or_default();
        let stem = file.split(".ko").next().unwrap_or_default();
        file.contains(".ko") && stem.replace('-', "_") == wanted
    })
}

/// Whether this process may mount and enter namespaces (`CAP_SYS_ADMIN` is effective).
pub fn may_administer() -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_are_read_with_and_without_nodev() {
        assert_eq!(
            parse_file_systems("nodev\tproc\n\text4\n\n"),
            ["proc", "ext4"]
        );
        assert!(file_systems().unwrap().contains(&"proc".to_owned()));
    }

    #[test]
    fn modules_are_found_by_either_spelling_and_no_substring() {
        let text = "kernel/fs/nfs/nfsv4.ko.xz: kernel/fs/nfs/nfs.ko.xz\nkernel/net/br-filter.ko\n";
        for name in ["nfsv4", "br-filter", "br_filter"] {
            assert!(lists(text, name), "{name}");
        }
        for name in ["nfs", "nfsv", "filter", "", "kernel"] {
            assert!(!lists(text, name), "{name}");
        }
        assert_eq!(module("no_such_module_here"), Module::Absent);
    }

    #[test]
    fn features_are_told_by_trying() {
        let before = crate::mountinfo::MountTable::of_self().unwrap();
        for feature in Feature::ALL {
            let answer = feature.probe();
            println!("{feature}: {answer:?}");
            if rustix::process::geteuid().is_root() && feature.is_needed() {
                assert_eq!(answer, Answer::Works, "{feature}");
            }
        }
        assert_eq!(crate::mountinfo::MountTable::of_self().unwrap(), before);
        assert!(!kernel_release().is_empty());
    }

    #[test]
    fn without_the_call_the_answer_is_absent() {
        let error = |errno| Err(io::Error::from_raw_os_error(errno));
        assert_eq!(told_apart(error(libc::ENOSYS)), Answer::Absent);
        assert_eq!(told_apart(error(libc::EPERM)), Answer::NotAllowed);
        assert_eq!(told_apart(error(libc::EINVAL)), Answer::Works);
        assert_eq!(told_apart(Ok(())), Answer::Works);
    }
}
