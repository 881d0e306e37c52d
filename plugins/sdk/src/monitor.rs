//! The health of a context, found by a thread of its own.
//!
//! [`StorageContext::health`](crate::StorageContext::health) has to answer at once, whatever the storage
//! does. So a thread looks, with programs that are killed when they take too long, and `health` only
//! tells what was found last.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::{Error, Health, Host, Level, Result};

/// A thread that looks, and what it has found. It ends with this.
///
/// ```no_run
/// use std::time::Duration;
/// use lazarette_plugin::{Health, HealthState, Host, Result, fuse, values::ServerName};
/// use lazarette_plugin::monitor::{Look, Monitor};
///
/// fn watch(host: &Host, server: ServerName) -> Result<Monitor> {
///     Monitor::start(host, Health::healthy(), move |_asked| {
///         let health = match fuse::reachable(&server, 22) {
///             Ok(()) => Health::healthy(),
///             Err(why) => Health::because(HealthState::Unreachable, why),
///         };
///         Look { health: Some(health), pause: Duration::from_secs(5) }
///     })
/// }
/// fn health(monitor: &Monitor) -> Health { monitor.health() }
/// ```
#[derive(Debug)]
pub struct Monitor {
    shared: Arc<Shared>,
}

/// What a look has found.
#[derive(Debug, Clone)]
pub struct Look {
    /// How the context is; none if nothing new is known.
    pub health: Option<Health>,
    /// How long it is until the next look, unless somebody asks for one.
    pub pause: Duration,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Debug)]
struct State {
    over: bool,
    asked: bool,
    health: Health,
}

impl Monitor {
    /// Lets a thread `look` now, and again after each pause; `look` is told whether somebody has asked
    /// for it. Until it has found something, the health is `first`. Another state or reason is logged,
    /// and core is told of it and of other states of volumes.
    ///
    /// # Errors
    /// If there is no thread to be had.
    pub fn start(
        host: &Host,
        first: Health,
        mut look: impl FnMut(bool) -> Look + Send + 'static,
    ) -> Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                over: false,
                asked: false,
                health: first,
            }),
            wake: Condvar::new(),
        });
        let (looking, host) = (shared.clone(), host.clone());
        let run = move || {
            let mut wish = looking.wish();
            while let Some(asked) = wish {
                let found = look(asked);
                if let Some(health) = found.health {
                    looking.tell(&host, health);
                }
                wish = looking.sleep(found.pause);
            }
        };
        let started = thread::Builder::new().name("health".into()).spawn(run);
        started.map_err(|e| Error::internal("no thread for the health checks").cause(e))?;
        Ok(Self { shared })
    }

    /// What was found last.
    pub fn health(&self) -> Health {
        self.shared.lock().health.clone()
    }

    /// Asks for a look soon.
    pub fn look(&self) {
        self.shared.lock().asked = true;
        self.shared.wake.notify_all();
    }

    /// Ends the thread soon: what it looks at is about to go.
    pub fn stop(&self) {
        self.shared.lock().over = true;
        self.shared.wake.notify_all();
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // What is guarded is valid at every step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody has asked for a look; none if there is to be no other.
    fn wish(&self) -> Option<bool> {
        let mut state = self.lock();
        let asked = std::mem::take(&mut state.asked);
        (!state.over).then_some(asked)
    }

    fn sleep(&self, pause: Duration) -> Option<bool> {
        let waiting = |state: &mut State| !state.over && !state.asked;
        drop(self.wake.wait_timeout_while(self.lock(), pause, waiting));
        self.wish()
    }

    fn tell(&self, host: &Host, health: Health) {
        let mut state = self.lock();
        let last = std::mem::replace(&mut state.health, health.clone());
        drop(state);
        let other = last.state != health.state || last.reason != health.reason;
        if other {
            let why = health.reason.as_deref().unwrap_or("all is well");
            host.log(Level::Info, format!("now {:?}: {why}", health.state));
        }
        if other || last.volumes != health.volumes {
            host.changed();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HealthState, Sink};
    use std::path::PathBuf;
    use std::sync::mpsc;
    use std::time::Instant;

    #[derive(Default)]
    struct Listener(Mutex<Vec<String>>);

    impl Sink for Listener {
        fn log(&self, _: Level, message: &str) {
            self.0.lock().unwrap().push(message.to_owned());
        }
        fn progress(&self, _: u64, _: &str, _: Option<f32>) {}
        fn cancelled(&self, _: u64) -> bool {
            false
        }
        fn changed(&self) {
            self.0.lock().unwrap().push("changed".into());
        }
    }

    fn until(holds: impl Fn() -> bool) {
        let end = Instant::now() + Duration::from_secs(30);
        while !holds() {
            assert!(Instant::now() < end, "not in time");
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn what_is_found_is_told_once_and_a_look_comes_when_it_is_asked_for() {
        let listener = Arc::new(Listener::default());
        let host = Host::new(listener.clone(), PathBuf::from("/nonexistent"));
        let (found, finds) = mpsc::channel::<Option<Health>>();
        let (looked, looks) = mpsc::channel();
        let monitor = Monitor::start(&host, Health::healthy(), move |asked| {
            let _ = looked.send(asked);
            let health = finds.try_recv().unwrap_or(None);
            Look {
                health,
                pause: Duration::from_secs(3600),
            }
        })
        .unwrap();
        let limit = Duration::from_secs(30);
        assert!(!looks.recv_timeout(limit).unwrap());
        assert_eq!(monitor.health(), Health::healthy());
        let bad = Health::because(HealthState::Degraded, "a disk is away");
        for _ in 0..2 {
            found.send(Some(bad.clone())).unwrap();
            monitor.look();
            assert!(looks.recv_timeout(limit).unwrap());
            until(|| monitor.health() == bad);
        }
        monitor.stop();
        until(|| looks.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Disconnected));
        let said = listener.0.lock().unwrap().clone();
        assert_eq!(said, ["now Degraded: a disk is away", "changed"]);
    }
}
