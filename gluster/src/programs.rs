//! The programs that a Gluster container has, and where it keeps files.

use std::fs;
use std::path::PathBuf;

/// The host's directory with the socket of its glusterd.
pub(crate) const SOCKETS: &str = "/run/glusterd";

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
    /// gluster(8), which speaks to glusterd.
    pub(crate) gluster: PathBuf,
    /// glfsheal, which asks bricks what is to be healed.
    pub(crate) glfsheal: PathBuf,
    /// The socket of this host's own glusterd, if it is a peer.
    pub(crate) socket: PathBuf,
    /// Where those programs write their logs.
    pub(crate) tool_logs: PathBuf,
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
            gluster: "/usr/sbin/gluster".into(),
            glfsheal: glfsheal(),
            socket: PathBuf::from(SOCKETS).join("glusterd.socket"),
            tool_logs: "/var/log/glusterfs".into(),
            logs: "/run/gluster-clients".into(),
            records: "/run/lazarette/gluster".into(),
            fs_types: &["fuse.glusterfs"],
        }
    }
}

/// It lies beside Gluster's own libraries, whose directory is named after the processor.
fn glfsheal() -> PathBuf {
    let processors = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let there = processors
        .map(|entry| entry.path().join("glusterfs/glfsheal"))
        .find(|path| path.exists());
    there.unwrap_or_else(|| "/usr/libexec/glusterfs/glfsheal".into())
}
