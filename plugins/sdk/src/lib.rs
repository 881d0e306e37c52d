//! Everything the author of a storage plugin needs, on one page.
//!
//! A plugin is a shared library (`crate-type = ["cdylib"]`) with one type that implements
//! [`StorageContext`] and one line, [`declare_plugin!`]. This is a whole one: its volumes are
//! small file systems in memory.
//!
//! ```
//! use lazarette_plugin::*;
//!
//! #[derive(serde::Deserialize, JsonSchema)]
//! #[serde(deny_unknown_fields)]
//! struct Config {}
//!
//! #[derive(serde::Deserialize, serde::Serialize, JsonSchema)]
//! #[serde(deny_unknown_fields)]
//! struct Options {
//!     /// How much it holds.
//!     size: String,
//! }
//!
//! struct Scratch { host: Host }
//!
//! impl StorageContext for Scratch {
//!     const KIND: &'static str = "scratch";
//!     type Config = Config;
//!     type VolumeOptions = Options;
//!
//!     fn open(host: Host, _: Config) -> Result<Self> { Ok(Self { host }) }
//!     fn privileges() -> Privileges {
//!         Privileges { capabilities: ["SYS_ADMIN".into()].into(), writable: vec!["/mnt".into()], ..Default::default() }
//!     }
//!     fn create(&self, _: &Call, _: &Volume<Options>) -> Result<Created> { Ok(Created::Created) }
//!     fn remove(&self, call: &Call, volume: &Volume<Options>) -> Result<Removed> {
//!         self.unmount(call, volume.id).map(|()| Removed::Removed)
//!     }
//!     fn list(&self, _: &Call) -> Result<Vec<ListedVolume>> { Ok(Vec::new()) }
//!     fn mount(&self, _: &Call, volume: &Volume<Options>, _read_only: bool) -> Result<Mounted> {
//!         let path = self.host.mounts().join(volume.id.to_string());
//!         mount::tmpfs(&path, &volume.options.size)?;
//!         Ok(Mounted { path, subdirectory: None, fs_type: "tmpfs".into(), source: "tmpfs".into() })
//!     }
//!     fn unmount(&self, _: &Call, volume: VolumeId) -> Result<()> {
//!         mount::unmount(&self.host.mounts().join(volume.to_string()))
//!     }
//!     fn health(&self) -> Health { Health::healthy() }
//! }
//!
//! declare_plugin!(Scratch);
//! # assert_eq!(Scratch::manifest("1.0.0").kind.as_str(), "scratch");
//! ```
//!
//! What core promises: volumes' options have the shape of [`StorageContext::VolumeOptions`];
//! calls come in any order, side by side, and again after any crash. What a plugin owes: every
//! call is idempotent, keeps to its deadline ([`Call::remaining`]), and never passes a user's text
//! to a program or a mount that is not checked ([`OptionText`]). Programs are run with
//! [`command`], by absolute path, without a shell; they die with the plugin host, or are waited for by
//! the next one ([`to_the_end`](command::Command::to_the_end)), unless they are daemons with a session of
//! their own. A panic is caught: the call fails with an
//! error of kind `plugin` and the context is opened anew.

pub mod directory;
pub mod fuse;
pub mod monitor;
pub mod mount;
pub mod reasons;
pub mod turns;
pub mod values;

#[cfg(test)]
#[path = "deaf_tests.rs"]
mod deaf;
mod exported;

pub use exported::Exported;
pub use lazarette_abi as abi;
pub use lazarette_core::context::{Call, Host, Level, Sink, StorageContext};
pub use lazarette_core::error::{Error, ErrorKind, Result};
pub use lazarette_core::manifest::{
    Action, ActionOn, Capabilities, Capability, Manifest, NoParameters, Privileges, UrlMapping,
};
pub use lazarette_core::name::{OptionText, quoted};
pub use lazarette_core::volume::{
    Activity, Capacity, CloneSource, Created, Found, Health, HealthState, ListedVolume, Mounted,
    Removed, SnapshotId, Volume, VolumeHealth, VolumeId,
};
pub use lazarette_linux::command;
pub use schemars::{self, JsonSchema};
pub use serde_json;

/// What plugins ask of the kernel themselves: mounts, mount tables, processes.
pub mod linux {
    pub use lazarette_linux::{mount, mountinfo, namespace, process};
}

/// Exports a [`StorageContext`] as the plugin of this shared library. Once per library: see the
/// [example](crate) on this crate's page.
#[macro_export]
macro_rules! declare_plugin {
    ($context:ty) => {
        const _: () = {
            struct PackageVersion;

            impl $crate::abi::export::Version for PackageVersion {
                const VERSION: &'static str = env!("CARGO_PKG_VERSION");
            }

            // SAFETY: the name belongs to this ABI, and a library declares one plugin.
            #[unsafe(no_mangle)]
            static LAZARETTE_PLUGIN_V1: $crate::abi::Descriptor =
                $crate::abi::export::descriptor::<$crate::Exported<$context>, PackageVersion>();
        };
    };
}
