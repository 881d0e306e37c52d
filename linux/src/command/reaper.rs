//! Who waits for which child.
//!
//! A process that is PID 1 must reap every orphan, while the threads that started a program want its
//! exit status. Both work together here: every child started by this crate has a slot, and whoever
//! reaps it (its owner, or [`reap_orphans`]) puts the status there.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitOptions, kill_process_group, pidfd_open,
    pidfd_send_signal, wait, waitid,
};

use super::Exit;

type Slot = Arc<Mutex<Option<Exit>>>;

/// Held for reading while a child is started and registered, for writing while orphans are reaped:
/// an unknown child is then surely an orphan.
static STARTING: RwLock<()> = RwLock::new(());
/// Children of ours that nobody has reaped yet.
static CHILDREN: LazyLock<Mutex<HashMap<i32, Slot>>> = LazyLock::new(Mutex::default);
/// Children whose owner is gone before they were; reaped when the next one is started.
static LEFT: Mutex<Vec<Left>> = Mutex::new(Vec::new());

struct Left {
    child: Watched,
    abandoned: bool,
}

/// How many programs did not die from SIGKILL after their deadline and still hang in the kernel.
///
/// Each of them holds a process table entry and what it had open. A rising count means that storage
/// servers are unreachable.
pub fn abandoned() -> usize {
    sweep().iter().filter(|left| left.abandoned).count()
}

/// Reaps every terminated child that was not started through this module, and returns how many.
///
/// For PID 1 (and child subreapers) only, on each SIGCHLD. Statuses of our own children are kept for
/// their owners.
pub fn reap_orphans() -> usize {
    let _nobody_starts = STARTING.write().unwrap_or_else(PoisonError::into_inner);
    let mut orphans = 0;
    loop {
        let mut children = lock(&CHILDREN);
        let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) else {
            return orphans;
        };
        let exit = match status.exit_status() {
            Some(code) => Exit::Code(code),
            None => Exit::Signal(status.terminating_signal().unwrap_or_default()),
        };
        match children.remove(&pid.as_raw_nonzero().get()) {
            Some(slot) => *lock(&slot) = Some(exit),
            None => orphans += 1,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is guarded is valid at every step, so a panic elsewhere does not spoil it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Forgets the children in [`LEFT`] that have ended.
fn sweep() -> MutexGuard<'static, Vec<Left>> {
    let mut left = lock(&LEFT);
    left.retain(|left| matches!(left.child.try_wait(), Ok(None)));
    left
}

/// A child of ours with its pidfd and the slot for its status.
#[derive(Debug)]
pub(super) struct Watched {
    pid: Pid,
    pidfd: OwnedFd,
    slot: Slot,
}

/// How long a program may be open for writing before that is an error.
const WRITTEN: Duration = Duration::from_secs(1);

/// Spawns the child. A program that was written a moment ago may still be open for writing in a child
/// of another thread, which has not come to its exec yet: that is over at once.
fn spawn(command: &mut process::Command) -> io::Result<process::Child> {
    let since = Instant::now();
    loop {
        match command.spawn() {
            Err(error)
                if error.kind() == io::ErrorKind::ExecutableFileBusy
                    && since.elapsed() < WRITTEN =>
            {
                thread::sleep(Duration::from_millis(5));
            }
            result => return result,
        }
    }
}

/// Starts `command` and registers the child before anybody can reap it.
pub(super) fn start(command: &mut process::Command) -> io::Result<(process::Child, Watched)> {
    drop(sweep());
    let _not_reaping = STARTING.read().unwrap_or_else(PoisonError::into_inner);
    let child = spawn(command)?;
    let pid = Pid::from_child(&child);
    let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => pidfd,
        Err(error) => {
            // Out of descriptors: a child that cannot be watched must not run on.
            let _ = kill_process_group(pid, Signal::KILL);
            let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED);
            return Err(error.into());
        }
    };
    let slot = Slot::default();
    lock(&CHILDREN).insert(pid.as_raw_nonzero().get(), Arc::clone(&slot));
    Ok((child, Watched { pid, pidfd, slot }))
}

impl Watched {
    pub(super) fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// The exit status, if the child has ended.
    pub(super) fn try_wait(&self) -> io::Result<Option<Exit>> {
        let mut children = lock(&CHILDREN);
        let mut slot = lock(&self.slot);
        if slot.is_some() {
            return Ok(*slot);
        }
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let Some(status) = waitid(WaitId::PidFd(self.pidfd.as_fd()), options)? else {
            return Ok(None);
        };
        let exit = match status.exit_status() {
            Some(code) => Exit::Code(code),
            None => Exit::Signal(status.terminating_signal().unwrap_or_default()),
        };
        children.remove(&self.pid());
        *slot = Some(exit);
        Ok(Some(exit))
    }

    /// Sends `signal` to the child alone.
    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(&self.pidfd, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends `signal` to the child's process group, unless the child was reaped already (the number
    /// of the group may then belong to others).
    pub(super) fn signal_group(&self, signal: Signal) -> io::Result<()> {
        let children = lock(&CHILDREN);
        if !children.contains_key(&self.pid()) || lock(&self.slot).is_some() {
            return Ok(());
        }
        match kill_process_group(self.pid, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives up on the child; it is reaped whenever it ends.
    pub(super) fn leave(self, abandoned: bool) {
        lock(&LEFT).push(Left {
            child: self,
            abandoned,
        });
    }
}

impl AsFd for Watched {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}
