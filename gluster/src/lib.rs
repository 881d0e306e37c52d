//! Gluster storage contexts: one volume of a trusted pool, by its FUSE client.
//!
//! | module | what it is |
//! |---|---|
//! | [`config`] | what is configured: servers, volume, a volume's options |
//! | [`options`] | the options of mount.glusterfs(8) and the arguments they become |
//! | [`size`] | sizes of volumes |
//! | `context` | the storage context itself |
//! | `actions` | what else can be done to the Gluster volume and its bricks |
//! | `management` | questions to a server, orders to this host's own |
//! | `quota` | sizes of directories |
//! | `mounts` | the container's private mounts, each with its client, and who uses them |
//! | `records` | which volume was mounted through which client; outlives the container |
//! | `client` | the client process: started, found again, ended |
//! | `watch` | the deaths of clients, noticed at once |
//! | `health` | how servers, bricks and clients are, found by a thread of its own |
//! | `graph` | what the client tells of bricks, replicas and quorum |
//! | `heals` | which files are to be healed, or in split brain |
//! | `server` | is a server there? |
//! | `xml` | what `gluster --xml` writes |
//! | `report` | what the client's log means |

#![deny(unsafe_code)]

pub mod config;
pub mod options;
pub mod size;

mod actions;
mod client;
mod context;
#[cfg(test)]
mod fakes;
mod graph;
mod heals;
mod health;
mod management;
mod mounts;
mod programs;
mod quota;
mod records;
mod report;
mod server;
mod watch;
mod xml;

pub use context::Gluster;

/// Reads `text` as everything that servers, bricks and clients write: for fuzz targets.
#[doc(hidden)]
pub fn read_as_everything(text: &str) {
    let bricks = graph::bricks(text);
    let _ = graph::away(&bricks, text);
    let _ = report::explain(text, "exit status 1", "g1:gv0");
    let _ = report::split_brains(text);
    let _ = report::worth_telling(text);
    let _ = heals::parse(text);
    let _ = actions::read_described(text);
}

lazarette_plugin::declare_plugin!(Gluster);
