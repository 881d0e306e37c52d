//! The planner: desired state + what was observed + events in, steps out.
//!
//! It does no I/O and reads no clock: time comes in as [`Millis`], chance does not come in at
//! all. So it can be simulated (see the tests), and what core does after any crash is what it
//! does on any other day: look at the [`World`], take the next steps.
//!
//! - [`World`] is everything core knows. Status, Docker's `Get`, `List` and `Path` are answered
//!   from it alone.
//! - [`World::apply`] takes in an [`Event`]: what somebody asks for, what a step has come to, what was seen.
//! - [`World::plan`] says which [`Step`]s to take now; [`World::begin`] marks one as under way. At
//!   most one step is under way for each context and each volume, so contexts never wait for
//!   each other.

mod apply;
mod changes;
#[cfg(test)]
mod changes_tests;
mod crashes;
#[cfg(test)]
mod fake_outside;
#[cfg(test)]
mod healing_tests;
mod names;
mod plan;
#[cfg(test)]
mod refused_tests;
mod retry;
mod rivals;
#[cfg(test)]
mod simulation;
mod status;
mod step;
mod world;

pub use changes::{Pending, SnapshotEntry, Snapshots, overlap};
pub use crashes::Crashes;
pub use retry::Retry;
pub use status::snapshot_status;
pub use step::{ContextAct, Event, Outcome, Step, VolumeAct};
pub use world::{
    Attachment, ContextEntry, ContextStage, DOCKER_VOLUMES, KindEntry, MNT, Place, RefusedKind,
    VolumeEntry, World,
};

/// Milliseconds on a clock that only goes forward and starts with core.
pub type Millis = u64;
