//! A storage plugin: volumes of the kind `@KIND@` are file systems in memory. Replace what mounts.

use std::sync::{Mutex, PoisonError};

use lazarette_plugin::*;
use serde::{Deserialize, Serialize};

/// Options of a context, with a schema made from this; the comments are shown to users.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {}

/// Options of a volume: `docker volume create -d @KIND@ -o size=64m`.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Options {
    /// How much it holds at most.
    size: String,
}

struct Context {
    host: Host,
    /// Held while a volume is made or removed: calls run side by side, and only one may say that it
    /// was the one to do it.
    changing: Mutex<()>,
}

impl StorageContext for Context {
    const KIND: &'static str = "@KIND@";
    type Config = Config;
    type VolumeOptions = Options;

    fn open(host: Host, _: Config) -> Result<Self> {
        Ok(Self { host, changing: Mutex::default() })
    }

    fn capabilities() -> Capabilities {
        [Capability::Create, Capability::Size].into()
    }

    fn privileges() -> Privileges {
        let capabilities = ["SYS_ADMIN".into()].into();
        Privileges { capabilities, writable: vec!["/mnt".into()], ..Privileges::default() }
    }

    fn create(&self, _: &Call, volume: &Volume<Options>) -> Result<Created> {
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let place = fuse::place(&self.host, volume.id);
        let exists = mount::fs_type(&place)?.is_some();
        mount::tmpfs(&place, &volume.options.size)?;
        Ok(if exists { Created::AlreadyExists } else { Created::Created })
    }

    fn remove(&self, _: &Call, volume: &Volume<Options>) -> Result<Removed> {
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let place = fuse::place(&self.host, volume.id);
        let exists = mount::fs_type(&place)?.is_some();
        mount::unmount(&place)?;
        Ok(if exists { Removed::Removed } else { Removed::AlreadyAbsent })
    }

    fn list(&self, _: &Call) -> Result<Vec<ListedVolume>> {
        Ok(Vec::new())
    }

    fn mount(&self, _: &Call, volume: &Volume<Options>, _read_only: bool) -> Result<Mounted> {
        let path = fuse::place(&self.host, volume.id);
        if mount::fs_type(&path)?.is_none() {
            return Err(Error::not_found("the volume is gone").remedy("remove it and make it anew"));
        }
        Ok(Mounted { path, subdirectory: None, fs_type: "tmpfs".into(), source: "tmpfs".into() })
    }

    /// The mount is the volume: it stays until the volume is removed.
    fn unmount(&self, _: &Call, _: VolumeId) -> Result<()> {
        Ok(())
    }

    fn health(&self) -> Health {
        Health::healthy()
    }
}

declare_plugin!(Context);
