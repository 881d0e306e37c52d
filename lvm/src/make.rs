//! The words with which logical volumes and file systems are made.

use std::path::Path;

use lazarette_plugin::Result;
use lazarette_plugin::command::Command;

use crate::file_system::FileSystem;
use crate::lvm::Time;
use crate::message;
use crate::options::{Layout, VolumeOptions};
use crate::programs::Programs;

/// The lvcreate(8) that makes a volume. Signatures of what lay there before are wiped.
pub(crate) fn lvcreate(
    group: &str,
    name: &str,
    layout: Layout,
    pool: Option<&str>,
    options: &VolumeOptions,
    tags: &[String],
) -> Vec<String> {
    let mut words: Vec<String> = ["lvcreate", "--yes", "--type", layout.name(), "--name", name]
        .map(str::to_owned)
        .to_vec();
    let mut add = |flag: &str, value: String| words.extend([flag.to_owned(), value]);
    let size = format!(
        "{}b",
        options.size.map_or(0, |s| s.bytes().div_ceil(512) * 512)
    );
    match (layout, pool) {
        (Layout::Thin, Some(pool)) => {
            add("--virtualsize", size);
            add("--thinpool", pool.to_owned());
        }
        _ => {
            add("--size", size);
            add("--wipesignatures", "y".into());
            add("--zero", "y".into());
        }
    }
    if let Some(stripes) = options.stripes {
        add("--stripes", stripes.to_string());
    } else if layout == Layout::Striped {
        add("--stripes", "2".into());
    }
    if let Some(size) = options.stripe_size {
        add("--stripesize", format!("{}k", size.bytes() >> 10));
    }
    if layout == Layout::Raid1 {
        add("--mirrors", options.mirrors.unwrap_or(1).to_string());
    }
    for tag in tags {
        add("--addtag", tag.clone());
    }
    words.extend(["--".to_owned(), group.to_owned()]);
    words
}

/// Makes the file system on `device`, whatever an interrupted attempt has left there.
pub(crate) fn file_system(
    programs: &Programs,
    time: Time<'_>,
    device: &Path,
    options: &VolumeOptions,
) -> Result<()> {
    let fs = options.file_system();
    let (program, force) = match fs {
        FileSystem::Ext4 | FileSystem::Ext3 => (&programs.mkfs_ext4, "-F"),
        FileSystem::Xfs => (&programs.mkfs_xfs, "-f"),
        FileSystem::Btrfs => (&programs.mkfs_btrfs, "-f"),
    };
    let mut command = Command::new(program)
        .args(["-q", force])
        .args(fs.mkfs_words(&options.mkfs_options)?)
        .deadline(time.left());
    if let Some(label) = &options.label {
        command = command.args(["-L", label.as_str()]);
    }
    command
        .arg("--")
        .arg(device)
        .run()
        .map(drop)
        .map_err(|failed| {
            let what = format!("cannot make {} on {}", fs.name(), device.display());
            message::explain(&failed, &what)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use lazarette_plugin::serde_json::{from_value, json};

    fn words(options: lazarette_plugin::serde_json::Value, pool: Option<&str>) -> String {
        let options: VolumeOptions = from_value(options).unwrap();
        let layout = options.layout.unwrap_or(Layout::Linear);
        let tags = ["lazarette.x".to_owned()];
        lvcreate("fast", "lz-x", layout, pool, &options, &tags).join(" ")
    }

    #[test]
    fn each_layout_has_its_words() {
        assert_eq!(
            words(json!({"size": "1G"}), None),
            "lvcreate --yes --type linear --name lz-x --size 1073741824b --wipesignatures y \
             --zero y --addtag lazarette.x -- fast"
        );
        assert_eq!(
            words(json!({"size": "1G", "type": "thin"}), Some("pool")),
            "lvcreate --yes --type thin --name lz-x --virtualsize 1073741824b --thinpool pool \
             --addtag lazarette.x -- fast"
        );
        let raid5 = json!({"size": "1G", "type": "raid5", "stripes": 3, "stripe_size": "64K"});
        assert!(words(raid5, None).contains("--stripes 3 --stripesize 64k"));
        let raid1 = json!({"size": "1G", "type": "raid1"});
        assert!(words(raid1, None).contains("--type raid1"));
        assert!(words(json!({"size": "1G", "type": "raid1"}), None).contains("--mirrors 1"));
        assert!(words(json!({"size": "1G", "type": "striped"}), None).contains("--stripes 2"));
    }
}
