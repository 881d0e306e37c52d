//! The programs that a ZFS container has, and how they are run.

use std::path::PathBuf;
use std::time::Duration;

use lazarette_plugin::Call;
use lazarette_plugin::command::Command;

/// What is left of a call's time for the rest when a program has to end.
const MARGIN: Duration = Duration::from_millis(500);
/// A pool of many datasets has long lists.
const KEEP: usize = 8 << 20;

/// Where programs and the kernel's files are. Tests put stand-ins in their place.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    /// zpool(8).
    pub(crate) zpool: PathBuf,
    /// zfs(8).
    pub(crate) zfs: PathBuf,
    /// blkid(8).
    pub(crate) blkid: PathBuf,
    /// wipefs(8).
    pub(crate) wipefs: PathBuf,
    /// cmp(1).
    pub(crate) cmp: PathBuf,
    /// blkdiscard(8).
    pub(crate) blkdiscard: PathBuf,
    /// What udev names zvols with: prints a device's zvol.
    pub(crate) zvol_id: PathBuf,
    /// The directory with a directory for each imported pool.
    pub(crate) kstat: PathBuf,
    /// The file with the kernel module's version.
    pub(crate) module_version: PathBuf,
    /// The file with the name of the pool that the context has. It lives as long as what is
    /// imported does: longer than the container, until the machine stops.
    pub(crate) held: PathBuf,
}

impl Default for Programs {
    fn default() -> Self {
        Self {
            zpool: "/usr/sbin/zpool".into(),
            zfs: "/usr/sbin/zfs".into(),
            blkid: "/usr/sbin/blkid".into(),
            wipefs: "/usr/sbin/wipefs".into(),
            cmp: "/usr/bin/cmp".into(),
            blkdiscard: "/usr/sbin/blkdiscard".into(),
            zvol_id: "/usr/lib/udev/zvol_id".into(),
            kstat: "/proc/spl/kstat/zfs".into(),
            module_version: "/sys/module/zfs/version".into(),
            held: "/run/lazarette/pool".into(),
        }
    }
}

impl Programs {
    /// zpool(8), to end within `limit`. Devices that it was about to use are not left half prepared:
    /// they would not be blank any more.
    pub(crate) fn zpool(&self, limit: Duration) -> Command {
        let command = Command::new(&self.zpool).deadline(limit).keep(KEEP);
        command.to_the_end()
    }

    /// zfs(8), to end within `limit`. What it asks of the kernel is done whole or not at all, and a
    /// stream may take hours: it ends with whoever waits for it.
    pub(crate) fn zfs(&self, limit: Duration) -> Command {
        Command::new(&self.zfs).deadline(limit).keep(KEEP)
    }
}

/// How long a program may take that is run for `call`.
pub(crate) fn time_for(call: &Call) -> Duration {
    call.remaining().saturating_sub(MARGIN)
}
