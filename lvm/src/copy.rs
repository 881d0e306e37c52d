//! Clones: in a thin pool a branch, else a copy that goes on where it was interrupted.

use lazarette_plugin::command::Command;
use lazarette_plugin::{Call, CloneSource, Created, Error, ErrorKind, Result, Volume};

use crate::context::Inner;
use crate::file_system::FileSystem;
use crate::lvm::Time;
use crate::options::{Layout, VolumeOptions};
use crate::report::Logical;
use crate::snapshot::Branch;
use crate::values::{Size, readable};
use crate::volume::Look;
use crate::{message, stamp};

/// MiB that are copied between two notes of how far it is.
const STEP: u64 = 512;

impl Inner {
    /// Makes `volume` with the content of another one, or finds it made.
    pub(crate) fn clone_volume(
        &self,
        call: &Call,
        volume: &Volume<VolumeOptions>,
        source: &CloneSource<VolumeOptions>,
    ) -> Result<Created> {
        let time = Time::Of(call);
        refuse_own_shape(volume)?;
        let _turn = self.turns.take(call, volume.id)?;
        let mut look = self.look(time)?;
        let found = self.find(time, &mut look, volume)?;
        if let Some(done) = found.as_ref().filter(|f| f.has_tag(stamp::READY)) {
            self.same_size(&look, done, &volume.options)?;
            return Ok(Created::AlreadyExists);
        }
        let whole = self.existing_in(time, &mut look, &source.volume)?;
        let bytes = whole.size;
        let from = match source.snapshot {
            None => whole,
            Some(id) => look
                .tagged(&stamp::of_snapshot(id))
                .cloned()
                .ok_or_else(|| {
                    Error::not_found(format!("the snapshot {id}"))
                        .cause("there is no logical volume with its tag")
                        .remedy("laz volume snapshots shows what there is")
                })?,
        };
        if from.invalid {
            return Err(Error::new(ErrorKind::NoSpace, "the snapshot is lost")
                .cause("it ran full: more was written to the volume than it had space for")
                .remedy("clone the volume itself"));
        }
        if let Some(size) = volume
            .options
            .size
            .filter(|s| look.group.rounded(s.bytes()) < bytes)
        {
            return Err(Error::invalid(format!("size: {size}"))
                .cause(format!("the source has {}", readable(bytes)))
                .remedy("make the clone as large as its source, or leave size out"));
        }
        if from.is_thin() {
            self.clone_thin(time, &look, volume, found, &from)?;
        } else {
            self.clone_thick(call, &look, volume, found, source, (&from, bytes))?;
        }
        self.finish_clone(call, volume, source, bytes)?;
        Ok(Created::Created)
    }

    fn clone_thin(
        &self,
        time: Time<'_>,
        look: &Look,
        volume: &Volume<VolumeOptions>,
        found: Option<Logical>,
        from: &Logical,
    ) -> Result<()> {
        let name = stamp::name_of_volume(volume.id);
        if found.is_some() {
            return Ok(());
        }
        let mut tags = vec![stamp::of_volume(volume.id)];
        tags.extend(volume.options.tags.iter().map(|t| t.as_str().to_owned()));
        self.branch(time, look, from, &name, &tags, Branch::Lively)
    }

    /// Copies from a snapshot, which is taken for this if the clone is to be of the volume as it is.
    fn clone_thick(
        &self,
        call: &Call,
        look: &Look,
        volume: &Volume<VolumeOptions>,
        found: Option<Logical>,
        source: &CloneSource<VolumeOptions>,
        (from, bytes): (&Logical, u64),
    ) -> Result<()> {
        let time = Time::Of(call);
        let helper = stamp::name_of_helper(volume.id);
        let from = if source.snapshot.is_some() {
            from.clone()
        } else {
            self.still(time, look, volume, source, from, &helper)?
        };
        if found.is_none() {
            let mut options = volume.options.clone();
            options.size = Some(options.size.unwrap_or(Size::of_bytes(bytes)));
            options.layout = Some(options.layout.unwrap_or(Layout::Linear));
            let fresh = Volume {
                id: volume.id,
                options,
            };
            self.allocate(time, look, &fresh, &[])?;
        }
        let (look, target) = self.unfinished(time, volume)?;
        self.copy(call, &from, bytes, &target)?;
        match look.named(&helper) {
            Some(helper) => self.lvremove(time, &helper.name),
            None => Ok(()),
        }
    }

    /// A snapshot of the source that lasts as long as the copying.
    fn still(
        &self,
        time: Time<'_>,
        look: &Look,
        volume: &Volume<VolumeOptions>,
        source: &CloneSource<VolumeOptions>,
        from: &Logical,
        helper: &str,
    ) -> Result<Logical> {
        let usable = look
            .named(helper)
            .filter(|l| l.is_thick_snapshot() && !l.invalid);
        if let Some(there) = usable {
            return Ok(there.clone());
        }
        if look.named(helper).is_some() {
            self.lvremove(time, helper)?;
        }
        let share = source.volume.options.snapshot_share().bytes_of(from.size);
        let size = look.group.rounded(share.max(look.group.extent));
        self.branch(time, look, from, helper, &[], Branch::Thick(size))?;
        // What an earlier attempt has copied may be of another moment.
        if let Ok((_, target)) = self.unfinished(time, volume) {
            let (_, old) = stamp::copied_of(&target);
            let old: Vec<&str> = old.iter().map(String::as_str).collect();
            self.tag(time, &target.name, &[], &old)?;
        }
        let all = self.lvm.logicals(time, &self.group.name)?;
        all.into_iter()
            .find(|l| l.name == helper)
            .ok_or_else(|| Error::internal(format!("the snapshot {helper} is gone")))
    }

    /// The clone's logical volume, which is not ready.
    fn unfinished(
        &self,
        time: Time<'_>,
        volume: &Volume<VolumeOptions>,
    ) -> Result<(Look, Logical)> {
        let mut look = self.look(time)?;
        let found = self.find(time, &mut look, volume)?;
        let found = found.ok_or_else(|| {
            Error::not_found(format!(
                "the logical volume {}",
                stamp::name_of_volume(volume.id)
            ))
            .remedy("it is made again by itself")
        })?;
        Ok((look, found))
    }

    /// Copies byte by byte, and notes how far it is.
    fn copy(&self, call: &Call, from: &Logical, bytes: u64, to: &Logical) -> Result<()> {
        let time = Time::Of(call);
        self.ensure_active(time, from)?;
        self.ensure_active(time, to)?;
        // The size of a thick snapshot is that of what it has kept.
        let whole = bytes.div_ceil(1 << 20);
        let (mut done, mut noted) = stamp::copied_of(to);
        let what = format!(
            "cannot copy {} to {}",
            self.full(&from.name),
            self.full(&to.name)
        );
        while done < whole {
            #[expect(clippy::cast_precision_loss, reason = "a share of progress")]
            let share = done as f32 / whole as f32;
            call.progress("copying", Some(share));
            // A dd that a killed plugin host has left must not write beside this one: it is killed,
            // too, but may still be in the kernel.
            Command::new(&self.lvm.programs.flock)
                .args(["--exclusive", "--no-fork", "--"])
                .arg(&to.node)
                .arg(&self.lvm.programs.dd)
                .arg(format!("if={}", from.node.display()))
                .arg(format!("of={}", to.node.display()))
                .args([
                    "bs=1M",
                    "iflag=fullblock",
                    "conv=notrunc,fdatasync",
                    "status=none",
                ])
                .args([
                    format!("skip={done}"),
                    format!("seek={done}"),
                    format!("count={STEP}"),
                ])
                .deadline(time.left())
                .run()
                .map_err(|failed| message::explain(&failed, &what))?;
            done = (done + STEP).min(whole);
            let mark = stamp::copied(done);
            let old: Vec<&str> = noted
                .iter()
                .map(String::as_str)
                .filter(|t| *t != mark)
                .collect();
            self.tag(time, &to.name, &[&mark], &old)?;
            noted = vec![mark];
        }
        Ok(())
    }

    /// The copy is whole: gives it an identity and the size that was asked for.
    fn finish_clone(
        &self,
        call: &Call,
        volume: &Volume<VolumeOptions>,
        source: &CloneSource<VolumeOptions>,
        bytes: u64,
    ) -> Result<()> {
        let time = Time::Of(call);
        let (look, clone) = self.unfinished(time, volume)?;
        let keyed = self.keyed(volume, source);
        let (fs, node) = self.content(time, &keyed, &clone)?;
        if fs == FileSystem::Btrfs {
            self.new_identity(time, &node)?;
        }
        let (_, marks) = stamp::copied_of(&clone);
        let marks: Vec<&str> = marks.iter().map(String::as_str).collect();
        let grown = match volume.options.size {
            Some(size) if look.group.rounded(size.bytes()) > clone.size => {
                self.extend_to(time, &look, &clone, size)?;
                true
            }
            _ => false,
        };
        // One that was made larger than its source, maybe by an attempt that was cut off, has a file
        // system of the source's size. Others are not asked: Linux lets no btrfs below 256 MiB grow,
        // not even by nothing.
        if grown || clone.size > bytes {
            self.grow_file_system(time, &keyed, &clone)?;
        }
        self.tag(time, &clone.name, &[stamp::READY], &marks)
    }

    /// The clone with the key of its source.
    fn keyed(
        &self,
        volume: &Volume<VolumeOptions>,
        source: &CloneSource<VolumeOptions>,
    ) -> Volume<VolumeOptions> {
        let mut keyed = volume.clone();
        if keyed.options.key.is_none() {
            keyed.options.key.clone_from(&source.volume.options.key);
        }
        keyed
    }

    /// The kernel takes two btrfs of the same UUID for one.
    fn new_identity(&self, time: Time<'_>, node: &std::path::Path) -> Result<()> {
        Command::new(&self.lvm.programs.btrfstune)
            .args(["-f", "-m"])
            .arg(node)
            .deadline(time.left())
            .run()
            .map(drop)
            .map_err(|failed| {
                message::explain(&failed, "cannot give the clone an identity of its own")
            })
    }

    fn same_size(&self, look: &Look, found: &Logical, options: &VolumeOptions) -> Result<()> {
        match options.size {
            Some(size) if look.group.rounded(size.bytes()) > found.size => {
                let what = format!("the logical volume {} exists", self.full(&found.name));
                let (has, wanted) = (readable(found.size), readable(size.bytes()));
                Err(Error::new(ErrorKind::AlreadyExists, what)
                    .cause(format!("its size is {has}, not {wanted}"))
                    .remedy("ask for what it has, or choose another name"))
            }
            _ => Ok(()),
        }
    }
}

/// A clone is what its source is.
fn refuse_own_shape(volume: &Volume<VolumeOptions>) -> Result<()> {
    match &volume.options.logical_volume {
        Some(name) => Err(Error::invalid(format!("logical_volume: {name}"))
            .cause("a clone is made, and this one is there already")
            .remedy("leave it out")),
        None => Ok(()),
    }
}

#[cfg(test)]
#[path = "copy_tests.rs"]
mod tests;
