//! Spares that stand in for failed devices.
//!
//! Nothing in the kernel does that: ZFS leaves it to a daemon, which a storage container does not
//! have. The pool heals onto the spare; once the failed device is replaced or back, ZFS itself takes
//! the spare out again.

use crate::status::{PoolStatus, Vdev};

/// A device that has failed, and what may stand in for it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Vacancy<'a> {
    /// The device.
    pub(crate) failed: &'a Vdev,
    /// Names of spares, the best first; none if there is none that is free.
    pub(crate) spares: Vec<&'a str>,
}

/// The devices that have failed where redundancy lets another one take their place, and for which
/// none does yet.
pub(crate) fn vacancies(status: &PoolStatus) -> Vec<Vacancy<'_>> {
    let free: Vec<&Vdev> = status
        .devices
        .iter()
        .filter(|vdev| vdev.class == "spares" && vdev.state == "AVAIL")
        .collect();
    let failed = status.devices.iter().filter(|vdev| has_failed(vdev));
    failed
        .map(|failed| {
            let mut spares: Vec<&Vdev> = free
                .iter()
                .copied()
                .filter(|spare| fits(spare, failed))
                .collect();
            // A draid's own are quicker and leave the disks to others.
            spares.sort_by_key(|spare| !spare.is_distributed());
            Vacancy {
                failed,
                spares: spares.iter().map(|spare| spare.place()).collect(),
            }
        })
        .collect()
}

/// Not one that was taken out by somebody (`OFFLINE`), nor one for which another stands in already.
fn has_failed(vdev: &Vdev) -> bool {
    let redundant = matches!(vdev.group_kind.as_str(), "mirror" | "raidz" | "draid");
    let gone = matches!(vdev.state.as_str(), "FAULTED" | "REMOVED" | "UNAVAIL");
    vdev.is_leaf() && redundant && gone && !matches!(vdev.class.as_str(), "l2cache" | "spares")
}

/// A draid's distributed spare, `draid1-0-0`, is for the devices of that draid only, here
/// `draid1:2d:5c:1s-0`.
fn fits(spare: &Vdev, failed: &Vdev) -> bool {
    if !spare.is_distributed() {
        return true;
    }
    let Some((own, _)) = spare.name.rsplit_once('-') else {
        return false;
    };
    let Some((parity, number)) = own.rsplit_once('-') else {
        return false;
    };
    let group = failed.group.as_str();
    let of_kind = group.split(':').next() == Some(parity);
    of_kind && group.rsplit_once('-').is_some_and(|(_, n)| n == number)
}

#[cfg(test)]
#[path = "spares_tests.rs"]
mod tests;
