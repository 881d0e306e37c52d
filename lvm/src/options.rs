//! What is configured: the volume group, and a volume's own options.

use lazarette_plugin::values::without_null;
use lazarette_plugin::{Error, JsonSchema, Result, quoted};
use serde::{Deserialize, Serialize};

use crate::file_system::FileSystem;
use crate::values::{DevicePath, GroupUuid, Label, LvmName, SecretName, Size, SizeOrShare, Tag};

/// Options of a context: a volume group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = without_null)]
pub struct Config {
    /// The volume group's name.
    pub volume_group: LvmName,
    /// Its UUID, where several volume groups have that name, or to be sure that it is this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<GroupUuid>,
    /// The devices that it lies on, by stable paths (/dev/disk/by-id/…). No other device is looked
    /// at; without them all are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<DevicePath>,
    /// Whether the volume group is made on `devices` if there is none; they must be blank.
    #[serde(default)]
    pub create: bool,
    /// Whether it may be made on devices that are not blank. What is on them is lost.
    #[serde(default)]
    pub wipe: bool,
    /// The thin pool that thin volumes lie in; made if it has a size and is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thin_pool: Option<ThinPool>,
    /// When thin pools and thick snapshots grow by themselves; without it they don't.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoextend: Option<Autoextend>,
    /// The logical volumes that are there already and are mounted at /mnt/CONTEXT/NAME.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<LvmName>,
}

/// A thin pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = without_null)]
pub struct ThinPool {
    /// Its name.
    pub name: LvmName,
    /// How large it is made: a size, or a share of the volume group's free space (80%).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<SizeOrShare>,
    /// How large its metadata are made; LVM chooses if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata_size: Option<Size>,
    /// The unit in which it gives out space, 64K to 1G; LVM chooses if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunk_size: Option<Size>,
}

/// When something grows by itself, and by how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Autoextend {
    /// At how many per cent of use it grows.
    #[schemars(range(min = 50, max = 95))]
    pub threshold: u8,
    /// By how many per cent of its size.
    #[schemars(range(min = 1, max = 100))]
    pub by: u8,
}

impl Default for Autoextend {
    fn default() -> Self {
        Self {
            threshold: 70,
            by: 20,
        }
    }
}

impl Config {
    /// What serde cannot see.
    ///
    /// # Errors
    /// `InvalidArgument` saying which options contradict each other.
    pub fn check(&self) -> Result<()> {
        let group = format!("volume group {}", self.volume_group);
        if self.create && self.devices.is_empty() {
            return Err(Error::invalid(group)
                .cause("create: true without devices")
                .remedy("name them: devices: [/dev/disk/by-id/…]"));
        }
        if self.wipe && !self.create {
            return Err(Error::invalid(group)
                .cause("wipe: true without create: true")
                .remedy("leave wipe out, or add create: true if it is to be made"));
        }
        if self.create && self.uuid.is_some() {
            return Err(Error::invalid(group)
                .cause("a volume group that is to be made has no UUID yet")
                .remedy("leave out uuid or create"));
        }
        let mut devices = self.devices.clone();
        devices.sort();
        devices.dedup();
        if devices.len() != self.devices.len() {
            return Err(Error::invalid(group)
                .cause("a device is named twice")
                .remedy("name each device once"));
        }
        if let Some(autoextend) = &self.autoextend
            && !((50..=95).contains(&autoextend.threshold) && (1..=100).contains(&autoextend.by))
        {
            return Err(Error::invalid(format!("{group}: autoextend"))
                .cause("threshold must lie between 50 and 95, by between 1 and 100")
                .remedy("write autoextend: {threshold: 70, by: 20}"));
        }
        let chunk = self.thin_pool.as_ref().and_then(|p| p.chunk_size);
        if chunk.is_some_and(|c| {
            !(64 << 10..=1 << 30).contains(&c.bytes()) || c.bytes() % (64 << 10) != 0
        }) {
            return Err(Error::invalid(format!("{group}: thin_pool: chunk_size"))
                .cause("must be a multiple of 64K from 64K to 1G")
                .remedy("leave it out, or write chunk_size: 256K"));
        }
        Ok(())
    }
}

/// How a logical volume is laid out on the devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Layout {
    /// One piece after the other.
    Linear,
    /// In turns over several devices.
    Striped,
    /// The same on several devices.
    Raid1,
    /// Stripes with parity: one device may be lost.
    Raid5,
    /// Stripes with parity: two devices may be lost.
    Raid6,
    /// In a thin pool: takes space as it is written.
    Thin,
}

impl Layout {
    /// As LVM names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::Striped => "striped",
            Self::Raid1 => "raid1",
            Self::Raid5 => "raid5",
            Self::Raid6 => "raid6",
            Self::Thin => "thin",
        }
    }

    fn is_striped(self) -> bool {
        matches!(self, Self::Striped | Self::Raid5 | Self::Raid6)
    }
}

/// What becomes of a logical volume when its volume is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum OnRemove {
    /// It stays.
    Keep,
    /// It is removed with all that is in it.
    Delete,
}

/// A volume's own options: a logical volume with a file system.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(transform = without_null)]
pub struct VolumeOptions {
    /// How large it is: 20G. Needed for a volume that is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<Size>,
    /// How it is laid out: thin if the context has a thin pool, else linear.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub layout: Option<Layout>,
    /// The thin pool that a thin volume lies in; the context's if it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<LvmName>,
    /// Over how many devices data are spread (striped, raid5, raid6; parity not counted).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2, max = 64))]
    pub stripes: Option<u8>,
    /// How large a stripe's piece on one device is: 64K.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stripe_size: Option<Size>,
    /// How many copies a raid1 has beside the first; 1 if it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 8))]
    pub mirrors: Option<u8>,
    /// The file system that is made: ext4 if it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fs: Option<FileSystem>,
    /// The file system's label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<Label>,
    /// Further options of the file system that is made, as `name=value` (docs/lvm.md has the names).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mkfs_options: Vec<String>,
    /// LVM tags that the logical volume gets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Tag>,
    /// The name of a logical volume that is there already and becomes the volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-lazarette-kept" = true))]
    pub logical_volume: Option<LvmName>,
    /// What becomes of such a logical volume when the volume is removed: it is kept unless told
    /// otherwise. One that was made for the volume is always deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_remove: Option<OnRemove>,
    /// The space that a snapshot of a volume that is not thin may take: 2G, or 20% of the volume
    /// (the default).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_size: Option<SizeOrShare>,
    /// Whether all of it is overwritten with zeros before it is removed. Not for thin volumes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wipe_on_remove: Option<bool>,
    /// Encrypts the volume (LUKS2) with the secret of this name, a file in
    /// /etc/lazarette/secrets/CONTEXT.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<SecretName>,
}

/// The share that a thick snapshot gets unless told otherwise.
const SNAPSHOT_SHARE: SizeOrShare = SizeOrShare::Share(20);

impl VolumeOptions {
    /// The file system that is made.
    pub(crate) fn file_system(&self) -> FileSystem {
        self.fs.unwrap_or(FileSystem::Ext4)
    }

    /// How it is laid out, in a context with `pool` or without.
    pub(crate) fn layout(&self, pool: Option<&ThinPool>) -> Layout {
        let thin = pool.is_some() || self.pool.is_some();
        let usual = if thin { Layout::Thin } else { Layout::Linear };
        self.layout.unwrap_or(usual)
    }

    /// The space that a thick snapshot gets.
    pub(crate) fn snapshot_share(&self) -> SizeOrShare {
        self.snapshot_size.unwrap_or(SNAPSHOT_SHARE)
    }

    /// Whether the logical volume goes with the volume.
    pub(crate) fn is_deleted(&self) -> bool {
        self.logical_volume.is_none() || self.on_remove == Some(OnRemove::Delete)
    }

    /// What serde cannot see.
    ///
    /// # Errors
    /// `InvalidArgument` saying which option does not go with which.
    pub(crate) fn check(&self, context: &Config) -> Result<()> {
        if let Some(name) = &self.logical_volume {
            return self.check_imported(name);
        }
        if self.on_remove == Some(OnRemove::Keep) {
            return Err(Error::invalid("on_remove: keep")
                .cause("the logical volume is made for this volume and goes with it")
                .remedy("leave it out; to keep one, name it: logical_volume: NAME"));
        }
        if self.fs == Some(FileSystem::Ext3) {
            return Err(Error::invalid("fs: ext3")
                .cause("it is only taken over where it is there already")
                .remedy("use ext4, xfs or btrfs"));
        }
        let layout = self.layout(context.thin_pool.as_ref());
        self.check_layout(layout)?;
        if layout == Layout::Thin && self.pool.is_none() && context.thin_pool.is_none() {
            return Err(Error::invalid("type: thin")
                .cause("the context has no thin pool")
                .remedy("set thin_pool: {name: pool, size: 80%} in the context, or pool: NAME"));
        }
        let fs = self.file_system();
        fs.check_label(self.label.as_ref())?;
        fs.mkfs_words(&self.mkfs_options).map(drop)
    }

    fn check_imported(&self, name: &LvmName) -> Result<()> {
        let made = [
            ("type", self.layout.is_some()),
            ("pool", self.pool.is_some()),
            ("stripes", self.stripes.is_some()),
            ("stripe_size", self.stripe_size.is_some()),
            ("mirrors", self.mirrors.is_some()),
            ("label", self.label.is_some()),
            ("mkfs_options", !self.mkfs_options.is_empty()),
        ];
        match made.iter().find(|(_, given)| *given) {
            Some((option, _)) => Err(Error::invalid(format!(
                "{option} of {}",
                quoted(name.as_str())
            ))
            .cause("it is for volumes that are made, and this one is there already")
            .remedy(format!("leave out {option} or logical_volume"))),
            None => Ok(()),
        }
    }

    fn check_layout(&self, layout: Layout) -> Result<()> {
        let refused = |option: &str, for_what: &str| {
            Err(
                Error::invalid(format!("{option} with type: {}", layout.name()))
                    .cause(format!("it is for {for_what}"))
                    .remedy(format!("leave out {option}, or choose another type")),
            )
        };
        if !layout.is_striped() && self.stripes.is_some() {
            return refused("stripes", "striped, raid5 and raid6");
        }
        if !layout.is_striped() && self.stripe_size.is_some() {
            return refused("stripe_size", "striped, raid5 and raid6");
        }
        if layout != Layout::Raid1 && self.mirrors.is_some() {
            return refused("mirrors", "raid1");
        }
        if layout != Layout::Thin && self.pool.is_some() {
            return refused("pool", "thin");
        }
        if layout == Layout::Thin && self.wipe_on_remove == Some(true) {
            return refused(
                "wipe_on_remove",
                "volumes that are not thin: a thin pool never shows old bytes",
            );
        }
        let stripe = self.stripe_size.map(Size::bytes);
        if stripe.is_some_and(|s| !s.is_power_of_two() || !(4 << 10..=4 << 20).contains(&s)) {
            return Err(Error::invalid("stripe_size")
                .cause("must be a power of two from 4K to 4M")
                .remedy("leave it out, or write stripe_size: 64K"));
        }
        if self.stripes.is_some_and(|s| !(2..=64).contains(&s))
            || self.mirrors.is_some_and(|m| !(1..=8).contains(&m))
        {
            return Err(Error::invalid("stripes or mirrors")
                .cause("stripes must lie between 2 and 64, mirrors between 1 and 8")
                .remedy("give a number in that range"));
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;
