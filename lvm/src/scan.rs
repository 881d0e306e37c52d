//! Volume groups and blank disks, looked for without changing anything.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lazarette_plugin::{Found, Result};

use crate::device_mapper;
use crate::devices::{self, Content};
use crate::lvm::{Devices, Lvm, Time};
use crate::report::{Group, Physical};

/// How long it may take.
const LIMIT: Duration = Duration::from_secs(50);
/// Beginnings of the names of block devices that are no disks.
const NO_DISKS: [&str; 9] = ["loop", "ram", "zram", "dm-", "md", "sr", "nbd", "fd", "zd"];
/// Smaller disks are not worth showing.
const LEAST: u64 = 16 << 20;

/// All that can be taken over, or made into a volume group.
pub(crate) fn scan(lvm: &Lvm) -> Result<Vec<Found>> {
    let time = Time::limit(LIMIT);
    lvm.configure(&Devices::All)?;
    let physicals = lvm.physicals(time)?;
    let groups = lvm.groups(time)?;
    let mut found = Vec::new();
    for one in &groups {
        let active = device_mapper::is_active(lvm, time, &one.uuid)?;
        found.push(group(one, active, &groups, &physicals));
    }
    for (disk, size) in disks(Path::new("/sys/block")) {
        let blank = !devices::is_held(&disk).unwrap_or(true)
            && devices::content(&lvm.programs, time, &disk).is_ok_and(|c| c == Content::Blank);
        if blank {
            let name = devices::stable(&disk);
            found.push(Found {
                what: "blank disk".into(),
                name: name.display().to_string(),
                size: Some(size),
                detail: None,
                devices: vec![name],
                url: None,
            });
        }
    }
    Ok(found)
}

fn group(group: &Group, active: bool, groups: &[Group], physicals: &[Physical]) -> Found {
    let ours: Vec<&Physical> = physicals
        .iter()
        .filter(|p| p.group_uuid == group.uuid)
        .collect();
    let twice = ours
        .iter()
        .any(|p| p.duplicate || physicals.iter().filter(|o| o.uuid == p.uuid).count() > 1);
    let namesakes = groups.iter().filter(|g| g.name == group.name).count() > 1;
    let obstacle = if group.exported {
        Some("exported: vgimport it first".to_owned())
    } else if !group.system_id.is_empty() {
        Some(format!(
            "belongs to the machine with the system ID {}",
            group.system_id
        ))
    } else if !matches!(group.lock_type.as_str(), "" | "none") {
        Some("shared with other machines".to_owned())
    } else if twice {
        Some("its devices are there twice: take the copy away".to_owned())
    } else if namesakes {
        Some(format!(
            "one of several of that name: say which by uuid: {}",
            group.uuid
        ))
    } else {
        None
    };
    let missing = match group.missing {
        0 => None,
        1 => Some("a device is missing".to_owned()),
        n => Some(format!("{n} devices are missing")),
    };
    let active = active.then(|| "active on this machine".to_owned());
    let free = format!("{} free", crate::values::readable(group.free));
    let details: Vec<String> = [missing, obstacle.clone(), active, Some(free)]
        .into_iter()
        .flatten()
        .collect();
    let devices = ours.iter().filter(|p| !p.missing);
    Found {
        what: "volume group".into(),
        name: group.name.clone(),
        size: Some(group.size),
        detail: Some(details.join("; ")),
        devices: devices.map(|p| devices::stable(p.name.as_ref())).collect(),
        url: obstacle.is_none().then(|| format!("lvm:{}", group.name)),
    }
}

/// Whole disks without partitions, with their sizes.
fn disks(blocks: &Path) -> Vec<(PathBuf, u64)> {
    let mut disks = Vec::new();
    for entry in fs::read_dir(blocks).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if NO_DISKS.iter().any(|no| name.starts_with(no)) {
            continue;
        }
        let number = |file: &str| {
            let text = fs::read_to_string(entry.path().join(file)).ok()?;
            text.trim().parse::<u64>().ok()
        };
        let partitioned = fs::read_dir(entry.path())
            .into_iter()
            .flatten()
            .flatten()
            .any(|inner| inner.path().join("partition").exists());
        // Always in units of 512 bytes.
        let size = number("size").unwrap_or(0).saturating_mul(512);
        if size >= LEAST && !partitioned && number("ro") == Some(0) {
            disks.push((Path::new("/dev").join(name.replace('!', "/")), size));
        }
    }
    disks.sort();
    disks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_writable_whole_disks_are_looked_at() {
        let tree = tempfile::tempdir().unwrap();
        let disk = |name: &str, sectors: &str, ro: &str| {
            let directory = tree.path().join(name);
            fs::create_dir(&directory).unwrap();
            fs::write(directory.join("size"), sectors).unwrap();
            fs::write(directory.join("ro"), ro).unwrap();
            directory
        };
        disk("vda", "4194304\n", "0\n");
        disk("vdb", "4194304\n", "1\n");
        disk("vdc", "0\n", "0\n");
        disk("loop0", "4194304\n", "0\n");
        disk("dm-3", "4194304\n", "0\n");
        let parts = disk("vdd", "4194304\n", "0\n").join("vdd1");
        fs::create_dir(&parts).unwrap();
        fs::write(parts.join("partition"), "1\n").unwrap();
        let found = disks(tree.path());
        assert_eq!(found, [(PathBuf::from("/dev/vda"), 2 << 30)]);
    }

    #[test]
    fn what_cannot_be_taken_over_says_why_and_has_no_url() {
        let mut one = crate::report::groups(include_str!("../fixtures/vgs.json"))
            .unwrap()
            .remove(0);
        let found = group(&one, false, std::slice::from_ref(&one), &[]);
        assert_eq!(found.url.as_deref(), Some("lvm:fast"));
        one.exported = true;
        let found = group(&one, false, std::slice::from_ref(&one), &[]);
        assert_eq!(found.url, None);
        assert!(found.detail.unwrap().contains("vgimport"));
    }
}
