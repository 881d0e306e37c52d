//! Unmounting what is left, newest first.
//!
//! Each attempt runs in a thread of its own and is given up when its time is over: a dead NFS
//! server keeps a plain unmount waiting, sometimes even a forced one.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use lazarette_linux::mountinfo::{MountRow, MountTable};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount_remount, unmount};

/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_millis(700);
/// What the kernel makes by itself and what init needs to the end.
const KEPT: [&str; 5] = ["/", "/proc", "/sys", "/dev", "/run"];
/// Below these there is nothing that could lose data.
const KEPT_WITH_ALL_BELOW: [&str; 3] = ["/proc", "/sys", "/dev"];

/// What was done.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How many were unmounted at once.
    pub plain: usize,
    /// How many needed force.
    pub forced: usize,
    /// Busy to the end and detached; the sync that follows writes what they hold.
    pub detached: Vec<PathBuf>,
    /// What is still mounted.
    pub left: Vec<PathBuf>,
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} file systems", self.plain + self.forced)?;
        if self.forced > 0 {
            write!(f, ", {} by force", self.forced)?;
        }
        for (what, paths) in [
            ("detached while busy", &self.detached),
            ("left", &self.left),
        ] {
            if !paths.is_empty() {
                let paths: Vec<_> = paths
                    .iter()
                    .map(|path| path.display().to_string())
                    .collect();
                write!(f, "; {what}: {}", paths.join(", "))?;
            }
        }
        Ok(())
    }
}

/// Unmounts everything but the file systems of the kernel, within `limit`, and makes the root
/// read-only.
///
/// # Errors
/// When the mount table cannot be read.
pub fn unmount_all(limit: Duration) -> std::io::Result<Report> {
    let end = Instant::now() + limit;
    let mut report = Report::default();
    let table = MountTable::of_self()?;
    for target in targets(&table.rows) {
        let left = end.saturating_duration_since(Instant::now());
        // Two more rungs follow the first.
        let time = ATTEMPT.min(left / 3);
        take_down(&target, time, &mut report);
    }
    let left = end.saturating_duration_since(Instant::now()).max(ATTEMPT);
    let read_only = within(left, || mount_remount("/", MountFlags::RDONLY, c""));
    if !matches!(read_only, Some(Ok(()))) {
        report.left.push("/".into());
    }
    Ok(report)
}

/// Plain, then forced, then detached.
fn take_down(target: &Path, time: Duration, report: &mut Report) {
    for (rung, flags) in [
        UnmountFlags::empty(),
        UnmountFlags::FORCE,
        UnmountFlags::DETACH,
    ]
    .into_iter()
    .enumerate()
    {
        let path = target.to_owned();
        let flags = flags | UnmountFlags::NOFOLLOW;
        match within(time, move || unmount(path, flags)) {
            Some(Ok(())) => {
                match rung {
                    0 => report.plain += 1,
                    1 => report.forced += 1,
                    _ => report.detached.push(target.into()),
                }
                return;
            }
            // It went with another one, or is out of sight.
            Some(Err(Errno::INVAL | Errno::NOENT)) => return,
            Some(Err(_)) | None => {}
        }
    }
    report.left.push(target.into());
}

/// What is to be unmounted, in order.
fn targets(rows: &[MountRow]) -> Vec<PathBuf> {
    let is_kept = |target: &Path| {
        KEPT.iter().any(|kept| target == Path::new(kept))
            || KEPT_WITH_ALL_BELOW
                .iter()
                .any(|kept| target.starts_with(kept))
    };
    rows.iter()
        .rev()
        .map(|row| row.target.clone())
        .filter(|target| !is_kept(target))
        .collect()
}

/// Runs `work` in a thread and waits for it for at most `limit`.
pub(super) fn within<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (sender, receiver) = mpsc::channel();
    thread::Builder::new()
        .name("shutdown step".into())
        .spawn(move || {
            // Nobody listens when we come too late.
            let _ = sender.send(work());
        })
        .ok()?;
    receiver.recv_timeout(limit).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_first_and_not_what_the_kernel_makes() {
        let table = MountTable::parse(
            b"1 0 8:1 / / rw - ext4 /dev/vda rw\n\
              2 1 0:2 / /proc rw - proc proc rw\n\
              3 1 0:3 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n\
              4 1 0:4 / /run rw - tmpfs tmpfs rw\n\
              5 4 0:5 / /run/lazarette/view rw - tmpfs tmpfs rw\n\
              6 1 0:6 / /mnt rw - tmpfs tmpfs rw\n\
              7 6 0:7 / /mnt/nas rw - nfs4 nas:/ rw\n\
              8 1 0:8 / /running rw - tmpfs tmpfs rw\n",
        );
        let targets = targets(&table.rows);
        let expected = ["/running", "/mnt/nas", "/mnt", "/run/lazarette/view"];
        assert_eq!(targets, expected.map(PathBuf::from));
    }

    #[test]
    fn what_hangs_is_given_up() {
        let begin = Instant::now();
        let result = within(Duration::from_millis(50), || {
            thread::sleep(Duration::from_secs(60));
        });
        assert_eq!(result, None);
        assert!(begin.elapsed() < Duration::from_secs(20));
        assert_eq!(within(Duration::from_secs(5), || 7), Some(7));
    }

    #[test]
    fn the_report_names_what_is_left() {
        let report = Report {
            plain: 2,
            forced: 1,
            detached: vec![],
            left: vec!["/mnt/nas".into()],
        };
        assert_eq!(
            report.to_string(),
            "3 file systems, 1 by force; left: /mnt/nas"
        );
    }
}
