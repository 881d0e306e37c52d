//! A thread that stays inside a namespace, for work that is done often and cannot block on a server.

use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::{Inside, MountNamespace, NamespaceError, STACK, stuck};

type Job<S> = Box<dyn FnOnce(&S) + Send>;
type Setup<S> = dyn Fn(Inside) -> S + Send + Sync;

/// A thread inside a namespace with a state `S` of its own. It is started when first needed, does
/// one job at a time, and is replaced when a job panics or does not end within its limit.
pub(crate) struct Resident<S> {
    namespace: MountNamespace,
    setup: Arc<Setup<S>>,
    thread: Mutex<Option<Thread<S>>>,
}

struct Thread<S> {
    jobs: Sender<Job<S>>,
    running: std::sync::Weak<()>,
}

impl<S: 'static> Resident<S> {
    /// `setup` runs in every new thread, first thing.
    pub(crate) fn new(
        namespace: MountNamespace,
        setup: impl Fn(Inside) -> S + Send + Sync + 'static,
    ) -> Self {
        Self {
            namespace,
            setup: Arc::new(setup),
            thread: Mutex::new(None),
        }
    }

    pub(crate) fn namespace(&self) -> &MountNamespace {
        &self.namespace
    }

    /// Runs `work` in the thread; `limit` counts from when the thread takes no other job.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        limit: Duration,
        work: impl FnOnce(&S) -> T + Send + 'static,
    ) -> Result<T, NamespaceError> {
        // Held until the job is done: jobs queue here, outside of their limits.
        let mut slot = self.lock();
        let (sender, receiver) = mpsc::sync_channel(1);
        let mut job: Job<S> = Box::new(move |state| {
            // Nobody listens when the limit has passed.
            let _ = sender.send(work(state));
        });
        if let Some(thread) = slot.as_ref() {
            match thread.jobs.send(job) {
                Ok(()) => return self.answer(&mut slot, &receiver, limit),
                // The thread died from a panic of an earlier job.
                Err(mpsc::SendError(returned)) => job = returned,
            }
        }
        let thread = self.start()?;
        let sent = thread.jobs.send(job);
        *slot = Some(thread);
        if sent.is_err() {
            return Err(self.died());
        }
        self.answer(&mut slot, &receiver, limit)
    }

    fn answer<T>(
        &self,
        slot: &mut Option<Thread<S>>,
        receiver: &mpsc::Receiver<T>,
        limit: Duration,
    ) -> Result<T, NamespaceError> {
        match receiver.recv_timeout(limit) {
            Ok(result) => Ok(result),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                if let Some(thread) = slot.take() {
                    stuck().push(thread.running);
                }
                Err(self.namespace.late())
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                *slot = None;
                Err(self.died())
            }
        }
    }

    fn died(&self) -> NamespaceError {
        let died = std::io::Error::other("the thread panicked");
        NamespaceError::new(&self.namespace.name, "work in it", died)
    }

    /// Starts a thread and waits until it is inside the namespace.
    fn start(&self) -> Result<Thread<S>, NamespaceError> {
        let proc = self.namespace.open_proc()?;
        let namespace = self.namespace.try_clone()?;
        let setup = Arc::clone(&self.setup);
        let (jobs, queue) = mpsc::channel::<Job<S>>();
        let (entered, wait) = mpsc::sync_channel(1);
        let alive = Arc::new(());
        let running = Arc::downgrade(&alive);
        let body = move || {
            let _alive = alive;
            let state = match namespace.enter_this_thread(proc) {
                Ok(inside) => setup(inside),
                Err(error) => {
                    let _ = entered.send(Err(error));
                    return;
                }
            };
            let _ = entered.send(Ok(()));
            while let Ok(job) = queue.recv() {
                job(&state);
            }
        };
        thread::Builder::new()
            .name("view".to_owned())
            .stack_size(STACK)
            .spawn(body)
            .map_err(|error| {
                NamespaceError::new(&self.namespace.name, "starting a thread", error)
            })?;
        wait.recv().unwrap_or_else(|_| Err(self.died()))?;
        Ok(Thread { jobs, running })
    }

    fn lock(&self) -> MutexGuard<'_, Option<Thread<S>>> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S> std::fmt::Debug for Resident<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resident")
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}
