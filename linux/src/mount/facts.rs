//! What a mount is, learnt from the kernel's tables only.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};

use super::MountError;
use crate::mountinfo::{Device, MountRow, MountTable};
use crate::syscall::{self, STATMOUNT_HEADER};

/// `STATX_MNT_ID` and `STATX_MNT_ID_UNIQUE`, Linux 5.8 and 6.8.
const STATX_MNT_ID: u32 = 0x1000;
const STATX_MNT_ID_UNIQUE: u32 = 0x4000;

// Fields of `struct statmount` to ask for (`linux/mount.h`).
const SB_BASIC: u64 = 0x1;
const MNT_BASIC: u64 = 0x2;
const MNT_ROOT: u64 = 0x8;
const MNT_POINT: u64 = 0x10;
const FS_TYPE: u64 = 0x20;
const FS_SUBTYPE: u64 = 0x100;
const ALL: u64 = SB_BASIC | MNT_BASIC | MNT_ROOT | MNT_POINT | FS_TYPE | FS_SUBTYPE;

/// How facts about a mount are looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lookup {
    /// By `statmount` where it works, else in the mount table.
    #[default]
    Auto,
    /// In the mount table, whatever the kernel offers: costs grow with the number of mounts.
    MountTable,
}

/// The kernel's number for a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MountId {
    /// The number.
    pub number: u64,
    /// True where the kernel (6.8 and later) never gives the number to another mount; else it may
    /// mean another mount once this one is gone.
    pub unique: bool,
}

/// What a mount is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountFacts {
    /// Its number.
    pub id: MountId,
    /// The number by which mountinfo names it.
    pub table_id: u64,
    /// The file system's device.
    pub device: Device,
    /// File system type, with sub-type (`fuse.glusterfs`).
    pub fs_type: OsString,
    /// What of the file system is mounted, as a path from its root.
    pub root: PathBuf,
    /// Where it is mounted, seen from the asking thread's root directory.
    pub target: PathBuf,
    /// Whether this mount is read-only.
    pub read_only: bool,
    /// Whether set-user-ID bits are ignored on it.
    pub no_suid: bool,
    /// Whether device files are ignored on it.
    pub no_dev: bool,
    /// Whether nothing propagates into or out of it.
    pub private: bool,
}

impl MountFacts {
    /// The facts that a line of the mount table holds.
    pub fn of_row(row: &MountRow) -> Self {
        Self {
            id: MountId {
                number: row.id,
                unique: false,
            },
            table_id: row.id,
            device: row.device,
            fs_type: row.fs_type.clone(),
            root: row.root.clone(),
            target: row.target.clone(),
            read_only: row.has_option("ro"),
            no_suid: row.has_option("nosuid"),
            no_dev: row.has_option("nodev"),
            private: row.is_private(),
        }
    }
}

impl MountFacts {
    /// Whether the kernel shows `/` for every mount of this file system, whatever part of it is
    /// mounted (`show_path` in the kernel's fs/nfs/super.c).
    fn hides_its_root(&self) -> bool {
        self.root == Path::new("/")
            && [OsStr::new("nfs"), OsStr::new("nfs4")].contains(&&*self.fs_type)
    }
}

/// What a mount has to be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expected {
    /// The accepted file system types, in full (`nfs4`, `fuse.glusterfs`). Empty accepts none.
    pub fs_types: Vec<String>,
    /// The sub-directory that was asked for: what of the file system is mounted must end with it.
    pub subdirectory: Option<PathBuf>,
}

impl Expected {
    /// A mount of one of these types.
    pub fn types<T: Into<String>>(fs_types: impl IntoIterator<Item = T>) -> Self {
        Self {
            fs_types: fs_types.into_iter().map(Into::into).collect(),
            subdirectory: None,
        }
    }

    /// The same, showing `directory` of the file system.
    #[must_use]
    pub fn subdirectory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.subdirectory = Some(directory.into());
        self
    }

    /// Whether `facts` are as expected; `path` is named in the error.
    ///
    /// # Errors
    /// [`MountError::WrongFileSystem`] or [`MountError::WrongRoot`].
    pub fn check(&self, path: &Path, facts: &MountFacts) -> Result<(), MountError> {
        let accepted = |fs_type: &String| OsStr::new(fs_type) == facts.fs_type;
        if !self.fs_types.iter().any(accepted) {
            return Err(MountError::WrongFileSystem {
                path: path.to_owned(),
                expected: self.fs_types.join(" or "),
                found: facts.fs_type.to_string_lossy().into_owned(),
            });
        }
        match &self.subdirectory {
            // As a relative path: `ends_with` of an absolute one would ask for equality.
            Some(wanted)
                if !facts.hides_its_root()
                    && !facts
                        .root
                        .ends_with(wanted.strip_prefix("/").unwrap_or(wanted)) =>
            {
                Err(MountError::WrongRoot {
                    path: path.to_owned(),
                    expected: wanted.clone(),
                    found: facts.root.clone(),
                })
            }
            _ => Ok(()),
        }
    }
}

/// Whether `statmount(2)` answers here: Linux 6.8 and later, outside old seccomp filters.
pub fn statmount_works() -> bool {
    static WORKS: OnceLock<bool> = OnceLock::new();
    *WORKS.get_or_init(|| {
        let number = mount_number(CWD, "/", STATX_MNT_ID_UNIQUE);
        number.is_ok_and(|number| statmount(number).is_ok())
    })
}

/// The facts of the mount that `fd` refers to, and whether `fd` is its root. `table` reads the mount
/// table of the namespace that the mount is in, which must be the calling thread's.
pub(crate) fn facts_of_path_fd(
    fd: impl AsFd,
    lookup: Lookup,
    table: impl Fn() -> io::Result<MountTable>,
) -> io::Result<(MountFacts, bool)> {
    let fd = fd.as_fd();
    if lookup == Lookup::Auto && statmount_works() {
        let (number, is_root) = identity(fd, "", STATX_MNT_ID_UNIQUE)?;
        if let Some(facts) = statmount(number)? {
            return Ok((facts, is_root));
        }
    }
    let (number, is_root) = identity(fd, "", STATX_MNT_ID)?;
    let table = table()?;
    let row = table.by_id(number).ok_or(io::ErrorKind::NotFound)?;
    Ok((MountFacts::of_row(row), is_root))
}

/// The facts of the mount that `fd` refers to.
pub(crate) fn facts_of(
    fd: impl AsFd,
    lookup: Lookup,
    table: impl Fn() -> io::Result<MountTable>,
) -> io::Result<MountFacts> {
    facts_of_path_fd(fd, lookup, table).map(|(facts, _)| facts)
}

fn mount_number(fd: BorrowedFd<'_>, path: &str, kind: u32) -> io::Result<u64> {
    identity(fd, path, kind).map(|(number, _)| number)
}

/// The number of the mount that `path` is on, and whether it is the mount's root. Only what the VFS
/// knows itself is asked for, and without synchronisation, so that no server is asked.
fn identity(fd: BorrowedFd<'_>, path: &str, kind: u32) -> io::Result<(u64, bool)> {
    let flags = AtFlags::EMPTY_PATH
        | AtFlags::NO_AUTOMOUNT
        | AtFlags::SYMLINK_NOFOLLOW
        | AtFlags::STATX_DONT_SYNC;
    let answer = statx(fd, path, flags, StatxFlags::from_bits_retain(kind))?;
    if answer.stx_mask & kind == 0 {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let is_root = answer.stx_attributes.contains(StatxAttributes::MOUNT_ROOT);
    Ok((answer.stx_mnt_id, is_root))
}

/// `None` when the kernel does not tell the sub-type of a FUSE file system (before 6.13).
fn statmount(number: u64) -> io::Result<Option<MountFacts>> {
    let mut small = [0; 2048];
    match syscall::statmount(number, ALL, &mut small) {
        Ok(()) => return parse(number, &small),
        Err(error) if error.raw_os_error() == Some(libc::EOVERFLOW) => {}
        Err(error) => return Err(error),
    }
    // Longer paths than usual.
    let mut large = vec![0; 64 * 1024];
    loop {
        match syscall::statmount(number, ALL, &mut large) {
            Ok(()) => return parse(number, &large),
            Err(error)
                if error.raw_os_error() == Some(libc::EOVERFLOW) && large.len() < 16 << 20 =>
            {
                large.resize(large.len() * 4, 0);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Reads a `struct statmount`.
fn parse(number: u64, buffer: &[u8]) -> io::Result<Option<MountFacts>> {
    let answer = Answer(buffer);
    let mask = answer.long(8)?;
    if mask & (SB_BASIC | MNT_BASIC | FS_TYPE) != SB_BASIC | MNT_BASIC | FS_TYPE {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut fs_type = answer.text(36)?;
    if mask & FS_SUBTYPE != 0 {
        let subtype = answer.text(120)?;
        if !subtype.is_empty() {
            fs_type.push(".");
            fs_type.push(subtype);
        }
    } else if fs_type == "fuse" || fs_type == "fuseblk" {
        return Ok(None);
    }
    let attributes = answer.long(64)?;
    let has = |bit: u64| attributes & bit != 0;
    Ok(Some(MountFacts {
        id: MountId {
            number,
            unique: true,
        },
        table_id: answer.int(56)?.into(),
        device: Device {
            major: answer.int(16)?,
            minor: answer.int(20)?,
        },
        fs_type,
        root: answer.text(104)?.into(),
        target: answer.text(108)?.into(),
        read_only: has(libc::MOUNT_ATTR_RDONLY),
        no_suid: has(libc::MOUNT_ATTR_NOSUID),
        no_dev: has(libc::MOUNT_ATTR_NODEV),
        private: answer.long(72)? == libc::MS_PRIVATE,
    }))
}

/// A filled-in `struct statmount`, read by offset.
struct Answer<'a>(&'a [u8]);

impl Answer<'_> {
    fn int(&self, at: usize) -> io::Result<u32> {
        let bytes = self.0[at..].first_chunk();
        bytes
            .map(|bytes| u32::from_ne_bytes(*bytes))
            .ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn long(&self, at: usize) -> io::Result<u64> {
        let bytes = self.0[at..].first_chunk();
        bytes
            .map(|bytes| u64::from_ne_bytes(*bytes))
            .ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// The NUL-terminated string whose offset behind the header stands at `at`. statmount escapes
    /// nothing in it but what mountinfo escapes too.
    fn text(&self, at: usize) -> io::Result<OsString> {
        let start = STATMOUNT_HEADER + self.int(at)? as usize;
        let bytes = self.0.get(start..).ok_or(io::ErrorKind::InvalidData)?;
        let end = bytes.iter().position(|byte| *byte == 0);
        let end = end.ok_or(io::ErrorKind::InvalidData)?;
        Ok(OsString::from_vec(bytes[..end].to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(fs_type: &str, root: &str) -> MountFacts {
        let text = format!("36 35 0:57 {root} /mnt/nas rw - {fs_type} nas:/srv rw\n");
        let table = MountTable::parse(text.as_bytes());
        MountFacts::of_row(table.top_at(Path::new("/mnt/nas")).unwrap())
    }

    #[test]
    fn a_subdirectory_is_required_except_where_the_kernel_does_not_show_it() {
        let expected = Expected::types(["nfs4", "ext4"]).subdirectory("apps/web");
        let check = |fs_type, root| expected.check(Path::new("x"), &facts(fs_type, root));
        assert!(check("ext4", "/apps/web").is_ok());
        assert!(check("nfs4", "/").is_ok());
        for (fs_type, root) in [("ext4", "/"), ("ext4", "/apps/webs"), ("nfs4", "/apps")] {
            let error = check(fs_type, root).unwrap_err();
            assert!(
                matches!(error, MountError::WrongRoot { .. }),
                "{fs_type} {root}"
            );
        }
        assert!(check("nfs", "/").is_err(), "another type");
    }
}
