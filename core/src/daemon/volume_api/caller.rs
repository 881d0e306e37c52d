//! Who called: a process, told apart from a later one with the same number.

use std::io;

use tokio::net::UnixStream;

/// A process of this machine. Two are the same only if their start times are, too: the numbers
/// are used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Caller {
    /// Its number in core's PID namespace; 0 if it lives outside of it.
    pub pid: i32,
    /// When it started, in clock ticks since boot (field 22 of `/proc/PID/stat`); 0 if that
    /// could not be read.
    pub start_time: u64,
}

impl Caller {
    /// The process `pid`.
    pub fn of_pid(pid: i32) -> Self {
        let start_time = std::fs::read_to_string(format!("/proc/{pid}/stat"))
            .ok()
            .and_then(|stat| start_time(&stat))
            .unwrap_or(0);
        Self { pid, start_time }
    }

    /// The process at the other end of `stream`: whoever connected it or, seen from a client,
    /// whoever made the socket listen.
    ///
    /// # Errors
    /// The kernel's, if it does not say.
    pub fn of_peer(stream: &UnixStream) -> io::Result<Self> {
        Ok(Self::of_pid(stream.peer_cred()?.pid().unwrap_or(0)))
    }
}

/// Field 22 of a line of `/proc/PID/stat`. The command's name, in brackets, may hold anything.
fn start_time(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_blanks_does_not_shift_the_fields() {
        let tail = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 987654 20 21";
        assert_eq!(start_time(&format!("42 (a b) ) {tail}")), Some(987_654));
        assert_eq!(start_time("42 (cut) S 1 2"), None);
        assert_eq!(start_time(""), None);
    }

    #[test]
    fn this_very_process_has_a_start_time_and_a_missing_one_has_none() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let caller = Caller::of_pid(pid);
        assert!(caller.start_time > 0);
        assert_eq!(caller, Caller::of_pid(pid));
        assert_eq!(Caller::of_pid(i32::MAX).start_time, 0);
    }
}
