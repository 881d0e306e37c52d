//! The kernel's mount table, `/proc/PID/mountinfo`, read as hostile input.
//!
//! Names in it are chosen by users and by servers: any byte may occur, blanks and backslashes as
//! octal escapes. A line that does not parse is reported in [`MountTable::bad`], never skipped in
//! silence and never the end of reading. Format: proc_pid_mountinfo(5).
//!
//! Reading the table asks no server and does not block on a dead one.

mod parse;
mod watch;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

pub use watch::Watch;

/// Above this, a mount table is refused: 16 MiB per 10,000 mounts is ordinary, this is not.
const MAX_BYTES: u64 = 256 * 1024 * 1024;

/// A device number, `major:minor`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Device {
    /// Major number; 0 for file systems without a block device.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// One mount, as a line of the table tells it. All escapes are decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountRow {
    /// ID of the mount; reused after it is gone.
    pub id: u64,
    /// ID of the mount that it is mounted on; its own ID at the top of a tree.
    pub parent: u64,
    /// The file system's device.
    pub device: Device,
    /// What of the file system is mounted, as a path from its root. For things that are no
    /// directory trees (namespace files) it is a name such as `mnt:[4026531841]`.
    pub root: PathBuf,
    /// True when the directory `root` has been deleted in the file system.
    pub root_deleted: bool,
    /// Where it is mounted, seen from the root directory of the process that was asked.
    pub target: PathBuf,
    /// Options of this mount, such as `rw,nosuid,relatime`.
    pub options: OsString,
    /// Propagation, such as `shared:12`, `master:3`; empty for a private mount.
    pub optional: Vec<OsString>,
    /// File system type, with sub-type: `ext4`, `nfs4`, `fuse.glusterfs`.
    pub fs_type: OsString,
    /// What was mounted: a device, `server:/export`, any text.
    pub source: OsString,
    /// Options of the file system.
    pub super_options: OsString,
}

impl MountRow {
    /// True when `option` is among the options of this mount.
    pub fn has_option(&self, option: &str) -> bool {
        use std::os::unix::ffi::OsStrExt;
        let mut options = self.options.as_bytes().split(|byte| *byte == b',');
        options.any(|one| one == option.as_bytes())
    }

    /// True when nothing propagates into or out of this mount.
    pub fn is_private(&self) -> bool {
        self.optional.is_empty()
    }
}

/// A line that could not be understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRow {
    /// Line number, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: &'static str,
    /// The beginning of the line, printable.
    pub excerpt: String,
}

/// A mount table: rows in the kernel's order (parents before children, lower before upper).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MountTable {
    /// The lines that parsed.
    pub rows: Vec<MountRow>,
    /// The lines that did not.
    pub bad: Vec<BadRow>,
}

impl MountTable {
    /// Parses the content of a `mountinfo` file. Accepts any bytes.
    pub fn parse(bytes: &[u8]) -> Self {
        parse::table(bytes)
    }

    /// The table of this process' main thread.
    ///
    /// # Errors
    /// When it cannot be read; the message names the file.
    pub fn of_self() -> io::Result<Self> {
        Self::read_path(Path::new("/proc/self/mountinfo"))
    }

    /// The table of the calling thread, which may be in another mount namespace than the process.
    ///
    /// # Errors
    /// As [`MountTable::of_self`]. Inside [`MountNamespace::enter`](crate::namespace::MountNamespace::enter)
    /// use [`Inside::mount_table`](crate::namespace::Inside::mount_table): there, `/proc` may be
    /// another one.
    pub fn of_thread() -> io::Result<Self> {
        Self::read_path(Path::new("/proc/thread-self/mountinfo"))
    }

    /// The table of process `pid`.
    ///
    /// # Errors
    /// As [`MountTable::of_self`]; `NotFound` when there is no such process.
    pub fn of_pid(pid: i32) -> io::Result<Self> {
        Self::read_path(Path::new(&format!("/proc/{pid}/mountinfo")))
    }

    /// Reads an open `mountinfo` file.
    ///
    /// # Errors
    /// When reading fails, or there are more than 256 MiB.
    pub fn read(mut file: &File) -> io::Result<Self> {
        let mut bytes = Vec::with_capacity(32 * 1024);
        (&mut file).take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the mount table is larger than 256 MiB",
            ));
        }
        Ok(Self::parse(&bytes))
    }

    fn read_path(path: &Path) -> io::Result<Self> {
        File::open(path)
            .and_then(|file| Self::read(&file))
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
    }

    /// The mount with this (reusable) ID.
    pub fn by_id(&self, id: u64) -> Option<&MountRow> {
        self.rows.iter().find(|row| row.id == id)
    }

    /// The mount that a look-up of `target` ends on: of those mounted exactly there, the one that no
    /// other one there is mounted on.
    pub fn top_at(&self, target: &Path) -> Option<&MountRow> {
        let mut at: Vec<_> = self
            .rows
            .iter()
            .filter(|row| row.target == target)
            .collect();
        let covered: Vec<u64> = at.iter().map(|row| row.parent).collect();
        at.retain(|row| row.id == row.parent || !covered.contains(&row.id));
        at.last().copied()
    }

    /// The mounts at or below `directory`, in the kernel's order.
    pub fn below<'a>(&'a self, directory: &'a Path) -> impl Iterator<Item = &'a MountRow> {
        self.rows
            .iter()
            .filter(move |row| row.target.starts_with(directory))
    }

    /// The mounts of file systems of type `fs_type`.
    pub fn of_type<'a>(&'a self, fs_type: &'a OsStr) -> impl Iterator<Item = &'a MountRow> {
        self.rows.iter().filter(move |row| row.fs_type == fs_type)
    }
}

#[cfg(test)]
mod tests;
