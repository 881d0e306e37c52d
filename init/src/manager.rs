//! The manager: brings the machine up, keeps it up, takes it down. PID 1 starts it, passes it the
//! signals that stop the machine, and starts another one should it die.

use std::process::ExitCode;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use signal_hook::iterator::Signals;

use crate::boot::{Boot, PHASES, Services};
use crate::console::{Console, uptime};
use crate::error::chain;
use crate::layout::Layout;
use crate::phase;
use crate::record::BootRecord;
use crate::service::{log, spawn_thread};
use crate::shutdown::{self, Machine};
use crate::signals::Stop;

/// How often logs are looked at.
const ROTATE: Duration = Duration::from_secs(20);

/// Does everything. Ends only if the kernel refuses to stop.
pub fn run() -> ExitCode {
    let console = Console::stdout();
    let layout = Layout::default();
    report_panics(&console);
    // Before anything is begun: a signal must never end this process by its default.
    let numbers = Stop::SIGNALS.map(|signal| signal.as_raw());
    let mut signals = match Signals::new(numbers) {
        Ok(signals) => signals,
        Err(error) => {
            console.line(format!("manager: cannot listen to signals: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let mut boot = Boot::new(layout.clone(), console.clone());
    let stopping = Arc::clone(&boot.stopping);
    let services = Arc::clone(&boot.services);
    let booted = spawn_thread("boot".into(), move || bring_up(&mut boot));
    let logs = layout.logs();
    let rotated = spawn_thread("logs".into(), move || {
        loop {
            thread::sleep(ROTATE);
            // Told once a day would be enough; a log that cannot be rotated is full anyway.
            let _ = log::rotate(&logs);
        }
    });
    for result in [booted, rotated] {
        if let Err(error) = result {
            console.line(format!("manager: {}", chain(&error)));
        }
    }
    let stop = signals.forever().find_map(Stop::from_signal);
    let stop = stop.unwrap_or(Stop::Reboot);
    stopping.store(true, Ordering::SeqCst);
    console.line(format!("shutdown: {} asked for", stop.word()));
    take_down(stop, &layout, &console, &services);
    ExitCode::FAILURE
}

fn bring_up(boot: &mut Boot) {
    let mut record = BootRecord::new(uptime().as_secs_f64(), boot.layout.record());
    let stopping = Arc::clone(&boot.stopping);
    let console = boot.console.clone();
    phase::run_all(&PHASES, boot, &console, &mut record, &|| {
        stopping.load(Ordering::SeqCst)
    });
    if record.end.is_some() {
        console.line("boot: finished");
    }
}

fn take_down(stop: Stop, layout: &Layout, console: &Console, services: &Mutex<Services>) {
    let services = services
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    let machine = Machine {
        layout: layout.clone(),
        console: console.clone(),
        system_docker: services.system_docker,
        core: services.core,
        user_docker: services.user_docker,
    };
    shutdown::run(stop, &machine);
}

/// A panic is reported in our own words, and caught where it can be.
fn report_panics(console: &Console) {
    let console = console.clone();
    std::panic::set_hook(Box::new(move |panic| {
        console.line(format!("internal error: {panic}"));
    }));
}
