//! PID 1 of a storage container.
//!
//! It does next to nothing, so that it never dies: it reaps whatever ends in the container, keeps
//! `serve` running, and passes SIGTERM on. Daemons and file system clients that the plugin has
//! started become its children when `serve` dies, and live on. Tools become its children, too, if
//! they are such as must not be cut off: these still change what the next `serve` will look at, so
//! it is not started before they have ended.

use std::error::Error as StdError;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use lazarette_core::context::Level;
use lazarette_linux::command::{Child, ChildOutput, Command, reap_orphans};
use lazarette_linux::process::{Found, descendants_in_session};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::arguments::Paths;
use crate::link::log;

/// The pause before the first restart; doubled after each death.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Who has run for so long is healthy: the pauses begin anew.
const HEALTHY: Duration = Duration::from_secs(30);
/// How long tools that a dead `serve` has left may go on before its successor starts beside them:
/// what takes longer is guarded by locks of its kind, or hangs.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks at them.
const LOOK: Duration = Duration::from_millis(50);
/// How long `serve` has to close the context at the end.
const GRACE: Duration = Duration::from_secs(10);
const SIGTERM: i32 = 15;

/// Runs `serve` with `paths` until SIGTERM or SIGINT.
pub(crate) fn supervise(paths: &Paths) -> Result<(), Box<dyn StdError>> {
    let signals = SigSet::from_iter([Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT]);
    signals.thread_block()?;
    let events = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    if !rustix::process::getpid().is_init() {
        // In a test or under another init: orphans come here all the same.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    }
    let program = std::env::current_exe()?;
    let mut keeper = Keeper::new(program, paths);
    loop {
        keeper.tend();
        let wait = keeper.pause_left().map_or(PollTimeout::NONE, |left| {
            PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
        });
        let mut fds = [PollFd::new(events.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, wait) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => {
                log(Level::Error, &format!("poll: {error}"));
                std::thread::sleep(FIRST_PAUSE);
            }
        }
        let mut stop = false;
        while let Ok(Some(event)) = events.read_signal() {
            stop |= event.ssi_signo != Signal::SIGCHLD as u32;
        }
        reap_orphans();
        if stop {
            keeper.stop();
            return Ok(());
        }
    }
}

/// Keeps one process running.
struct Keeper {
    program: PathBuf,
    paths: Paths,
    child: Option<Child>,
    started: Instant,
    pauses: Pauses,
    resume: Option<Instant>,
    /// Since when a dead one has no successor, and whether it was said what that one waits for.
    died: Option<(Instant, bool)>,
}

impl Keeper {
    fn new(program: PathBuf, paths: &Paths) -> Self {
        Self {
            program,
            paths: paths.clone(),
            child: None,
            started: Instant::now(),
            pauses: Pauses::default(),
            resume: None,
            died: None,
        }
    }

    /// Notes a death and starts what is due.
    fn tend(&mut self) {
        if let Some(child) = &self.child {
            let how = match child.try_wait() {
                Ok(None) => return,
                Ok(Some(exit)) => exit.to_string(),
                Err(error) => error.to_string(),
            };
            self.child = None;
            self.died = Some((Instant::now(), false));
            self.rest(&format!("the plugin host ended ({how})"));
        }
        if self.resume.is_some_and(|at| Instant::now() < at) {
            return;
        }
        self.resume = None;
        if self.waits_for_tools() {
            self.resume = Some(Instant::now() + LOOK);
            return;
        }
        self.started = Instant::now();
        // One memory pool for all threads: they allocate little, and a pool each would be most of
        // what the process holds.
        let command = Command::new(&self.program)
            .env("MALLOC_ARENA_MAX", "1")
            .arg("serve")
            .arg("--plugin")
            .arg(&self.paths.plugin)
            .arg("--socket")
            .arg(&self.paths.socket)
            .arg("--mounts")
            .arg(&self.paths.mounts);
        match command.spawn(ChildOutput::Inherit) {
            Ok(child) => self.child = Some(child),
            Err(error) => self.rest(&format!("the plugin host cannot be started: {error}")),
        }
    }

    /// Whether what a dead one has left is still at work, and may go on.
    fn waits_for_tools(&mut self) -> bool {
        let Some((since, said)) = self.died else {
            return false;
        };
        let left = descendants_in_session().unwrap_or_else(|error| {
            log(Level::Warn, &format!("cannot look for tools: {error}"));
            Vec::new()
        });
        if left.is_empty() {
            self.died = None;
            return false;
        }
        if since.elapsed() >= PATIENCE {
            let text = format!("{} still at work; it starts beside them", names(&left));
            log(Level::Warn, &text);
            self.died = None;
            return false;
        }
        if !said {
            let text = format!("it waits for what was left at work: {}", names(&left));
            log(Level::Info, &text);
            self.died = Some((since, true));
        }
        true
    }

    fn rest(&mut self, why: &str) {
        let pause = self.pauses.next(self.started.elapsed());
        log(
            Level::Error,
            &format!("{why}; it starts again in {} ms", pause.as_millis()),
        );
        self.resume = Some(Instant::now() + pause);
    }

    fn pause_left(&self) -> Option<Duration> {
        self.resume
            .map(|at| at.saturating_duration_since(Instant::now()))
    }

    fn stop(&self) {
        let Some(child) = &self.child else {
            return;
        };
        let ended = child.signal(SIGTERM).and_then(|()| child.wait(Some(GRACE)));
        if !matches!(ended, Ok(Some(_))) {
            log(Level::Error, "the plugin host does not end; it is killed");
            let _ = child.kill();
        }
    }
}

fn names(all: &[Found]) -> String {
    let each: Vec<String> = all
        .iter()
        .map(|found| format!("{} ({})", found.name, found.pid))
        .collect();
    each.join(", ")
}

/// Pauses between restarts.
#[derive(Default)]
struct Pauses {
    last: Option<Duration>,
}

impl Pauses {
    /// The pause after a life of `lived`.
    fn next(&mut self, lived: Duration) -> Duration {
        let pause = match self.last {
            Some(last) if lived < HEALTHY => (last * 2).min(LONGEST_PAUSE),
            _ => FIRST_PAUSE,
        };
        self.last = Some(pause);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_five_seconds_and_begin_anew_after_a_healthy_life() {
        let mut pauses = Pauses::default();
        let short = Duration::from_secs(1);
        let all: Vec<u128> = (0..8).map(|_| pauses.next(short).as_millis()).collect();
        assert_eq!(all, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(pauses.next(HEALTHY), FIRST_PAUSE);
        assert_eq!(pauses.next(short), FIRST_PAUSE * 2);
    }
}
