//! What can be seen of a plugin from outside.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use lazarette_linux::mountinfo::{MountRow, MountTable};

use super::Failed;

/// What a plugin has at one moment.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Its mounts below its directory, from the oldest.
    pub mounts: Vec<MountRow>,
    /// The names in its directory.
    pub entries: BTreeSet<OsString>,
    /// The processes in its mount namespace.
    pub processes: BTreeSet<i32>,
    /// How many descriptors the serving process has open.
    pub descriptors: usize,
    /// How many threads it has.
    pub threads: usize,
}

impl Facts {
    /// Looks at the process `pid`, which mounts below `mounts`.
    pub(super) fn of(pid: i32, mounts: &Path) -> Result<Self, Failed> {
        let gone =
            |e: std::io::Error| Failed::new(format!("the plugin's process {pid} is gone: {e}"));
        let table = MountTable::of_pid(pid).map_err(gone)?;
        // Reads a directory that the plugin's own mounts lie in, never one of them.
        let directory = below_root(pid, mounts);
        let entries = std::fs::read_dir(directory)
            .map_err(gone)?
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<Result<_, _>>()?;
        let count =
            |what: &str| std::fs::read_dir(format!("/proc/{pid}/{what}")).map(Iterator::count);
        Ok(Self {
            mounts: table
                .below(mounts)
                .filter(|row| row.target != mounts)
                .cloned()
                .collect(),
            entries,
            processes: processes_beside(pid)?,
            descriptors: count("fd").map_err(gone)?,
            threads: count("task").map_err(gone)?,
        })
    }

    /// The mounts and directories whose names contain `text`.
    pub fn named(&self, text: &str) -> Vec<String> {
        let mounts = self
            .mounts
            .iter()
            .map(|row| row.target.display().to_string());
        let entries = self
            .entries
            .iter()
            .map(|name| name.to_string_lossy().into_owned());
        mounts
            .map(|target| format!("the mount {target}"))
            .chain(entries.map(|name| format!("the directory {name}")))
            .filter(|found| found.contains(text))
            .collect()
    }

    /// The mounts exactly at `path`.
    pub fn at(&self, path: &Path) -> Vec<&MountRow> {
        self.mounts
            .iter()
            .filter(|row| row.target == path)
            .collect()
    }
}

/// `path` of the process `pid` as this process sees it.
pub(crate) fn below_root(pid: i32, path: &Path) -> PathBuf {
    let inner = path.strip_prefix("/").unwrap_or(path);
    Path::new("/proc")
        .join(pid.to_string())
        .join("root")
        .join(inner)
}

/// The processes in the mount namespace of `pid`, itself among them.
fn processes_beside(pid: i32) -> Result<BTreeSet<i32>, Failed> {
    let namespace = |pid: i32| {
        let metadata = std::fs::metadata(format!("/proc/{pid}/ns/mnt"))?;
        Ok::<_, std::io::Error>((metadata.dev(), metadata.ino()))
    };
    Ok(processes_in(namespace(pid)?))
}

/// The processes whose mount namespace is the one with this device and inode number.
pub(super) fn processes_in(wanted: (u64, u64)) -> BTreeSet<i32> {
    let Ok(all) = std::fs::read_dir("/proc") else {
        return BTreeSet::new();
    };
    all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid: &i32| {
            std::fs::metadata(format!("/proc/{pid}/ns/mnt"))
                .is_ok_and(|found| (found.dev(), found.ino()) == wanted)
        })
        .collect()
}
