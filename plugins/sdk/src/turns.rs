//! Calls for one volume take turns; those for others don't wait.
//!
//! Core comes again after a time-out or a crash, and may find its earlier call still at work. Tools of
//! storage seldom say which of two equal commands did it, and a look followed by an act can be overtaken.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::{Call, Error, ErrorKind, Result, VolumeId};

/// The volumes that calls work on.
///
/// ```
/// use lazarette_plugin::{Call, Removed, Result, VolumeId, turns::Turns};
///
/// fn remove(turns: &Turns, call: &Call, volume: VolumeId) -> Result<Removed> {
///     let _turn = turns.take(call, volume)?;
///     // Look whether it is there, and remove it: nobody comes between.
///     Ok(Removed::AlreadyAbsent)
/// }
/// ```
#[derive(Debug, Default)]
pub struct Turns {
    taken: Mutex<BTreeSet<VolumeId>>,
    ended: Condvar,
}

/// A turn: nobody else works on the volume as long as this lives.
#[derive(Debug)]
pub struct Turn<'a> {
    turns: &'a Turns,
    volume: VolumeId,
}

impl Turns {
    /// Waits until no other call works on `volume`, as long as `call` may take. A call that has the
    /// volume's turn must not take it again.
    ///
    /// # Errors
    /// `Busy` if another call still works on it then.
    pub fn take(&self, call: &Call, volume: VolumeId) -> Result<Turn<'_>> {
        let (mut taken, waited) = self
            .ended
            .wait_timeout_while(self.lock(), call.remaining(), |all| all.contains(&volume))
            .unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() && taken.contains(&volume) {
            return Err(Error::new(ErrorKind::Busy, format!("the volume {volume}"))
                .cause("another call still works on it")
                .remedy("it is tried again by itself"));
        }
        taken.insert(volume);
        Ok(Turn {
            turns: self,
            volume,
        })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<VolumeId>> {
        // What is guarded is valid at every step.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turns.lock().remove(&self.volume);
        self.turns.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deaf::call;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    #[test]
    fn a_call_that_waits_in_vain_is_told_so_and_another_volume_is_free() {
        let turns = Turns::default();
        let (one, two) = (VolumeId::random(), VolumeId::random());
        let first = turns.take(&call(Duration::ZERO), one).unwrap();
        drop(turns.take(&call(Duration::ZERO), two).unwrap());
        let late = turns.take(&call(Duration::from_millis(20)), one);
        assert_eq!(late.unwrap_err().kind, ErrorKind::Busy);
        drop(first);
        drop(turns.take(&call(Duration::ZERO), one).unwrap());
        assert!(turns.lock().is_empty(), "it forgets");
    }

    #[test]
    fn one_volume_is_worked_on_by_one_call_at_a_time() {
        let turns = Turns::default();
        let (one, at_work) = (VolumeId::random(), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let _turn = turns.take(&call(Duration::from_secs(30)), one).unwrap();
                    assert_eq!(at_work.fetch_add(1, Ordering::SeqCst), 0);
                    std::thread::sleep(Duration::from_millis(5));
                    at_work.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
    }
}
