//! Volumes: logical volumes with a file system, made, found again and removed.

use std::fs;
use std::path::{Path, PathBuf};

use lazarette_plugin::command::Command;
use lazarette_plugin::{
    Call, Created, Error, ErrorKind, Mounted, Removed, Result, Volume, VolumeId, quoted,
};

use crate::context::Inner;
use crate::file_system::FileSystem;
use crate::lvm::Time;
use crate::options::{Layout, VolumeOptions};
use crate::report::{self, Logical};
use crate::values::readable;
use crate::{devices, encryption, make, message, mounts, stamp};

/// A thin pool takes nothing new from this on, in per cent of its data or its metadata.
const FULL: f64 = 80.0;

/// The logical volumes of a group and the group itself, as they were at one moment.
pub(crate) struct Look {
    pub(crate) group: report::Group,
    pub(crate) all: Vec<Logical>,
}

impl Look {
    /// The logical volume of that name.
    pub(crate) fn named(&self, name: &str) -> Option<&Logical> {
        self.all.iter().find(|l| l.name == name)
    }

    /// What lies beneath the cache of a logical volume that has one, else itself.
    pub(crate) fn beneath<'a>(&'a self, found: &'a Logical) -> &'a Logical {
        let origin = found.is_cached().then(|| self.named(&found.origin));
        origin.flatten().unwrap_or(found)
    }

    /// The one with that tag.
    pub(crate) fn tagged(&self, tag: &str) -> Option<&Logical> {
        self.all.iter().find(|l| l.has_tag(tag))
    }
}

impl Inner {
    /// Looks at the group.
    pub(crate) fn look(&self, time: Time<'_>) -> Result<Look> {
        let (name, uuid) = (&self.group.name, &self.group.uuid);
        let (group, all) = self.lvm.whole(time, name, uuid)?.ok_or_else(|| {
            Error::not_found(format!("the volume group {name} is gone"))
                .remedy("plug its devices in again; laz status shows what is missing")
        })?;
        Ok(Look { group, all })
    }

    /// `VG/LV`, as LVM's tools take it.
    pub(crate) fn full(&self, name: &str) -> String {
        format!("{}/{name}", self.group.name)
    }

    /// The volume's logical volume. Finishes a rollback that was interrupted when the old one was
    /// gone and the new one did not have its name yet.
    pub(crate) fn find(
        &self,
        time: Time<'_>,
        look: &mut Look,
        volume: &Volume<VolumeOptions>,
    ) -> Result<Option<Logical>> {
        let tag = stamp::of_volume(volume.id);
        let name = match &volume.options.logical_volume {
            Some(name) => name.as_str().to_owned(),
            None => stamp::name_of_volume(volume.id),
        };
        let helper = stamp::name_of_helper(volume.id);
        let successor = look.named(&helper).filter(|l| l.has_tag(&tag)).cloned();
        if let Some(successor) = successor
            && look.named(&name).is_none()
        {
            let what = format!("cannot name {} after the volume", successor.name);
            let words = ["lvrename", "--", &self.group.name, &helper, &name];
            self.lvm.run(time, &what, &words)?;
            look.all = self.lvm.logicals(time, &self.group.name)?;
        }
        Ok(look.named(&name).cloned())
    }

    /// Like [`find`](Self::find), for volumes that must be there and complete.
    pub(crate) fn existing(
        &self,
        time: Time<'_>,
        volume: &Volume<VolumeOptions>,
    ) -> Result<(Look, Logical)> {
        let mut look = self.look(time)?;
        let found = self.existing_in(time, &mut look, volume)?;
        Ok((look, found))
    }

    /// Like [`existing`](Self::existing), without looking.
    pub(crate) fn existing_in(
        &self,
        time: Time<'_>,
        look: &mut Look,
        volume: &Volume<VolumeOptions>,
    ) -> Result<Logical> {
        let Some(found) = self.find(time, look, volume)? else {
            return Err(self.absent(look, volume));
        };
        if volume.options.logical_volume.is_none() && !found.has_tag(stamp::READY) {
            let what = format!(
                "the logical volume {} is not complete",
                self.full(&found.name)
            );
            return Err(Error::new(ErrorKind::NotFound, what)
                .cause("its making was interrupted")
                .remedy("it is made again by itself; or remove the volume"));
        }
        Ok(found)
    }

    fn absent(&self, look: &Look, volume: &Volume<VolumeOptions>) -> Error {
        let name = match &volume.options.logical_volume {
            Some(name) => name.as_str().to_owned(),
            None => stamp::name_of_volume(volume.id),
        };
        let missing = match look.group.missing {
            0 => "",
            _ => ", and devices of the volume group are missing",
        };
        Error::not_found(format!("the logical volume {}", self.full(&name)))
            .cause(format!("there is none of that name{missing}"))
            .remedy("lvs shows what there is; it may have been removed by hand")
    }

    /// Makes the volume, or finds it made.
    pub(crate) fn create(&self, call: &Call, volume: &Volume<VolumeOptions>) -> Result<Created> {
        let time = Time::Of(call);
        let options = &volume.options;
        options.check(&self.config)?;
        let _turn = self.turns.take(call, volume.id)?;
        let mut look = self.look(time)?;
        if let Some(found) = self.find(time, &mut look, volume)? {
            self.same(&look, &found, options)?;
            if options.logical_volume.is_some() {
                return self.take_over(time, &found, options);
            }
            if found.has_tag(stamp::READY) {
                self.same_file_system(time, &found, options)?;
                return Ok(Created::AlreadyExists);
            }
            call.progress("finishing what was interrupted", None);
            self.ensure_active(time, &found)?;
            self.fill(time, volume, &found.node)?;
            return Ok(Created::Created);
        }
        if options.logical_volume.is_some() {
            return Err(self.absent(&look, volume));
        }
        self.allocate(time, &look, volume, &[])?;
        // What lvcreate has made is active.
        let name = stamp::name_of_volume(volume.id);
        let node = self.lvm.node(&self.group.name, &name);
        if !node.exists() {
            self.activate(time, &name)?;
        }
        self.fill(time, volume, &node)?;
        Ok(Created::Created)
    }

    /// Makes the logical volume without anything on it.
    pub(crate) fn allocate(
        &self,
        time: Time<'_>,
        look: &Look,
        volume: &Volume<VolumeOptions>,
        tags: &[String],
    ) -> Result<()> {
        let options = &volume.options;
        let Some(size) = options.size else {
            return Err(Error::invalid("the volume has no size")
                .remedy("say how large it is to be: size: 20G"));
        };
        let fs = options.file_system();
        if size.bytes() < fs.least_bytes() {
            return Err(Error::invalid(format!("size: {size}"))
                .cause(format!(
                    "{} needs {} at least",
                    fs.name(),
                    readable(fs.least_bytes())
                ))
                .remedy("make it larger"));
        }
        let layout = options.layout(self.config.thin_pool.as_ref());
        let pool = self.pool_name(options);
        if let (Layout::Thin, Some(pool)) = (layout, &pool) {
            self.refuse_full(look, pool)?;
        }
        let name = stamp::name_of_volume(volume.id);
        let mut all_tags = vec![stamp::of_volume(volume.id)];
        all_tags.extend(tags.iter().cloned());
        all_tags.extend(options.tags.iter().map(|t| t.as_str().to_owned()));
        let words = make::lvcreate(
            &self.group.name,
            &name,
            layout,
            pool.as_deref(),
            options,
            &all_tags,
        );
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.lvm.run(
            time,
            &format!("cannot make a logical volume of {size}"),
            &words,
        )
    }

    /// The thin pool of a volume with `options`.
    fn pool_name(&self, options: &VolumeOptions) -> Option<String> {
        let own = options.pool.as_ref();
        let context = self.config.thin_pool.as_ref().map(|p| &p.name);
        own.or(context).map(|name| name.as_str().to_owned())
    }

    /// Refuses to put anything new into a thin pool that is nearly full.
    pub(crate) fn refuse_full(&self, look: &Look, pool: &str) -> Result<()> {
        let Some(found) = look.named(pool).filter(|l| l.is_pool()) else {
            return Err(
                Error::not_found(format!("the thin pool {}", self.full(pool)))
                    .cause("there is none of that name")
                    .remedy("make it: thin_pool: {name: pool, size: 80%} in the context"),
            );
        };
        let shares = [("data", found.data), ("metadata", found.metadata)];
        for (what, share) in shares {
            if let Some(share) = share.filter(|s| *s >= FULL) {
                return Err(Error::new(
                    ErrorKind::NoSpace,
                    format!("the thin pool {} takes nothing new", self.full(pool)),
                )
                .cause(format!("its {what} are {share:.1} % full; from {FULL} % on it may run full under those it has"))
                .remedy("extend it (laz pool extend CONTEXT), or remove volumes or snapshots"));
            }
        }
        Ok(())
    }

    /// Puts a file system on the active logical volume that was made for `volume` and has none yet.
    pub(crate) fn fill(
        &self,
        time: Time<'_>,
        volume: &Volume<VolumeOptions>,
        node: &Path,
    ) -> Result<()> {
        let options = &volume.options;
        let device = match &options.key {
            Some(key) => encryption::make(self, time, volume.id, node, key)?,
            None => node.to_owned(),
        };
        make::file_system(&self.lvm.programs, time, &device, options)?;
        let name = stamp::name_of_volume(volume.id);
        self.tag(time, &name, &[stamp::READY], &[])
    }

    /// Adds tags to a logical volume and takes others off it.
    pub(crate) fn tag(
        &self,
        time: Time<'_>,
        name: &str,
        added: &[&str],
        removed: &[&str],
    ) -> Result<()> {
        if added.is_empty() && removed.is_empty() {
            return Ok(());
        }
        let full = self.full(name);
        let mut words = vec!["lvchange"];
        words.extend(added.iter().flat_map(|tag| ["--addtag", tag]));
        words.extend(removed.iter().flat_map(|tag| ["--deltag", tag]));
        words.extend(["--", &full]);
        self.lvm.run(time, &format!("cannot tag {full}"), &words)
    }

    /// Activates a logical volume that is not.
    pub(crate) fn ensure_active(&self, time: Time<'_>, found: &Logical) -> Result<()> {
        if found.health.contains("partial") && !found.is_redundant() {
            let what = format!("the logical volume {}", self.full(&found.name));
            return Err(Error::new(ErrorKind::Unreachable, what)
                .cause("it lies on a missing device")
                .remedy("plug that in again; laz status says which it is"));
        }
        if found.active && found.node.exists() {
            return Ok(());
        }
        self.activate(time, &found.name)
    }

    fn activate(&self, time: Time<'_>, name: &str) -> Result<()> {
        let full = self.full(name);
        let words = [
            "lvchange",
            "--activate",
            "y",
            "--ignoreactivationskip",
            "--",
            &full,
        ];
        self.lvm
            .run(time, &format!("cannot activate {full}"), &words)
    }

    /// Takes over a logical volume that is there already, and leaves no trace on it.
    fn take_over(
        &self,
        time: Time<'_>,
        found: &Logical,
        options: &VolumeOptions,
    ) -> Result<Created> {
        if !found.is_public() || found.is_pool() || found.is_thick_snapshot() {
            return Err(
                Error::invalid(format!("the logical volume {}", self.full(&found.name)))
                    .cause(format!(
                        "it is no volume of its own: {}",
                        found.role.join(", ")
                    ))
                    .remedy("name one with a file system on it"),
            );
        }
        if stamp::is_ours(found) {
            return Err(
                Error::invalid(format!("the logical volume {}", self.full(&found.name)))
                    .cause("it was made for another volume")
                    .remedy("use that volume, or a clone of it"),
            );
        }
        self.same_file_system(time, found, options)?;
        Ok(Created::AlreadyExists)
    }

    /// Refuses a logical volume that is not what the options ask for.
    fn same(&self, look: &Look, found: &Logical, options: &VolumeOptions) -> Result<()> {
        let differs = |option: &str, has: String, wanted: String| {
            let what = format!("the logical volume {} exists", self.full(&found.name));
            Err(Error::new(ErrorKind::AlreadyExists, what)
                .cause(format!("its {option} is {has}, not {wanted}"))
                .remedy("ask for what it has, or choose another name"))
        };
        if let Some(size) = options.size {
            let least = look.group.rounded(size.bytes());
            // Stripes are filled up to whole ones.
            let most = least + look.group.extent * u64::from(options.stripes.unwrap_or(4));
            if found.size < least || found.size >= most.max(least + 1) {
                return differs("size", readable(found.size), readable(size.bytes()));
            }
        }
        let wanted = options.layout.map(Layout::name);
        let layout = &look.beneath(found).layout;
        if let Some(wanted) = wanted.filter(|w| !layout.iter().any(|l| l == w)) {
            return differs("type", layout.join(","), wanted.to_owned());
        }
        Ok(())
    }

    /// Refuses a file system that is not what the options ask for.
    fn same_file_system(
        &self,
        time: Time<'_>,
        found: &Logical,
        options: &VolumeOptions,
    ) -> Result<()> {
        self.ensure_active(time, found)?;
        let kind = self.kind_on(time, &found.node)?;
        if options.key.is_some() || kind == encryption::KIND {
            return encryption::expect(&found.node, &kind, options.key.as_ref());
        }
        let Some(fs) = FileSystem::of_name(&kind) else {
            return Err(unmountable(&found.node, &kind));
        };
        match options.fs {
            Some(wanted) if wanted != fs => {
                let what = format!("the logical volume {} exists", self.full(&found.name));
                Err(Error::new(ErrorKind::AlreadyExists, what)
                    .cause(format!(
                        "its file system is {}, not {}",
                        fs.name(),
                        wanted.name()
                    ))
                    .remedy("ask for what it has, or choose another name"))
            }
            _ => Ok(()),
        }
    }

    /// What is on a device, as blkid names it; empty for nothing that is known.
    pub(crate) fn kind_on(&self, time: Time<'_>, node: &Path) -> Result<String> {
        let found = devices::probe(&self.lvm.programs, time, &[node.to_owned()])?;
        Ok(found.into_iter().next().map(|p| p.kind).unwrap_or_default())
    }

    /// The device with the volume's file system, and which one it is.
    pub(crate) fn content(
        &self,
        time: Time<'_>,
        volume: &Volume<VolumeOptions>,
        found: &Logical,
    ) -> Result<(FileSystem, PathBuf)> {
        self.ensure_active(time, found)?;
        let mut node = found.node.clone();
        let mut kind = self.kind_on(time, &node)?;
        if kind == encryption::KIND {
            let key = volume.options.key.as_ref();
            node = encryption::open(self, time, volume.id, &node, key)?;
            kind = self.kind_on(time, &node)?;
        } else if volume.options.key.is_some() {
            encryption::expect(&node, &kind, volume.options.key.as_ref())?;
        }
        let fs = FileSystem::of_name(&kind).ok_or_else(|| unmountable(&node, &kind))?;
        Ok((fs, node))
    }

    /// Mounts the volume in this container.
    pub(crate) fn mount(&self, call: &Call, volume: &Volume<VolumeOptions>) -> Result<Mounted> {
        let time = Time::Of(call);
        let _turn = self.turns.take(call, volume.id)?;
        let (_, found) = self.existing(time, volume)?;
        self.mount_found(time, volume, &found)
    }

    pub(crate) fn mount_found(
        &self,
        time: Time<'_>,
        volume: &Volume<VolumeOptions>,
        found: &Logical,
    ) -> Result<Mounted> {
        if stamp::is_rolled_back(found) {
            let what = format!("the logical volume {}", self.full(&found.name));
            return Err(Error::new(ErrorKind::Busy, what)
                .cause("it is being brought back to a snapshot")
                .remedy("roll it back again, which goes on where it was"));
        }
        let (fs, node) = self.content(time, volume, found)?;
        let path = mounts::place(&self.host, volume.id);
        mounts::mount(&self.lvm.programs, time, (fs, &node), &path, found.writable)?;
        if fs == FileSystem::Ext4 && volume.options.logical_volume.is_none() {
            // Programs that want an empty directory (databases) get one. e2fsck makes it again
            // when it needs it; a directory with something in it stays.
            let _ = fs::remove_dir(path.join("lost+found"));
        }
        Ok(Mounted {
            path,
            subdirectory: None,
            fs_type: fs.name().into(),
            source: node.display().to_string(),
        })
    }

    /// Lets go of the mount in this container.
    pub(crate) fn unmount(&self, id: VolumeId) -> Result<()> {
        mounts::unmount(&mounts::place(&self.host, id))
    }

    /// Removes the volume with its data, or lets go of one that was taken over.
    pub(crate) fn remove(&self, call: &Call, volume: &Volume<VolumeOptions>) -> Result<Removed> {
        let time = Time::Of(call);
        let _turn = self.turns.take(call, volume.id)?;
        self.unmount(volume.id)?;
        let mut look = self.look(time)?;
        let found = self.find(time, &mut look, volume)?;
        encryption::close(self, time, volume.id)?;
        self.remove_helper(time, &look, volume.id)?;
        let Some(found) = found else {
            return Ok(Removed::AlreadyAbsent);
        };
        let stolen = volume.options.logical_volume.is_some() && stamp::is_ours(&found);
        if stolen || !volume.options.is_deleted() {
            let own = format!("[{}_cvol]", stamp::name_of_cache(volume.id));
            if found.is_cached() && found.pool == own {
                self.flush(time, &found)?;
            }
            return Ok(Removed::AlreadyAbsent);
        }
        self.refuse_origin(&look, volume.id, &found)?;
        if volume.options.wipe_on_remove == Some(true) && !found.is_thin() {
            self.wipe(call, &found)?;
        }
        self.lvremove(time, &found.name)?;
        Ok(Removed::Removed)
    }

    /// Removes what is left of an interrupted rollback, clone or cache.
    pub(crate) fn remove_helper(&self, time: Time<'_>, look: &Look, id: VolumeId) -> Result<()> {
        let names = [stamp::name_of_helper(id), stamp::name_of_cache(id)];
        for left in names.iter().filter_map(|name| look.named(name)) {
            self.lvremove(time, &left.name)?;
        }
        Ok(())
    }

    pub(crate) fn lvremove(&self, time: Time<'_>, name: &str) -> Result<()> {
        let full = self.full(name);
        let what = format!("cannot remove the logical volume {full}");
        match self
            .lvm
            .run(time, &what, &["lvremove", "--yes", "--", &full])
        {
            Err(error) if error.kind == ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// With a thick origin its snapshots go: that must be said before.
    fn refuse_origin(&self, look: &Look, id: VolumeId, found: &Logical) -> Result<()> {
        let depends = |l: &&Logical| {
            stamp::origin_of(l) == Some(id) || (l.is_thick_snapshot() && l.origin == found.name)
        };
        let names: Vec<&str> = look
            .all
            .iter()
            .filter(depends)
            .map(|l| l.name.as_str())
            .collect();
        if names.is_empty() {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Busy,
            format!(
                "the logical volume {} has snapshots",
                self.full(&found.name)
            ),
        )
        .cause(names.join(", "))
        .remedy("remove them first"))
    }

    /// Overwrites all of it with zeros.
    fn wipe(&self, call: &Call, found: &Logical) -> Result<()> {
        let time = Time::Of(call);
        let what = format!("cannot overwrite {}", self.full(&found.name));
        self.ensure_active(time, found)?;
        if devices::is_held(&found.node)? {
            return Err(Error::new(ErrorKind::Busy, what)
                .cause("it is in use")
                .remedy("stop what uses it"));
        }
        call.progress("overwriting it with zeros", None);
        Command::new(&self.lvm.programs.blkdiscard)
            .args(["--zeroout", "--"])
            .arg(&found.node)
            .deadline(time.left())
            .run()
            .map(drop)
            .map_err(|failed| message::explain(&failed, &what))
    }
}

/// What is on `node` cannot be mounted.
pub(crate) fn unmountable(node: &Path, kind: &str) -> Error {
    let cause = match kind {
        "" => "there is no file system on it".to_owned(),
        other => format!("there is {} on it", quoted(other)),
    };
    Error::invalid(format!("{} cannot be mounted", node.display()))
        .cause(cause)
        .remedy("it must be ext4, ext3, XFS or btrfs")
}

#[cfg(test)]
#[path = "volume_tests.rs"]
mod tests;
