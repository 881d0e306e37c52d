//! LVM storage contexts: a volume group each, whose logical volumes are volumes.
//!
//! | module | what it is |
//! |---|---|
//! | [`values`] | types of option values, fit to be arguments of LVM's tools |
//! | [`options`] | what is configured: the volume group, a volume's options |
//! | [`file_system`] | ext4, XFS and btrfs, and what can be said when they are made |
//! | [`actions`] | what can be done to a group beyond what every kind can do |
//! | [`cache`] | fast devices before volumes |
//! | `context` | the storage context itself |
//! | `group` | the volume group: found, made, activated |
//! | `volume`, `snapshot`, `copy`, `resize` | what is done with volumes |
//! | `make` | the words with which logical volumes and file systems are made |
//! | `stamp` | names and tags that say what a logical volume is |
//! | `encryption` | LUKS2 below a file system |
//! | `mounts` | the container's private mounts |
//! | `devices`, `scan` | block devices and what is on them; what belongs to no context yet |
//! | `device_mapper` | what a killed command has left in the kernel |
//! | `lvm`, [`report`], `message` | LVM's tools: running them, their reports, their messages |
//! | `health` | how the group is, found by a thread of its own; growing by itself |

#![deny(unsafe_code)]

pub mod actions;
pub mod cache;
pub mod file_system;
pub mod options;
pub mod report;
pub mod values;

mod context;
mod copy;
mod device_mapper;
mod devices;
mod encryption;
#[cfg(test)]
mod fakes;
mod group;
mod health;
mod lvm;
mod make;
mod message;
mod mounts;
mod programs;
mod resize;
mod scan;
mod snapshot;
mod stamp;
mod volume;

pub use context::LvmContext;

lazarette_plugin::declare_plugin!(LvmContext);
