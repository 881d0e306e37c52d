//! The calls that run: how many at most, until when, and whether anybody still wants them.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lazarette_core::{Error, ErrorKind};

use crate::link::Connection;

/// Calls that may run at once; one that was abandoned still runs.
pub(crate) const MOST_CALLS: usize = 32;
/// So many calls that hang make the process useless: it ends, and its successor starts afresh.
pub(crate) const MOST_ABANDONED: usize = 8;
/// How long after its deadline a call may still report by itself what it waited for.
const GRACE: Duration = Duration::from_secs(1);
/// Longer deadlines than this are this.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// A call's number in this process: unlike core's, never used again.
pub(crate) type Serial = u64;

/// The calls that run.
#[derive(Default)]
pub(crate) struct Calls {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    last: Serial,
    running: HashMap<Serial, Running>,
}

struct Running {
    caller: Caller,
    method: &'static str,
    overdue: Instant,
    cancelled: bool,
    abandoned: bool,
}

/// Who waits for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) connection: Connection,
    pub(crate) id: u64,
}

/// A call that nobody waits for any longer, though it still runs.
#[derive(Debug)]
pub(crate) struct Abandoned {
    pub(crate) caller: Caller,
    pub(crate) method: &'static str,
    /// How many calls hang by now.
    pub(crate) hanging: usize,
}

/// Why a call does not begin.
#[derive(Debug)]
pub(crate) enum Refused {
    /// Tell the caller.
    Busy(Error),
    /// The caller uses a number twice: it does not keep to the protocol.
    Duplicate,
}

impl Calls {
    /// Notes a call that is to be done within `limit`.
    pub(crate) fn begin(
        &self,
        caller: Caller,
        method: &'static str,
        limit: Duration,
    ) -> Result<Serial, Refused> {
        let mut state = self.lock();
        if state
            .running
            .values()
            .any(|r| r.caller == caller && !r.abandoned)
        {
            return Err(Refused::Duplicate);
        }
        if state.running.len() >= MOST_CALLS {
            let hanging = state.running.values().filter(|r| r.abandoned).count();
            return Err(Refused::Busy(
                Error::new(
                    ErrorKind::Busy,
                    format!("{MOST_CALLS} calls run already, {hanging} of them overdue"),
                )
                .remedy("it is tried again by itself"),
            ));
        }
        state.last += 1;
        let serial = state.last;
        let running = Running {
            caller,
            method,
            overdue: Instant::now() + limit.min(LONGEST) + GRACE,
            cancelled: false,
            abandoned: false,
        };
        state.running.insert(serial, running);
        self.changed.notify_all();
        Ok(serial)
    }

    /// Forgets a call that has ended. The caller to reply to, if it still waits.
    pub(crate) fn end(&self, serial: Serial) -> Option<Caller> {
        let ended = self.lock().running.remove(&serial)?;
        self.changed.notify_all();
        (!ended.abandoned).then_some(ended.caller)
    }

    /// Takes a call back.
    pub(crate) fn cancel(&self, caller: Caller) {
        self.cancel_where(|r| r.caller == caller);
    }

    /// Takes all calls of a connection back.
    pub(crate) fn cancel_all(&self, connection: Connection) {
        self.cancel_where(|r| r.caller.connection == connection);
    }

    /// Whether a call was taken back.
    pub(crate) fn is_cancelled(&self, serial: Serial) -> bool {
        self.lock()
            .running
            .get(&serial)
            .is_none_or(|r| r.cancelled || r.abandoned)
    }

    /// Who waits for a call.
    pub(crate) fn caller(&self, serial: Serial) -> Option<Caller> {
        self.lock().running.get(&serial).map(|r| r.caller)
    }

    /// Waits until a call is overdue, and abandons it.
    pub(crate) fn next_abandoned(&self) -> Abandoned {
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            let waiting = state.running.values_mut().filter(|r| !r.abandoned);
            let next = waiting.min_by_key(|r| r.overdue);
            state = match next {
                Some(running) if running.overdue <= now => {
                    running.abandoned = true;
                    let (caller, method) = (running.caller, running.method);
                    let hanging = state.running.values().filter(|r| r.abandoned).count();
                    return Abandoned {
                        caller,
                        method,
                        hanging,
                    };
                }
                Some(running) => {
                    let left = running.overdue - now;
                    self.changed
                        .wait_timeout(state, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
                None => self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    fn cancel_where(&self, which: impl Fn(&Running) -> bool) {
        for running in self.lock().running.values_mut().filter(|r| which(r)) {
            running.cancelled = true;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn caller(id: u64) -> Caller {
        Caller { connection: 1, id }
    }

    #[test]
    fn no_more_than_the_cap_run_and_numbers_are_used_once() {
        let calls = Calls::default();
        let first = calls.begin(caller(0), "list", LONG).unwrap();
        assert!(matches!(
            calls.begin(caller(0), "list", LONG),
            Err(Refused::Duplicate)
        ));
        for id in 1..MOST_CALLS as u64 {
            calls.begin(caller(id), "list", LONG).unwrap();
        }
        let Err(Refused::Busy(error)) = calls.begin(caller(99), "list", LONG) else {
            panic!("not refused");
        };
        assert_eq!(error.kind, ErrorKind::Busy);
        assert_eq!(calls.end(first), Some(caller(0)));
        calls.begin(caller(99), "list", LONG).unwrap();
    }

    #[test]
    fn an_overdue_call_is_abandoned_once_and_its_end_is_silent() {
        let calls = Calls::default();
        let slow = calls.begin(caller(1), "mount", LONG).unwrap();
        let hung = calls.begin(caller(2), "mount", Duration::ZERO).unwrap();
        let abandoned = calls.next_abandoned();
        assert_eq!((abandoned.caller, abandoned.hanging), (caller(2), 1));
        assert!(calls.is_cancelled(hung) && !calls.is_cancelled(slow));
        assert_eq!(calls.end(hung), None);
        assert_eq!(calls.end(slow), Some(caller(1)));
    }

    #[test]
    fn cancelling_a_connection_cancels_its_calls_only() {
        let calls = Calls::default();
        let old = calls.begin(caller(1), "list", LONG).unwrap();
        let other = Caller {
            connection: 2,
            id: 1,
        };
        let new = calls.begin(other, "list", LONG).unwrap();
        calls.cancel_all(1);
        assert!(calls.is_cancelled(old) && !calls.is_cancelled(new));
        calls.cancel(other);
        assert!(calls.is_cancelled(new));
    }
}
