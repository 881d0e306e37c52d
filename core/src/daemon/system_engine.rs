//! The system Docker: which kinds of storage its images serve, and one container per context.
//!
//! What is ours is told by labels alone: `dev.lazarette.context=NAME` on a container,
//! `dev.lazarette.plugin=KIND` on an image. A container that merely has one of our names is
//! never touched. Every call has a deadline, and every change is idempotent: after a crash at
//! any point the same call again completes it.

mod containers;
mod events;
mod images;
mod one_shot;
mod spec;
mod transfer;

use std::path::{Path, PathBuf};

use super::engine_client::{EngineClient, EngineIdentity};
use crate::error::Result;

pub use containers::{Container, Ensured, How};
pub use events::SystemEvent;
pub use images::{PluginImage, PluginImages};
pub use one_shot::{Ended, OneShot};
pub use spec::ContainerSpec;
pub use transfer::Chunks;

/// The label of a storage container that holds its context's name.
pub const CONTEXT_LABEL: &str = "dev.lazarette.context";
/// The label of a storage container that tells how it was made (see [`ContainerSpec::hash`]).
pub const SPEC_LABEL: &str = "dev.lazarette.spec";

/// The label of a container that does one thing and ends: its name.
pub const ONE_SHOT_LABEL: &str = "dev.lazarette.one-shot";

/// A client of the system Docker. Cheap to clone; survives the engine's restarts.
#[derive(Debug, Clone)]
pub struct SystemEngine {
    client: EngineClient,
}

impl SystemEngine {
    /// The engine behind `socket`. Does nothing yet: every call connects by itself.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self {
            client: EngineClient::new("system Docker", socket),
        }
    }

    /// The engine behind `socket`, which must answer now.
    ///
    /// # Errors
    /// `Unreachable` naming the socket, or `Timeout`.
    pub async fn connect(socket: impl Into<PathBuf>) -> Result<Self> {
        let engine = Self::new(socket);
        engine.hello().await?;
        Ok(engine)
    }

    /// Asks the engine who it is.
    ///
    /// # Errors
    /// `Unreachable` naming the socket, or `Timeout`.
    pub async fn hello(&self) -> Result<EngineIdentity> {
        self.client.hello().await
    }

    /// Its API socket.
    pub fn socket(&self) -> &Path {
        self.client.socket()
    }
}
