//! One supervised program: started, watched, started again when it ends, stopped at the shutdown.
//!
//! Each service has a thread that does this and shares nothing with the others, so that the death
//! of one does not touch the rest. A service is never given up: a program that keeps ending is
//! started ever more slowly ([`backoff`]).

pub mod backoff;
pub mod cgroup;
pub mod earlier;
pub mod log;
pub mod notify;

use std::ffi::OsString;
use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use lazarette_linux::command::{Child, ChildOutput, Command, Exit};
use lazarette_linux::namespace::{MountNamespace, NamespaceError};

use crate::console::Console;
use crate::error::{Error, chain};
use crate::layout::Layout;
use crate::phase::panic_text;
use backoff::Backoff;

/// How often a service looks whether its view is there now.
const VIEW_POLL: Duration = Duration::from_millis(200);
/// A start that ended this often without readiness is reported as failed (and goes on).
const CRASHES: u32 = 6;

/// A program to keep running.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Its name on the console, of its log and of its cgroup.
    pub name: &'static str,
    /// Its absolute path.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Its environment, beside what every program gets.
    pub environment: Vec<(&'static str, OsString)>,
    /// The pin of the mount namespace that it runs in; its start waits until something is pinned.
    pub view: Option<PathBuf>,
    /// Where in the view something must be mounted; its start waits until it is.
    pub mounted: Option<PathBuf>,
    /// Files removed before each start: PID files of an earlier life.
    pub stale: Vec<PathBuf>,
    /// Whether what it leaves behind in its cgroup is killed before the next start. (Not for
    /// engines: the shims of running containers are in there.)
    pub alone: bool,
}

/// How a service is doing.
#[derive(Debug, Clone, Default)]
pub struct Status {
    /// It has said `READY=1` since its last start.
    pub ready: bool,
    /// The last `STATUS=` it sent, or why it cannot be started.
    pub text: String,
    /// Ends in a row, each soon after the start.
    pub failures: u32,
    /// How often it was started.
    pub starts: u32,
}

#[derive(Default)]
struct Inner {
    status: Status,
    child: Option<Arc<Child>>,
    /// A life has begun; what the program says counts, even before we know its process.
    alive: bool,
    stopping: bool,
    over: bool,
}

struct Shared {
    spec: Spec,
    layout: Layout,
    console: Console,
    inner: Mutex<Inner>,
    changed: Condvar,
}

/// A supervised program. Clones are handles to the same.
#[derive(Clone)]
pub struct Service {
    shared: Arc<Shared>,
}

/// Why a service did not start.
enum NotStarted {
    /// What it runs in is not there yet; not its fault.
    Waiting(String),
    /// It could not be started.
    Failed(Error),
}

impl<E: Into<Error>> From<E> for NotStarted {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl Service {
    /// Starts the program and keeps it running from now on.
    ///
    /// # Errors
    /// When the notify socket or a thread cannot be made; nothing was started then.
    pub fn start(spec: Spec, layout: &Layout, console: &Console) -> Result<Self, Error> {
        let name = spec.name;
        let shared = Arc::new(Shared {
            spec,
            layout: layout.clone(),
            console: console.clone(),
            inner: Mutex::default(),
            changed: Condvar::new(),
        });
        let socket = notify::bind(&shared.notify_path())?;
        let listener = Arc::clone(&shared);
        spawn_thread(format!("{name} notify"), move || listener.listen(&socket))?;
        let keeper = Arc::clone(&shared);
        spawn_thread(format!("{name} keeper"), move || keeper.keep())?;
        Ok(Self { shared })
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.shared.spec.name
    }

    /// How it is doing.
    pub fn status(&self) -> Status {
        self.shared.lock().status.clone()
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    /// When it is not by then, keeps ending, or the machine is being stopped. It goes on being
    /// started all the same.
    pub fn wait_ready(&self, limit: Duration) -> Result<(), Error> {
        let end = Instant::now() + limit;
        let mut inner = self.shared.lock();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if inner.status.ready {
                return Ok(());
            }
            if left.is_zero() || inner.stopping || inner.status.failures >= CRASHES {
                return Err(self.not_ready(&inner.status, limit.saturating_sub(left)));
            }
            inner = self.shared.wait(inner, left);
        }
    }

    fn not_ready(&self, status: &Status, waited: Duration) -> Error {
        let mut what = format!("{} is not ready", self.name());
        if status.failures > 0 {
            what = format!("{what} and ended {} times", status.failures);
        }
        if !status.text.is_empty() {
            what = format!("{what} ({})", status.text);
        }
        let log = self.shared.log_path();
        Error::Late {
            what: format!("{what}; see {}; going on without it:", log.display()),
            seconds: waited.as_secs(),
        }
    }

    /// Stops it for good: SIGTERM, after `grace` SIGKILL. Returns how it ended; `None` if it was
    /// not running.
    ///
    /// # Errors
    /// When it does not even die from SIGKILL.
    pub fn stop(&self, grace: Duration) -> Result<Option<Exit>, Error> {
        let child = {
            let mut inner = self.shared.lock();
            inner.stopping = true;
            inner.child.clone()
        };
        self.shared.changed.notify_all();
        let Some(child) = child else {
            return Ok(None);
        };
        let failed = |error| Error::file("stop", &self.shared.spec.program, error);
        match child.stop(grace).map_err(failed)? {
            Some(exit) => Ok(Some(exit)),
            None => Err(failed(io::ErrorKind::TimedOut.into())),
        }
    }

    /// Lets it end without being started again, from now on.
    pub fn no_restart(&self) {
        self.shared.lock().stopping = true;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, inner: MutexGuard<'a, Inner>, limit: Duration) -> MutexGuard<'a, Inner> {
        self.changed
            .wait_timeout(inner, limit)
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }

    fn say(&self, text: impl std::fmt::Display) {
        self.console.line(format!("{}: {text}", self.spec.name));
    }

    fn notify_path(&self) -> PathBuf {
        self.layout.own().join(format!("{}.notify", self.spec.name))
    }

    fn pid_path(&self) -> PathBuf {
        self.layout.own().join(format!("{}.pid", self.spec.name))
    }

    fn log_path(&self) -> PathBuf {
        self.layout.logs().join(format!("{}.log", self.spec.name))
    }

    fn cgroup(&self) -> PathBuf {
        self.layout.cgroup().join(self.spec.name)
    }

    /// Takes in what the program says.
    fn listen(&self, socket: &std::os::unix::net::UnixDatagram) {
        loop {
            match notify::receive(socket) {
                Ok(message) => {
                    let mut inner = self.lock();
                    inner.status.ready |= message.ready && inner.alive;
                    if let Some(text) = message.status {
                        inner.status.text = text;
                    }
                    drop(inner);
                    self.changed.notify_all();
                }
                Err(error) => {
                    self.say(format!("notify socket: {error}"));
                    thread::sleep(Duration::from_secs(1));
                }
            }
            if self.lock().over {
                return;
            }
        }
    }

    /// Keeps the program running until the service is stopped.
    fn keep(&self) {
        if let Err(error) = earlier::end(&self.pid_path(), Duration::from_secs(10)) {
            self.say(chain(&error));
        }
        let mut backoff = Backoff::default();
        loop {
            // A panic here must not leave the program without its keeper.
            let pause = catch_unwind(AssertUnwindSafe(|| self.live_once(&mut backoff)))
                .unwrap_or_else(|panic| {
                    self.say(format!("internal error: {}", panic_text(&*panic)));
                    backoff.pause(Duration::ZERO)
                });
            if self.pause(pause) {
                self.lock().over = true;
                return;
            }
        }
    }

    /// One life of the program; returns how long to wait before the next.
    fn live_once(&self, backoff: &mut Backoff) -> Duration {
        self.lock().alive = true;
        let child = match self.launch() {
            Ok(child) => Arc::new(child),
            Err(NotStarted::Waiting(what)) => {
                self.lock().alive = false;
                self.explain(what);
                return VIEW_POLL;
            }
            Err(NotStarted::Failed(error)) => {
                self.lock().alive = false;
                self.explain(format!("cannot be started: {}", chain(&error)));
                let pause = backoff.pause(Duration::ZERO);
                self.lock().status.failures = backoff.failures();
                self.changed.notify_all();
                return pause.max(VIEW_POLL);
            }
        };
        let begin = Instant::now();
        {
            let mut inner = self.lock();
            inner.child = Some(Arc::clone(&child));
            inner.status.starts = inner.status.starts.saturating_add(1);
            if inner.stopping {
                drop(inner);
                // The machine began to stop while we started it.
                let _ = child.kill();
            }
        }
        let ended = match child.wait(None) {
            Ok(Some(exit)) => exit.to_string(),
            Ok(None) => "out of sight".into(),
            Err(error) => error.to_string(),
        };
        let pause = backoff.pause(begin.elapsed());
        let stopping = {
            let mut inner = self.lock();
            inner.child = None;
            inner.alive = false;
            inner.status.ready = false;
            inner.status.text.clear();
            inner.status.failures = backoff.failures();
            inner.stopping
        };
        self.changed.notify_all();
        if !stopping {
            self.say(format!(
                "ended after {:.1} s: {ended}; starting it again in {:.1} s",
                begin.elapsed().as_secs_f64(),
                pause.as_secs_f64()
            ));
        }
        pause
    }

    /// Says why it is not running, once.
    fn explain(&self, why: String) {
        if self.lock().status.text != why {
            self.say(&why);
            self.lock().status.text = why;
        }
    }

    fn launch(&self) -> Result<Child, NotStarted> {
        let spec = &self.spec;
        if spec.alone && self.cgroup().join("cgroup.kill").exists() {
            cgroup::kill(&self.cgroup())?;
        }
        for path in &spec.stale {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::file("remove", path, error).into());
                }
                _ => {}
            }
        }
        let mut command = Command::new(&spec.program)
            .args(&spec.arguments)
            .env("HOME", "/root")
            .env("NOTIFY_SOCKET", self.notify_path())
            .session();
        for (name, value) in &spec.environment {
            command = command.env(name, value);
        }
        if let Some(pin) = &spec.view {
            let waiting = |error: NamespaceError| {
                NotStarted::Waiting(format!("waiting for the view: {}", chain(&error)))
            };
            let namespace = MountNamespace::open_pin(pin).map_err(waiting)?;
            if let Some(path) = &spec.mounted {
                let table = namespace.mount_table().map_err(waiting)?;
                if table.top_at(path).is_none() {
                    return Err(NotStarted::Waiting(format!(
                        "waiting for its data root: nothing is mounted at {}; `laz status` says why",
                        path.display()
                    )));
                }
            }
            command = command.in_namespace(&namespace).map_err(waiting)?;
        }
        let log = log::open(&self.log_path())?;
        let child = command.spawn(ChildOutput::File(log))?;
        // It runs; what is missing around it is told, and no reason to end it.
        for result in [
            cgroup::join(&self.cgroup(), child.pid()),
            earlier::remember(&self.pid_path(), child.pid()),
        ] {
            if let Err(error) = result {
                self.say(chain(&error));
            }
        }
        Ok(child)
    }

    /// Sleeps; returns whether the service is being stopped.
    fn pause(&self, length: Duration) -> bool {
        let end = Instant::now() + length;
        let mut inner = self.lock();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if inner.stopping || left.is_zero() {
                return inner.stopping;
            }
            inner = self.wait(inner, left);
        }
    }
}

/// Starts a named thread.
///
/// # Errors
/// When the kernel refuses.
pub fn spawn_thread(name: String, work: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    thread::Builder::new()
        .name(name.clone())
        .spawn(work)
        .map(drop)
        .map_err(|source| Error::file("start the thread", name, source))
}

#[cfg(test)]
mod tests;
