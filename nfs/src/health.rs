//! How the server and the mounts are, found out by a thread of its own.
//!
//! Whatever touches a mount whose server is away waits for ever. So the thread first asks by a TCP
//! connection with a limit, and then lets a child process look at the mounts, which is killed when
//! it takes too long.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lazarette_plugin::command::{Command, Failure};
use lazarette_plugin::monitor::{Look, Monitor};
use lazarette_plugin::{Error, Health, HealthState, Host, Level, Result, VolumeHealth, VolumeId};

use crate::export::Config;
use crate::mounts::{Mounts, Used};
use crate::programs::Programs;
use crate::{lock_daemons, server};

/// Between two looks at a healthy server, and at any other.
const CALM: Duration = Duration::from_secs(5);
const ALERT: Duration = Duration::from_secs(2);
/// How long a connection, or a look at the mounts, may take.
const LIMIT: Duration = Duration::from_secs(2);
/// For so long at least a server that has come back is said to be recovering: clients reclaim
/// their locks.
const RECOVERY: Duration = Duration::from_secs(10);
/// After so long a server that answers connections but not requests is no longer recovering.
const LONGEST_RECOVERY: Duration = Duration::from_secs(180);
/// Between two looks at the lock daemons.
const LOCKS: Duration = Duration::from_secs(15);
/// Paths that one child looks at.
const BATCH: usize = 64;

/// Lets a thread look.
///
/// # Errors
/// If there is no thread to be had.
pub(crate) fn watch(
    host: Host,
    config: Arc<Config>,
    mounts: Arc<Mounts>,
    programs: Programs,
) -> Result<Monitor> {
    let (mut course, mut locks) = (Course::default(), Locks::default());
    let (at, mut looked) = (host.clone(), false);
    Monitor::start(&at, Health::healthy(), move |_| {
        // What was there at the start may be wanted again: core comes and says so.
        if std::mem::replace(&mut looked, true) {
            mounts.tidy();
        }
        let health = look(&config, &mounts, &programs, &mut course);
        locks.tend(&host, &mounts, &programs);
        let pause = match health.state {
            HealthState::Healthy => CALM,
            _ => ALERT,
        };
        Look {
            health: Some(health),
            pause,
        }
    })
}

/// The lock daemons of NFS 3, started again if they have gone: another context may have had them.
#[derive(Default)]
struct Locks {
    looked: Option<Instant>,
}

impl Locks {
    fn tend(&mut self, host: &Host, mounts: &Mounts, programs: &Programs) {
        let recently = self.looked.is_some_and(|at| at.elapsed() < LOCKS);
        if recently || !mounts.used().iter().any(|u| u.needs_lock_daemons) {
            return;
        }
        self.looked = Some(Instant::now());
        if let Err(error) = lock_daemons::ensure(programs, LIMIT) {
            host.log(Level::Error, error.to_string());
        }
    }
}

/// What one look at everything finds, and what follows from the looks before it.
fn look(config: &Config, mounts: &Mounts, programs: &Programs, course: &mut Course) -> Health {
    let used = mounts.used();
    let found = match server::probe(&config.server, &config.options, LIMIT) {
        Err(error) => Found::Away(brief(&error)),
        Ok(()) => look_at(programs, &used),
    };
    if let Found::Answers(dead) = &found {
        for (path, ..) in dead {
            mounts.mark_stale(path);
        }
    }
    course.health(found, &used, Instant::now())
}

fn brief(error: &Error) -> String {
    match &error.cause {
        Some(cause) => format!("{}: {cause}", error.message),
        None => error.message.clone(),
    }
}

/// A dead mount, or directory of one, and why.
type Dead = (std::path::PathBuf, Option<VolumeId>, String);

/// What one look finds.
enum Found {
    /// No connection.
    Away(String),
    /// A connection, but no answers.
    Silent,
    /// Answers, but for these.
    Answers(Vec<Dead>),
}

/// Looks at each mount and at each volume's directory in it.
fn look_at(programs: &Programs, used: &[Used]) -> Found {
    let mut dead = Vec::new();
    let mut paths: BTreeMap<String, (&Path, Option<VolumeId>)> = BTreeMap::new();
    for mount in used {
        paths.insert(mount.path.display().to_string(), (&mount.path, None));
        for (id, directory) in mount.volumes.iter().filter(|(_, d)| !d.is_empty()) {
            let path = mount.path.join(directory).display().to_string();
            paths.insert(path, (&mount.path, Some(*id)));
        }
    }
    let names: Vec<&String> = paths.keys().collect();
    for batch in names.chunks(BATCH) {
        let looked = Command::new(&programs.stat)
            .args(["--file-system", "--format=%n", "--"])
            .args(batch)
            .deadline(LIMIT)
            .output();
        let output = match looked {
            Ok(output) => output,
            Err(e) if matches!(e.failure, Failure::Deadline(_) | Failure::Abandoned { .. }) => {
                return Found::Silent;
            }
            // Not able to look is not a finding.
            Err(_) => return Found::Answers(Vec::new()),
        };
        let (fine, said) = (
            output.stdout_text(),
            String::from_utf8_lossy(&output.stderr),
        );
        for name in batch
            .iter()
            .filter(|n| !fine.lines().any(|l| l == n.as_str()))
        {
            if let (Some((mount, id)), Some(why)) = (paths.get(*name), death(&said, name)) {
                dead.push((mount.to_path_buf(), *id, why));
            }
        }
    }
    Found::Answers(dead)
}

/// Why `name` is dead for good, by what stat(1) says of it; none if it may only be a hitch.
fn death(said: &str, name: &str) -> Option<String> {
    let line = said.lines().find(|l| l.contains(&format!("'{name}'")))?;
    let why = line.rsplit(": ").next()?;
    let for_good = [
        "Stale file handle",
        "No such file or directory",
        "Not a directory",
    ];
    for_good.contains(&why).then(|| why.to_owned())
}

/// The course of things: when the server went and when it came back.
#[derive(Default)]
struct Course {
    /// It has answered once: before that there are no locks to reclaim.
    seen: bool,
    away: bool,
    back: Option<Instant>,
}

impl Course {
    fn health(&mut self, found: Found, used: &[Used], now: Instant) -> Health {
        match found {
            Found::Away(why) => {
                self.away = self.seen;
                self.back = None;
                Health::because(HealthState::Unreachable, why)
            }
            Found::Silent => {
                if self.away {
                    let back = *self.back.get_or_insert(now);
                    if now.duration_since(back) < LONGEST_RECOVERY {
                        let why = "the server is back and does not answer requests yet";
                        return Health::because(HealthState::Recovering, why);
                    }
                }
                let why = "the server accepts connections but does not answer requests";
                Health::because(HealthState::Unreachable, why)
            }
            Found::Answers(dead) => {
                self.seen = true;
                let volumes = stale_volumes(&dead, used);
                if !volumes.is_empty() {
                    let why = format!("{} volumes must be mounted anew", volumes.len());
                    return Health {
                        volumes,
                        ..Health::because(HealthState::Degraded, why)
                    };
                }
                if self.away {
                    let back = *self.back.get_or_insert(now);
                    if now.duration_since(back) < RECOVERY {
                        let why = "the server is back; locks are being reclaimed";
                        return Health::because(HealthState::Recovering, why);
                    }
                    self.away = false;
                    self.back = None;
                }
                Health::healthy()
            }
        }
    }
}

/// The volumes on dead mounts, and those whose directory is dead.
fn stale_volumes(dead: &[Dead], used: &[Used]) -> Vec<VolumeHealth> {
    let mut volumes = BTreeMap::new();
    for (path, id, why) in dead {
        let all = used
            .iter()
            .filter(|u| u.path == *path)
            .flat_map(|u| &u.volumes);
        for (volume, _) in all.filter(|(v, _)| id.is_none_or(|id| id == *v)) {
            volumes.entry(*volume).or_insert_with(|| why.clone());
        }
    }
    volumes
        .into_iter()
        .map(|(id, why)| VolumeHealth {
            id,
            state: HealthState::Stale,
            reason: Some(why),
        })
        .collect()
}

#[cfg(test)]
#[path = "health_tests.rs"]
mod tests;
