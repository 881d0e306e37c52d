//! The Gluster storage context: one Gluster volume, and volumes that are all of it or directories
//! in it.

use std::path::PathBuf;
use std::sync::Arc;

use lazarette_plugin::directory;
use lazarette_plugin::linux::mount::{Expected, MountError, MountRoot};
use lazarette_plugin::monitor::Monitor;
use lazarette_plugin::serde_json::{Value, json};
use lazarette_plugin::turns::Turns;
use lazarette_plugin::values::{Flag, Subdirectory};
use lazarette_plugin::{
    Action, Call, Capabilities, Capability, Created, Error, ErrorKind, Health, Host, Level,
    ListedVolume, Mounted, Privileges, Removed, Result, StorageContext, UrlMapping, Volume,
    VolumeId,
};
use rustix::io::Errno;

use crate::client::Source;
use crate::config::{Config, OnRemove, VolumeOptions};
use crate::management::Management;
use crate::mounts::{Mounts, Ready};
use crate::programs::{Programs, SOCKETS};
use crate::watch::Watch;
use crate::{actions, health};

/// Permission bits of a directory that is made without `mode`.
const MODE: u32 = 0o755;

/// An open context: one Gluster volume.
pub struct Gluster {
    pub(crate) host: Host,
    pub(crate) config: Arc<Config>,
    pub(crate) source: Source,
    pub(crate) mounts: Arc<Mounts>,
    pub(crate) management: Management,
    turns: Turns,
    monitor: Monitor,
    watch: Watch,
}

impl StorageContext for Gluster {
    const KIND: &'static str = "gluster";
    type Config = Config;
    type VolumeOptions = VolumeOptions;

    fn open(host: Host, config: Config) -> Result<Self> {
        Self::open_with(host, config, Programs::default())
    }

    fn capabilities() -> Capabilities {
        [
            Capability::Create,
            Capability::Size,
            Capability::Resize,
            Capability::Import,
            Capability::Shared,
        ]
        .into()
    }

    /// Mounting needs SYS_ADMIN and /dev/fuse. Servers may want a port below 1024. With FUSE the
    /// kernel here checks permissions, so directories that belong to others are made, given their
    /// owner and mode, and deleted only with CHOWN, DAC_OVERRIDE, FOWNER and FSETID. The directory
    /// of the host is empty unless the operator has its glusterd put a socket there.
    fn privileges() -> Privileges {
        let capabilities = [
            "SYS_ADMIN",
            "NET_BIND_SERVICE",
            "CHOWN",
            "DAC_OVERRIDE",
            "FOWNER",
            "FSETID",
        ];
        Privileges {
            capabilities: capabilities.map(String::from).into(),
            devices: vec!["/dev/fuse".into()],
            host_network: true,
            host_directories: vec![SOCKETS.into()],
            kernel_modules: vec!["fuse".into()],
            writable: ["/run", "/tmp", "/var/log/glusterfs"]
                .map(String::from)
                .into(),
            memory_mib: Some(512),
            ..Privileges::default()
        }
    }

    fn url() -> Option<UrlMapping> {
        Some(UrlMapping {
            scheme: "gluster".into(),
            authority: Some("servers".into()),
            root: Some("volume".into()),
            path: "path".into(),
        })
    }

    /// Makes the volume's directory. A volume that is all of the Gluster volume is there already.
    fn create(&self, call: &Call, volume: &Volume<VolumeOptions>) -> Result<Created> {
        let _turn = self.turns.take(call, volume.id)?;
        let Some(path) = &volume.options.path else {
            return self
                .limit(call, &volume.options)
                .map(|()| Created::AlreadyExists);
        };
        // Better before anything is made than after.
        self.may_limit(&volume.options)?;
        let made = self
            .mounts
            .with(call, &self.config, &self.source, |ready| {
                make(ready, &volume.options, path, false)
            })?;
        self.limit(call, &volume.options)?;
        Ok(if made {
            Created::Created
        } else {
            Created::AlreadyExists
        })
    }

    /// Deletes the volume's directory if its options say so. A Gluster volume is never deleted.
    fn remove(&self, call: &Call, volume: &Volume<VolumeOptions>) -> Result<Removed> {
        let _turn = self.turns.take(call, volume.id)?;
        self.mounts.release(volume.id);
        let options = &volume.options;
        let delete = options.on_remove == Some(OnRemove::Delete);
        let Some(path) = options.path.as_ref().filter(|_| delete) else {
            return Ok(Removed::AlreadyAbsent);
        };
        self.mounts.with(call, &self.config, &self.source, |ready| {
            let others = self
                .mounts
                .users_below(&ready.key, path.as_str(), volume.id);
            if let Some(other) = others.first() {
                return Err(Error::new(ErrorKind::Busy, format!("cannot delete {path}"))
                    .cause(format!("the volume {other} is mounted and lies in it"))
                    .remedy(
                        "remove that volume first, or keep this one's directory: on_remove: keep",
                    ));
            }
            self.forget_limit(call, options);
            if directory::delete(call, &ready.path, path)? {
                Ok(Removed::Removed)
            } else {
                Ok(Removed::AlreadyAbsent)
            }
        })
    }

    fn list(&self, _call: &Call) -> Result<Vec<ListedVolume>> {
        let listed = |(name, path): (String, Option<&Subdirectory>)| ListedVolume {
            name,
            options: path.map_or(json!({}), |path| json!({ "path": path })),
            declared: true,
        };
        Ok(self.config.volumes()?.into_iter().map(listed).collect())
    }

    fn mount(
        &self,
        call: &Call,
        volume: &Volume<VolumeOptions>,
        read_only: bool,
    ) -> Result<Mounted> {
        let path = volume.options.path.as_ref();
        self.mounts.with(call, &self.config, &self.source, |ready| {
            if let Some(path) = path {
                make(ready, &volume.options, path, read_only)?;
            }
            let directory = path.map_or("", Subdirectory::as_str);
            self.mounts.keep(ready, volume.id, directory)?;
            Ok(Mounted {
                path: ready.path.clone(),
                subdirectory: path.map(|p| PathBuf::from(p.as_str())),
                fs_type: ready.fs_type.clone(),
                source: self.source.name().to_owned(),
            })
        })
    }

    fn unmount(&self, _call: &Call, volume: VolumeId) -> Result<()> {
        self.mounts.release(volume);
        Ok(())
    }

    fn actions() -> Vec<Action> {
        actions::all()
    }

    fn act(
        &self,
        call: &Call,
        action: &str,
        volume: Option<&Volume<VolumeOptions>>,
        parameters: Value,
    ) -> Result<Value> {
        if volume.is_some() {
            return Err(Error::unsupported(action, Self::KIND)
                .remedy("name the context: laz pool ACTION CONTEXT"));
        }
        self.do_action(call, action, parameters)
    }

    fn resize(&self, call: &Call, volume: &Volume<VolumeOptions>) -> Result<()> {
        self.holds_less(call, &volume.options)?;
        self.limit(call, &volume.options)
    }

    fn health(&self) -> Health {
        health::now(&self.monitor, &self.mounts)
    }

    fn close(&self) -> Result<()> {
        self.monitor.stop();
        self.watch.stop();
        self.mounts.close();
        Ok(())
    }
}

impl Gluster {
    pub(crate) fn open_with(host: Host, config: Config, programs: Programs) -> Result<Self> {
        config.check()?;
        let config = Arc::new(config);
        let source = Source::new(&config);
        host.log(
            Level::Info,
            format!("opening Gluster volume {}", source.name()),
        );
        let mounts = Arc::new(Mounts::find(host.clone(), programs.clone()));
        let watch = Watch::start(&mounts)
            .map_err(|e| Error::internal("no thread for the health checks").cause(e))?;
        let management = Management::new(programs.clone(), config.clone());
        let monitor = health::watch(host.clone(), config.clone(), mounts.clone(), programs)?;
        Ok(Self {
            host,
            management,
            config,
            source,
            mounts,
            turns: Turns::default(),
            monitor,
            watch,
        })
    }
}

/// Makes the volume's directory if it is missing and may be made. Whether it was made.
fn make(
    ready: &Ready,
    options: &VolumeOptions,
    path: &Subdirectory,
    read_only: bool,
) -> Result<bool> {
    let expected = Expected::types([ready.fs_type.as_str()]);
    let root = MountRoot::open(&ready.path, &expected).map_err(|e| explain(path, &e))?;
    if read_only || options.create == Some(Flag(false)) {
        return match root.clone_subtree(path.as_str().as_ref()) {
            Ok(_) => Ok(false),
            Err(e) => Err(explain(path, &e)),
        };
    }
    let owner = match (&options.uid, &options.gid) {
        (None, None) => None,
        (uid, gid) => Some((uid.map_or(0, |u| u.0), gid.map_or(0, |g| g.0))),
    };
    let mode = options.mode.as_ref().map_or(MODE, |m| m.bits());
    root.create_directory(path.as_str().as_ref(), mode, owner)
        .map_err(|e| explain(path, &e))
}

fn explain(path: &Subdirectory, error: &MountError) -> Error {
    let what = format!("the directory {path} of the Gluster volume cannot be used");
    let MountError::System { source, .. } = error else {
        return Error::internal(what).caused_by(error);
    };
    let (kind, remedy) = match Errno::from_io_error(source) {
        Some(Errno::NOENT) => (
            ErrorKind::NotFound,
            "make it in the volume, or let it be made: create: true, and not read-only",
        ),
        Some(Errno::ACCESS | Errno::PERM) => (
            ErrorKind::PermissionDenied,
            "the volume refuses this host's root (server.root-squash?): make it from a server, and leave uid and gid out",
        ),
        Some(Errno::ROFS) => (
            ErrorKind::PermissionDenied,
            "the volume is read-only: make it writable (gluster volume set VOLUME features.read-only off)",
        ),
        Some(Errno::NOSPC | Errno::DQUOT) => (
            ErrorKind::NoSpace,
            "make room in the volume, or raise its quota",
        ),
        Some(Errno::NOTCONN | Errno::CONNABORTED) => (
            ErrorKind::Unreachable,
            "too few bricks can be reached (gluster volume status); it is tried again by itself",
        ),
        Some(Errno::STALE) => (ErrorKind::Stale, "it is mounted anew by itself"),
        Some(Errno::NOTDIR | Errno::EXIST) => (
            ErrorKind::AlreadyExists,
            "a file has its place: move it away or choose another path",
        ),
        Some(Errno::LOOP | Errno::XDEV) => (
            ErrorKind::InvalidArgument,
            "a symbolic link or another mount is on the way: give the path without it",
        ),
        Some(Errno::IO) => (
            ErrorKind::Internal,
            "it may be in split brain: gluster volume heal VOLUME info split-brain",
        ),
        _ => (ErrorKind::Internal, "look at laz logs CONTEXT"),
    };
    Error::new(kind, what).cause(source).remedy(remedy)
}

#[cfg(test)]
#[path = "context_tests.rs"]
mod tests;
