//! What is not as it will be yet: other calls, and the kernel, are about to end what they do.

use std::thread;
use std::time::{Duration, Instant};

use lazarette_plugin::command::{CommandError, Output};
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

    /// Destroys a dataset with its snapshots. A mount of it that was just given up, here or by whoever
    /// it was handed to, keeps it busy for a moment more.
    pub(crate) fn destroy(&self, call: &Call, name: &str) -> Result<Output, CommandError> {
        let end = Instant::now() + SETTLES.min(call.remaining());
        loop {
            let destroyed = self.zfs(call).args(["destroy", "-r", "--", name]).run();
            match destroyed {
                Err(failed) if failed.stderr.contains("is busy") && Instant::now() < end => {
                    thread::sleep(STEP);
                }
                other => return other,
            }
        }
    }
}
