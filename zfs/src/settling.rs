//! What is not as it will be yet: other calls, and the kernel, are about to end what they do.

use std::thread;
use std::time::{Duration, Instant};

use lazarette_plugin::command::{CommandError, Output};
use lazarette_plugin::{Call, Result};

use crate::dataset::Datasets;
use crate::programs::time_for;
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

    /// Destroys a dataset with its snapshots. A mount of it that was given up a moment ago, by a container
    /// that has ended for example, keeps it busy until the kernel is done with that: it waits for the pool.
    pub(crate) fn destroy(&self, call: &Call, name: &str) -> Result<Output, CommandError> {
        let end = Instant::now() + SETTLES.min(call.remaining());
        loop {
            let command = self.programs.zfs(time_for(call));
            match command.args(["destroy", "-r", "--", name]).run() {
                Err(failed)
                    if failed.stderr.contains("dataset is busy") && Instant::now() < end =>
                {
                    thread::sleep(STEP);
                }
                other => return other,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::health::tests::call;
    use crate::streams::tests::stand;

    #[test]
    fn a_busy_dataset_is_tried_again_and_another_failure_is_not() {
        let (directory, datasets) = stand(
            "trace=$(dirname $0)/trace; [ $(wc -l < $trace) -ge 3 ] || \
             { echo \"cannot destroy 'tank/a': dataset is busy\" >&2; exit 1; }",
        );
        let tries = || {
            let text = std::fs::read_to_string(directory.path().join("trace"));
            text.unwrap().lines().count()
        };
        datasets.destroy(&call(), "tank/a").unwrap();
        assert_eq!(tries(), 3);

        let (other, datasets) =
            stand("echo \"cannot destroy 'tank/a': it has children\" >&2; exit 1");
        let failed = datasets.destroy(&call(), "tank/a").unwrap_err();
        assert!(failed.stderr.contains("children"), "{failed}");
        let text = std::fs::read_to_string(other.path().join("trace")).unwrap();
        assert_eq!(text, "destroy -r -- tank/a\n");
    }
}
