//! What is there and belongs to no context: pools that could be imported, blank disks.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lazarette_plugin::{Found, Result};

use crate::blank;
use crate::importable::{self, Importable};
use crate::programs::Programs;
use crate::report;

/// All devices are looked at.
const LIMIT: Duration = Duration::from_secs(50);
/// The kernel counts in these.
const SECTOR: u64 = 512;
/// What is no disk: memory, loops, zvols, mapped and optical devices, floppies.
const NO_DISKS: &[&str] = &["ram", "loop", "zd", "zram", "dm-", "sr", "md", "nbd", "fd"];

/// Looks, and changes nothing.
///
/// # Errors
/// What zpool(8) says.
pub(crate) fn all(programs: &Programs) -> Result<Vec<Found>> {
    let mut command = programs.zpool(LIMIT).arg("import");
    if Path::new("/dev/disk/by-id").is_dir() {
        command = command.args(["-d", "/dev/disk/by-id"]);
    }
    let said = command
        .output()
        .map_err(|e| report::explain(&e, "cannot look for pools"))?;
    let pools = importable::parse(&said.stdout_text());
    let mut found: Vec<Found> = pools.iter().map(pool).collect();
    let links = links(Path::new("/dev/disk/by-id"));
    for (device, size) in disks(Path::new("/sys/class/block")) {
        // What cannot be read is not blank, and hides nothing else that is there.
        if matches!(blank::content(programs, &device), Ok(None)) {
            let name = links
                .iter()
                .find(|(_, target)| *target == device)
                .map_or(&device, |(link, _)| link);
            found.push(Found {
                what: "blank disk".into(),
                name: name.display().to_string(),
                size: Some(size),
                detail: None,
                devices: vec![name.clone()],
                url: None,
            });
        }
    }
    Ok(found)
}

fn pool(pool: &Importable) -> Found {
    let mut detail = vec![format!("{}, GUID {}", pool.state, pool.guid)];
    if !pool.status.is_empty() {
        detail.push(pool.status.clone());
    }
    let bad = pool.devices.iter().filter(|leaf| leaf.is_bad());
    detail.extend(bad.map(|leaf| {
        format!("{} {} {}", leaf.name, leaf.state, leaf.note)
            .trim()
            .to_owned()
    }));
    Found {
        what: "pool".into(),
        name: pool.name.clone(),
        size: None,
        detail: Some(detail.join("; ")),
        devices: pool
            .devices
            .iter()
            .filter(|leaf| !leaf.is_bad())
            .map(|leaf| Path::new("/dev/disk/by-id").join(&leaf.name))
            .filter(|path| path.exists())
            .collect(),
        url: pool.can_be_imported().then(|| format!("zfs:{}", pool.name)),
    }
}

/// Whole disks with their sizes in bytes.
fn disks(classes: &Path) -> Vec<(PathBuf, u64)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(classes).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if NO_DISKS.iter().any(|kind| name.starts_with(kind)) {
            continue;
        }
        let read = |file: &str| fs::read_to_string(entry.path().join(file)).ok();
        let sectors: u64 = read("size")
            .and_then(|t| t.trim().parse().ok())
            .unwrap_or(0);
        let read_only = read("ro").is_some_and(|text| text.trim() != "0");
        let partition = entry.path().join("partition").exists();
        let device = Path::new("/dev").join(&name);
        if sectors > 0 && !partition && !read_only && device.exists() {
            all.push((device, sectors * SECTOR));
        }
    }
    all.sort();
    all
}

/// Stable names with the devices that they mean, the shortest first.
fn links(directory: &Path) -> Vec<(PathBuf, PathBuf)> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut all: Vec<(PathBuf, PathBuf)> = entries
        .filter_map(|entry| Some((entry.path(), fs::canonicalize(entry.path()).ok()?)))
        .collect();
    all.sort_by_key(|(link, _)| (link.as_os_str().len(), link.clone()));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_are_whole_writable_and_not_empty() {
        let root = tempfile::tempdir().unwrap();
        let disk = |name: &str, size: &str, ro: &str| {
            let directory = root.path().join(name);
            fs::create_dir(&directory).unwrap();
            fs::write(directory.join("size"), size).unwrap();
            fs::write(directory.join("ro"), ro).unwrap();
        };
        disk("null", "2048\n", "0\n");
        disk("zero", "0\n", "0\n");
        disk("full", "2048\n", "1\n");
        disk("loop0", "2048\n", "0\n");
        disk("absent-device", "2048\n", "0\n");
        assert_eq!(disks(root.path()), [(PathBuf::from("/dev/null"), 1 << 20)]);
    }
}
