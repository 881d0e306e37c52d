//! What is configured: the pool, how to make it if it is not there, and a volume's options.

use lazarette_plugin::schemars::Schema;
use lazarette_plugin::values::without_null;
use lazarette_plugin::{Error, JsonSchema, Result};
use serde::{Deserialize, Serialize};

use crate::values::{
    DatasetName, Device, Guid, Layout, PoolName, Properties, PropertyValue, SecretName, Size,
};

/// A context's options: one pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = without_null)]
pub struct Config {
    /// The pool's name.
    pub pool: PoolName,
    /// The pool's GUID, where several pools have that name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guid: Option<Guid>,
    /// The devices to look for the pool on; all of the machine's if none is named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Device>,
    /// How to make the pool if it is on none of the devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create: Option<Create>,
    /// Import the pool although another machine has not exported it. Take it out again after once.
    #[serde(default)]
    pub force_import: bool,
    /// Which of the pool's own datasets are mounted below `/mnt/CONTEXT`.
    #[serde(default)]
    pub mount: MountOwn,
}

/// Which of the pool's own datasets are mounted without further ado.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum MountOwn {
    /// None.
    #[default]
    None,
    /// All that can be mounted.
    All,
}

/// How a pool is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline, transform = without_null)]
pub struct Create {
    /// How the devices are put together.
    pub layout: Layout,
    /// The data devices, by stable names.
    pub devices: Vec<Device>,
    /// So many devices make one vdev, and the pool is striped over the vdevs; all unless told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<usize>,
    /// Devices for synchronous writes; several are mirrored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<Device>,
    /// Devices for a read cache.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cache: Vec<Device>,
    /// Devices for metadata; several are mirrored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub special: Vec<Device>,
    /// Devices that stand in for failed ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spares: Vec<Device>,
    /// The devices' sector size as a power of two (12: 4 KiB).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 9, max = 16))]
    pub ashift: Option<u8>,
    /// Properties of the pool (zpoolprops(7)).
    #[serde(default)]
    pub properties: Properties,
    /// Properties of its datasets (zfsprops(7)).
    #[serde(default)]
    pub dataset_properties: Properties,
    /// Whether devices that are not blank are wiped; without it they are refused.
    #[serde(default)]
    pub wipe: bool,
}

impl Config {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// `InvalidArgument` saying what does not fit together.
    pub fn check(&self) -> Result<()> {
        self.create.as_ref().map_or(Ok(()), Create::check)
    }

    /// Where the pool may lie: where to look, and what it would be made of.
    pub(crate) fn search(&self) -> Vec<&Device> {
        let made = self.create.iter().flat_map(Create::all);
        let mut all: Vec<&Device> = self.devices.iter().chain(made).collect();
        all.sort();
        all.dedup();
        all
    }
}

impl Create {
    /// All devices that it takes.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Device> {
        [
            &self.devices,
            &self.log,
            &self.cache,
            &self.special,
            &self.spares,
        ]
        .into_iter()
        .flatten()
    }

    fn check(&self) -> Result<()> {
        let width = self.width.unwrap_or(self.devices.len());
        if self.devices.is_empty() || width == 0 || !self.devices.len().is_multiple_of(width) {
            return Err(Error::invalid(format!(
                "create: {} devices do not make vdevs of {width}",
                self.devices.len()
            ))
            .remedy("give as many devices as width times a whole number"));
        }
        if self.layout.word().is_some() && width <= self.layout.redundancy() {
            return Err(
                Error::invalid(format!("create: {} of {width} devices", self.layout)).remedy(
                    format!("give it {} devices or more", self.layout.redundancy() + 1),
                ),
            );
        }
        let mut all: Vec<&Device> = self.all().collect();
        all.sort();
        if let Some(pair) = all.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(
                Error::invalid(format!("create: {} is named twice", pair[0]))
                    .remedy("name each device once"),
            );
        }
        Ok(())
    }

    /// The arguments of `zpool create` that follow the pool's name.
    pub(crate) fn vdevs(&self) -> Vec<String> {
        let mut words = Vec::new();
        let width = self.width.unwrap_or(self.devices.len()).max(1);
        for group in self.devices.chunks(width) {
            words.extend(self.layout.word().map(str::to_owned));
            words.extend(group.iter().map(ToString::to_string));
        }
        let classes = [
            ("special", &self.special, true),
            ("log", &self.log, true),
            ("cache", &self.cache, false),
            ("spare", &self.spares, false),
        ];
        for (class, devices, mirrored) in classes {
            if devices.is_empty() {
                continue;
            }
            words.push(class.to_owned());
            if mirrored && devices.len() > 1 {
                words.push("mirror".to_owned());
            }
            words.extend(devices.iter().map(ToString::to_string));
        }
        words
    }
}

/// What a volume is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum VolumeType {
    /// A ZFS file system.
    Dataset,
    /// A block device of the pool's, with another file system on it.
    Zvol,
}

/// The file system of a zvol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum FileSystem {
    /// ext4.
    Ext4,
    /// XFS; not below 300 MB.
    Xfs,
}

impl FileSystem {
    /// As mount tables name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        }
    }
}

/// What becomes of a dataset that was there before the volume when the volume is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum OnRemove {
    /// It stays.
    Keep,
    /// It is destroyed with its snapshots.
    Delete,
}

/// The form of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum KeyFormat {
    /// 8 to 512 characters.
    Passphrase,
    /// 64 hexadecimal digits.
    Hex,
    /// 32 bytes.
    Raw,
}

impl KeyFormat {
    /// The property's value.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Passphrase => "passphrase",
            Self::Hex => "hex",
            Self::Raw => "raw",
        }
    }
}

/// A volume's own options.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(transform = options_schema)]
pub struct VolumeOptions {
    /// A dataset that exists already, without the pool's name; `.` is the pool's own. Its data
    /// stays when the volume is removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-lazarette-kept" = true))]
    pub dataset: Option<DatasetName>,
    /// What becomes of such a dataset when the volume is removed; `keep` unless told otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_remove: Option<OnRemove>,
    /// A dataset (the default) or a zvol with a file system.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub volume_type: Option<VolumeType>,
    /// A zvol's file system: `ext4` (the default) or `xfs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fs: Option<FileSystem>,
    /// How large it may grow, snapshots not counted (`refquota`); a zvol's size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<Size>,
    /// How large it may grow together with its snapshots.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota: Option<Size>,
    /// How much of the pool is kept for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reservation: Option<Size>,
    /// The largest block: 16K for databases, 1M for large files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recordsize: Option<Size>,
    /// How it is compressed: `lz4`, `zstd`, `off`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compression: Option<PropertyValue>,
    /// Any other properties: an object, or `name=value name=value`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub properties: Option<Properties>,
    /// How it is encrypted: `on`, `aes-256-gcm`, …; needs `key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption: Option<PropertyValue>,
    /// The secret with the key: a file in /etc/lazarette/secrets/CONTEXT.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<SecretName>,
    /// The form of the key; `passphrase` unless told otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_format: Option<KeyFormat>,
}

fn options_schema(schema: &mut Schema) {
    without_null(schema);
}

impl VolumeOptions {
    /// Whether it is a zvol.
    pub(crate) fn is_zvol(&self) -> bool {
        self.volume_type == Some(VolumeType::Zvol)
    }

    /// Whether it takes over what exists.
    pub(crate) fn is_import(&self) -> bool {
        self.dataset.is_some()
    }

    /// Whether removing the volume destroys its data.
    pub(crate) fn is_destroyed(&self) -> bool {
        !self.is_import() || self.on_remove == Some(OnRemove::Delete)
    }

    /// A zvol's file system.
    pub(crate) fn file_system(&self) -> FileSystem {
        self.fs.unwrap_or(FileSystem::Ext4)
    }

    /// Checks what the types cannot.
    ///
    /// # Errors
    /// `InvalidArgument` saying what does not fit together.
    pub(crate) fn check(&self) -> Result<()> {
        let wrong = |what: &str, remedy: &str| Err(Error::invalid(what).remedy(remedy));
        if !self.is_zvol() && self.fs.is_some() {
            return wrong("fs is for zvols", "set type: zvol, or leave fs out");
        }
        if self.is_zvol() && !self.is_import() && self.size.is_none() {
            return wrong("a zvol needs a size", "set size: 20G");
        }
        if self.is_zvol() && (self.quota.is_some() || self.recordsize.is_some()) {
            return wrong(
                "a zvol has neither quota nor recordsize",
                "use size, and properties: {volblocksize: 16K}",
            );
        }
        if self.encryption.is_some() && self.key.is_none() {
            return wrong(
                "encryption needs a key",
                "put the key into a file in /etc/lazarette/secrets/CONTEXT and set key to its name",
            );
        }
        if self.on_remove.is_some() && !self.is_import() {
            return wrong(
                "on_remove is for a dataset that was there before",
                "leave it out: what is made for a volume goes with it",
            );
        }
        Ok(())
    }

    /// The properties that it asks for, by their names in ZFS, without those of encryption.
    pub(crate) fn wanted(&self) -> Vec<(String, String)> {
        let mut all = Vec::new();
        let mut add = |name: &str, value: Option<String>| {
            all.extend(value.map(|value| (name.to_owned(), value)));
        };
        let size_property = if self.is_zvol() {
            "volsize"
        } else {
            "refquota"
        };
        add(size_property, self.size.map(|s| s.0.to_string()));
        add("quota", self.quota.map(|s| s.0.to_string()));
        // Of a zvol that is made thin, its own data is what is to be kept room for.
        let reserved = if self.is_zvol() {
            "refreservation"
        } else {
            "reservation"
        };
        add(reserved, self.reservation.map(|s| s.0.to_string()));
        add("recordsize", self.recordsize.map(|s| s.0.to_string()));
        add(
            "compression",
            self.compression.as_ref().map(ToString::to_string),
        );
        let others = self.properties.iter().flat_map(|p| &p.0);
        all.extend(others.map(|(name, value)| (name.clone(), value.to_string())));
        all
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
