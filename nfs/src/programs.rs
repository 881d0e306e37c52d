//! The programs that an NFS container has.

use std::path::PathBuf;

/// Where they are. Tests put stand-ins in their place.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    /// mount.nfs(8), for NFS 3.
    pub(crate) mount_nfs: PathBuf,
    /// mount.nfs4(8).
    pub(crate) mount_nfs4: PathBuf,
    /// stat(1).
    pub(crate) stat: PathBuf,
    /// rpcbind(8).
    pub(crate) rpcbind: PathBuf,
    /// rpc.statd(8).
    pub(crate) statd: PathBuf,
    /// The file system types that the mount programs leave behind.
    pub(crate) fs_types: &'static [&'static str],
}

impl Default for Programs {
    fn default() -> Self {
        Self {
            mount_nfs: "/sbin/mount.nfs".into(),
            mount_nfs4: "/sbin/mount.nfs4".into(),
            stat: "/usr/bin/stat".into(),
            rpcbind: "/sbin/rpcbind".into(),
            statd: "/sbin/rpc.statd".into(),
            fs_types: &["nfs", "nfs4"],
        }
    }
}
