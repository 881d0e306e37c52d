//! Calls of a core that listens to nothing, for tests.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::{Call, Level, Sink};

struct Deaf;

impl Sink for Deaf {
    fn log(&self, _: Level, _: &str) {}
    fn progress(&self, _: u64, _: &str, _: Option<f32>) {}
    fn cancelled(&self, _: u64) -> bool {
        false
    }
    fn changed(&self) {}
}

/// A call with so much time left.
pub(crate) fn call(left: Duration) -> Call {
    Call::new(1, Instant::now() + left, Arc::new(Deaf))
}
