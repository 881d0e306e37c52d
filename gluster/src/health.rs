//! How servers, bricks and clients are, found out by a thread of its own.
//!
//! Whatever touches a mount may wait for bricks that are away. So a child process looks, which is
//! killed when it takes too long. Which volumes are on a client that has ended is known without asking
//! anybody.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lazarette_plugin::command::{Command, Failure};
use lazarette_plugin::monitor::{Look, Monitor};
use lazarette_plugin::{
    Activity, Capacity, Health, HealthState, Host, Level, Result, VolumeHealth,
};

use crate::config::Config;
use crate::graph::{self, Brick};
use crate::heals::{self, Unhealed};
use crate::mounts::Mounts;
use crate::programs::Programs;
use crate::server::Answer;
use crate::{client, report, server};

/// Between two looks at what is healthy, and at anything else.
const CALM: Duration = Duration::from_secs(5);
const ALERT: Duration = Duration::from_secs(2);
/// How long a connection, or a look at a mount, may take.
const LIMIT: Duration = Duration::from_secs(2);
/// A client that answers no look for so much longer than it waits for a brick hangs by itself.
const MERCY: Duration = Duration::from_secs(30);
/// How long bricks may take to list what is to be healed, how often they are asked, and for up to
/// how many files: they look at each copy of each.
const BRICKS: Duration = Duration::from_secs(10);
const ASK: Duration = Duration::from_secs(20);
const FEW: u64 = 1000;
/// The longest description of a volume that is read.
const DESCRIPTION: usize = 4 << 20;
/// So many lines of a client's log are told after one look.
const TOLD: usize = 20;
/// A log is emptied when it has become so long.
const LONGEST_LOG: u64 = 4 << 20;
/// Files in split brain that are named.
const NAMED: usize = 3;
/// The extended attribute with the number of files that a brick knows to be healed.
const TO_HEAL: &str = "glusterfs.xattrop_index_count";

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
    let (at, mut looked) = (host.clone(), false);
    let mut looker = Looker {
        config,
        mounts,
        programs,
        host,
        clients: BTreeMap::new(),
    };
    Monitor::start(&at, Health::healthy(), move |_| {
        // What was there at the start may be wanted again: core comes and says so.
        if std::mem::replace(&mut looked, true) {
            looker.mounts.tidy();
        }
        let health = looker.look();
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

/// What was found last, and which volumes must be mounted anew as it is now.
pub(crate) fn now(monitor: &Monitor, mounts: &Mounts) -> Health {
    let stale = mounts.stale().into_iter();
    let volumes = stale
        .map(|(id, why)| VolumeHealth {
            id,
            state: HealthState::Stale,
            reason: Some(why),
        })
        .collect();
    Health {
        volumes,
        ..monitor.health()
    }
}

/// What one look at everything takes.
struct Looker {
    config: Arc<Config>,
    mounts: Arc<Mounts>,
    programs: Programs,
    host: Host,
    clients: BTreeMap<String, Client>,
}

/// What is remembered of a client between looks.
#[derive(Default)]
struct Client {
    pid: i32,
    /// Up to here its log was read.
    read: u64,
    /// Since when it does not answer.
    silent: Option<Instant>,
    /// How long it waits for a brick.
    patience: Duration,
    /// Files in split brain: as the bricks list them, or until they do by the gfids in its log.
    split: BTreeSet<String>,
    /// When its bricks were asked last which files are to be healed.
    asked: Option<Instant>,
}

/// What a look at one mount finds.
enum Found {
    /// No answer in time.
    Silent,
    /// An answer that no brick can be used.
    Refused,
    /// Answers.
    Answers {
        away: Vec<String>,
        bricks: usize,
        to_heal: Option<u64>,
        capacity: Option<Capacity>,
    },
    /// It could not be looked at.
    Unknown,
}

impl Looker {
    fn look(&mut self) -> Health {
        let answers = server::ask(&self.config, LIMIT);
        let live = self.mounts.live();
        self.clients
            .retain(|key, _| live.iter().any(|(k, ..)| k == key));
        let mut health = Health::healthy();
        for (key, place, process) in &live {
            let mut found = self.look_at(place, key).unwrap_or_else(|why| why);
            let known = self.clients.entry(key.clone()).or_default();
            if known.pid != process.pid() {
                *known = Client {
                    pid: process.pid(),
                    patience: known.patience,
                    ..Client::default()
                };
            }
            let log = client::log(&self.programs, key);
            known.hear(&self.host, &log);
            if known.hangs(&found, &answers) {
                client::kill(process);
                let why = format!(
                    "the Gluster client {} hangs and had to be ended",
                    process.pid()
                );
                self.mounts.dead(key, process, &why);
            }
            let ask = || heals::ask(&self.programs, &self.config, key, place, BRICKS);
            if let Err(why) = known.ask_bricks(&mut found, ask) {
                let text = format!("the bricks do not tell what is to be healed: {why}");
                self.host.log(Level::Debug, text);
            }
            health = worse(health, found.health(&known.split));
        }
        worse(health, of_servers(&answers, live.is_empty()))
    }

    fn look_at(&mut self, place: &Path, key: &str) -> Result<Found, Found> {
        let capacity = self.capacity(place)?;
        let description = self.read(&self.programs.cat, &[], &[graph::description(place)])?;
        let bricks = graph::bricks(&description);
        let states: Vec<_> = bricks.iter().map(|b| graph::state(place, b)).collect();
        // With several files each comes with its name, and with one too if it is asked for.
        let states = self.read(&self.programs.tail, &["--verbose", "--lines=+1"], &states)?;
        let patience = bricks.iter().map(|b| b.patience).max().unwrap_or_default();
        self.clients.entry(key.to_owned()).or_default().patience = patience;
        let name = |b: &Brick| b.place.clone();
        Ok(Found::Answers {
            away: graph::away(&bricks, &states)
                .into_iter()
                .map(name)
                .collect(),
            bricks: bricks.len(),
            to_heal: self.to_heal(place),
            capacity,
        })
    }

    /// Also the question whether the mount answers at all.
    fn capacity(&self, place: &Path) -> Result<Option<Capacity>, Found> {
        let words = ["--file-system", "--format=%S %b %f"];
        let text = self.read(&self.programs.stat, &words, &[place.to_owned()])?;
        Ok(capacity(&text))
    }

    /// How many files are still to be healed, as far as a brick tells.
    fn to_heal(&self, place: &Path) -> Option<u64> {
        let words = ["--absolute-names", "--only-values", "--name", TO_HEAL];
        let text = self.read(&self.programs.getfattr, &words, &[place.to_owned()]);
        text.ok()?
            .trim_matches(|c: char| c.is_whitespace() || c == '\0')
            .parse()
            .ok()
    }

    /// What `program` says of files of a mount, or what it means that it cannot.
    fn read(
        &self,
        program: &Path,
        words: &[&str],
        files: &[std::path::PathBuf],
    ) -> Result<String, Found> {
        let run = Command::new(program)
            .args(words)
            .arg("--")
            .args(files)
            .deadline(LIMIT)
            .keep(DESCRIPTION)
            .run();
        match run {
            Ok(output) if output.truncated => Err(Found::Unknown),
            Ok(output) => Ok(output.stdout_text()),
            Err(e) => Err(match e.failure {
                Failure::Deadline(_) | Failure::Abandoned { .. } => Found::Silent,
                // Of a volume without its quorum some questions are answered, and others not.
                _ if e.stderr.contains("Transport endpoint is not connected") => Found::Refused,
                _ => Found::Unknown,
            }),
        }
    }
}

impl Client {
    /// Tells the context's log what is new in the client's, and remembers split brains.
    fn hear(&mut self, host: &Host, log: &Path) {
        use std::io::{Read, Seek, SeekFrom};
        let Ok(mut file) = fs::File::open(log) else {
            return;
        };
        let length = file.metadata().map_or(0, |m| m.len());
        if length < self.read {
            self.read = 0;
        }
        let mut bytes = Vec::new();
        let new = file
            .seek(SeekFrom::Start(self.read))
            .and_then(|_| file.take(LONGEST_LOG).read_to_end(&mut bytes));
        if new.is_err() {
            return;
        }
        // The last line may not be whole yet.
        let whole = bytes
            .iter()
            .rposition(|b| *b == b'\n')
            .map_or(0, |end| end + 1);
        self.read += u64::try_from(whole).unwrap_or(u64::MAX);
        let text = String::from_utf8_lossy(&bytes[..whole]);
        self.split.extend(report::split_brains(&text));
        let told = report::worth_telling(&text);
        for line in told.iter().take(TOLD) {
            let level = match line.level {
                'E' | 'C' | 'A' | 'M' => Level::Error,
                'W' => Level::Warn,
                'I' | 'N' => Level::Info,
                _ => Level::Debug,
            };
            host.log(level, format!("client {}: {}", self.pid, line.text));
        }
        if let Some(more) = told.len().checked_sub(TOLD).filter(|n| *n > 0) {
            host.log(
                Level::Warn,
                format!("client {}: {more} lines more", self.pid),
            );
        }
        if length > LONGEST_LOG {
            // The client appends, so it goes on at the new end.
            let emptied = fs::OpenOptions::new().write(true).open(log);
            if emptied.and_then(|f| f.set_len(0)).is_ok() {
                self.read = 0;
            }
        }
    }

    /// Has the bricks tell which files are in split brain, by `ask`, if some may be. That costs them
    /// something, and they cannot know while one of them is away.
    fn ask_bricks(
        &mut self,
        found: &mut Found,
        ask: impl FnOnce() -> Result<Unhealed, String>,
    ) -> Result<(), String> {
        let Found::Answers { away, to_heal, .. } = found else {
            return Ok(());
        };
        if *to_heal == Some(0) {
            self.split.clear();
            self.asked = None;
        } else if away.is_empty()
            && to_heal.is_some_and(|n| n <= FEW)
            && self.asked.is_none_or(|t| t.elapsed() >= ASK)
        {
            self.asked = Some(Instant::now());
            self.split = ask()?.split;
        }
        // No heal waits for those.
        let split = u64::try_from(self.split.len()).unwrap_or(u64::MAX);
        *to_heal = to_heal.map(|n| n.saturating_sub(split));
        Ok(())
    }

    /// Whether the client itself hangs: servers answer, and it has not for longer than it waits
    /// for any of them.
    fn hangs(&mut self, found: &Found, answers: &[Answer]) -> bool {
        let servers = answers.iter().all(|(_, why)| why.is_none());
        if !matches!(found, Found::Silent) || !servers {
            self.silent = None;
            return false;
        }
        let since = *self.silent.get_or_insert_with(Instant::now);
        since.elapsed() > self.patience + MERCY
    }
}

impl Found {
    fn health(self, split: &BTreeSet<String>) -> Health {
        match self {
            Self::Silent => Health::because(
                HealthState::Unreachable,
                "the bricks do not answer; I/O waits until they do or are given up",
            ),
            Self::Refused => Health::because(
                HealthState::Unreachable,
                "too few bricks can be reached: I/O fails until they are back (gluster volume status)",
            ),
            Self::Unknown => Health::healthy(),
            Self::Answers {
                away,
                bricks,
                to_heal,
                capacity,
            } => {
                let mut why = Vec::new();
                if !split.is_empty() {
                    why.push(told_split(split));
                }
                if !away.is_empty() {
                    why.push(format!(
                        "{} of {bricks} bricks away: {}",
                        away.len(),
                        away.join(", ")
                    ));
                }
                let to_heal = to_heal.filter(|n| *n > 0);
                if let Some(n) = to_heal {
                    why.push(format!("{n} files are still to be healed"));
                }
                let heal = to_heal.map(|n| Activity {
                    name: "heal".into(),
                    share: None,
                    detail: Some(format!("{n} files left")),
                });
                Health {
                    capacity,
                    activities: heal.into_iter().collect(),
                    ..if why.is_empty() {
                        Health::healthy()
                    } else {
                        Health::because(HealthState::Degraded, why.join("; "))
                    }
                }
            }
        }
    }
}

fn told_split(split: &BTreeSet<String>) -> String {
    let name = |file: &String| match file.starts_with(['/', '<']) {
        true => file.clone(),
        false => format!("gfid {file}"),
    };
    let names: Vec<String> = split.iter().take(NAMED).map(name).collect();
    let more = if split.len() > NAMED { ", …" } else { "" };
    format!(
        "split brain in {} files ({}{more}): choose a copy with `gluster volume heal {}`",
        split.len(),
        names.join(", "),
        "VOLUME split-brain"
    )
}

/// How the servers' management daemons are. Mounts that are there do without them.
fn of_servers(answers: &[Answer], nothing_mounted: bool) -> Health {
    let away: Vec<String> = answers
        .iter()
        .filter_map(|(server, why)| Some(format!("{server}: {}", why.as_ref()?)))
        .collect();
    if away.is_empty() {
        return Health::healthy();
    }
    let all = away.len() == answers.len();
    let state = if all && nothing_mounted {
        HealthState::Unreachable
    } else {
        HealthState::Degraded
    };
    let what = if all {
        "no server answers"
    } else {
        "a server does not answer"
    };
    Health::because(state, format!("{what}: {}", away.join("; ")))
}

/// The worse of two, with what both know.
fn worse(one: Health, other: Health) -> Health {
    let rank = |h: &Health| match h.state {
        HealthState::Healthy => 0,
        HealthState::Degraded => 1,
        _ => 2,
    };
    let (mut worse, better) = if rank(&other) > rank(&one) {
        (other, one)
    } else {
        (one, other)
    };
    worse.reason = match (worse.reason, better.reason) {
        (Some(first), Some(second)) => Some(format!("{first}; {second}")),
        (first, second) => first.or(second),
    };
    worse.capacity = worse.capacity.or(better.capacity);
    worse.activities.extend(better.activities);
    worse
}

/// `BLOCK-SIZE BLOCKS FREE`, as stat(1) was asked for.
fn capacity(text: &str) -> Option<Capacity> {
    let mut words = text.split_ascii_whitespace().map(|w| w.parse::<u64>().ok());
    let (size, blocks, free) = (words.next()??, words.next()??, words.next()??);
    let total = blocks.checked_mul(size)?;
    let used = blocks.checked_sub(free)?.checked_mul(size)?;
    (total > 0).then_some(Capacity { total, used })
}

#[cfg(test)]
#[path = "health_tests.rs"]
mod tests;
