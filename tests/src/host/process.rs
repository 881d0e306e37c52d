//! Processes: started with a limit, looked at, killed.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// A command that is killed after so many seconds: nothing in a test waits for ever.
pub fn limited(seconds: u32, program: &str) -> Command {
    let mut command = Command::new("timeout");
    command
        .args(["--kill-after=1", &seconds.to_string(), program])
        .stdin(Stdio::null());
    command
}

/// Its standard output, if it succeeded.
///
/// # Errors
/// What it said, if it failed.
pub fn succeeded(what: &str, output: &Output) -> Result<String> {
    if !output.status.success() {
        bail!("{what}: {}: {}", output.status, said(output));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// What it said, if it failed as it should.
///
/// # Errors
/// When it succeeded, or had to be killed.
pub fn refused(what: &str, output: &Output) -> Result<String> {
    match output.status.code() {
        Some(0) => bail!("{what} succeeded: {}", said(output)),
        Some(124 | 137) | None => bail!("{what} did not end: {}", said(output)),
        Some(_) => Ok(said(output)),
    }
}

fn said(output: &Output) -> String {
    let both = [output.stderr.as_slice(), output.stdout.as_slice()].concat();
    String::from_utf8_lossy(&both).trim().to_owned()
}

/// Starts a daemon that writes into `log`.
///
/// # Errors
/// When it cannot be started.
pub fn daemon(mut command: Command, log: &Path) -> Result<Child> {
    let log = File::options().create(true).append(true).open(log)?;
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("cannot start {command:?}"))
}

/// Sends a signal.
///
/// # Errors
/// When there is no such process.
pub fn signal(pid: i32, signal: Signal) -> Result<()> {
    let pid = Pid::from_raw(pid).context("no process")?;
    kill_process(pid, signal).with_context(|| format!("process {}", pid.as_raw_nonzero()))
}

/// The children of a process.
///
/// # Errors
/// When there is no such process.
pub fn children(pid: i32) -> Result<Vec<i32>> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
        .with_context(|| format!("process {pid}"))?;
    Ok(text
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect())
}

/// A process that was started with all of these words, if there is one.
///
/// # Errors
/// When processes cannot be looked at.
pub fn with(arguments: &[&str]) -> Result<Option<i32>> {
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Ok(pid) = entry.file_name().to_string_lossy().parse() else {
            continue;
        };
        // One that has just ended has none.
        let line = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        let words: Vec<&str> = line.split('\0').collect();
        if arguments.iter().all(|argument| words.contains(argument)) {
            return Ok(Some(pid));
        }
    }
    Ok(None)
}

/// How long the first thread of a process has run so far, in ms.
///
/// # Errors
/// When there is no such process.
pub fn running_ms(pid: i32) -> Result<f64> {
    let path = format!("/proc/{pid}/task/{pid}/schedstat");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    let nanoseconds = text.split_whitespace().next().map(str::parse::<u64>);
    let nanoseconds = nanoseconds.with_context(|| path.clone())??;
    Ok(std::time::Duration::from_nanos(nanoseconds).as_secs_f64() * 1e3)
}

/// KiB of memory that a process has to itself or shares, resident now.
///
/// # Errors
/// When there is no such process.
pub fn resident_kib(pid: i32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let number = line.and_then(|l| l.trim().trim_end_matches(" kB").parse().ok());
    number.with_context(|| format!("process {pid} has no memory"))
}
