//! `laz-init poweroff|reboot|halt`: asks PID 1 by signal.

use std::process::ExitCode;

use rustix::process::{Pid, getppid, kill_process};

use crate::signals::Stop;

/// Whether PID 1 started this process.
pub fn parent_is_pid1() -> bool {
    getppid() == Some(Pid::INIT)
}

/// Sends PID 1 the signal for `stop`.
pub fn ask(stop: Stop) -> ExitCode {
    match kill_process(Pid::INIT, stop.signal()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!(
                "laz-init: cannot ask PID 1 for {}: {error}; run it as root",
                stop.word()
            );
            ExitCode::FAILURE
        }
    }
}
