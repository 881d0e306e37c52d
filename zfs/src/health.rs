//! How the pool is, found out by a thread of its own.
//!
//! The kernel says in a file whether a pool is suspended, without asking its devices; only if it is
//! not do the tools look, as children that are killed when they take too long. A tool that waits in
//! the kernel for a pool that was suspended meanwhile cannot be killed: none is started after it
//! before it has ended.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lazarette_plugin::command::{Failure, abandoned};
use lazarette_plugin::monitor::{Look, Monitor};
use lazarette_plugin::{Capacity, Health, HealthState, Host, Level, Result};

use crate::pool::{self, State};
use crate::programs::Programs;
use crate::spares;
use crate::status::{self, PoolStatus};
use crate::values::PoolName;

/// Between two looks at the kernel's file.
const GLANCE: Duration = Duration::from_secs(2);
/// Between two looks with the tools at a pool with which all is well.
const CALM: Duration = Duration::from_secs(10);
/// Between two times that the kernel is told to open devices anew.
const REOPENED: Duration = Duration::from_secs(30);
/// How long a tool may take.
const LIMIT: Duration = Duration::from_secs(8);
/// How long a device must have failed before a spare stands in: many are back at once.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two attempts to put in a spare, if the first has failed.
const ATTEMPT: Duration = Duration::from_secs(60);

/// Lets a thread look, but not while `hold` says so.
///
/// # Errors
/// If there is no thread to be had.
pub(crate) fn watch(
    host: &Host,
    programs: Programs,
    pool: PoolName,
    hold: Arc<AtomicBool>,
) -> Result<Monitor> {
    let mut course = Course::default();
    let log = host.clone();
    Monitor::start(host, Health::healthy(), move |asked| {
        let seen = (!hold.load(Ordering::Relaxed)).then(|| course.look(&programs, &pool, asked));
        for (level, note) in course.notes.drain(..) {
            log.log(level, note);
        }
        Look {
            health: seen.flatten(),
            pause: GLANCE,
        }
    })
}

/// What was seen before.
struct Course {
    seen: Option<State>,
    looked: Option<Instant>,
    calm: bool,
    /// Errors of reading and writing, of devices that count as good.
    errors: u64,
    reopened: Option<Instant>,
    /// Since when devices have failed for which no spare stands in.
    failed: BTreeMap<String, Instant>,
    /// How long they must have.
    patience: Duration,
    /// When a spare was put in last, or was to be.
    attempted: Option<Instant>,
    /// What was done, for the log.
    notes: Vec<(Level, String)>,
}

impl Default for Course {
    fn default() -> Self {
        Self {
            seen: None,
            looked: None,
            calm: false,
            errors: 0,
            reopened: None,
            failed: BTreeMap::new(),
            patience: PATIENCE,
            attempted: None,
            notes: Vec::new(),
        }
    }
}

impl Course {
    /// What there is to tell; none if nothing new is known.
    fn look(&mut self, programs: &Programs, pool: &PoolName, now: bool) -> Option<Health> {
        let state = pool::state(programs, pool);
        let changed = self.seen.as_ref() != Some(&state);
        self.seen = Some(state.clone());
        match state {
            State::Absent => Some(Health::because(
                HealthState::Faulted,
                format!("the pool {pool} is not imported"),
            )),
            State::Suspended => Some(Health::because(
                HealthState::Unreachable,
                format!(
                    "the pool {pool} is suspended: its devices do not answer, and what is written \
                     waits; bring them back, then run laz pool clear"
                ),
            )),
            State::Imported(state) => {
                let fresh = self.looked.is_some_and(|at| at.elapsed() < CALM);
                if fresh && self.calm && !changed && !now {
                    return None;
                }
                // A tool hangs in the kernel: another one would too.
                if abandoned() > 0 {
                    let why = "the tools of ZFS wait in the kernel; the pool's devices may be slow";
                    return Some(Health::because(HealthState::Unreachable, why));
                }
                self.looked = Some(Instant::now());
                let (health, found) = ask(programs, pool, &state)?;
                self.calm = health.state == HealthState::Healthy && health.activities.is_empty();
                self.mind(
                    programs,
                    pool,
                    found.as_ref().map_or(0, PoolStatus::failures),
                );
                if let Some(found) = found {
                    self.fill(programs, pool, &found);
                }
                Some(health)
            }
        }
    }

    /// The last device of a pool stays ONLINE when it is lost, and the kernel repeats what was written
    /// without end (2.3.9). Opening it anew shows it what is true: the pool is suspended, or the device
    /// is back. A device that works is none the worse for it.
    fn mind(&mut self, programs: &Programs, pool: &PoolName, errors: u64) {
        let more = errors > std::mem::replace(&mut self.errors, errors);
        let lately = self.reopened.is_some_and(|at| at.elapsed() < REOPENED);
        if !more || lately {
            return;
        }
        self.reopened = Some(Instant::now());
        // What comes of it is seen at the next look.
        let _ = pool::reopen(programs, pool, LIMIT);
        self.calm = false;
    }

    /// Puts spares in the place of devices that have failed for a while.
    fn fill(&mut self, programs: &Programs, pool: &PoolName, found: &PoolStatus) {
        let vacancies = spares::vacancies(found);
        let now = Instant::now();
        let before = std::mem::take(&mut self.failed);
        for vacancy in &vacancies {
            let id = vacancy.failed.id();
            let since = before.get(id).copied().unwrap_or(now);
            self.failed.insert(id.to_owned(), since);
        }
        let lately = self.attempted.is_some_and(|at| at.elapsed() < ATTEMPT);
        let mut taken: Vec<&str> = Vec::new();
        for vacancy in &vacancies {
            let since = self.failed[vacancy.failed.id()];
            if vacancy.spares.is_empty() || since.elapsed() < self.patience || lately {
                continue;
            }
            self.attempted = Some(now);
            let free = vacancy
                .spares
                .iter()
                .filter(|spare| !taken.contains(*spare));
            for spare in free.copied().collect::<Vec<_>>() {
                let put = pool::put_in_spare(programs, pool, vacancy.failed, spare);
                let (note, done) = match put {
                    Ok(note) => ((Level::Warn, note), true),
                    Err(error) => ((Level::Error, error.to_string()), false),
                };
                self.notes.push(note);
                if done {
                    taken.push(spare);
                    self.attempted = None;
                    break;
                }
            }
        }
    }
}

/// Has the tools look; with what they say if it was understood.
fn ask(programs: &Programs, pool: &PoolName, state: &str) -> Option<(Health, Option<PoolStatus>)> {
    let told = |health| Some((health, None));
    let asked = programs
        .zpool(LIMIT)
        .args(["status", "-j", "--json-int", "-P", "--", pool.as_str()])
        .run();
    let output = match asked {
        Ok(output) => output,
        Err(failed) => {
            return match failed.failure {
                Failure::Deadline(_) | Failure::Abandoned { .. } => told(Health::because(
                    HealthState::Unreachable,
                    "the tools of ZFS do not answer; the pool's devices may be slow",
                )),
                // It is being exported; the next glance tells.
                _ => None,
            };
        }
    };
    let Some(found) = status::parse(&output.stdout_text(), pool.as_str()) else {
        let why = format!("the pool {pool} is {state}; zpool status is not understood");
        return told(Health::because(HealthState::Degraded, why));
    };
    let (state, reason) = found.health();
    let health = Health {
        state,
        reason,
        volumes: Vec::new(),
        capacity: capacity(programs, pool),
        activities: found.activities(),
    };
    Some((health, Some(found)))
}

/// What its datasets can hold and do hold, redundancy taken off.
fn capacity(programs: &Programs, pool: &PoolName) -> Option<Capacity> {
    let asked = programs
        .zfs(LIMIT)
        .args(["get", "-H", "-p", "-o", "value", "used,available"])
        .arg(pool.as_str())
        .run()
        .ok()?;
    let text = asked.stdout_text();
    let mut numbers = text.lines().map(|line| line.trim().parse::<u64>());
    let (used, available) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    Some(Capacity {
        total: used.saturating_add(available),
        used,
    })
}

#[cfg(test)]
#[path = "health_tests.rs"]
pub(crate) mod tests;
