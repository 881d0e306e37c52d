//! What stays behind after work that is done.

use std::time::Duration;

use super::{Found, Named, failed, skipped};
use crate::kit::Kit;
use crate::report::Verdict;
use crate::subject::{Facts, Failed};

pub(super) const CHECKS: &[Named] = &[
    Named::open(
        "leftovers.descriptors",
        "rounds of calls leave no open descriptors",
        descriptors,
    ),
    Named::open(
        "leftovers.threads",
        "rounds of calls leave no threads",
        threads,
    ),
    Named::open(
        "leftovers.processes",
        "rounds of calls leave no processes",
        processes,
    ),
    Named::open(
        "leftovers.mounts",
        "rounds of calls leave no mounts and no directories",
        mounts,
    ),
];

/// How many rounds are run: a leak of one in each is seen, a cache that fills once is not.
const ROUNDS: usize = 8;

/// Makes, mounts, unmounts and removes volumes.
fn rounds(kit: &mut Kit, rounds: usize) -> Result<(), Failed> {
    for _ in 0..rounds {
        let volume = kit.made()?;
        drop(kit.mount(&volume)?);
        kit.remove(&volume)?;
    }
    Ok(())
}

/// Before and after the rounds; the first one may fill caches and start daemons.
fn grown(kit: &mut Kit, what: &str, of: fn(&Facts) -> usize) -> Found {
    rounds(kit, 2)?;
    // The end of a call may be heard before its thread has ended.
    let mut before = usize::MAX;
    for _ in 0..6 {
        std::thread::sleep(Duration::from_millis(50));
        before = before.min(of(&kit.facts()?));
    }
    rounds(kit, ROUNDS)?;
    let most = before + ROUNDS / 2;
    let settled = kit.until(Duration::from_secs(5), |facts| {
        let after = of(facts);
        (after > most).then(|| format!("{before} {what} become {after} in {ROUNDS} rounds of create, mount, unmount and remove"))
    });
    settled.map(|()| Verdict::Passed)
}

fn descriptors(kit: &mut Kit) -> Found {
    grown(kit, "open descriptors", |facts| facts.descriptors)
}

fn threads(kit: &mut Kit) -> Found {
    grown(kit, "threads", |facts| facts.threads)
}

fn processes(kit: &mut Kit) -> Found {
    grown(kit, "processes", |facts| facts.processes.len())
}

fn mounts(kit: &mut Kit) -> Found {
    rounds(kit, 1)?;
    let before = kit.facts()?;
    rounds(kit, 2)?;
    let after = kit.facts()?;
    if !kit.offers(lazarette_core::manifest::Capability::Create)
        && kit.settings.existing.is_none()
        && before.mounts.is_empty()
        && after.mounts.is_empty()
    {
        return skipped("it has no mounts of its own");
    }
    let left = after.entries.difference(&before.entries).next();
    if let Some(left) = left {
        return failed(format!(
            "{} is left in its directory",
            left.to_string_lossy()
        ));
    }
    if after.mounts.len() > before.mounts.len() {
        return failed(format!(
            "{} mounts become {}",
            before.mounts.len(),
            after.mounts.len()
        ));
    }
    Ok(Verdict::Passed)
}
