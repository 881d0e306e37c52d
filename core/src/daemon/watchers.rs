//! Who wants to see how far the work on a volume is.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::control::Progress;
use crate::name::VolumeName;

/// The clients that wait for work on a volume, one for each at most: the last that came.
#[derive(Default)]
pub struct Watchers(Mutex<BTreeMap<VolumeName, UnboundedSender<Progress>>>);

impl Watchers {
    /// From now on, until the receiver is dropped, it gets what is said about work on `volume`.
    pub fn watch(&self, volume: VolumeName) -> UnboundedReceiver<Progress> {
        let (sender, receiver) = unbounded_channel();
        let mut watchers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        watchers.retain(|_, watcher| !watcher.is_closed());
        watchers.insert(volume, sender);
        receiver
    }

    /// Who watches `volume`.
    pub fn of(&self, volume: &VolumeName) -> Option<UnboundedSender<Progress>> {
        let watchers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        watchers.get(volume).filter(|w| !w.is_closed()).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_came_last_is_told_until_he_goes() {
        let watchers = Watchers::default();
        let name = |n: &str| VolumeName::new(n).unwrap();
        assert!(watchers.of(&name("a")).is_none());
        let first = watchers.watch(name("a"));
        let mut second = watchers.watch(name("a"));
        let half = Progress {
            message: "copying".into(),
            share: Some(0.5),
        };
        watchers.of(&name("a")).unwrap().send(half.clone()).unwrap();
        assert_eq!(second.try_recv(), Ok(half));
        drop((first, second));
        assert!(watchers.of(&name("a")).is_none());
        let _other = watchers.watch(name("b"));
        assert_eq!(
            watchers.0.lock().unwrap().len(),
            1,
            "nobody is kept who went"
        );
    }
}
