//! Ending whatever still runs.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use lazarette_linux::command::reap_orphans;
use rustix::process::{Pid, Signal, kill_process};

/// How often the process table is looked at.
const POLL: Duration = Duration::from_millis(50);
/// How long SIGKILL is given at the end.
const KILL: Duration = Duration::from_millis(500);

/// A process that still runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// Its number.
    pub pid: i32,
    /// Its program's name.
    pub name: String,
}

/// Asks every process but PID 1 and this one to end, kills the rest, and returns what even that
/// did not end. For the manager of a machine that stops only.
pub fn end_all(limit: Duration) -> Vec<Running> {
    let begin = Instant::now();
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    let proc = Path::new("/proc");
    signal_all(proc, own, Signal::TERM);
    while begin.elapsed() < limit.saturating_sub(KILL) {
        if others(proc, own).is_empty() {
            return Vec::new();
        }
        thread::sleep(POLL);
    }
    let killed = Instant::now();
    loop {
        // Again and again: a process may be starting others.
        signal_all(proc, own, Signal::KILL);
        let left = others(proc, own);
        if left.is_empty() || killed.elapsed() >= KILL {
            return left;
        }
        thread::sleep(POLL);
    }
}

fn signal_all(proc: &Path, own: i32, signal: Signal) {
    for running in others(proc, own) {
        if let Some(pid) = Pid::from_raw(running.pid) {
            // Gone meanwhile, or not ours to signal: what is left is told at the end.
            let _ = kill_process(pid, signal);
        }
    }
    // Children of ours whose owner does not wait for them any more.
    let _ = reap_orphans();
}

/// Every process with a program of its own, but PID 1 and `own`. Kernel threads and processes that
/// have ended have no command line.
fn others(proc: &Path, own: i32) -> Vec<Running> {
    let mut found = Vec::new();
    for entry in fs::read_dir(proc).into_iter().flatten().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let has_program = fs::read(entry.path().join("cmdline")).is_ok_and(|line| !line.is_empty());
        if pid == 1 || pid == own || !has_program {
            continue;
        }
        let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        found.push(Running {
            pid,
            name: name.trim().into(),
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_threads_ended_processes_pid_1_and_this_one_are_not_others() {
        let proc = tempfile::tempdir().unwrap();
        for (pid, line) in [
            ("1", "init\0"),
            ("2", ""),
            ("7", "dockerd\0"),
            ("8", "sleep\x00100\x00"),
            ("x", "y"),
        ] {
            let directory = proc.path().join(pid);
            fs::create_dir(&directory).unwrap();
            fs::write(directory.join("cmdline"), line).unwrap();
            fs::write(directory.join("comm"), "name\n").unwrap();
        }
        let expected = Running {
            pid: 8,
            name: "name".into(),
        };
        assert_eq!(others(proc.path(), 7), [expected]);
    }
}
