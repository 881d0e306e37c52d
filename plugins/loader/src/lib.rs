//! Checks and loads a storage plugin's shared library.
//!
//! [`Plugin::load`] opens the file once and does everything with that descriptor: who owns it, who
//! may write to it, whether it is a whole ELF library for this machine that exports the
//! descriptor ([`preflight`]), and at last the loading. The first 16 bytes of the descriptor are
//! read before any function of the plugin runs. A refusal is one sentence with a cause and a
//! remedy ([`LoadError`]).
//!
//! A library is never unloaded: its threads may still run, and unloading does nothing useful then.

mod error;
mod instance;
mod plugin;
mod preflight;

pub use error::{LoadError, Refusal};
pub use instance::{CallFailure, Instance};
pub use plugin::Plugin;
pub use preflight::examine;
