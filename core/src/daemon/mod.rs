//! The daemon `laz-core`: its state, its supervisor and its edges to the outside.

pub mod engine_client;
pub mod system_engine;
pub mod user_engine;
pub mod volume_api;
