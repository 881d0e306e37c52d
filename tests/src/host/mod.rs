//! A private world on this machine: two Docker engines, core between them, nothing outside of it.
//!
//! [`enclosure`] gives the suite a mount and a PID namespace of its own, so that whatever it starts
//! ends with it; [`World`] is a system Docker with the image of the kind `hello`, a core, and a user
//! Docker in the view, each of which can be killed and started again.

pub mod core;
pub mod debian;
pub mod dockerd;
pub mod enclosure;
pub mod gluster;
pub mod image;
pub mod mounts;
pub mod process;
pub mod programs;
pub mod sshd;
mod world;

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

pub use self::core::Core;
pub use self::dockerd::Dockerd;
pub use self::world::World;

/// Waits until `condition` holds, and says how long that took.
///
/// # Errors
/// When it does not within `limit`, or cannot be looked at.
pub fn eventually(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> Result<bool>,
) -> Result<Duration> {
    let started = Instant::now();
    while !condition()? {
        if started.elapsed() > limit {
            bail!("not within {limit:?}: {what}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(started.elapsed())
}
