//! The cloud-config: one document that says what the machine should be.

mod model;

pub use model::*;
