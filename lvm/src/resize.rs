//! Volumes of another size: grown while they are mounted, made smaller where the file system can.

use std::path::Path;

use lazarette_plugin::command::{Command, Exit};
use lazarette_plugin::{Call, Error, ErrorKind, Result, Volume};

use crate::context::Inner;
use crate::file_system::FileSystem;
use crate::lvm::Time;
use crate::options::VolumeOptions;
use crate::report::Logical;
use crate::values::{Size, readable};
use crate::volume::Look;
use crate::{cache, encryption, message, mounts};

impl Inner {
    /// Gives the volume the size that its options say.
    pub(crate) fn resize(&self, call: &Call, volume: &Volume<VolumeOptions>) -> Result<()> {
        let time = Time::Of(call);
        let Some(size) = volume.options.size else {
            return Err(Error::invalid("no size is given").remedy("say it: size: 20G"));
        };
        let _turn = self.turns.take(call, volume.id)?;
        let (look, found) = self.existing(time, volume)?;
        let wanted = look.group.rounded(size.bytes());
        if wanted >= found.size {
            if wanted > found.size {
                self.extend_to(time, &look, &found, size)?;
            }
            // Also if an interrupted attempt has grown the logical volume only.
            return self.grow_file_system(time, volume, &found);
        }
        self.shrink(time, volume, &found, wanted)
    }

    /// Makes the logical volume larger.
    pub(crate) fn extend_to(
        &self,
        time: Time<'_>,
        look: &Look,
        found: &Logical,
        size: Size,
    ) -> Result<()> {
        if found.is_thin() {
            self.refuse_full(look, &found.pool)?;
        }
        let full = self.full(&found.name);
        let bytes = format!("{}b", look.group.rounded(size.bytes()));
        let words = ["lvextend", "--yes", "--size", &bytes, "--", &full];
        self.lvm
            .run(time, &format!("cannot extend {full} to {size}"), &words)
    }

    /// Lets the file system take all of its device.
    pub(crate) fn grow_file_system(
        &self,
        time: Time<'_>,
        volume: &Volume<VolumeOptions>,
        found: &Logical,
    ) -> Result<()> {
        if let Some(key) = &volume.options.key {
            self.content(time, volume, found)?;
            encryption::resize(self, time, volume.id, key)?;
        }
        let (fs, node) = self.content(time, volume, found)?;
        self.mounted(time, volume, found, |path| {
            let programs = &self.lvm.programs;
            let command = match fs {
                FileSystem::Ext4 | FileSystem::Ext3 => {
                    Command::new(&programs.resize2fs).arg("--").arg(&node)
                }
                FileSystem::Xfs => Command::new(&programs.xfs_growfs).arg(path),
                FileSystem::Btrfs => Command::new(&programs.btrfs)
                    .args(["filesystem", "resize", "max"])
                    .arg(path),
            };
            command
                .deadline(time.left())
                .run()
                .map(drop)
                .map_err(|failed| {
                    let what = format!("cannot let {} on {} grow", fs.name(), node.display());
                    message::explain(&failed, &what)
                })
        })
    }

    /// Does something while the volume is mounted in this container.
    pub(crate) fn mounted(
        &self,
        time: Time<'_>,
        volume: &Volume<VolumeOptions>,
        found: &Logical,
        work: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<()> {
        let path = mounts::place(&self.host, volume.id);
        let before = mounts::mounted(&path)?.is_some();
        let mounted = self.mount_found(time, volume, found)?;
        let done = work(&mounted.path);
        if before {
            return done;
        }
        done.and(mounts::unmount(&path))
    }

    fn shrink(
        &self,
        time: Time<'_>,
        volume: &Volume<VolumeOptions>,
        found: &Logical,
        wanted: u64,
    ) -> Result<()> {
        let (fs, node) = self.content(time, volume, found)?;
        let what = format!(
            "{} cannot be made smaller than {}",
            self.full(&found.name),
            readable(found.size)
        );
        cache::refuse_cached(found, &what)?;
        if volume.options.key.is_some() {
            return Err(Error::invalid(what)
                .cause("it is encrypted, which is only made larger")
                .remedy("make a new one and copy"));
        }
        let least = match fs {
            // The kernel's own limit for shrinking.
            FileSystem::Btrfs => 256 << 20,
            other => other.least_bytes(),
        };
        if wanted < least {
            return Err(Error::invalid(what)
                .cause(format!("{} needs {} at least", fs.name(), readable(least)))
                .remedy("choose a larger size"));
        }
        match fs {
            FileSystem::Xfs => {
                return Err(Error::invalid(what)
                    .cause("XFS cannot shrink")
                    .remedy("make a new one and copy, or use ext4 or btrfs"));
            }
            FileSystem::Ext4 | FileSystem::Ext3 => self.shrink_ext4(time, volume, &node, wanted)?,
            FileSystem::Btrfs => self.mounted(time, volume, found, |path| {
                Command::new(&self.lvm.programs.btrfs)
                    .args(["filesystem", "resize", &wanted.to_string()])
                    .arg(path)
                    .deadline(time.left())
                    .run()
                    .map(drop)
                    .map_err(|failed| too_small(message::explain(&failed, &what)))
            })?,
        }
        let full = self.full(&found.name);
        let bytes = format!("{wanted}b");
        let words = [
            "lvreduce", "--yes", "--force", "--fs", "ignore", "--size", &bytes, "--", &full,
        ];
        self.lvm.run(time, &format!("cannot reduce {full}"), &words)
    }

    fn shrink_ext4(
        &self,
        time: Time<'_>,
        volume: &Volume<VolumeOptions>,
        node: &Path,
        wanted: u64,
    ) -> Result<()> {
        let what = format!("cannot make {} smaller", node.display());
        self.unmount(volume.id)?;
        if crate::devices::is_held(node)? {
            return Err(Error::new(ErrorKind::Busy, what)
                .cause("ext4 shrinks only while it is not mounted")
                .remedy("stop the containers that use it, then resize it again"));
        }
        let checked = Command::new(&self.lvm.programs.e2fsck)
            .args(["-f", "-p", "--"])
            .arg(node)
            .deadline(time.left())
            .output()
            .map_err(|failed| message::explain(&failed, &what))?;
        // 1: something was corrected.
        if !matches!(checked.exit, Exit::Code(0 | 1)) {
            return Err(Error::internal(what)
                .cause(checked.stdout_text().trim())
                .remedy("check it by hand: e2fsck -f"));
        }
        Command::new(&self.lvm.programs.resize2fs)
            .arg("--")
            .arg(node)
            .arg(format!("{}K", wanted >> 10))
            .deadline(time.left())
            // It moves what lies behind the new end: a file system cut off in that is broken.
            .to_the_end()
            .run()
            .map(drop)
            .map_err(|failed| too_small(message::explain(&failed, &what)))
    }
}

/// The file system says when its content does not fit.
fn too_small(error: Error) -> Error {
    let cause = error.cause.clone().unwrap_or_default();
    let full = ["No space left", "New size smaller than minimum"];
    if !full.iter().any(|f| cause.contains(f)) {
        return error;
    }
    Error::new(ErrorKind::InvalidArgument, error.message)
        .cause("what is in it does not fit into that")
        .remedy("delete files, or choose a larger size")
}
