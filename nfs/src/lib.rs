//! NFS storage contexts: versions 3, 4.0, 4.1 and 4.2.
//!
//! | module | what it is |
//! |---|---|
//! | [`values`] | types of option values, lenient in what they accept |
//! | [`options`] | all options of nfs(5) and the words they become |
//! | [`export`] | what is configured: server, exports, a volume's options |
//! | `context` | the storage context itself |
//! | `mounts` | the container's private mounts, shared by volumes, found again after a restart |
//! | `server` | is the server there? |
//! | `report` | what the mount program's messages mean |
//! | `lock_daemons`, `kerberos` | what NFS 3 and `sec=krb5` need beside a mount |
//! | `health` | how server and mounts are, found by a thread of its own |

#![deny(unsafe_code)]

pub mod export;
pub mod options;
pub mod values;

mod context;
#[cfg(test)]
mod fakes;
mod health;
mod kerberos;
mod lock_daemons;
mod mounts;
mod programs;
mod report;
mod server;

pub use context::Nfs;

lazarette_plugin::declare_plugin!(Nfs);
