//! A plugin as a third party would write it: directories of any machine that has an SSH server,
//! mounted by sshfs(1). Nothing has to be installed there.
//!
//! ```yaml
//! lazarette:
//!   storage:
//!     contexts:
//!       attic: {kind: sshfs, server: attic.example, user: stores, path: /srv, volumes: [media]}
//! ```
//! The context's secrets `key` (the private key) and `known_hosts` (who the server is) lie in
//! `/etc/lazarette/secrets/attic`. Each volume has a client and a connection of its own.

mod options;

use std::path::PathBuf;

use lazarette_plugin::command::Command;
use lazarette_plugin::*;

pub use options::{Config, OnRemove, Options};

/// What sshfs shows in the mount table.
const FS_TYPE: &str = "fuse.sshfs";
/// Permission bits of directories that are made.
const MODE: u32 = 0o755;

/// An open context: an account on a server.
pub struct Sshfs {
    host: Host,
    config: Config,
    watch: fuse::Watch,
    turns: turns::Turns,
}

impl StorageContext for Sshfs {
    const KIND: &'static str = "sshfs";
    type Config = Config;
    type VolumeOptions = Options;

    fn open(host: Host, config: Config) -> Result<Self> {
        config.check()?;
        let (server, port) = (config.server.clone(), config.port());
        let watch = fuse::Watch::start(&host, move || fuse::reachable(&server, port))?;
        let turns = turns::Turns::default();
        Ok(Self {
            host,
            config,
            watch,
            turns,
        })
    }

    fn capabilities() -> Capabilities {
        [Capability::Create, Capability::Import, Capability::Shared].into()
    }

    /// Mounting takes SYS_ADMIN and /dev/fuse. The kernel checks permissions here, so directories
    /// that belong to `uid` are made with DAC_OVERRIDE and FOWNER.
    fn privileges() -> Privileges {
        Privileges {
            capabilities: ["SYS_ADMIN", "DAC_OVERRIDE", "FOWNER"]
                .map(String::from)
                .into(),
            devices: vec!["/dev/fuse".into()],
            host_network: true,
            secrets: true,
            kernel_modules: vec!["fuse".into()],
            writable: ["/run", "/tmp"].map(String::from).into(),
            ..Privileges::default()
        }
    }

    fn create(&self, call: &Call, volume: &Volume<Options>) -> Result<Created> {
        let Some(path) = &volume.options.path else {
            return Ok(Created::AlreadyExists);
        };
        let _turn = self.turns.take(call, volume.id)?;
        let root = self.ensure(call, volume.id)?;
        directory::make(&root, FS_TYPE, path, MODE)
    }

    fn remove(&self, call: &Call, volume: &Volume<Options>) -> Result<Removed> {
        let Options {
            path, on_remove, ..
        } = &volume.options;
        let _turn = self.turns.take(call, volume.id)?;
        let mut removed = false;
        if let (Some(path), OnRemove::Delete) = (path, on_remove) {
            let root = self.ensure(call, volume.id)?;
            removed = directory::delete(call, &root, path)?;
        }
        mount::unmount(&fuse::place(&self.host, volume.id))?;
        Ok(match removed {
            true => Removed::Removed,
            false => Removed::AlreadyAbsent,
        })
    }

    fn list(&self, _: &Call) -> Result<Vec<ListedVolume>> {
        let listed = |path: &values::Subdirectory| ListedVolume {
            name: path.as_str().replace('/', "-"),
            options: serde_json::json!({ "path": path }),
            declared: true,
        };
        Ok(self.config.volumes.iter().map(listed).collect())
    }

    fn mount(&self, call: &Call, volume: &Volume<Options>, read_only: bool) -> Result<Mounted> {
        let path = volume.options.path.as_ref();
        let _turn = self.turns.take(call, volume.id)?;
        let root = self.ensure(call, volume.id)?;
        if let Some(path) = path.filter(|_| !read_only) {
            directory::make(&root, FS_TYPE, path, MODE)?;
        }
        Ok(Mounted {
            path: root,
            subdirectory: path.map(|path| PathBuf::from(path.as_str())),
            fs_type: FS_TYPE.into(),
            source: self.config.source(),
        })
    }

    fn unmount(&self, call: &Call, volume: VolumeId) -> Result<()> {
        let _turn = self.turns.take(call, volume)?;
        mount::unmount(&fuse::place(&self.host, volume))
    }

    fn health(&self) -> Health {
        self.watch.health()
    }

    fn close(&self) -> Result<()> {
        fuse::close(&self.host)
    }
}

impl Sshfs {
    /// Where the context's directory is mounted for `volume`, by a client that lives.
    fn ensure(&self, call: &Call, volume: VolumeId) -> Result<PathBuf> {
        let place = fuse::place(&self.host, volume);
        call.progress(&format!("connecting to {}", self.config.server), None);
        let client = Command::new("/usr/bin/sshfs").args(self.config.arguments(&place));
        fuse::ensure(call, client, &place, |said| self.config.explain(said))?;
        Ok(place)
    }
}

declare_plugin!(Sshfs);
