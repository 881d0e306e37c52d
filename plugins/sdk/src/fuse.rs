//! Volumes that a FUSE client serves: each has a directory of its own below [`Host::mounts`], named
//! by its identity, and a client of its own that stays in the foreground (`sshfs -f`).
//!
//! A client outlives the plugin: the next plugin host finds its mount. It ends when nobody has a
//! copy of its mount any more.
//!
//! ```no_run
//! use lazarette_plugin::{Call, Error, Host, Result, VolumeId, command::Command, fuse};
//!
//! fn prepare(call: &Call, host: &Host, volume: VolumeId) -> Result<std::path::PathBuf> {
//!     let place = fuse::place(host, volume);
//!     let client = Command::new("/usr/bin/bindfs").args(["-f", "/srv"]).arg(&place);
//!     fuse::ensure(call, client, &place, |said| Error::internal("cannot mount /srv").cause(said))?;
//!     Ok(place)
//! }
//! ```

use std::fs::{self, File};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use lazarette_linux::command::{ChildOutput, Command};

use crate::monitor::{Look, Monitor};
use crate::values::ServerName;
use crate::{
    Call, Error, ErrorKind, Health, HealthState, Host, Result, VolumeHealth, VolumeId, mount,
};

/// How long a mount or a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks at mounts and server.
const PERIOD: Duration = Duration::from_secs(2);
/// Between two looks at what a client that starts has done.
const STEP: Duration = Duration::from_millis(20);
/// Where clients write what they have to say; `/run` is a plugin's to write.
const LOGS: &str = "/run/clients";
/// At most so many bytes of that are looked at.
const SAID: usize = 8 * 1024;

/// Where `volume` is mounted in this container: below [`Host::mounts`], by its identity.
pub fn place(host: &Host, volume: VolumeId) -> PathBuf {
    host.mounts().join(volume.to_string())
}

/// Sees to it that something is mounted at `place` and answers: starts `client`, which mounts there
/// and stays in the foreground, unless one serves it already; a dead one is replaced. When the client
/// ends instead, `explain` makes an error of what it has said. Calls for one place must not run side
/// by side.
///
/// # Errors
/// That of `explain`; `Unreachable` if what is mounted does not answer; those of [`Call::check`].
pub fn ensure(
    call: &Call,
    client: Command,
    place: &Path,
    explain: impl FnOnce(&str) -> Error,
) -> Result<()> {
    if mount::fs_type(place)?.is_some() {
        match mount::answers(place, PATIENCE.min(call.remaining())) {
            Err(error) if error.kind == ErrorKind::Stale => mount::unmount(place)?,
            other => return other,
        }
    }
    let failed = |e: std::io::Error| Error::internal("cannot start a client").cause(e);
    fs::create_dir_all(place).map_err(failed)?;
    let log = log(place).map_err(failed)?;
    let file = File::create(&log).map_err(failed)?;
    let child = client
        .session()
        .spawn(ChildOutput::File(file))
        .map_err(|e| Error::internal("cannot start a client").caused_by(&e))?;
    let result = loop {
        if mount::fs_type(place)?.is_some() {
            break Ok(());
        }
        if child.try_wait().map_err(failed)?.is_some() {
            let said = fs::read(&log).unwrap_or_default();
            let said = &said[said.len().saturating_sub(SAID)..];
            break Err(explain(String::from_utf8_lossy(said).trim()));
        }
        if let Err(error) = call.check() {
            child.kill().map_err(failed)?;
            break Err(error);
        }
        thread::sleep(STEP);
    };
    if result.is_err() {
        // The next try makes it again.
        let _ = fs::remove_dir(place);
    }
    result
}

/// The file for the words of the client at `place`.
fn log(place: &Path) -> std::io::Result<PathBuf> {
    let mut maker = fs::DirBuilder::new();
    maker.recursive(true).mode(0o700).create(LOGS)?;
    Ok(Path::new(LOGS).join(place.file_name().unwrap_or_default()))
}

/// Unmounts every volume of this container.
///
/// # Errors
/// Those of [`mount::unmount`].
pub fn close(host: &Host) -> Result<()> {
    places(host)
        .iter()
        .try_for_each(|place| mount::unmount(place))
}

/// Whether `server` takes a connection on `port`, asked for a few seconds.
///
/// # Errors
/// Why not, in words for a person.
pub fn reachable(server: &ServerName, port: u16) -> Result<(), String> {
    let mut why = "it has no address".to_owned();
    let found = (server.as_str(), port).to_socket_addrs();
    for address in found.map_err(|e| format!("{server}: {e}"))? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(_) => return Ok(()),
            Err(error) => why = error.to_string(),
        }
    }
    Err(format!("{server}, port {port}: {why}"))
}

/// The health of a context whose volumes are FUSE mounts, found by a thread that ends with this.
///
/// ```no_run
/// use lazarette_plugin::{Health, Host, Result, fuse, values::ServerName};
///
/// fn watch(host: &Host, server: ServerName) -> Result<fuse::Watch> {
///     fuse::Watch::start(host, move || fuse::reachable(&server, 22))
/// }
/// fn health(watch: &fuse::Watch) -> Health { watch.health() }
/// ```
#[derive(Debug)]
pub struct Watch {
    monitor: Monitor,
}

impl Watch {
    /// Looks every two seconds whether the mounts answer, and has `reachable` say whether the
    /// storage can be reached, or why not.
    ///
    /// # Errors
    /// If there is no thread to be had.
    pub fn start(
        host: &Host,
        reachable: impl Fn() -> Result<(), String> + Send + 'static,
    ) -> Result<Self> {
        let at = host.clone();
        let monitor = Monitor::start(host, Health::healthy(), move |_| Look {
            health: Some(look(&at, &reachable)),
            pause: PERIOD,
        });
        Ok(Self { monitor: monitor? })
    }

    /// What was found last.
    pub fn health(&self) -> Health {
        self.monitor.health()
    }
}

fn places(host: &Host) -> Vec<PathBuf> {
    let entries = fs::read_dir(host.mounts()).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

fn look(host: &Host, reachable: &impl Fn() -> Result<(), String>) -> Health {
    let mut health = match reachable() {
        Ok(()) => Health::healthy(),
        Err(why) => Health::because(HealthState::Unreachable, why),
    };
    for place in places(host) {
        let name = place.file_name().unwrap_or_default().to_string_lossy();
        let (Ok(id), Ok(Some(_))) = (name.parse(), mount::fs_type(&place)) else {
            continue;
        };
        if let Err(error) = mount::answers(&place, PATIENCE)
            && error.kind == ErrorKind::Stale
        {
            health.volumes.push(VolumeHealth {
                id: VolumeId(id),
                state: HealthState::Stale,
                reason: Some("its client has ended".into()),
            });
        }
    }
    health
}

#[cfg(test)]
#[path = "fuse_tests.rs"]
mod tests;
