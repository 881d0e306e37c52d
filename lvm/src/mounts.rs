//! The container's private mounts, one for each volume that is in use, found again by the mount
//! table after a restart of the plugin host.

use std::fs;
use std::path::{Path, PathBuf};

use lazarette_plugin::command::Command;
use lazarette_plugin::linux::mountinfo::{MountRow, MountTable};
pub(crate) use lazarette_plugin::mount::unmount;
use lazarette_plugin::{Error, ErrorKind, Host, Result, VolumeId};

use crate::file_system::FileSystem;
use crate::lvm::Time;
use crate::message;
use crate::programs::Programs;

/// Where a volume is mounted in this container.
pub(crate) fn place(host: &Host, id: VolumeId) -> PathBuf {
    host.mounts().join(id.to_string())
}

/// Whether something is mounted at `path`, by the mount table.
pub(crate) fn mounted(path: &Path) -> Result<Option<MountRow>> {
    let table = MountTable::of_self()
        .map_err(|e| Error::internal("the mount table cannot be read").cause(e))?;
    Ok(table.top_at(path).cloned())
}

/// Mounts the file system on `node` at `path`, unless one is mounted there.
pub(crate) fn mount(
    programs: &Programs,
    time: Time<'_>,
    (fs, node): (FileSystem, &Path),
    path: &Path,
    writable: bool,
) -> Result<()> {
    let what = || format!("cannot mount {}", node.display());
    fs::create_dir_all(path).map_err(|e| Error::internal(what()).cause(e))?;
    if mounted(path)?.is_some() {
        return Ok(());
    }
    let mut options = fs.mount_options().to_owned();
    if !writable {
        options.push_str(",ro");
    }
    let ran = Command::new(&programs.mount)
        .args(["--no-mtab", "--internal-only", "--types", fs.name()])
        .args(["--options", &options, "--source"])
        .arg(node)
        .arg("--target")
        .arg(path)
        .deadline(time.left())
        .run();
    match ran {
        Ok(_) => Ok(()),
        Err(failed) => {
            // An empty directory that is left is of no use to anybody.
            let _ = fs::remove_dir(path);
            Err(explain(fs, message::explain(&failed, &what())))
        }
    }
}

/// mount(8) says much the same whatever is wrong.
fn explain(fs: FileSystem, error: Error) -> Error {
    let cause = error.cause.clone().unwrap_or_default();
    let says = |part: &str| cause.contains(part);
    if says("already mounted") || says("busy") {
        let remedy = "it is mounted elsewhere with other options: unmount it there";
        return Error::new(ErrorKind::Busy, error.message)
            .cause(cause)
            .remedy(remedy);
    }
    if says("unknown filesystem type") {
        let remedy = format!(
            "the host's kernel lacks {}: load or install its module",
            fs.name()
        );
        return Error::new(ErrorKind::Unsupported, error.message)
            .cause(cause)
            .remedy(remedy);
    }
    if says("Structure needs cleaning") || says("superblock") {
        let remedy = "the file system is damaged: see dmesg, and check it while it is not in use (docs/lvm.md)";
        return Error::new(ErrorKind::Internal, error.message)
            .cause(cause)
            .remedy(remedy);
    }
    error
}

/// All that is mounted below the host's directory.
pub(crate) fn all(host: &Host) -> Result<Vec<PathBuf>> {
    let table = MountTable::of_self()
        .map_err(|e| Error::internal("the mount table cannot be read").cause(e))?;
    let below = table.below(host.mounts());
    // The directory itself may be a mount, too: the container's tmpfs.
    Ok(below
        .map(|row| row.target.clone())
        .filter(|target| target != host.mounts())
        .collect())
}
