//! The NFS storage context: one server, its exports, and volumes that are exports or directories
//! in them.

use std::path::PathBuf;
use std::sync::Arc;

use lazarette_plugin::directory;
use lazarette_plugin::linux::mount::{Expected, MountError, MountRoot};
use lazarette_plugin::monitor::Monitor;
use lazarette_plugin::serde_json::json;
use lazarette_plugin::{
    Call, Capabilities, Capability, Created, Error, ErrorKind, Health, Host, Level, ListedVolume,
    Mounted, Privileges, Removed, Result, StorageContext, UrlMapping, Volume, VolumeId,
};

use rustix::io::Errno;

use crate::export::{Config, OnRemove, Place, VolumeOptions};
use crate::health;
use crate::mounts::{Mounts, Ready, Source};
use crate::programs::Programs;
use crate::values::{Flag, Subdirectory};

/// Permission bits of a directory that is made without `mode`.
const MODE: u32 = 0o755;

/// An open context: one server.
pub struct Nfs {
    config: Arc<Config>,
    mounts: Arc<Mounts>,
    monitor: Monitor,
}

impl StorageContext for Nfs {
    const KIND: &'static str = "nfs";
    type Config = Config;
    type VolumeOptions = VolumeOptions;

    fn open(host: Host, config: Config) -> Result<Self> {
        Self::open_with(host, config, Programs::default())
    }

    fn capabilities() -> Capabilities {
        [Capability::Create, Capability::Import, Capability::Shared].into()
    }

    /// Mounting needs SYS_ADMIN; mountd and rpcbind want ports below 1024; rpcbind and rpc.statd
    /// give up root (SETUID, SETGID) and rpc.statd all it may not need (SETPCAP, without which it
    /// does not start); rpc.statd's directory must be its own (CHOWN).
    fn privileges() -> Privileges {
        let capabilities = [
            "SYS_ADMIN",
            "NET_BIND_SERVICE",
            "SETUID",
            "SETGID",
            "SETPCAP",
            "CHOWN",
        ];
        Privileges {
            capabilities: capabilities.map(String::from).into(),
            host_network: true,
            kernel_modules: ["nfs", "nfsv4", "nfsv3"].map(String::from).into(),
            writable: ["/run", "/tmp", "/var/lib/nfs", "/mnt"]
                .map(String::from)
                .into(),
            memory_mib: Some(128),
            ..Privileges::default()
        }
    }

    fn url() -> Option<UrlMapping> {
        Some(UrlMapping {
            scheme: "nfs".into(),
            authority: Some("server".into()),
            root: None,
            path: "export".into(),
        })
    }

    /// Makes the volume's directory. A volume that is a whole export is there already.
    fn create(&self, call: &Call, volume: &Volume<VolumeOptions>) -> Result<Created> {
        let place = &volume.options.place;
        let source = self.source(&volume.options)?;
        let Some(path) = &place.path else {
            return Ok(Created::AlreadyExists);
        };
        self.mounts.with(call, &source, |ready| {
            if make(ready, place, path, source.read_only)? {
                Ok(Created::Created)
            } else {
                Ok(Created::AlreadyExists)
            }
        })
    }

    /// Deletes the volume's directory if its options say so. An export is never deleted.
    fn remove(&self, call: &Call, volume: &Volume<VolumeOptions>) -> Result<Removed> {
        self.mounts.release(volume.id);
        let place = &volume.options.place;
        let Some(path) = place
            .path
            .as_ref()
            .filter(|_| place.on_remove == Some(OnRemove::Delete))
        else {
            return Ok(Removed::AlreadyAbsent);
        };
        let source = self.source(&volume.options)?;
        self.mounts.with(call, &source, |ready| {
            let others = self
                .mounts
                .users_below(&ready.path, path.as_str(), volume.id);
            if let Some(other) = others.first() {
                return Err(Error::new(ErrorKind::Busy, format!("cannot delete {path}"))
                    .cause(format!("the volume {other} is mounted and lies in it"))
                    .remedy(
                        "remove that volume first, or keep this one's directory: on_remove: keep",
                    ));
            }
            if directory::delete(call, &ready.path, path)? {
                Ok(Removed::Removed)
            } else {
                Ok(Removed::AlreadyAbsent)
            }
        })
    }

    fn list(&self, _call: &Call) -> Result<Vec<ListedVolume>> {
        let listed = |export: &crate::export::Export| {
            Ok(ListedVolume {
                name: export.volume_name()?,
                options: json!({ "export": export.path }),
                declared: true,
            })
        };
        self.config.exports.iter().map(listed).collect()
    }

    fn mount(
        &self,
        call: &Call,
        volume: &Volume<VolumeOptions>,
        read_only: bool,
    ) -> Result<Mounted> {
        let place = &volume.options.place;
        let source = self.source(&volume.options)?;
        self.mounts.with(call, &source, |ready| {
            if let Some(path) = &place.path {
                make(ready, place, path, read_only || source.read_only)?;
            }
            let directory = place.path.as_ref().map_or("", Subdirectory::as_str);
            self.mounts.keep(&source, volume.id, directory)?;
            Ok(Mounted {
                path: ready.path.clone(),
                subdirectory: place.path.as_ref().map(|p| PathBuf::from(p.as_str())),
                fs_type: ready.fs_type.clone(),
                source: source.name(),
            })
        })
    }

    fn unmount(&self, _call: &Call, volume: VolumeId) -> Result<()> {
        self.mounts.release(volume);
        Ok(())
    }

    fn health(&self) -> Health {
        self.monitor.health()
    }

    fn close(&self) -> Result<()> {
        self.monitor.stop();
        self.mounts.close();
        Ok(())
    }
}

impl Nfs {
    pub(crate) fn open_with(host: Host, config: Config, programs: Programs) -> Result<Self> {
        config.check()?;
        let config = Arc::new(config);
        host.log(Level::Info, format!("opening NFS server {}", config.server));
        let mounts = Arc::new(Mounts::find(host.clone(), programs.clone()));
        let monitor = health::watch(host, config.clone(), mounts.clone(), programs)?;
        Ok(Self {
            config,
            mounts,
            monitor,
        })
    }

    /// What has to be mounted for a volume with `options`.
    fn source(&self, options: &VolumeOptions) -> Result<Source> {
        let export = match (&options.place.export, self.config.exports.as_slice()) {
            (Some(export), _) => export.clone(),
            (None, [only]) => only.path.clone(),
            (None, []) => {
                return Err(
                    Error::invalid("the volume does not say which export it is on")
                        .remedy("set export: /srv/media"),
                );
            }
            (None, several) => {
                let paths: Vec<&str> = several.iter().map(|e| e.path.as_str()).collect();
                return Err(
                    Error::invalid("the volume does not say which export it is on")
                        .remedy(format!("set export to one of {}", paths.join(", "))),
                );
            }
        };
        let configured = self.config.export(&export);
        let mut merged = self.config.options.clone();
        if let Some(configured) = configured {
            merged = merged.overlaid_by(&configured.options);
        }
        merged = merged.overlaid_by(&options.nfs);
        merged.check()?;
        Ok(Source {
            server: self.config.server.clone(),
            read_only: configured.is_some_and(|e| e.read_only),
            export,
            options: merged,
        })
    }
}

/// Makes the volume's directory if it is missing and may be made. Whether it was made.
fn make(ready: &Ready, place: &Place, path: &Subdirectory, read_only: bool) -> Result<bool> {
    let expected = Expected::types([ready.fs_type.as_str()]);
    let root = MountRoot::open(&ready.path, &expected).map_err(|e| explain(path, &e))?;
    if read_only || place.create == Some(Flag(false)) {
        return match root.clone_subtree(path.as_str().as_ref()) {
            Ok(_) => Ok(false),
            Err(e) => Err(explain(path, &e)),
        };
    }
    let owner = match (&place.uid, &place.gid) {
        (None, None) => None,
        (uid, gid) => Some((uid.map_or(0, |u| u.0), gid.map_or(0, |g| g.0))),
    };
    let mode = place.mode.as_ref().map_or(MODE, |m| m.bits());
    root.create_directory(path.as_str().as_ref(), mode, owner)
        .map_err(|e| explain(path, &e))
}

fn explain(path: &Subdirectory, error: &MountError) -> Error {
    let what = format!("the directory {path} of the export cannot be used");
    let MountError::System { source, .. } = error else {
        return Error::internal(what).caused_by(error);
    };
    let (kind, remedy) = match Errno::from_io_error(source) {
        Some(Errno::NOENT) => (
            ErrorKind::NotFound,
            "make it on the server, or let it be made: create: true, and not read-only",
        ),
        Some(Errno::ACCESS | Errno::PERM) => (
            ErrorKind::PermissionDenied,
            "the server refuses this host's root (root_squash?): make it there, and leave uid and gid out",
        ),
        Some(Errno::ROFS) => (
            ErrorKind::PermissionDenied,
            "the server exports it read-only: make it there",
        ),
        Some(Errno::NOSPC | Errno::DQUOT) => (ErrorKind::NoSpace, "make room on the server"),
        Some(Errno::STALE) => (ErrorKind::Stale, "it is mounted anew by itself"),
        Some(Errno::NOTDIR | Errno::EXIST) => (
            ErrorKind::AlreadyExists,
            "a file has its place: move it away or choose another path",
        ),
        Some(Errno::LOOP | Errno::XDEV) => (
            ErrorKind::InvalidArgument,
            "a symbolic link or another mount is on the way: give the path without it",
        ),
        _ => (ErrorKind::Internal, "look at laz logs CONTEXT"),
    };
    Error::new(kind, what).cause(source).remedy(remedy)
}

#[cfg(test)]
#[path = "context_tests.rs"]
mod tests;
