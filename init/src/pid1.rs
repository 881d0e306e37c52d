//! PID 1. It starts the manager, reaps whoever ends, passes signals on, and never ends.
//!
//! It reads no file, no configuration and no network: what it does not parse cannot hurt it. If the
//! manager dies it starts another one; if the manager dies or hangs while the machine is being
//! stopped, it stops the machine itself.

use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use lazarette_linux::command::{Child, ChildOutput, Command, reap_orphans};
use rustix::process::{Pid, Signal, kill_process};
use rustix::system::{RebootCommand, reboot};
use signal_hook::consts::SIGCHLD;
use signal_hook::iterator::Signals;

use crate::MANAGER;
use crate::console::Console;
use crate::error::chain;
use crate::service::backoff::Backoff;
use crate::shutdown;
use crate::signals::Stop;

/// What PID 1 gives the manager beyond the shutdown's own budget.
const MARGIN: Duration = Duration::from_secs(10);
/// How long the disks' caches are waited for in the end.
const SYNC: Duration = Duration::from_secs(5);
/// How often PID 1 looks around when nothing happens.
const TICK: Duration = Duration::from_secs(1);
/// Where this program is, if the kernel did not say.
const PLACES: [&str; 4] = [
    "/usr/sbin/laz-init",
    "/sbin/laz-init",
    "/sbin/init",
    "/init",
];

/// Runs as PID 1. Never returns while the machine is up.
pub fn run(arguments: &[OsString]) -> ExitCode {
    let console = Console::stdout();
    let panics = console.clone();
    std::panic::set_hook(Box::new(move |panic| {
        panics.line(format!("init: internal error: {panic}"));
    }));
    // Ctrl-alt-del becomes SIGINT. In a PID namespace of its own there is nothing to set.
    let _ = reboot(RebootCommand::CadOff);
    let mut keeper = Keeper {
        program: own_program(arguments),
        console,
        manager: None,
        backoff: Backoff::default(),
        begun: Instant::now(),
        next: Instant::now(),
        stop: None,
    };
    let signals = listen(&keeper.console);
    loop {
        // A panic of ours must not end PID 1; the state is valid at every step.
        let _ = catch_unwind(AssertUnwindSafe(|| keeper.turn(&signals)));
    }
}

/// Signals arrive through a thread, so that the main loop can wait with a limit.
fn listen(console: &Console) -> mpsc::Receiver<i32> {
    let (sender, receiver) = mpsc::channel();
    let mut numbers: Vec<i32> = Stop::SIGNALS.iter().map(|signal| signal.as_raw()).collect();
    numbers.push(SIGCHLD);
    match Signals::new(numbers) {
        Ok(mut signals) => {
            let started = thread::Builder::new()
                .name("signals".into())
                .spawn(move || {
                    for signal in signals.forever() {
                        // The receiver lives as long as PID 1.
                        let _ = sender.send(signal);
                    }
                });
            if let Err(error) = started {
                console.line(format!("init: cannot listen to signals: {error}"));
            }
        }
        Err(error) => console.line(format!("init: cannot listen to signals: {error}")),
    }
    receiver
}

fn own_program(arguments: &[OsString]) -> Option<PathBuf> {
    let named = arguments.first().map(PathBuf::from);
    std::env::current_exe()
        .ok()
        .into_iter()
        .chain(named)
        .chain(PLACES.iter().map(PathBuf::from))
        .find(|path| path.is_absolute() && path.is_file())
}

struct Keeper {
    program: Option<PathBuf>,
    console: Console,
    manager: Option<Child>,
    backoff: Backoff,
    /// When the manager was started.
    begun: Instant,
    /// When the next one may be.
    next: Instant,
    /// What was asked for, and when it must be done.
    stop: Option<(Stop, Instant)>,
}

impl Keeper {
    fn turn(&mut self, signals: &mpsc::Receiver<i32>) {
        match signals.recv_timeout(TICK) {
            Ok(signal) => {
                if let Some(stop) = Stop::from_signal(signal) {
                    self.ask(stop);
                }
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            // There is no listener: at least do not spin.
            Err(mpsc::RecvTimeoutError::Disconnected) => thread::sleep(TICK),
        }
        reap_orphans();
        self.look_after_manager();
        if let Some((stop, end)) = self.stop
            && (self.manager.is_none() || Instant::now() > end)
        {
            self.last_rites(stop);
        }
    }

    fn ask(&mut self, stop: Stop) {
        let end = Instant::now() + shutdown::TOTAL + MARGIN;
        // The first one counts: the manager is on its way down already.
        if self.stop.is_none() {
            self.stop = Some((stop, end));
            if let Some(manager) = &self.manager
                && let Err(error) = manager.signal(stop.signal().as_raw())
            {
                self.console.line(format!("init: manager: {error}"));
            }
        }
    }

    fn look_after_manager(&mut self) {
        if let Some(manager) = &self.manager {
            let ended = match manager.try_wait() {
                Ok(None) => return,
                Ok(Some(exit)) => exit.to_string(),
                Err(error) => error.to_string(),
            };
            let pause = self.backoff.pause(self.begun.elapsed());
            self.next = Instant::now() + pause;
            self.manager = None;
            self.console
                .line(format!("init: the manager ended: {ended}"));
        }
        if self.stop.is_some() || Instant::now() < self.next {
            return;
        }
        let Some(program) = self.program.clone() else {
            self.console
                .line("init: this program does not find itself; put it at /sbin/init");
            self.next = Instant::now() + Duration::from_secs(60);
            return;
        };
        self.begun = Instant::now();
        match Command::new(program)
            .arg(MANAGER)
            .spawn(ChildOutput::Inherit)
        {
            Ok(manager) => self.manager = Some(manager),
            Err(error) => {
                self.console.line(format!("init: {}", chain(&error)));
                self.next = Instant::now() + self.backoff.pause(Duration::ZERO).max(TICK);
            }
        }
    }

    /// The manager is gone or hangs: kill everything, write the disks' caches, stop.
    fn last_rites(&mut self, stop: Stop) {
        self.console
            .line("init: the manager did not stop the machine; stopping it now");
        if let Some(manager) = self.manager.take() {
            let _ = manager.kill();
        }
        kill_everything();
        let (sender, receiver) = mpsc::channel();
        let _ = thread::Builder::new().spawn(move || {
            rustix::fs::sync();
            let _ = sender.send(());
        });
        if receiver.recv_timeout(SYNC).is_err() {
            self.console
                .line("init: the disks' caches are not written; stopping all the same");
        }
        if let Err(error) = reboot(stop.command()) {
            self.console
                .line(format!("init: the kernel refuses to stop: {error}"));
            thread::sleep(TICK);
        }
    }
}

/// SIGKILL to every process but this one.
fn kill_everything() {
    for pid in std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(Pid::from_raw)
        .filter(|pid| *pid != Pid::INIT)
    {
        let _ = kill_process(pid, Signal::KILL);
    }
}
