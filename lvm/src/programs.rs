//! The programs that an LVM container has.

use std::path::PathBuf;

/// Where they are. Tests put stand-ins in their place.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    /// lvm(8), whose first argument is the command.
    pub(crate) lvm: PathBuf,
    /// dmsetup(8).
    pub(crate) dmsetup: PathBuf,
    /// blkid(8).
    pub(crate) blkid: PathBuf,
    /// wipefs(8).
    pub(crate) wipefs: PathBuf,
    /// blkdiscard(8), which overwrites with zeros.
    pub(crate) blkdiscard: PathBuf,
    /// fstrim(8).
    pub(crate) fstrim: PathBuf,
    /// flock(1).
    pub(crate) flock: PathBuf,
    /// cmp(1).
    pub(crate) cmp: PathBuf,
    /// dd(1).
    pub(crate) dd: PathBuf,
    /// mount(8).
    pub(crate) mount: PathBuf,
    /// cryptsetup(8).
    pub(crate) cryptsetup: PathBuf,
    /// mkfs.ext4(8).
    pub(crate) mkfs_ext4: PathBuf,
    /// mkfs.xfs(8).
    pub(crate) mkfs_xfs: PathBuf,
    /// mkfs.btrfs(8).
    pub(crate) mkfs_btrfs: PathBuf,
    /// e2fsck(8).
    pub(crate) e2fsck: PathBuf,
    /// resize2fs(8).
    pub(crate) resize2fs: PathBuf,
    /// xfs_growfs(8).
    pub(crate) xfs_growfs: PathBuf,
    /// btrfs(8).
    pub(crate) btrfs: PathBuf,
    /// btrfstune(8).
    pub(crate) btrfstune: PathBuf,
}

impl Default for Programs {
    fn default() -> Self {
        Self {
            lvm: "/usr/sbin/lvm".into(),
            dmsetup: "/usr/sbin/dmsetup".into(),
            blkid: "/usr/sbin/blkid".into(),
            wipefs: "/usr/sbin/wipefs".into(),
            blkdiscard: "/usr/sbin/blkdiscard".into(),
            fstrim: "/usr/sbin/fstrim".into(),
            flock: "/usr/bin/flock".into(),
            cmp: "/usr/bin/cmp".into(),
            dd: "/usr/bin/dd".into(),
            mount: "/usr/bin/mount".into(),
            cryptsetup: "/usr/sbin/cryptsetup".into(),
            mkfs_ext4: "/usr/sbin/mkfs.ext4".into(),
            mkfs_xfs: "/usr/sbin/mkfs.xfs".into(),
            mkfs_btrfs: "/usr/sbin/mkfs.btrfs".into(),
            e2fsck: "/usr/sbin/e2fsck".into(),
            resize2fs: "/usr/sbin/resize2fs".into(),
            xfs_growfs: "/usr/sbin/xfs_growfs".into(),
            btrfs: "/usr/bin/btrfs".into(),
            btrfstune: "/usr/bin/btrfstune".into(),
        }
    }
}
