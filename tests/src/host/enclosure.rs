//! Namespaces of the suite's own: the mounts it makes are seen by nobody else, and every process
//! it has started, however it was killed or forgotten, ends when the suite does.
//!
//! The suite's program runs three times, each in the one before: outside, where it makes a
//! directory and takes it away again; as PID 1 of the namespaces, where it reaps what the engines
//! leave behind; and as the suite itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use rustix::process::{Pid, WaitOptions};

use super::programs::{in_path, static_busybox};

/// Says which of the three this is; its value is the world's directory.
const STAGE_INIT: &str = "LAZARETTE_HOST_INIT";
const STAGE_SUITE: &str = "LAZARETTE_HOST_SUITE";
/// Where worlds are made: the number of the suite's outermost process follows.
const BASE: &str = "/tmp/laz-host-";
/// Where version 1 of control groups has its controllers, and version 2 its only tree.
const CGROUPS: &str = "/sys/fs/cgroup";

/// What the program is to do.
pub enum Stage {
    /// Run the tests, with the world below this directory.
    Suite(PathBuf),
    /// Nothing more: it is over, with this status.
    Over(ExitCode),
}

/// What this machine lacks to run the suite, if anything.
pub fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("needs root, to run two dockerd".into());
    }
    for program in [
        "dockerd", "docker", "unshare", "nsenter", "setpriv", "timeout", "tar", "ldd",
    ] {
        if in_path(program).is_none() {
            return Some(format!("needs {program} in the PATH"));
        }
    }
    if static_busybox().is_none() {
        return Some("needs a static busybox in the PATH (Debian package busybox-static)".into());
    }
    None
}

/// Goes one stage further in.
///
/// # Errors
/// When the namespaces cannot be made.
pub fn enter() -> Result<Stage> {
    if let Some(base) = std::env::var_os(STAGE_SUITE) {
        let base = PathBuf::from(base);
        prepare(&base)?;
        return Ok(Stage::Suite(base));
    }
    match std::env::var_os(STAGE_INIT) {
        Some(base) => first_process(Path::new(&base)).map(Stage::Over),
        None => outside().map(Stage::Over),
    }
}

/// The control groups of the world below `base`, as dockerd takes them.
pub fn cgroup_parent(base: &Path) -> String {
    let name = base.file_name().unwrap_or_default().to_string_lossy();
    format!("/{name}")
}

fn outside() -> Result<ExitCode> {
    remove_abandoned()?;
    let base = PathBuf::from(format!("{BASE}{}", std::process::id()));
    fs::create_dir(&base).with_context(|| format!("cannot make {}", base.display()))?;
    let status = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "unshare"])
        .args(["--mount", "--propagation", "private", "--pid", "--fork"])
        .args(["--kill-child", "--mount-proc", "--"])
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(STAGE_INIT, &base)
        .status();
    let removed = remove_world(&base);
    let code = status.context("cannot run unshare")?.code();
    removed?;
    Ok(ExitCode::from(
        code.and_then(|c| u8::try_from(c).ok()).unwrap_or(101),
    ))
}

/// A suite that was killed could not clear up; its processes have ended with it.
fn remove_abandoned() -> Result<()> {
    for entry in fs::read_dir("/tmp")? {
        let path = entry?.path();
        let process = path.to_str().and_then(|p| p.strip_prefix(BASE));
        let process = process.and_then(|p| p.parse::<u32>().ok());
        if process.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            remove_world(&path)?;
        }
    }
    Ok(())
}

/// Everything in it has ended: its directories go.
fn remove_world(base: &Path) -> Result<()> {
    fs::remove_dir_all(base).with_context(|| format!("cannot remove {}", base.display()))?;
    let parent = cgroup_parent(base);
    let trees = fs::read_dir(CGROUPS)
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.path());
    for tree in trees.chain([CGROUPS.into()]) {
        remove_cgroups(&tree.join(parent.trim_start_matches('/')));
    }
    Ok(())
}

/// The kernel removes the files in a control group itself.
fn remove_cgroups(group: &Path) {
    for inner in fs::read_dir(group).into_iter().flatten().flatten() {
        if inner.file_type().is_ok_and(|t| t.is_dir()) {
            remove_cgroups(&inner.path());
        }
    }
    // Absent in most trees.
    let _ = fs::remove_dir(group);
}

/// PID 1: starts the suite and reaps until it ends.
fn first_process(base: &Path) -> Result<ExitCode> {
    let suite = Command::new(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env_remove(STAGE_INIT)
        .env(STAGE_SUITE, base)
        .spawn()?;
    let suite = Pid::from_child(&suite);
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == suite => {
                let code = status.exit_status().and_then(|c| u8::try_from(c).ok());
                return Ok(ExitCode::from(code.unwrap_or(101)));
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("cannot wait for the suite"),
        }
    }
}

/// A /run of our own: every program then uses the paths it uses on a real machine.
fn prepare(base: &Path) -> Result<()> {
    rustix::mount::mount(
        "tmpfs",
        "/run",
        "tmpfs",
        rustix::mount::MountFlags::NOSUID | rustix::mount::MountFlags::NODEV,
        Some(c"mode=0755"),
    )
    .context("cannot mount a tmpfs at /run")?;
    for directory in ["data", "log", "state"] {
        fs::create_dir(base.join(directory))?;
    }
    Ok(())
}
