//! A shell on the console: with `lazarette.debug` on the kernel command line, or when system Docker
//! cannot even be started, for without it nothing of Lazarette works.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{fs, thread};

use lazarette_linux::command::{ChildOutput, Command};

use crate::console::Console;
use crate::error::{Error, chain};
use crate::layout::Layout;
use crate::service::spawn_thread;

/// There is one console, so there is one shell.
static OFFERED: AtomicBool = AtomicBool::new(false);
/// The pause between one shell and the next.
const PAUSE: Duration = Duration::from_secs(1);

/// Offers a shell on the console for as long as the machine is up.
///
/// # Errors
/// When there is no shell in the image.
pub fn offer(
    layout: &Layout,
    console: &Console,
    stopping: impl Fn() -> bool + Send + 'static,
) -> Result<(), Error> {
    let (program, busybox) = match layout.program("sh") {
        Some(program) => (program, false),
        None => (
            layout
                .program("busybox")
                .ok_or_else(|| crate::engines::no_program("sh"))?,
            true,
        ),
    };
    if OFFERED.swap(true, Ordering::SeqCst) {
        return Ok(());
    }
    let device = layout.at("/dev/console");
    let told = console.clone();
    spawn_thread("emergency shell".into(), move || {
        told.line("emergency: a shell on the console; it comes back when it is left");
        while !stopping() {
            let shell = || {
                let command = Command::new(&program)
                    .env("HOME", "/root")
                    .env("TERM", "linux")
                    .env("PS1", "laz-init# ");
                if busybox { command.arg("sh") } else { command }
            };
            let open = || fs::OpenOptions::new().read(true).write(true).open(&device);
            match open().map(OwnedFd::from) {
                Ok(terminal) => {
                    // A console without job control (or no terminal at all) is better than none.
                    let child = shell()
                        .controlling_terminal()
                        .spawn(ChildOutput::Terminal(terminal))
                        .or_else(|error| match open().map(OwnedFd::from) {
                            Ok(terminal) => {
                                shell().session().spawn(ChildOutput::Terminal(terminal))
                            }
                            Err(_) => Err(error),
                        });
                    match child {
                        Ok(child) => drop(child.wait(None)),
                        Err(error) => told.line(format!("emergency: {}", chain(&error))),
                    }
                }
                Err(error) => {
                    told.line(format!("emergency: {}: {error}", device.display()));
                    return;
                }
            }
            thread::sleep(PAUSE);
        }
    })
}
