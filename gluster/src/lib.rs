//! Gluster storage contexts: one volume of a trusted pool, by its FUSE client.
//!
//! | module | what it is |
//! |---|---|
//! | [`config`] | what is configured: servers, volume, a volume's options |
//! | [`options`] | the options of mount.glusterfs(8) and the arguments they become |
//! | `context` | the storage context itself |
//! | `mounts` | the container's private mounts, each with its client, and who uses them |
//! | `records` | which volume was mounted through which client; outlives the container |
//! | `client` | the client process: started, found again, ended |
//! | `watch` | the deaths of clients, noticed at once |
//! | `health` | how servers, bricks and clients are, found by a thread of its own |
//! | `graph` | what the client tells of bricks, replicas and quorum |
//! | `server` | is a server there? |
//! | `report` | what the client's log means |

#![deny(unsafe_code)]

pub mod config;
pub mod options;

mod client;
mod context;
#[cfg(test)]
mod fakes;
mod graph;
mod health;
mod mounts;
mod programs;
mod records;
mod report;
mod server;
mod watch;

pub use context::Gluster;

lazarette_plugin::declare_plugin!(Gluster);
