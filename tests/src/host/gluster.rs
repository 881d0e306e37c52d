//! A Gluster server of the world: one daemon on a loopback address, with one volume that has two
//! copies of everything.

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
/// Its volume.
pub const VOLUME: &str = "gv0";

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
    /// Starts it below `base`, with nothing of the machine's own Gluster in sight.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start(base: &Path) -> Result<Self> {
        let bricks = base.join("bricks");
        fs::create_dir_all(&bricks)?;
        fs::create_dir_all("/run/gluster")?;
        for (place, size) in [
            (Path::new("/var/lib/glusterd"), c"size=16m"),
            (Path::new("/var/log/glusterfs"), c"size=64m"),
            (bricks.as_path(), c"size=64m"),
        ] {
            let flags = MountFlags::NOSUID | MountFlags::NODEV;
            rustix::mount::mount("tmpfs", place, "tmpfs", flags, Some(size))
                .with_context(|| format!("a tmpfs at {}", place.display()))?;
        }
        let bind = format!("management.transport.socket.bind-address={ADDRESS}");
        let started = limited(60, "glusterd")
            .args(["--log-level=WARNING", "--pid-file=/run/glusterd.pid"])
            .args(["--xlator-option", &bind])
            .output()?;
        succeeded("glusterd", &started)?;
        let server = Self { bricks };
        eventually("glusterd answers", Duration::from_secs(60), || {
            Ok(server.gluster(&["pool", "list"]).is_ok())
        })?;
        for name in ["a", "b"] {
            fs::create_dir(server.bricks.join(name))?;
        }
        let bricks = ["a", "b"].map(|name| format!("{ADDRESS}:{}", server.brick(name).display()));
        let create = ["volume", "create", VOLUME, "replica", "2"];
        let bricks = bricks.each_ref().map(String::as_str);
        server.gluster(&[&create, &bricks[..], &["force"]].concat())?;
        server.gluster(&["volume", "start", VOLUME])?;
        Ok(server)
    }

    /// `gluster ARGUMENTS…`, which must succeed; its output.
    ///
    /// # Errors
    /// When it fails.
    pub fn gluster(&self, arguments: &[&str]) -> Result<String> {
        let output = limited(60, "gluster")
            .arg("--mode=script")
            .args(arguments)
            .output()?;
        succeeded(&format!("gluster {}", arguments.join(" ")), &output)
    }

    /// Where a brick (`a` or `b`) keeps its copies.
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
    process::with(&["--no-daemon", &format!("--volfile-id={VOLUME}")])
}
