//! What stays behind after work that is done.

use std::time::{Duration, Instant};

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

/// How long what a round has left may take to go.
const SETTLES: Duration = Duration::from_secs(5);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// What the rounds have left. They are run once for all checks of this group: with some kinds of
/// storage each takes seconds.
#[derive(Clone)]
pub(crate) struct Rounds {
    before: Facts,
    after: Facts,
}

/// What is counted before and after the rounds.
const COUNTED: [fn(&Facts) -> usize; 3] = [descriptors_of, threads_of, processes_of];

fn descriptors_of(facts: &Facts) -> usize {
    facts.descriptors
}

fn threads_of(facts: &Facts) -> usize {
    facts.threads
}

fn processes_of(facts: &Facts) -> usize {
    facts.processes.len()
}

/// Whether there is more than a plugin may have gained that leaks nothing in each round.
fn grown(rounds: &Rounds, of: fn(&Facts) -> usize) -> bool {
    of(&rounds.after) > of(&rounds.before) + ROUNDS / 2
}

/// Makes, mounts, unmounts and removes volumes.
fn run(kit: &mut Kit, rounds: usize) -> Result<(), Failed> {
    for _ in 0..rounds {
        let volume = kit.made()?;
        drop(kit.mount(&volume)?);
        kit.remove(&volume)?;
    }
    Ok(())
}

/// Before and after the rounds; the first ones may fill caches and start daemons.
fn rounds(kit: &mut Kit) -> Result<Rounds, Failed> {
    if let Some(rounds) = &kit.rounds {
        return Ok(rounds.clone());
    }
    run(kit, 2)?;
    let before = settled(kit)?;
    run(kit, ROUNDS)?;
    let end = Instant::now() + SETTLES;
    let rounds = loop {
        let rounds = Rounds {
            before: before.clone(),
            after: kit.facts()?,
        };
        let gone = COUNTED.into_iter().all(|of| !grown(&rounds, of));
        if gone || Instant::now() > end {
            break rounds;
        }
        std::thread::sleep(PAUSE);
    };
    kit.rounds = Some(rounds.clone());
    Ok(rounds)
}

/// The least that is there within some moments: the end of a call may be heard before its thread has
/// ended.
fn settled(kit: &Kit) -> Result<Facts, Failed> {
    let mut least = kit.facts()?;
    for _ in 0..6 {
        std::thread::sleep(PAUSE);
        let now = kit.facts()?;
        least = Facts {
            descriptors: least.descriptors.min(now.descriptors),
            threads: least.threads.min(now.threads),
            processes: if now.processes.len() < least.processes.len() {
                now.processes
            } else {
                least.processes
            },
            ..now
        };
    }
    Ok(least)
}

fn counted(kit: &mut Kit, what: &str, of: fn(&Facts) -> usize) -> Found {
    let rounds = rounds(kit)?;
    if grown(&rounds, of) {
        let (before, after) = (of(&rounds.before), of(&rounds.after));
        return failed(format!(
            "{before} {what} become {after} in {ROUNDS} rounds of create, mount, unmount and remove"
        ));
    }
    Ok(Verdict::Passed)
}

fn descriptors(kit: &mut Kit) -> Found {
    counted(kit, "open descriptors", descriptors_of)
}

fn threads(kit: &mut Kit) -> Found {
    counted(kit, "threads", threads_of)
}

fn processes(kit: &mut Kit) -> Found {
    counted(kit, "processes", processes_of)
}

fn mounts(kit: &mut Kit) -> Found {
    let Rounds { before, after } = rounds(kit)?;
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
