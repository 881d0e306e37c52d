//! The device mapper's own view of a volume group: what a killed LVM command has left there.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use lazarette_plugin::command::Command;
use lazarette_plugin::{Host, Level, Result};

use crate::encryption;
use crate::group::Group;
use crate::lvm::{Lvm, Time};
use crate::message;
use crate::report::Logical;

/// A device of the device mapper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mapped {
    name: String,
    /// `LVM-` and the UUIDs of volume group and logical volume without dashes, for some with a
    /// suffix.
    uuid: String,
    suspended: bool,
    open: bool,
}

/// Where the device mapper's nodes are.
pub(crate) const NODES: &str = "/dev/mapper";
/// Characters of a UUID without its dashes.
const UUID: usize = 32;
/// As many devices lie on top of each other at most: a snapshot of a raid in a cached pool.
const LAYERS: usize = 8;

/// What the device mapper has of a group at one moment.
pub(crate) struct Mapping {
    prefix: String,
    mapped: Vec<Mapped>,
    /// Names in `/dev/mapper` behind which there is nothing.
    stale: Vec<String>,
}

impl Mapping {
    pub(crate) fn of(lvm: &Lvm, time: Time<'_>, group: &Group) -> Result<Self> {
        let prefix = prefix_of(&group.uuid);
        let nodes = names_in(&lvm.nodes);
        // In this order: it is mapped before it has a node.
        let mut mapped = list(lvm, time)?;
        let stale = stale(nodes, &group.name, &mapped);
        mapped.retain(|m| m.uuid.starts_with(&prefix));
        Ok(Self {
            prefix,
            mapped,
            stale,
        })
    }

    /// The same beside what LVM says. That must have been asked later: a logical volume is known
    /// before it is mapped.
    pub(crate) fn beside(self, logicals: &[Logical]) -> Sight {
        let known = logicals.iter().map(|l| plain(&l.uuid)).collect();
        Sight {
            orphans: orphans(&self.mapped, &self.prefix, &known),
            mapped: self.mapped,
            stale: self.stale,
        }
    }
}

/// What the device mapper and LVM say of a group at one moment.
pub(crate) struct Sight {
    mapped: Vec<Mapped>,
    orphans: Vec<Mapped>,
    stale: Vec<String>,
}

impl Sight {
    fn of(lvm: &Lvm, time: Time<'_>, group: &Group) -> Result<Self> {
        let mapping = Mapping::of(lvm, time, group)?;
        let logicals = lvm.logicals(time, &group.name)?;
        Ok(mapping.beside(&logicals))
    }

    fn is_suspended(&self) -> bool {
        self.mapped.iter().any(|m| m.suspended)
    }

    /// Whether there is something that a killed command has left, or that one at work has now.
    pub(crate) fn is_untidy(&self) -> bool {
        self.is_suspended() || !self.orphans.is_empty() || !self.stale.is_empty()
    }
}

/// Sets right what a killed command has left: devices that are suspended, which makes all I/O
/// wait, devices of logical volumes that are no more, nodes without a device.
pub(crate) fn tidy(lvm: &Lvm, host: &Host, time: Time<'_>, group: &Group) -> Result<()> {
    let mut sight = Sight::of(lvm, time, group)?;
    if sight.is_suspended() {
        resume(lvm, host, time, group)?;
        sight = Sight::of(lvm, time, group)?;
    }
    // What another one lies on is free when that is gone: a raid's parts after the raid.
    for _ in 0..LAYERS {
        if sight.orphans.is_empty() {
            break;
        }
        for orphan in &sight.orphans {
            let removed = remove(lvm, host, time, &orphan.name);
            // A command that is at work may have been quicker.
            if removed.is_err() && list(lvm, time)?.iter().any(|m| m.uuid == orphan.uuid) {
                return removed;
            }
        }
        sight = Sight::of(lvm, time, group)?;
    }
    match sight.stale.is_empty() {
        true => Ok(()),
        false => make_nodes(lvm, time),
    }
}

fn prefix_of(group: &str) -> String {
    format!("LVM-{}", plain(group))
}

fn remove(lvm: &Lvm, host: &Host, time: Time<'_>, name: &str) -> Result<()> {
    let text = format!("removing {name}, which a command that was killed has left");
    host.log(Level::Warn, text);
    Command::new(&lvm.programs.dmsetup)
        .args(["remove", "--noudevsync", "--retry", "--", name])
        .deadline(time.left())
        .run()
        .map(drop)
        .map_err(|e| message::explain(&e, &format!("cannot remove {name}")))
}

/// Lets I/O to suspended devices go on. LVM's lock makes it wait for a command that is at work.
fn resume(lvm: &Lvm, host: &Host, time: Time<'_>, group: &Group) -> Result<()> {
    let text = format!(
        "resuming {}, which a killed command has left suspended",
        group.name
    );
    host.log(Level::Warn, text);
    let what = format!("cannot resume the volume group {}", group.name);
    lvm.run(time, &what, &["vgchange", "--refresh", "--", &group.name])
}

/// Whether anything of the group with that UUID is active.
pub(crate) fn is_active(lvm: &Lvm, time: Time<'_>, uuid: &str) -> Result<bool> {
    let prefix = prefix_of(uuid);
    let mapped = list(lvm, time)?;
    Ok(mapped.iter().any(|m| m.uuid.starts_with(&prefix)))
}

/// The names of our encrypted devices that lie on logical volumes of the group.
pub(crate) fn encrypted(lvm: &Lvm, time: Time<'_>, group: &Group) -> Result<Vec<String>> {
    let prefix = prefix_of(&group.uuid);
    let lies_on_group = |name: &str| {
        let Ok(node) = fs::canonicalize(Path::new(NODES).join(name)) else {
            return false;
        };
        let number = fs::metadata(node).map(|m| m.rdev()).unwrap_or_default();
        let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
        let below = fs::read_dir(format!("/sys/dev/block/{major}:{minor}/slaves"));
        below.into_iter().flatten().flatten().any(|slave| {
            let uuid = fs::read_to_string(slave.path().join("dm/uuid")).unwrap_or_default();
            uuid.starts_with(&prefix)
        })
    };
    let mut names: Vec<String> = list(lvm, time)?.into_iter().map(|m| m.name).collect();
    names.retain(|name| name.starts_with(encryption::PREFIX) && lies_on_group(name));
    Ok(names)
}

/// Makes the nodes in `/dev/mapper` that are missing, and takes away those without a device.
pub(crate) fn make_nodes(lvm: &Lvm, time: Time<'_>) -> Result<()> {
    Command::new(&lvm.programs.dmsetup)
        .arg("mknodes")
        .deadline(time.left())
        .run()
        .map(drop)
        .map_err(|e| message::explain(&e, "cannot make the nodes in /dev/mapper"))
}

fn list(lvm: &Lvm, time: Time<'_>) -> Result<Vec<Mapped>> {
    let output = Command::new(&lvm.programs.dmsetup)
        .args(["info", "--columns", "--noheadings", "--separator", "|"])
        .args(["-o", "name,uuid,suspended,open"])
        .deadline(time.left())
        .keep(4 << 20)
        .run()
        .map_err(|e| message::explain(&e, "the device mapper does not answer"))?;
    Ok(parse(&output.stdout_text()))
}

fn parse(text: &str) -> Vec<Mapped> {
    let mapped = |line: &str| {
        let mut fields = line.trim().split('|');
        Some(Mapped {
            name: fields.next()?.to_owned(),
            uuid: fields.next()?.to_owned(),
            suspended: fields.next()?.trim() == "Suspended",
            open: fields.next()?.trim() != "0",
        })
    };
    text.lines().filter_map(mapped).collect()
}

/// Those of logical volumes that are not known, and that nothing uses.
fn orphans(mapped: &[Mapped], prefix: &str, known: &BTreeSet<String>) -> Vec<Mapped> {
    let unknown = |m: &&Mapped| {
        let logical = m.uuid.get(prefix.len()..).and_then(|rest| rest.get(..UUID));
        !m.open && logical.is_some_and(|uuid| !known.contains(uuid))
    };
    mapped.iter().filter(unknown).cloned().collect()
}

/// Those of `nodes` that are called as our logical volumes in `group` are, and are not mapped.
fn stale(mut nodes: Vec<String>, group: &str, mapped: &[Mapped]) -> Vec<String> {
    let ours = name_of(group, "lz");
    nodes.retain(|node| node.starts_with(&ours) && !mapped.iter().any(|m| m.name == *node));
    nodes
}

/// What a logical volume is called there: with the dashes of both names twice.
pub(crate) fn name_of(group: &str, logical: &str) -> String {
    let [group, logical] = [group, logical].map(|name| name.replace('-', "--"));
    format!("{group}-{logical}")
}

fn names_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

fn plain(uuid: &str) -> String {
    uuid.chars().filter(|c| *c != '-').collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GROUP: &str = "6QTv6csaEx nkWRRzjpIokUTvmywH3320";

    #[test]
    fn only_unused_devices_of_unknown_volumes_of_this_group_are_orphans() {
        let group = GROUP.replace(' ', "");
        let (one, two) = ("a".repeat(32), "b".repeat(32));
        let text = format!(
            "fast-one|LVM-{group}{one}|Active|0\nfast-two|LVM-{group}{two}|Suspended|0\n\
             fast-two-cow|LVM-{group}{two}-cow|Active|1\nluks-x|CRYPT-LUKS2-1|Active|0\n"
        );
        let mapped = parse(&text);
        assert_eq!(mapped.len(), 4);
        assert!(mapped[1].suspended && mapped[2].open);
        let prefix = format!("LVM-{group}");
        let ours: Vec<Mapped> = mapped
            .into_iter()
            .filter(|m| m.uuid.starts_with(&prefix))
            .collect();
        let found = orphans(&ours, &prefix, &BTreeSet::from([one]));
        let names: Vec<&str> = found.iter().map(|m| m.name.as_str()).collect();
        assert_eq!(names, ["fast-two"]);
    }

    #[test]
    fn a_logical_volume_is_called_as_lvm_itself_says() {
        let all = crate::report::logicals(include_str!("../fixtures/whole.json")).unwrap();
        for logical in all.iter().filter(|l| l.is_public()) {
            let name = name_of("fast", &logical.name);
            assert_eq!(Path::new(NODES).join(name), logical.node);
        }
        assert_eq!(name_of("my-fast", "lz-1"), "my--fast-lz--1");
    }

    #[test]
    fn only_our_own_nodes_without_a_device_are_stale() {
        let mapped = parse("my--fast-lz--1|LVM-x|Active|0\n");
        let nodes = [
            "control",
            "my--fast-lz--1",
            "my--fast-lz--2",
            "my--fast-lzs--3",
            "my--fast-home",
            "other-lz--4",
        ];
        let found = stale(nodes.map(String::from).to_vec(), "my-fast", &mapped);
        assert_eq!(found, ["my--fast-lz--2", "my--fast-lzs--3"]);
    }

    proptest! {
        #[test]
        fn no_output_brings_it_down(text in "\\PC{0,200}") {
            let mapped = parse(&text);
            let _ = orphans(&mapped, "", &BTreeSet::new());
        }
    }
}
