//! A new namespace that can be pinned where it is made.

use std::path::Path;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::{MountNamespace, NamespaceError};

impl MountNamespace {
    /// [`MountNamespace::create`] and [`MountNamespace::pin`] in one.
    ///
    /// The kernel lets a namespace be bound only into an older one, by their numbers. Since Linux
    /// 6.18 each processor hands out numbers of its own, so a newer namespace may have a lower
    /// number than the one it is to be pinned in, and the kernel says `EINVAL`. Then it is made
    /// anew on the next processor. (Not so for a pin in the machine's first namespace.)
    ///
    /// # Errors
    /// Those of both.
    pub fn create_pinned(pin: &Path) -> Result<Self, NamespaceError> {
        // In a thread of its own, whose processor may be chosen without touching the caller.
        std::thread::scope(|scope| {
            let made = scope.spawn(|| create_on_some_processor(pin)).join();
            made.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

fn create_on_some_processor(pin: &Path) -> Result<MountNamespace, NamespaceError> {
    let processors: Vec<usize> = match sched_getaffinity(None) {
        Ok(allowed) => (0..CpuSet::MAX_CPU)
            .filter(|&cpu| allowed.is_set(cpu))
            .collect(),
        Err(_) => Vec::new(),
    };
    let try_it = || {
        let namespace = MountNamespace::create(|_| Ok::<_, NamespaceError>(()))?;
        namespace.pin(pin).map(|()| namespace)
    };
    let mut outcome = try_it();
    for cpu in processors {
        match &outcome {
            Err(error) if error.source.raw_os_error() == Some(libc::EINVAL) => {}
            _ => break,
        }
        let mut one = CpuSet::new();
        one.set(cpu);
        // A processor that is taken away meanwhile is not missed.
        let _ = sched_setaffinity(None, &one);
        outcome = try_it();
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace::Inside;

    #[test]
    fn a_namespace_can_be_pinned_from_within_another_new_one() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: needs root");
            return;
        }
        for _ in 0..20 {
            let directory = tempfile::tempdir().unwrap();
            let pin = directory.path().join("view/mnt");
            let inner = pin.clone();
            let pinned = MountNamespace::create(move |_: &Inside| {
                let made = MountNamespace::create_pinned(&inner)?;
                assert!(MountNamespace::open_pin(&inner)?.is_same(&made));
                MountNamespace::unpin(&inner)
            });
            pinned.unwrap();
        }
    }
}
