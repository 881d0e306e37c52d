//! Mounts inside running containers.

use std::path::Path;

use super::replace::{Replaced, replace_in};
use crate::mount::{DetachedMount, MountError, MountFacts};
use crate::mountinfo::Device;
use crate::namespace::MountNamespace;
use crate::process::Process;

/// A detached mount that has been looked at in the view ([`View::check`](super::View::check)): its
/// type is known, and it is nosuid, nodev and private.
#[derive(Debug)]
pub struct CheckedMount {
    mount: DetachedMount,
    facts: MountFacts,
}

impl CheckedMount {
    pub(super) fn new(mount: DetachedMount, facts: MountFacts) -> Self {
        Self { mount, facts }
    }

    /// What it was found to be; number and target are those it had while it was looked at.
    pub fn facts(&self) -> &MountFacts {
        &self.facts
    }

    pub(super) fn into_detached(self) -> DetachedMount {
        self.mount
    }
}

/// Puts `mount` in the place of the mount at `target`, an absolute path as `process` sees it: heals
/// a container without restarting it. `replaces` is the device of the dead mount (see
/// [`MountFacts::device`]); anything else found there is left alone.
///
/// The new mount goes beneath the dead one, which is then unmounted, so the path never shows what is
/// under both. Processes that look the path up again find the new mount.
///
/// # Errors
/// [`MountError::Namespace`] when `process` has ended; [`MountError::Occupied`] when something else
/// is mounted there; [`MountError::Stuck`] when the dead mount cannot be entered in time;
/// [`MountError::System`] with `EINVAL` when nothing is mounted there or before Linux 6.5.
pub fn replace_in_process(
    process: &Process,
    target: &Path,
    mount: CheckedMount,
    replaces: Option<Device>,
) -> Result<Replaced, MountError> {
    let namespace = MountNamespace::of_process(process)?;
    replace_in(&namespace, target, mount, replaces)
}
