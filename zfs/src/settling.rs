//! What is not as it will be yet: another call is about to end what it does.

use std::thread;
use std::time::{Duration, Instant};

use lazarette_plugin::{Call, Result};

use crate::dataset::Datasets;
use crate::properties::{Current, ID};

/// How long it is waited for.
const SETTLES: Duration = Duration::from_secs(5);
/// Between two looks at it.
const STEP: Duration = Duration::from_millis(100);

impl Datasets {
    /// A dataset that is there, once it has its stamp: it is seen a moment before its properties are,
    /// while another call makes it.
    pub(crate) fn stamped(&self, call: &Call, name: &str) -> Result<Current> {
        let end = Instant::now() + SETTLES.min(call.remaining());
        loop {
            let current = self.look(call, name)?.unwrap_or_default();
            if current.get(ID).is_some_and(|id| id != "-") || Instant::now() >= end {
                return Ok(current);
            }
            thread::sleep(STEP);
        }
    }
}
