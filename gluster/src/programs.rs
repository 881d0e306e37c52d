//! The programs that a Gluster container has, and where it keeps files.

use std::path::PathBuf;

/// Where they are. Tests put stand-ins in their place.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    /// glusterfs(8), the FUSE client.
    pub(crate) glusterfs: PathBuf,
    /// stat(1).
    pub(crate) stat: PathBuf,
    /// cat(1).
    pub(crate) cat: PathBuf,
    /// tail(1).
    pub(crate) tail: PathBuf,
    /// getfattr(1).
    pub(crate) getfattr: PathBuf,
    /// Where clients write their logs.
    pub(crate) logs: PathBuf,
    /// What outlives the container, but not the machine's boot.
    pub(crate) records: PathBuf,
    /// The file system types that a client leaves behind.
    pub(crate) fs_types: &'static [&'static str],
}

impl Default for Programs {
    fn default() -> Self {
        Self {
            glusterfs: "/usr/sbin/glusterfs".into(),
            stat: "/usr/bin/stat".into(),
            cat: "/usr/bin/cat".into(),
            tail: "/usr/bin/tail".into(),
            getfattr: "/usr/bin/getfattr".into(),
            logs: "/run/gluster-clients".into(),
            records: "/run/lazarette/gluster".into(),
            fs_types: &["fuse.glusterfs"],
        }
    }
}
