//! NFS storage contexts.
//!
//! | module | what it is |
//! |---|---|
//! | [`values`] | types of option values, lenient in what they accept |
//! | [`options`] | all options of nfs(5) and the words they become |
//! | [`export`] | what is configured: server, exports, a volume's options |

#![deny(unsafe_code)]

pub mod export;
pub mod options;
pub mod values;

mod context;

pub use context::Nfs;

lazarette_plugin::declare_plugin!(Nfs);
