//! The end.

use super::{Found, Named};
use crate::kit::Kit;
use crate::report::Verdict;

pub(super) const CHECKS: &[Named] = &[Named::open(
    "closing.stop",
    "it ends in order on SIGTERM, and starts again",
    stop,
)];

fn stop(kit: &mut Kit) -> Found {
    let volume = kit.made()?;
    drop(kit.mount(&volume)?);
    kit.remove(&volume)?;
    kit.disconnect();
    kit.subject.stop()?;
    kit.settle(true)?;
    Ok(Verdict::Passed)
}
