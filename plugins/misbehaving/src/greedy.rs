//! What takes more than there is: memory, processes. Only where a container sets a limit; without
//! one it dies in another way, so that the machine under the test lives on.

use std::fs;

use lazarette_linux::command::{ChildOutput, Command};
use rustix::process::{Signal, getpid, kill_process};

/// Processes at most.
const PROCESSES: usize = 2_000;
/// Bytes at a time.
const PIECE: usize = 4 << 20;

/// Whether the container has one of these limits: the files of the two versions of cgroups.
fn limited(files: [&str; 2]) -> bool {
    files.iter().any(|file| {
        let limit = fs::read_to_string(format!("/sys/fs/cgroup/{file}")).unwrap_or_default();
        // Version 1 says a number too large for anything where there is none.
        limit
            .trim()
            .parse::<u64>()
            .is_ok_and(|limit| limit < 1 << 60)
    })
}

/// Takes memory until the kernel ends it.
pub(crate) fn memory() -> ! {
    let mut all = Vec::new();
    while limited(["memory.max", "memory/memory.limit_in_bytes"]) {
        all.push(vec![1_u8; PIECE]);
    }
    std::process::abort();
}

/// Starts processes that stay, until there can be no more; what was said then.
pub(crate) fn processes() -> String {
    if !limited(["pids.max", "pids/pids.max"]) {
        return "there is no limit".into();
    }
    for _ in 0..PROCESSES {
        let sleep = Command::new("/bin/sleep").arg("60");
        match sleep.spawn(ChildOutput::Null) {
            Ok(child) => drop(child),
            Err(error) => return format!("no more processes: {error}"),
        }
    }
    "there is no limit".into()
}

/// Dies of the signal that a wild pointer brings.
pub(crate) fn segfault() -> ! {
    // What cannot be sent is made up for below.
    let _ = kill_process(getpid(), Signal::SEGV);
    std::process::abort();
}
