//! ZFS storage contexts: a pool each, imported or made; volumes are datasets and zvols.
//!
//! | module | what it is |
//! |---|---|
//! | [`values`] | types of option values, lenient in what they accept |
//! | [`config`] | what is configured: the pool, how to make it, a volume's options |
//! | `context` | the storage context itself |
//! | `pool` | importing, making and exporting the pool |
//! | [`importable`] | what `zpool import` says of pools that could be imported |
//! | `blank` | whether a device may be written on |
//! | `dataset`, `zvol`, `snapshots` | volumes |
//! | `properties` | properties as they are and as they are asked for |
//! | `mounts` | the container's private mounts |
//! | `settling` | waiting for what others are about to end |
//! | [`status`] | what `zpool status -j` says |
//! | `health` | how the pool is, found by a thread of its own |
//! | `spares` | which spares are to stand in for which devices |
//! | `actions`, `streams` | what else can be done to pools and volumes |
//! | `scan` | what is there and belongs to no context |
//! | `report` | what the tools' messages mean |
//! | `versions` | whether tools and kernel module fit together |

#![deny(unsafe_code)]

pub mod config;
pub mod importable;
pub mod status;
pub mod values;

mod actions;
mod blank;
mod context;
mod dataset;
mod family;
mod health;
mod mounts;
mod pool;
mod programs;
mod properties;
mod report;
mod scan;
mod settling;
mod snapshots;
mod spares;
mod streams;
mod versions;
mod zvol;

pub use context::Zfs;

lazarette_plugin::declare_plugin!(Zfs);
