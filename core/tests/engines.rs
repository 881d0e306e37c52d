//! The daemon's edges to the two engines, against a real dockerd where there is one, and against
//! raw bytes where it is about bytes.
//!
//! The tests with a dockerd need root and `dockerd`, `docker` and a static `busybox` in the
//! PATH; each says "skipped: why" otherwise. Every dockerd has directories, a socket and a mount
//! namespace of its own.

#![cfg(feature = "daemon")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "engines/dockerd.rs"]
mod dockerd;
#[path = "engines/memory.rs"]
mod memory;
#[path = "engines/system.rs"]
mod system;
#[path = "engines/user.rs"]
mod user;
#[path = "engines/volumes.rs"]
mod volumes;
#[path = "engines/wire.rs"]
mod wire;

/// A runtime as core's own: everything in one thread.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}
