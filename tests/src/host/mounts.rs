//! What is mounted, as the kernel tells it.

use anyhow::{Result, ensure};

use super::dockerd::PIN;
use super::process::limited;

/// A row of a mount table.
#[derive(Debug, Clone)]
pub struct Mount {
    /// Its number.
    pub id: u64,
    /// The number of the mount that it is on.
    pub parent: u64,
    /// Where.
    pub target: String,
    /// The mount's own options (`rw,nosuid`).
    pub options: Vec<String>,
    /// The file system's type.
    pub fs_type: String,
    /// Shared, slave and the like; empty if it is private.
    pub propagation: String,
}

impl Mount {
    /// Whether it has the option.
    pub fn has(&self, option: &str) -> bool {
        self.options.iter().any(|o| o == option)
    }
}

/// The mount table in `text`. Good for what the suite mounts: nothing with blanks in it.
pub fn parse(text: &str) -> Vec<Mount> {
    let row = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        let left: Vec<&str> = left.split(' ').collect();
        Some(Mount {
            id: left.first()?.parse().ok()?,
            parent: left.get(1)?.parse().ok()?,
            target: (*left.get(4)?).to_owned(),
            options: left.get(5)?.split(',').map(Into::into).collect(),
            fs_type: right.split(' ').next()?.to_owned(),
            propagation: left.get(6..)?.join(" "),
        })
    };
    text.lines().filter_map(row).collect()
}

/// The mounts of the view.
///
/// # Errors
/// When it cannot be entered.
pub fn in_view() -> Result<Vec<Mount>> {
    let output = limited(20, "nsenter")
        .arg(format!("--mount={PIN}"))
        .args(["cat", "/proc/self/mountinfo"])
        .output()?;
    ensure!(
        output.status.success(),
        "cannot look into the view: {output:?}"
    );
    Ok(parse(&String::from_utf8(output.stdout)?))
}

/// The volumes' mounts among the view's: those on core's own directories for them.
///
/// # Errors
/// As [`in_view`].
pub fn volumes() -> Result<Vec<Mount>> {
    on(&["/mnt", "/run/lazarette/volumes"])
}

/// What is mounted in the staging directory, where mounts are looked at before anybody sees them.
///
/// # Errors
/// As [`in_view`].
pub fn staged() -> Result<Vec<Mount>> {
    on(&["/run/lazarette/staging"])
}

/// Mounts on the topmost mounts at `roots`: what this machine has had there before is covered.
fn on(roots: &[&str]) -> Result<Vec<Mount>> {
    let all = in_view()?;
    let top = |root: &&str| all.iter().rev().find(|m| m.target == **root).map(|m| m.id);
    let tops: Vec<u64> = roots.iter().filter_map(top).collect();
    Ok(all
        .iter()
        .filter(|m| tops.contains(&m.parent))
        .cloned()
        .collect())
}

/// The mounts that the suite itself sees, outside of the view.
///
/// # Errors
/// When they cannot be read.
pub fn outside() -> Result<Vec<Mount>> {
    Ok(parse(&std::fs::read_to_string("/proc/self/mountinfo")?))
}
