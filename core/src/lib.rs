//! Storage contexts for Docker hosts: the contract between core and its plugins, the
//! configuration, the planner and (feature `daemon`) the daemon `laz-core`.
//!
//! | module | what it is | who uses it |
//! |---|---|---|
//! | [`context`] | the [`StorageContext`] trait, the one contract of a plugin | plugins, SDK |
//! | [`volume`] | what a volume, a mount and a health report are | everybody |
//! | [`manifest`] | what a plugin says of itself: schemas, capabilities, privileges | image builds, core |
//! | [`message`] | the messages between core and a plugin host, by method | plugin host, core |
//! | [`frame`] | length-framed JSON on a stream | every socket of ours |
//! | [`control`] | the messages between `laz` and core | cli, core |
//! | [`privileges`] | what no plugin may have, whoever consents | core, the conformance kit |
//! | `signature` (feature `config`) | what the author of a plugin signs, and what a signature is worth | core, cli |
//! | `built_in` (feature `config`) | which images are part of the OS | core, init |
//! | [`name`] | validated names and option text | everybody |
//! | [`error`] | the error that crosses every one of these boundaries | everybody |
//!
//! Without features this crate is what a plugin is compiled against: no async runtime, no
//! container engine client, no bus.

#![forbid(unsafe_code)]

pub mod context;
pub mod control;
pub mod error;
pub mod frame;
pub mod manifest;
pub mod message;
pub mod name;
pub mod privileges;
pub mod volume;

#[cfg(feature = "config")]
pub mod built_in;
#[cfg(feature = "config")]
pub mod cloud_config;
#[cfg(feature = "config")]
pub mod signature;

#[cfg(feature = "daemon")]
pub mod daemon;
#[cfg(feature = "daemon")]
pub mod planner;

pub use context::{Call, Host, StorageContext};
pub use error::{Error, ErrorKind, Result};
pub use manifest::{Capabilities, Manifest, Privileges};
pub use name::{ContextName, Kind, OptionText, SnapshotName, VolumeName};
pub use volume::{
    Created, Health, HealthState, ListedVolume, Mounted, Removed, SnapshotId, VolumeId,
};
