//! Virtual machines that run our OS.

mod agent;
mod machine;
mod monitor;
mod qemu;
mod saved;

pub use agent::Output;
pub use machine::{Machine, Options};
pub use saved::Saved;
