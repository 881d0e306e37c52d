//! A Gluster server of the world: one daemon on a loopback address, with volumes that have two copies
//! of everything. Its socket is where a context expects that of a peer.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::mount::MountFlags;
use rustix::process::Signal;

use super::eventually;
use super::process::{self, limited, succeeded};
use super::programs::in_path;

/// Its address: of loopback, but not the one that Gluster refuses to have bricks on.
pub const ADDRESS: &str = "127.1.1.1";
/// Its first volume.
pub const VOLUME: &str = "gv0";
/// Where it takes orders.
const SOCKET: &str = "/run/glusterd/glusterd.socket";

/// The server. It ends with the suite's namespaces.
pub struct GlusterServer {
    bricks: PathBuf,
}

/// What this machine lacks for one, if anything.
pub fn missing() -> Option<String> {
    let programs = ["glusterd", "gluster", "glusterfs", "getfattr"];
    let absent = programs.iter().find(|name| in_path(name).is_none());
    absent.map(|name| format!("needs {name} (Debian packages glusterfs-server and attr)"))
}

/// Where the client's translators are.
pub(super) fn translators() -> Result<PathBuf> {
    let output = limited(20, "glusterfs").arg("--print-xlatordir").output()?;
    let text = succeeded("glusterfs --print-xlatordir", &output)?;
    // Transports lie beside them.
    let above = Path::new(text.trim()).parent();
    above.map(Into::into).context("no directory of translators")
}

impl GlusterServer {
    /// Starts it below `base`, unless it runs, with nothing of the machine's own Gluster in sight.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start(base: &Path) -> Result<Self> {
        let server = Self {
            bricks: base.join("bricks"),
        };
        if server.gluster(&["pool", "list"]).is_ok() {
            return Ok(server);
        }
        let bricks = &server.bricks;
        fs::create_dir_all(bricks)?;
        fs::create_dir_all("/run/gluster")?;
        fs::create_dir_all("/run/glusterd")?;
        // Some of its own programs know no other place.
        std::os::unix::fs::symlink(SOCKET, "/run/glusterd.socket")?;
        for (place, size) in [
            (Path::new("/var/lib/glusterd"), c"size=16m"),
            (Path::new("/var/log/glusterfs"), c"size=64m"),
            (bricks.as_path(), c"size=128m"),
        ] {
            let flags = MountFlags::NOSUID | MountFlags::NODEV;
            rustix::mount::mount("tmpfs", place, "tmpfs", flags, Some(size))
                .with_context(|| format!("a tmpfs at {}", place.display()))?;
        }
        let bind = format!("management.transport.socket.bind-address={ADDRESS}");
        let started = limited(60, "glusterd")
            .args(["--log-level=WARNING", "--pid-file=/run/glusterd.pid"])
            .args(["--xlator-option", &bind])
            .args([
                "--xlator-option",
                &format!("management.glusterd-sockfile={SOCKET}"),
            ])
            .output()?;
        succeeded("glusterd", &started)?;
        eventually("glusterd answers", Duration::from_secs(60), || {
            Ok(server.gluster(&["pool", "list"]).is_ok())
        })?;
        server.volume(VOLUME, ["a", "b"])?;
        Ok(server)
    }

    /// Makes and starts a volume of two copies on two bricks.
    ///
    /// # Errors
    /// When there is one of that name.
    pub fn volume(&self, name: &str, bricks: [&str; 2]) -> Result<()> {
        let mut places = Vec::new();
        for brick in bricks {
            places.push(self.place(brick)?);
        }
        let places: Vec<&str> = places.iter().map(String::as_str).collect();
        let create = ["volume", "create", name, "replica", "2"];
        self.gluster(&[&create, &places[..], &["force"]].concat())?;
        self.gluster(&["volume", "start", name]).map(drop)
    }

    /// Where a brick, which is made if need be, is to Gluster: `SERVER:/DIRECTORY`.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn place(&self, brick: &str) -> Result<String> {
        fs::create_dir_all(self.bricks.join(brick))?;
        Ok(format!("{ADDRESS}:{}", self.brick(brick).display()))
    }

    /// `gluster ARGUMENTS…`, which must succeed; its output.
    ///
    /// # Errors
    /// When it fails.
    pub fn gluster(&self, arguments: &[&str]) -> Result<String> {
        let output = limited(60, "gluster")
            .args(["--mode=script", &format!("--glusterd-sock={SOCKET}")])
            .args(arguments)
            .output()?;
        succeeded(&format!("gluster {}", arguments.join(" ")), &output)
    }

    /// Where a brick (`a`, `b`, …) keeps its copies.
    pub fn brick(&self, name: &str) -> PathBuf {
        self.bricks.join(name).join("files")
    }

    /// Kills the daemon of a brick.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill_brick(&self, name: &str) -> Result<()> {
        let path = self.brick(name).display().to_string();
        let brick = process::with(&["--brick-name", &path])?.context("the brick does not run")?;
        process::signal(brick, Signal::KILL)
    }
}

/// The client of the volume in a storage container, if there is one.
///
/// # Errors
/// When processes cannot be looked at.
pub fn client() -> Result<Option<i32>> {
    client_of(VOLUME)
}

/// The client of another volume.
///
/// # Errors
/// When processes cannot be looked at.
pub fn client_of(volume: &str) -> Result<Option<i32>> {
    process::with(&["--no-daemon", &format!("--volfile-id={volume}")])
}
