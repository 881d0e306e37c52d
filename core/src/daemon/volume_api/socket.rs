//! The socket itself: made whole before anybody can see it, taken away at the end.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};

use super::{Scope, VolumeBackend, server};
use crate::error::{Error, ErrorKind, Result};
use crate::name::Kind;

/// The group that may look at the socket's permissions; the peer must be root all the same.
const GROUP: &str = "docker";

/// A listening socket of the volume API for one kind. From [`bind`](Self::bind) on, dockerd's
/// calls queue up; they are answered once [`serve`](Self::serve) runs. The socket is removed when
/// this ends, as long as it is still this very one.
#[derive(Debug)]
pub struct VolumeSocket {
    kind: Kind,
    scope: Scope,
    listener: UnixListener,
    _file: SocketFile,
}

impl VolumeSocket {
    /// Listens on `path` (usually `/run/docker/plugins/KIND.sock`), mode 0660, group `docker` if
    /// there is one. Replaces what a killed predecessor has left there.
    ///
    /// # Errors
    /// `Busy` if somebody serves there already, `AlreadyExists` if `path` is no socket, else the
    /// operating system's reason.
    pub async fn bind(kind: Kind, path: impl Into<PathBuf>, scope: Scope) -> Result<Self> {
        let (listener, file) = listen_at(path.into()).await?;
        Ok(Self {
            kind,
            scope,
            listener,
            _file: file,
        })
    }

    /// The kind served.
    pub fn kind(&self) -> &Kind {
        &self.kind
    }

    /// Answers until `stop` ends: then no further connection is taken, the socket is removed,
    /// and calls under way have ten seconds to finish.
    pub async fn serve(self, backend: impl VolumeBackend, stop: impl Future<Output = ()>) {
        let Self {
            kind,
            scope,
            listener,
            _file: file,
        } = self;
        server::run(kind, scope, listener, backend, async move {
            stop.await;
            drop(file);
        })
        .await;
    }
}

/// Listens on `path` as [`VolumeSocket::bind`] does.
pub(crate) async fn listen_at(path: PathBuf) -> Result<(UnixListener, SocketFile)> {
    refuse_to_displace(&path).await?;
    listen(path.clone()).map_err(|error| {
        Error::internal(format!("cannot listen on {}", path.display()))
            .cause(error)
            .remedy("run laz-core as root and make its directory writable")
    })
}

/// The name of a socket in the file system, and which socket it was; removed when dropped.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == self.identity);
        if !ours {
            return;
        }
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::error!(
                "cannot remove {}: {error}; remove it, or every `docker volume ls` will be slow",
                self.path.display()
            );
        }
    }
}

async fn refuse_to_displace(path: &Path) -> Result<()> {
    let Ok(found) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !found.file_type().is_socket() {
        return Err(Error::new(
            ErrorKind::AlreadyExists,
            format!("cannot listen on {}: it is not a socket", path.display()),
        )
        .remedy("move it away"));
    }
    let attempt = tokio::time::timeout(Duration::from_secs(1), UnixStream::connect(path)).await;
    let dead = matches!(&attempt, Ok(Err(e)) if e.kind() == io::ErrorKind::ConnectionRefused || e.kind() == io::ErrorKind::NotFound);
    if dead {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Busy,
        format!(
            "cannot listen on {}: another process serves there",
            path.display()
        ),
    )
    .remedy("stop it (is laz-core running already?)"))
}

/// Makes the socket under a name of its own, with its final owner and mode, and only then gives
/// it `path`: nobody sees a half-made one, and a dead one is replaced in one step.
fn listen(path: PathBuf) -> io::Result<(UnixListener, SocketFile)> {
    let missing = || io::Error::new(io::ErrorKind::InvalidInput, "not the path of a file");
    let directory = path.parent().ok_or_else(missing)?;
    let name = path.file_name().ok_or_else(missing)?.to_string_lossy();
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(directory)?;
    let unfinished = directory.join(format!(".{name}.new"));
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&unfinished)?;
    let finish = || {
        fs::set_permissions(&unfinished, fs::Permissions::from_mode(0o660))?;
        if let Some(gid) = group_id(&fs::read_to_string("/etc/group").unwrap_or_default(), GROUP) {
            // Without privilege (as in a test) the socket stays in our own group.
            if let Err(error) = chown(&unfinished, None, Some(gid)) {
                tracing::warn!("cannot give {} to group {GROUP}: {error}", path.display());
            }
        }
        let made = fs::symlink_metadata(&unfinished)?;
        fs::rename(&unfinished, &path)?;
        Ok((made.dev(), made.ino()))
    };
    match finish() {
        Ok(identity) => Ok((listener, SocketFile { path, identity })),
        Err(error) => {
            // The first error is the one to tell.
            let _ = fs::remove_file(&unfinished);
            Err(error)
        }
    }
}

/// The number of a group in the text of `/etc/group`; no name service is asked.
fn group_id(groups: &str, name: &str) -> Option<u32> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then_some(())?;
        fields.nth(1)?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind() -> Kind {
        Kind::new("test").unwrap()
    }

    #[test]
    fn the_group_is_found_by_its_whole_name() {
        let groups = "root:x:0:\ndocker-x:x:5:\ndocker:x:106:ann,bob\nbroken\n";
        assert_eq!(group_id(groups, "docker"), Some(106));
        assert_eq!(group_id(groups, "dock"), None);
        assert_eq!(group_id(groups, "broken"), None);
        assert_eq!(group_id("", "docker"), None);
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_a_live_one_and_a_file_are_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("plugins/test.sock");
        fs::create_dir(path.parent().unwrap()).unwrap();
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "the stale socket is there");

        let socket = VolumeSocket::bind(kind(), &path, Scope::Local)
            .await
            .unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o660);
        let second = VolumeSocket::bind(kind(), &path, Scope::Local).await;
        assert_eq!(second.unwrap_err().kind, ErrorKind::Busy);
        assert!(path.exists(), "the refused one took nothing away");
        drop(socket);
        assert!(!path.exists(), "removed at the end");

        fs::write(&path, "precious").unwrap();
        let third = VolumeSocket::bind(kind(), &path, Scope::Local).await;
        assert_eq!(third.unwrap_err().kind, ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[tokio::test]
    async fn the_socket_of_a_successor_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("test.sock");
        let first = VolumeSocket::bind(kind(), &path, Scope::Local)
            .await
            .unwrap();
        fs::remove_file(&path).unwrap();
        let second = VolumeSocket::bind(kind(), &path, Scope::Local)
            .await
            .unwrap();
        drop(first);
        assert!(path.exists());
        drop(second);
        assert!(!path.exists());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
