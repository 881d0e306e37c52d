//! A program that an earlier manager started and that outlived it.
//!
//! The manager that follows cannot wait for it, so it ends it and starts its own. (Containers live
//! on: they are no children of the engine, and the engines run with `--live-restore`.)

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use lazarette_linux::process::Process;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, pidfd_send_signal};

use crate::error::Error;

/// Notes in `file` which process runs now.
///
/// # Errors
/// When the file cannot be written.
pub fn remember(file: &Path, pid: i32) -> Result<(), Error> {
    let Ok(process) = Process::open(pid) else {
        // It has ended already; whoever waits for it will see.
        return Ok(());
    };
    fs::write(file, format!("{pid} {}\n", process.start_time()))
        .map_err(|source| Error::file("write", file, source))
}

/// Ends the process noted in `file`, if it still runs: SIGTERM, after `grace` SIGKILL. Returns
/// whether there was one.
///
/// # Errors
/// When it cannot be signalled, or does not die.
pub fn end(file: &Path, grace: Duration) -> Result<bool, Error> {
    let Some(process) = noted(file) else {
        return Ok(false);
    };
    for (signal, limit) in [
        (Signal::TERM, grace),
        (Signal::KILL, Duration::from_secs(5)),
    ] {
        match pidfd_send_signal(&process, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => return Err(Error::file("end the process of", file, error)),
        }
        if ends_within(&process, limit) {
            return Ok(true);
        }
    }
    let error = io::Error::from(io::ErrorKind::TimedOut);
    Err(Error::file("end the process of", file, error))
}

fn noted(file: &Path) -> Option<Process> {
    let text = fs::read_to_string(file).ok()?;
    let (pid, start_time) = text.trim().split_once(' ')?;
    Process::open_known(pid.parse().ok()?, start_time.parse().ok()?).ok()
}

fn ends_within(process: &Process, limit: Duration) -> bool {
    let limit = Timespec {
        tv_sec: limit.as_secs().cast_signed(),
        tv_nsec: limit.subsec_nanos().into(),
    };
    let mut fds = [PollFd::new(process, PollFlags::IN)];
    matches!(poll(&mut fds, Some(&limit)), Ok(1..))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lazarette_linux::command::{ChildOutput, Command};

    #[test]
    fn a_remembered_process_is_ended_and_another_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("x.pid");
        assert!(!end(&file, Duration::ZERO).unwrap());
        let child = Command::new("/bin/sleep")
            .arg("100")
            .spawn(ChildOutput::Null)
            .unwrap();
        fs::write(&file, format!("{} 1\n", child.pid())).unwrap();
        assert!(
            !end(&file, Duration::ZERO).unwrap(),
            "the start time differs"
        );
        remember(&file, child.pid()).unwrap();
        assert!(end(&file, Duration::from_secs(5)).unwrap());
        assert!(child.wait(Some(Duration::from_secs(5))).unwrap().is_some());
    }
}
