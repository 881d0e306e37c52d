//! The private mounts of this container: one for each volume, below the host's directory and named
//! by the volume's identity. After a restart of the plugin host the mount table tells them.

use std::ffi::CString;
use std::fs;
use std::path::{Path, PathBuf};

use lazarette_plugin::linux::mountinfo::MountTable;
use lazarette_plugin::{Error, ErrorKind, Host, Result, VolumeId, mount};
use rustix::io::Errno;
use rustix::mount::MountFlags;

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    /// The dataset, or the device of a zvol.
    pub(crate) what: String,
    /// The file system type.
    pub(crate) fs_type: &'static str,
    /// Options of the file system.
    pub(crate) data: Option<&'static str>,
}

/// The private mounts.
pub(crate) struct Mounts {
    host: Host,
}

impl Mounts {
    /// Those below the host's directory.
    pub(crate) fn new(host: Host) -> Self {
        Self { host }
    }

    /// Where a volume is mounted, or would be.
    pub(crate) fn place(&self, volume: VolumeId) -> PathBuf {
        self.host.mounts().join(volume.to_string())
    }

    /// Mounts a volume; nothing if it is mounted.
    ///
    /// # Errors
    /// What the kernel refuses; `AlreadyExists` if something else is mounted there.
    pub(crate) fn mount(&self, volume: VolumeId, source: &Source) -> Result<PathBuf> {
        let place = self.place(volume);
        if let Some(found) = mounted_at(&place)? {
            if found == source.what {
                return Ok(place);
            }
            mount::unmount(&place)?;
        }
        fs::create_dir_all(&place)
            .map_err(|e| Error::internal(format!("cannot make {}", place.display())).cause(e))?;
        let data = source
            .data
            .map(|text| CString::new(text).expect("a constant without NUL"));
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        rustix::mount::mount(
            source.what.as_str(),
            &place,
            source.fs_type,
            flags,
            data.as_deref(),
        )
        .map_err(|errno| {
            // Empty: nothing is lost.
            let _ = fs::remove_dir(&place);
            refused(source, errno)
        })?;
        Ok(place)
    }

    /// Takes a volume's mount away, if there is one.
    ///
    /// # Errors
    /// `Busy` if something in this container uses it.
    pub(crate) fn unmount(&self, volume: VolumeId) -> Result<()> {
        mount::unmount(&self.place(volume))
    }

    /// Whether a volume is mounted here.
    ///
    /// # Errors
    /// When the mount table cannot be read.
    pub(crate) fn is_mounted(&self, volume: VolumeId) -> Result<bool> {
        Ok(mounted_at(&self.place(volume))?.is_some())
    }

    /// Takes all mounts away.
    ///
    /// # Errors
    /// `Busy` naming the first that something in this container uses.
    pub(crate) fn close(&self) -> Result<()> {
        let table = table()?;
        let mut below: Vec<PathBuf> = table
            .below(self.host.mounts())
            .map(|row| row.target.clone())
            .collect();
        below.sort();
        for place in below
            .iter()
            .rev()
            .filter(|place| *place != self.host.mounts())
        {
            mount::unmount(place)?;
        }
        Ok(())
    }
}

fn table() -> Result<MountTable> {
    MountTable::of_thread().map_err(|e| Error::internal("cannot read the mount table").cause(e))
}

fn mounted_at(place: &Path) -> Result<Option<String>> {
    let table = table()?;
    let row = table.top_at(place);
    Ok(row.map(|row| row.source.to_string_lossy().into_owned()))
}

fn refused(source: &Source, errno: Errno) -> Error {
    let (kind, remedy) = match errno {
        Errno::NOENT | Errno::NODEV => (ErrorKind::NotFound, "look at laz status"),
        Errno::ACCESS | Errno::PERM => (
            ErrorKind::PermissionDenied,
            "if it is encrypted, set key; else look at laz logs CONTEXT",
        ),
        Errno::BUSY => (ErrorKind::Busy, "try again"),
        Errno::IO => (
            ErrorKind::Unreachable,
            "look at laz status for the pool's devices",
        ),
        _ => (ErrorKind::Internal, "look at laz logs CONTEXT"),
    };
    Error::new(kind, format!("cannot mount {}", source.what))
        .cause(errno)
        .remedy(remedy)
}
