//! Calls for one volume take turns; those for others don't wait.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use lazarette_plugin::VolumeId;

/// Who is at work, by volume.
#[derive(Default)]
pub(crate) struct Turns(Mutex<HashMap<VolumeId, Arc<Mutex<()>>>>);

impl Turns {
    /// Does `work` while no other call works on `volume`.
    pub(crate) fn take<T>(&self, volume: VolumeId, work: impl FnOnce() -> T) -> T {
        let turn = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // Those that nobody waits for or works by.
            all.retain(|_, turn| Arc::strong_count(turn) > 1);
            all.entry(volume).or_default().clone()
        };
        let _mine = turn.lock().unwrap_or_else(PoisonError::into_inner);
        work()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    #[test]
    fn one_volume_is_worked_on_by_one_call_and_another_by_another() {
        let turns = Turns::default();
        let (one, at_work) = (VolumeId::random(), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    turns.take(one, || {
                        assert_eq!(at_work.fetch_add(1, Ordering::SeqCst), 0);
                        // Another volume's turn comes although this one's is taken.
                        turns.take(VolumeId::random(), || {});
                        std::thread::sleep(Duration::from_millis(5));
                        at_work.fetch_sub(1, Ordering::SeqCst);
                    });
                });
            }
        });
        turns.take(one, || {});
        assert!(turns.0.lock().unwrap().len() <= 2, "it forgets");
    }
}
