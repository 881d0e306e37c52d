//! The file systems that volumes have: what is offered of their options, and the words that these
//! become for the programs that make them.

use lazarette_plugin::{Error, JsonSchema, Result, quoted};
use serde::{Deserialize, Serialize};

use crate::values::Label;

/// The file system of a volume; ext4 if one is made and nothing is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum FileSystem {
    /// ext4.
    Ext4,
    /// ext3, which is only taken over.
    Ext3,
    /// XFS.
    Xfs,
    /// btrfs.
    Btrfs,
}

/// What the value of an option of a file system may be.
enum Form {
    /// A whole number.
    Number(u64, u64),
    /// A power of two.
    Power(u64, u64),
    /// `0` or `1`.
    Bit,
    /// Names of features with `^` before those that are not wanted, separated by `+`.
    Features,
}

/// An option that can be given when a file system is made.
struct MkfsOption {
    name: &'static str,
    form: Form,
    /// The flag, and what stands before the value behind it.
    flag: &'static str,
    prefix: &'static str,
}

const fn option(
    name: &'static str,
    form: Form,
    flag: &'static str,
    prefix: &'static str,
) -> MkfsOption {
    MkfsOption {
        name,
        form,
        flag,
        prefix,
    }
}

const EXT4: &[MkfsOption] = &[
    option("block_size", Form::Power(1024, 4096), "-b", ""),
    option("inode_size", Form::Power(128, 1024), "-I", ""),
    option("bytes_per_inode", Form::Number(1024, 1 << 26), "-i", ""),
    option("inodes", Form::Number(16, 1 << 32), "-N", ""),
    option("reserved_percent", Form::Number(0, 50), "-m", ""),
    option("features", Form::Features, "-O", ""),
];

const XFS: &[MkfsOption] = &[
    option("block_size", Form::Power(1024, 4096), "-b", "size="),
    option("inode_size", Form::Power(512, 2048), "-i", "size="),
    option("max_inode_percent", Form::Number(1, 100), "-i", "maxpct="),
    option("reflink", Form::Bit, "-m", "reflink="),
    option("bigtime", Form::Bit, "-m", "bigtime="),
    option("agcount", Form::Number(1, 1024), "-d", "agcount="),
];

const BTRFS: &[MkfsOption] = &[
    option("node_size", Form::Power(4096, 65536), "--nodesize", ""),
    option("features", Form::Features, "--features", ""),
];

impl FileSystem {
    /// As the mount table and blkid name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Ext3 => "ext3",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }

    /// The one of that name.
    pub fn of_name(name: &str) -> Option<Self> {
        [Self::Ext4, Self::Ext3, Self::Xfs, Self::Btrfs]
            .into_iter()
            .find(|fs| fs.name() == name)
    }

    /// The smallest device that it is made on.
    pub(crate) fn least_bytes(self) -> u64 {
        match self {
            Self::Ext4 | Self::Ext3 => 8 << 20,
            Self::Xfs => 300 << 20,
            Self::Btrfs => 128 << 20,
        }
    }

    /// What it is mounted with. A snapshot or clone of an XFS has the same UUID as its origin,
    /// beside which it would otherwise not be mounted.
    pub(crate) fn mount_options(self) -> &'static str {
        match self {
            Self::Xfs => "nosuid,nodev,nouuid",
            _ => "nosuid,nodev",
        }
    }

    fn options(self) -> &'static [MkfsOption] {
        match self {
            Self::Ext4 | Self::Ext3 => EXT4,
            Self::Xfs => XFS,
            Self::Btrfs => BTRFS,
        }
    }

    /// Whether `label` fits.
    pub(crate) fn check_label(self, label: Option<&Label>) -> Result<()> {
        let longest = match self {
            Self::Ext4 | Self::Ext3 => 16,
            Self::Xfs => 12,
            Self::Btrfs => 255,
        };
        match label.map(Label::as_str) {
            Some(text) if text.len() > longest => {
                let name = self.name();
                Err(Error::invalid(format!("label {}", quoted(text)))
                    .cause(format!("{name} has {longest} characters for it"))
                    .remedy("shorten it"))
            }
            // mkfs.xfs takes no blanks, and says so late.
            Some(text) if self == Self::Xfs && text.contains(' ') => {
                Err(Error::invalid(format!("label {}", quoted(text)))
                    .cause("XFS allows no blanks in it")
                    .remedy("leave them out"))
            }
            _ => Ok(()),
        }
    }

    /// The arguments that `mkfs_options` become.
    ///
    /// # Errors
    /// `InvalidArgument` saying which names there are, or what the value may be.
    pub(crate) fn mkfs_words(self, options: &[String]) -> Result<Vec<String>> {
        let mut words = Vec::new();
        for text in options {
            let (name, value) = text.split_once('=').unwrap_or((text, ""));
            let Some(option) = self.options().iter().find(|o| o.name == name) else {
                let names: Vec<&str> = self.options().iter().map(|o| o.name).collect();
                let fs = self.name();
                return Err(Error::invalid(format!("mkfs_options: {}", quoted(text)))
                    .cause(format!("{fs} has no such option here"))
                    .remedy(format!("use one of {}", names.join(", "))));
            };
            let value = option.form.read(value).map_err(|accepted| {
                Error::invalid(format!("mkfs_options: {}", quoted(text)))
                    .cause("the value is none that it takes")
                    .remedy(format!("write {name}= and {accepted}"))
            })?;
            words.push(option.flag.to_owned());
            words.push(format!("{}{value}", option.prefix));
        }
        Ok(words)
    }
}

impl Form {
    /// The value as the program takes it, or what is accepted.
    fn read(&self, value: &str) -> Result<String, String> {
        let number = |low: u64, high: u64| {
            let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
            let number = value.parse::<u64>().ok().filter(|_| digits);
            number.filter(|n| (low..=high).contains(n))
        };
        let found = match self {
            Self::Number(low, high) => {
                number(*low, *high).ok_or(format!("a whole number from {low} to {high}"))
            }
            Self::Power(low, high) => number(*low, *high)
                .filter(|n| n.is_power_of_two())
                .ok_or(format!("a power of two from {low} to {high}")),
            Self::Bit => number(0, 1).ok_or("0 or 1".to_owned()),
            Self::Features => return features(value),
        };
        found.map(|n| n.to_string())
    }
}

fn features(value: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c);
    let good = |feature: &str| {
        let name = feature.strip_prefix('^').unwrap_or(feature);
        (1..=32).contains(&name.len()) && !name.starts_with('-') && name.chars().all(plain)
    };
    let all: Vec<&str> = value.split('+').collect();
    if all.len() > 16 || !all.iter().all(|f| good(f)) {
        return Err("names of features joined by +, with ^ before what is not wanted".into());
    }
    Ok(all.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(fs: FileSystem, options: &[&str]) -> Result<String> {
        let options: Vec<String> = options.iter().map(|o| (*o).to_owned()).collect();
        fs.mkfs_words(&options).map(|words| words.join(" "))
    }

    #[test]
    fn options_become_words_of_the_program() {
        let given = ["reserved_percent=1", "features=^has_journal+casefold"];
        assert_eq!(
            words(FileSystem::Ext4, &given).unwrap(),
            "-m 1 -O ^has_journal,casefold"
        );
        let given = ["inode_size=1024", "reflink=0", "agcount=2"];
        assert_eq!(
            words(FileSystem::Xfs, &given).unwrap(),
            "-i size=1024 -m reflink=0 -d agcount=2"
        );
        assert_eq!(
            words(FileSystem::Btrfs, &["node_size=16384"]).unwrap(),
            "--nodesize 16384"
        );
    }

    #[test]
    fn nothing_else_reaches_the_program() {
        for bad in [
            "-d=/etc",
            "block_size",
            "block_size=",
            "block_size=3000",
            "block_size=+1024",
            "inode_size=512 -d /",
            "features=a,b",
            "features=-x",
            "features=",
            "features=^",
            "journal_dev=/dev/vda",
            "",
        ] {
            let error = words(FileSystem::Ext4, &[bad]).unwrap_err();
            assert!(error.remedy.is_some(), "{bad}: {error}");
        }
        let error = words(FileSystem::Xfs, &["file=1"]).unwrap_err().to_string();
        assert!(error.contains("reflink"), "the names are told: {error}");
    }

    #[test]
    fn labels_are_as_long_as_the_file_system_takes_them() {
        let label = |text: &str| Label::try_from(text.to_owned()).unwrap();
        let check = |fs: FileSystem, text: &str| fs.check_label(Some(&label(text)));
        check(FileSystem::Ext4, "sixteen letters ").unwrap();
        check(FileSystem::Ext4, "seventeen letters").unwrap_err();
        check(FileSystem::Xfs, "twelve-chars").unwrap();
        check(FileSystem::Xfs, "two words").unwrap_err();
        check(FileSystem::Btrfs, &"x".repeat(255)).unwrap();
    }
}
