//! The copies of mounts that this process has while it hands them on.
//!
//! Whoever gets one may be done with it, and have the volume unmounted, before the thread that sent it
//! has let go of ours: that would be the last one then, and the file system would end some time after
//! the unmount was done. So an unmount waits for that thread.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lazarette_core::{Error, ErrorKind, Result, VolumeId};
use lazarette_linux::mount::DetachedMount;

/// How many copies there are, by volume.
#[derive(Default)]
pub(crate) struct Copies {
    held: Mutex<BTreeMap<VolumeId, usize>>,
    gone: Condvar,
}

/// A copy, counted until it is let go.
pub(crate) struct Copy<'a, T = DetachedMount> {
    copies: &'a Copies,
    volume: VolumeId,
    /// None when it is let go.
    mount: Option<T>,
}

impl Copies {
    /// A copy of a mount of `volume`, which `make` makes.
    pub(crate) fn make<T>(
        &self,
        volume: VolumeId,
        make: impl FnOnce() -> Result<T>,
    ) -> Result<Copy<'_, T>> {
        *self.lock().entry(volume).or_default() += 1;
        let mut copy = Copy {
            copies: self,
            volume,
            mount: None,
        };
        copy.mount = Some(make()?);
        Ok(copy)
    }

    /// Waits until there is no copy of a mount of `volume`, at most for `limit`.
    pub(crate) fn wait(&self, volume: VolumeId, limit: Duration) -> Result<()> {
        let (held, _) = self
            .gone
            .wait_timeout_while(self.lock(), limit, |held| held.contains_key(&volume))
            .unwrap_or_else(PoisonError::into_inner);
        match held.contains_key(&volume) {
            false => Ok(()),
            true => Err(Error::new(
                ErrorKind::Busy,
                format!("a mount of the volume {volume} is still being handed on"),
            )
            .remedy("it is tried again by itself")),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<VolumeId, usize>> {
        // What is guarded is valid at every step.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Copy<'_, T> {
    /// The mount.
    pub(crate) fn mount(&self) -> &T {
        self.mount
            .as_ref()
            .expect("a copy has its mount until it is let go")
    }
}

impl<T> Drop for Copy<'_, T> {
    fn drop(&mut self) {
        // Ends the file system if it is the last: not with the lock.
        self.mount = None;
        let mut held = self.copies.lock();
        if let Some(count) = held.get_mut(&self.volume) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.volume);
            }
        }
        drop(held);
        self.copies.gone.notify_all();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// Takes its time to go, as the last mount of a file system does.
    struct Slow<'a>(&'a AtomicBool);

    impl Drop for Slow<'_> {
        fn drop(&mut self) {
            std::thread::sleep(Duration::from_millis(50));
            self.0.store(true, Ordering::SeqCst);
        }
    }

    #[test]
    fn an_unmount_waits_for_the_copies_of_its_volume_alone() {
        let copies = Copies::default();
        let (one, two) = (VolumeId::random(), VolumeId::random());
        let (first, second) = (AtomicBool::new(false), AtomicBool::new(false));
        let held = copies.make(one, || Ok(Slow(&first))).unwrap();
        let again = copies.make(one, || Ok(Slow(&second))).unwrap();
        copies.wait(two, Duration::ZERO).unwrap();
        let busy = copies.wait(one, Duration::from_millis(10));
        assert_eq!(busy.unwrap_err().kind, ErrorKind::Busy);
        std::thread::scope(|scope| {
            scope.spawn(move || drop((held, again)));
            copies.wait(one, Duration::from_secs(30)).unwrap();
            assert!(first.load(Ordering::SeqCst) && second.load(Ordering::SeqCst));
        });
        let refused = copies.make(one, || Err::<(), _>(Error::internal("no mount")));
        assert!(refused.is_err());
        drop(refused);
        assert!(copies.lock().is_empty(), "it forgets");
    }
}
