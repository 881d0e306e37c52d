//! One call at a time works on a volume. Core sees to that, too, but a call of a core that has died may
//! still be at work when the next core has the volume removed.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, PoisonError};

use crate::{Call, Error, ErrorKind, Result, VolumeId};

/// The volumes that calls work on.
///
/// ```
/// use lazarette_plugin::{Call, Result, VolumeId, locks::Locks};
///
/// fn remove(locks: &Locks, call: &Call, volume: VolumeId) -> Result<()> {
///     let _held = locks.hold(call, volume)?;
///     // Whatever was being made of it is made by now.
///     Ok(())
/// }
/// ```
#[derive(Default)]
pub struct Locks {
    held: Mutex<BTreeSet<VolumeId>>,
    freed: Condvar,
}

/// A volume that nobody else works on as long as this lives.
pub struct Held<'a> {
    locks: &'a Locks,
    id: VolumeId,
}

impl Locks {
    /// Waits until nobody works on the volume, as long as the call may take.
    ///
    /// # Errors
    /// `Busy` once that has passed.
    pub fn hold(&self, call: &Call, id: VolumeId) -> Result<Held<'_>> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut held, waited) = self
            .freed
            .wait_timeout_while(held, call.remaining(), |held| held.contains(&id))
            .unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() && held.contains(&id) {
            return Err(Error::new(ErrorKind::Busy, format!("the volume {id}"))
                .cause("another call still works on it")
                .remedy("it is tried again by itself"));
        }
        held.insert(id);
        Ok(Held { locks: self, id })
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut held = self
            .locks
            .held
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        held.remove(&self.id);
        self.locks.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Level, Sink};
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    struct Nobody;

    impl Sink for Nobody {
        fn cancelled(&self, _: u64) -> bool {
            false
        }
        fn log(&self, _: Level, _: &str) {}
        fn progress(&self, _: u64, _: &str, _: Option<f32>) {}
        fn changed(&self) {}
    }

    fn call_of(limit: Duration) -> Call {
        Call::new(1, Instant::now() + limit, Arc::new(Nobody))
    }

    #[test]
    fn a_second_call_waits_for_the_first_but_not_for_another_volume() {
        let locks = Locks::default();
        let (one, two) = (VolumeId::random(), VolumeId::random());
        let first = locks.hold(&call_of(Duration::ZERO), one).unwrap();
        locks.hold(&call_of(Duration::ZERO), two).unwrap();
        let error = locks
            .hold(&call_of(Duration::from_millis(20)), one)
            .map(drop);
        assert_eq!(error.unwrap_err().kind, ErrorKind::Busy);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                locks.hold(&call_of(Duration::from_secs(30)), one).unwrap();
                Instant::now()
            });
            std::thread::sleep(Duration::from_millis(30));
            let freed = Instant::now();
            drop(first);
            assert!(waiting.join().unwrap() >= freed);
        });
    }
}
