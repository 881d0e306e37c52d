//! Each service in a cgroup of its own, so that what it leaves behind can be told and ended.

use std::fs;
use std::path::Path;

use crate::early::make_directory;
use crate::error::Error;

/// Moves `pid` into `cgroup`, which is made if need be.
///
/// # Errors
/// When the kernel refuses.
pub fn join(cgroup: &Path, pid: i32) -> Result<(), Error> {
    make_directory(cgroup, 0o755)?;
    let processes = cgroup.join("cgroup.procs");
    fs::write(&processes, pid.to_string())
        .map_err(|source| Error::file("put a process into", processes, source))
}

/// Kills everything in `cgroup`.
///
/// # Errors
/// When the kernel refuses (`cgroup.kill` needs Linux 5.14).
pub fn kill(cgroup: &Path) -> Result<(), Error> {
    let kill = cgroup.join("cgroup.kill");
    fs::write(&kill, "1").map_err(|source| Error::file("kill what is left in", cgroup, source))
}
