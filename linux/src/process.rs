//! Processes by identity, not by number: a number is reused, a pidfd is not.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// A process that is held by its pidfd, so that it cannot be confused with a later one of the same
/// number.
#[derive(Debug)]
pub struct Process {
    pid: i32,
    start_time: u64,
    pidfd: OwnedFd,
}

/// Why there is no such process.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProcessError {
    /// No process has this number (any more).
    #[error("process {pid} does not exist any more")]
    Gone {
        /// The number.
        pid: i32,
    },
    /// The number belongs to another process by now.
    #[error(
        "process {pid} is another one than expected: it was started at tick {found}, not {expected}"
    )]
    Reused {
        /// The number.
        pid: i32,
        /// The expected start time.
        expected: u64,
        /// The start time of the process that has the number now.
        found: u64,
    },
    /// It cannot be looked at.
    #[error(
        "process {pid} cannot be looked at; check that /proc is mounted and that this runs as root"
    )]
    Unreadable {
        /// The number.
        pid: i32,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Process {
    /// The process that has the number `pid` now.
    ///
    /// # Errors
    /// [`ProcessError::Gone`] when there is none.
    pub fn open(pid: i32) -> Result<Self, ProcessError> {
        if pid <= 0 {
            // rustix takes negative numbers for a mistake of the program.
            return Err(ProcessError::Gone { pid });
        }
        let number = Pid::from_raw(pid).ok_or(ProcessError::Gone { pid })?;
        let unreadable = |source| ProcessError::Unreadable { pid, source };
        let pidfd = match pidfd_open(number, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(rustix::io::Errno::SRCH | rustix::io::Errno::INVAL) => {
                return Err(ProcessError::Gone { pid });
            }
            Err(error) => return Err(unreadable(error.into())),
        };
        let mut process = Self {
            pid,
            start_time: 0,
            pidfd,
        };
        let stat = match std::fs::read(format!("/proc/{pid}/stat")) {
            Ok(stat) => stat,
            Err(_) if !process.is_alive() => return Err(ProcessError::Gone { pid }),
            Err(error) => return Err(unreadable(error)),
        };
        process.start_time = parse_start_time(&stat).ok_or_else(|| {
            unreadable(io::Error::new(
                io::ErrorKind::InvalidData,
                "its stat file has no start time",
            ))
        })?;
        // Alive after the reading: what was read is this process' and no later one's.
        if process.is_alive() {
            Ok(process)
        } else {
            Err(ProcessError::Gone { pid })
        }
    }

    /// The process that has the number `pid` and was started at `start_time` (see
    /// [`Process::start_time`]), known from earlier.
    ///
    /// # Errors
    /// [`ProcessError::Reused`] when the number belongs to another one by now.
    pub fn open_known(pid: i32, start_time: u64) -> Result<Self, ProcessError> {
        let process = Self::open(pid)?;
        if process.start_time != start_time {
            return Err(ProcessError::Reused {
                pid,
                expected: start_time,
                found: process.start_time,
            });
        }
        Ok(process)
    }

    /// The number.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// When it was started, in clock ticks since boot (field 22 of `/proc/PID/stat`). Together with
    /// the number it names a process of this boot.
    pub fn start_time(&self) -> u64 {
        self.start_time
    }

    /// True until it has ended.
    pub fn is_alive(&self) -> bool {
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        matches!(poll(&mut fds, Some(&Timespec::default())), Ok(0))
    }
}

impl AsFd for Process {
    /// The pidfd: readable when the process has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// A process that was found by its number, which may be another one's by now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The number.
    pub pid: i32,
    /// The name of its program, 15 bytes of it at most.
    pub name: String,
}

/// The descendants of this process that are still at work in its own session. Daemons have a
/// session of their own, and are none of them.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn descendants_in_session() -> io::Result<Vec<Found>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else {
            continue;
        };
        // One that has ended meanwhile is of no interest.
        let stat = std::fs::read(entry.path().join("stat")).ok();
        if let Some(place) = stat.as_deref().and_then(parse_place) {
            all.insert(pid, place);
        }
    }
    let own = i32::try_from(std::process::id()).expect("the kernel's numbers are smaller");
    Ok(below(&all, own))
}

/// Where a process stands among others.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    name: String,
    ended: bool,
    parent: i32,
    session: i32,
}

/// Those of `all` that descend from `root`, share its session and have not ended.
fn below(all: &BTreeMap<i32, Place>, root: i32) -> Vec<Found> {
    let Some(session) = all.get(&root).map(|place| place.session) else {
        return Vec::new();
    };
    // What was read bit by bit may have a circle in it.
    let ancestors = |place: &Place| {
        std::iter::successors(Some(place.parent), |pid| all.get(pid).map(|p| p.parent))
            .take(all.len())
    };
    let descends = |place: &Place| ancestors(place).any(|pid| pid == root);
    all.iter()
        .filter(|(_, place)| !place.ended && place.session == session && descends(place))
        .map(|(pid, place)| Found {
            pid: *pid,
            name: place.name.clone(),
        })
        .collect()
}

/// Fields 2, 3, 4 and 6 of `/proc/PID/stat`.
fn parse_place(stat: &[u8]) -> Option<Place> {
    let open = stat.iter().position(|byte| *byte == b'(')?;
    let close = stat.iter().rposition(|byte| *byte == b')')?;
    let name = stat.get(open + 1..close)?;
    let rest = std::str::from_utf8(&stat[close + 1..]).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let session = fields.nth(1)?.parse().ok()?;
    Some(Place {
        name: String::from_utf8_lossy(name).into_owned(),
        ended: matches!(state, "Z" | "X"),
        parent,
        session,
    })
}

/// Field 22. The second field, the program's name in brackets, may hold blanks and brackets.
fn parse_start_time(stat: &[u8]) -> Option<u64> {
    let after_name = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let rest = std::str::from_utf8(&stat[after_name..]).ok()?;
    rest.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_is_found_behind_an_odd_name() {
        let stat = b"12 (a) b (c) S 1 12 12 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 9 9 9\n";
        assert_eq!(parse_start_time(stat), Some(98765));
        assert_eq!(parse_start_time(b"12 (a S 1"), None);
        assert_eq!(parse_start_time(b"12 (a) S 1"), None);
        assert_eq!(parse_start_time(b""), None);
    }

    #[test]
    fn only_descendants_at_work_in_the_same_session_are_below() {
        let lines: [(i32, &str); 8] = [
            (1, "1 (laz-plugin-host) S 0 1 1 0 -1"),
            (7, "7 (zfs) D 1 7 1 0 -1"),
            (8, "8 (a) b (c)) S 7 7 1 0 -1"),
            (9, "9 (zpool) Z 1 9 1 0 -1"),
            (10, "10 (sshfs) S 1 10 10 0 -1"),
            (11, "11 (sh) S 0 11 1 0 -1"),
            (12, "12 (in a circle) S 13 11 1 0 -1"),
            (13, "13 (in a circle) S 12 11 1 0 -1"),
        ];
        let all = lines
            .map(|(pid, line)| (pid, parse_place(line.as_bytes()).unwrap()))
            .into();
        let found: Vec<_> = below(&all, 1)
            .into_iter()
            .map(|f| (f.pid, f.name))
            .collect();
        assert_eq!(found, [(7, "zfs".into()), (8, "a) b (c)".into())]);
        assert_eq!(below(&all, 2), []);
        for bad in ["", "1 (a", "1 )a( S 1 1 1", "1 (a) S 1 1", "1 (a) S x 1 1"] {
            assert_eq!(parse_place(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn this_process_is_itself_and_no_other() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let me = Process::open(pid).unwrap();
        assert!(me.is_alive());
        assert!(Process::open_known(pid, me.start_time()).is_ok());
        let error = Process::open_known(pid, me.start_time() + 1).unwrap_err();
        assert!(matches!(error, ProcessError::Reused { .. }), "{error}");
    }

    #[test]
    fn nonsense_numbers_are_gone() {
        for pid in [0, -1, i32::MIN, i32::MAX] {
            let error = Process::open(pid).unwrap_err();
            assert!(matches!(error, ProcessError::Gone { .. }), "{pid}: {error}");
        }
    }
}
