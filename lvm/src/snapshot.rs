//! Snapshots: taken, removed, and brought back. The snapshot stays when a volume is brought back
//! to it.

use lazarette_plugin::{Call, Created, Error, ErrorKind, Removed, Result, SnapshotId, Volume};

use crate::context::Inner;
use crate::lvm::Time;
use crate::options::VolumeOptions;
use crate::report::Logical;
use crate::values::Size;
use crate::volume::Look;
use crate::{cache, encryption, stamp};

/// What a snapshot is to be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Branch {
    /// With so many bytes of its own for what changes.
    Thick(u64),
    /// Thin, and not active: it is only kept.
    Still,
    /// Thin and active: it is written to.
    Lively,
}

impl Inner {
    /// Takes a snapshot. What is written at this moment waits, and the file system is whole in it.
    pub(crate) fn snapshot(
        &self,
        call: &Call,
        volume: &Volume<VolumeOptions>,
        id: SnapshotId,
    ) -> Result<Created> {
        let time = Time::Of(call);
        let _turn = self.turns.take(call, volume.id)?;
        let (look, found) = self.existing(time, volume)?;
        if let Some(there) = look.tagged(&stamp::of_snapshot(id)) {
            if there.is_thin() || there.is_thick_snapshot() {
                return Ok(Created::AlreadyExists);
            }
            // What an interrupted attempt has left: space for a snapshot that is none yet.
            self.lvremove(time, &there.name)?;
        }
        self.take(time, &look, volume, &found, id)?;
        Ok(Created::Created)
    }

    fn take(
        &self,
        time: Time<'_>,
        look: &Look,
        volume: &Volume<VolumeOptions>,
        found: &Logical,
        id: SnapshotId,
    ) -> Result<()> {
        let tags = [stamp::of_snapshot(id), stamp::origin(volume.id)];
        let name = stamp::name_of_snapshot(id);
        let shape = if found.is_thin() {
            Branch::Still
        } else {
            let share = volume.options.snapshot_share();
            let bytes = share.bytes_of(found.size).max(look.group.extent);
            Branch::Thick(look.group.rounded(bytes))
        };
        self.branch(time, look, found, &name, &tags, shape)
    }

    /// Makes a snapshot of `found`.
    pub(crate) fn branch(
        &self,
        time: Time<'_>,
        look: &Look,
        found: &Logical,
        name: &str,
        tags: &[String],
        shape: Branch,
    ) -> Result<()> {
        let full = self.full(&found.name);
        cache::refuse_cached(found, &format!("cannot take a snapshot of {full}"))?;
        let size = match shape {
            Branch::Thick(bytes) => Some(format!("{bytes}b")),
            Branch::Still | Branch::Lively => None,
        };
        let mut words = vec!["lvcreate", "--yes", "--snapshot", "--name", name];
        match &size {
            Some(size) => words.extend(["--size", size]),
            None => self.refuse_full(look, &found.pool)?,
        }
        if matches!(shape, Branch::Lively) {
            words.extend(["--setactivationskip", "n"]);
        }
        words.extend(tags.iter().flat_map(|tag| ["--addtag", tag.as_str()]));
        words.extend(["--", &full]);
        self.lvm
            .run(time, &format!("cannot take a snapshot of {full}"), &words)
    }

    /// Removes a snapshot. Clones that were made of it live on.
    pub(crate) fn remove_snapshot(
        &self,
        call: &Call,
        volume: &Volume<VolumeOptions>,
        id: SnapshotId,
    ) -> Result<Removed> {
        let time = Time::Of(call);
        let _turn = self.turns.take(call, volume.id)?;
        let look = self.look(time)?;
        let Some(found) = look.tagged(&stamp::of_snapshot(id)) else {
            return Ok(Removed::AlreadyAbsent);
        };
        self.lvremove(time, &found.name)?;
        Ok(Removed::Removed)
    }

    /// Brings the volume back to a snapshot.
    pub(crate) fn rollback(
        &self,
        call: &Call,
        volume: &Volume<VolumeOptions>,
        id: SnapshotId,
    ) -> Result<()> {
        let time = Time::Of(call);
        let _turn = self.turns.take(call, volume.id)?;
        self.unmount(volume.id)?;
        encryption::close(self, time, volume.id)?;
        let (look, found) = self.existing(time, volume)?;
        let snapshot = look.tagged(&stamp::of_snapshot(id)).cloned();
        let resumed = found.has_tag(&stamp::rollback(id));
        if found.is_thin() {
            let snapshot = snapshot.ok_or_else(|| self.no_snapshot(&found, id))?;
            self.refuse_open(&found)?;
            self.replace(time, &look, volume, &found, &snapshot)?;
            // One that was interrupted here has left a volume of the snapshot's size: then the
            // options tell what it had grown to.
            let asked = volume.options.size.map_or(0, Size::bytes);
            let before = found.size.max(look.group.rounded(asked));
            // A branch is as large as what it is one of.
            return match snapshot.size < before {
                true => self.keep_size(time, volume, before),
                false => Ok(()),
            };
        }
        match &snapshot {
            None if !resumed => return Err(self.no_snapshot(&found, id)),
            Some(full) if full.invalid => {
                return Err(Error::new(
                    ErrorKind::NoSpace,
                    format!("the snapshot {} is lost", self.full(&full.name)),
                )
                .cause("it ran full: more was written to the volume than it had space for")
                .remedy("remove it; give the next ones more: snapshot_size"));
            }
            _ => {}
        }
        self.refuse_open(&found)?;
        self.merge(call, volume, &found, snapshot.as_ref(), id)
    }

    fn no_snapshot(&self, found: &Logical, id: SnapshotId) -> Error {
        let what = format!("the snapshot {id} of {}", self.full(&found.name));
        Error::not_found(what)
            .cause("there is no logical volume with its tag")
            .remedy("lvs -o +tags shows what there is; it may have been removed by hand")
    }

    fn refuse_open(&self, found: &Logical) -> Result<()> {
        if !found.open {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Busy,
            format!("{} cannot be brought back", self.full(&found.name)),
        )
        .cause("it is in use")
        .remedy("stop the containers that use it"))
    }

    /// Thin: a branch of the snapshot takes the volume's place. It has the volume's tags from the
    /// beginning, so that whatever moment this ends at, one of both is found as the volume.
    fn replace(
        &self,
        time: Time<'_>,
        look: &Look,
        volume: &Volume<VolumeOptions>,
        found: &Logical,
        snapshot: &Logical,
    ) -> Result<()> {
        let helper = stamp::name_of_helper(volume.id);
        if look.named(&helper).is_some() {
            self.lvremove(time, &helper)?;
        }
        let mut tags = found.tags.clone();
        let own = stamp::of_volume(volume.id);
        if !tags.contains(&own) {
            tags.push(own);
        }
        self.branch(time, look, snapshot, &helper, &tags, Branch::Lively)?;
        let full = self.full(&helper);
        self.lvremove(time, &found.name)?;
        let words = ["lvrename", "--", &self.group.name, &helper, &found.name];
        self.lvm.run(
            time,
            &format!("cannot name {full} after the volume"),
            &words,
        )
    }

    /// A volume that has grown since the snapshot has the snapshot's size now: it gets its own back.
    fn keep_size(&self, time: Time<'_>, volume: &Volume<VolumeOptions>, before: u64) -> Result<()> {
        let (look, now) = self.existing(time, volume)?;
        if now.size >= before {
            return Ok(());
        }
        self.extend_to(time, &look, &now, Size::of_bytes(before))?;
        self.grow_file_system(time, volume, &now)
    }

    /// Thick: LVM copies back what the snapshot has kept, and the snapshot is gone when it is
    /// done. It is taken anew at once, before anybody writes.
    fn merge(
        &self,
        call: &Call,
        volume: &Volume<VolumeOptions>,
        found: &Logical,
        snapshot: Option<&Logical>,
        id: SnapshotId,
    ) -> Result<()> {
        let time = Time::Of(call);
        let mark = stamp::rollback(id);
        if !found.has_tag(&mark) {
            self.tag(time, &found.name, &[&mark], &[])?;
        }
        call.progress("copying back what the snapshot has kept", None);
        if let Some(snapshot) = snapshot {
            let full = self.full(&snapshot.name);
            let what = format!("cannot bring back {full}");
            if !snapshot.merging {
                self.lvm
                    .run(time, &what, &["lvconvert", "--merge", "--yes", "--", &full])?;
            }
        }
        let (look, found) = self.await_merge(call, volume, id)?;
        if look.tagged(&stamp::of_snapshot(id)).is_none() {
            self.take(time, &look, volume, &found, id)?;
        }
        self.tag(time, &found.name, &[], &[&mark])
    }

    /// Waits until nothing is merged into the volume any more. The group and the volume then.
    fn await_merge(
        &self,
        call: &Call,
        volume: &Volume<VolumeOptions>,
        id: SnapshotId,
    ) -> Result<(Look, Logical)> {
        let time = Time::Of(call);
        loop {
            let (look, found) = self.existing(time, volume)?;
            let merging = look
                .tagged(&stamp::of_snapshot(id))
                .is_some_and(|l| l.merging);
            if !merging && !found.merging {
                return Ok((look, found));
            }
            call.check()?;
            let full = self.full(&found.name);
            self.ensure_active(time, &found)?;
            // Nobody else polls: a killed command leaves a merge that goes on but never ends.
            let words = ["lvchange", "--poll", "y", "--", &full];
            self.lvm.run(
                time,
                &format!("cannot finish the merge into {full}"),
                &words,
            )?;
            std::thread::sleep(std::time::Duration::from_millis(500).min(time.left()));
        }
    }
}

#[cfg(test)]
#[path = "snapshot_tests.rs"]
mod tests;
