//! Virtual machines that run our OS.

mod agent;
mod kept;
mod machine;
mod monitor;
mod qemu;
mod saved;

pub use agent::Output;
pub use kept::Kept;
pub use machine::{Machine, Options};
pub use saved::Saved;
