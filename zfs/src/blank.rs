//! Whether a device may be written on: nothing is on it that anybody knows.

use std::fs;
use std::path::Path;
use std::time::Duration;

use lazarette_plugin::command::Exit;
use lazarette_plugin::{Error, ErrorKind, Result};

use crate::programs::Programs;
use crate::report;
use crate::values::Device;

/// blkid(8) reads a few sectors.
const LIMIT: Duration = Duration::from_secs(20);
/// The exit status of blkid(8) if it finds nothing.
const NOTHING: i32 = 2;

/// What is on the device, for people; none: it is blank.
///
/// # Errors
/// `NotFound` if there is no such device, and what blkid(8) says.
pub(crate) fn content(programs: &Programs, device: &Path) -> Result<Option<String>> {
    let real = fs::canonicalize(device).map_err(|e| {
        Error::new(
            ErrorKind::NotFound,
            format!("there is no device {}", device.display()),
        )
        .cause(e)
        .remedy("attach it, or name another: laz scan lists the blank ones")
    })?;
    let Some(found) = probe(programs, &real)? else {
        return Ok(holder(&real));
    };
    if is_leftover(programs, &real, &found)? {
        return Ok(None);
    }
    Ok(Some(found.describe()))
}

/// Makes a device blank that is not in use.
///
/// # Errors
/// What wipefs(8) says, for one if it is in use.
pub(crate) fn wipe(programs: &Programs, device: &Device) -> Result<()> {
    let wipefs = |path: &Path| {
        lazarette_plugin::command::Command::new(&programs.wipefs)
            .deadline(LIMIT)
            .args(["--all", "--quiet", "--"])
            .arg(path)
            .run()
            .map_err(|e| report::explain(&e, &format!("cannot wipe {device}")))
    };
    let real = fs::canonicalize(device.path())
        .map_err(|e| Error::not_found(format!("there is no device {device}")).cause(e))?;
    // What is on partitions shows again when others are made in the same places.
    for partition in partitions(&real) {
        wipefs(&partition)?;
    }
    wipefs(&real).map(drop)
}

/// What blkid(8) finds.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    content: Option<String>,
    table: Option<String>,
    entry_name: Option<String>,
}

impl Found {
    fn of(text: &str) -> Self {
        let value = |name: &str| {
            let line = text
                .lines()
                .find_map(|l| l.strip_prefix(name)?.strip_prefix('='));
            // Escaped for a shell.
            line.map(|v| v.replace('\\', ""))
        };
        Self {
            content: value("TYPE"),
            table: value("PTTYPE"),
            entry_name: value("PART_ENTRY_NAME"),
        }
    }

    fn describe(&self) -> String {
        match (&self.content, &self.table) {
            (Some(content), _) if content == "zfs_member" => "a part of a ZFS pool".to_owned(),
            (Some(content), _) => format!("{content} data"),
            (None, Some(table)) => format!("a partition table ({table})"),
            (None, None) => "something unknown".to_owned(),
        }
    }
}

fn probe(programs: &Programs, device: &Path) -> Result<Option<Found>> {
    let output = lazarette_plugin::command::Command::new(&programs.blkid)
        .deadline(LIMIT)
        .args(["--probe", "--output", "export"])
        .arg(device)
        .output()
        .map_err(|e| report::explain(&e, &format!("cannot look at {}", device.display())))?;
    let found = Found::of(&output.stdout_text());
    match output.exit {
        Exit::Code(0) if found.content.is_some() || found.table.is_some() => Ok(Some(found)),
        // A partition in which nothing is.
        Exit::Code(0) => Ok(None),
        Exit::Code(NOTHING) => Ok(None),
        exit => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(
                Error::internal(format!("cannot look at {}", device.display()))
                    .cause(format!("{exit}: {}", said.trim()))
                    .remedy("check the device; nothing was written to it"),
            )
        }
    }
}

/// Whether it is what a `zpool create` leaves that was killed: its two partitions, both empty.
fn is_leftover(programs: &Programs, device: &Path, found: &Found) -> Result<bool> {
    if found.content.is_some() || found.table.as_deref() != Some("gpt") {
        return Ok(false);
    }
    let partitions = partitions(device);
    let mut named = false;
    for partition in &partitions {
        let output = lazarette_plugin::command::Command::new(&programs.blkid)
            .deadline(LIMIT)
            .args(["--probe", "--output", "export"])
            .arg(partition)
            .output()
            .map_err(|e| report::explain(&e, &format!("cannot look at {}", device.display())))?;
        let part = Found::of(&output.stdout_text());
        if part.content.is_some() || holder(partition).is_some() {
            return Ok(false);
        }
        named |= part.entry_name.is_some_and(|name| name.starts_with("zfs-"));
    }
    Ok(named && partitions.len() == 2)
}

/// The device nodes of a disk's partitions.
fn partitions(device: &Path) -> Vec<std::path::PathBuf> {
    let Some(name) = device.file_name() else {
        return Vec::new();
    };
    let entries = fs::read_dir(Path::new("/sys/class/block").join(name));
    let mut all: Vec<_> = entries
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.path().join("partition").exists())
        .map(|entry| Path::new("/dev").join(entry.file_name()))
        .collect();
    all.sort();
    all
}

/// Who has the device, if the kernel says so: a device mapper, an array.
fn holder(device: &Path) -> Option<String> {
    let name = device.file_name()?;
    let holders = Path::new("/sys/class/block").join(name).join("holders");
    let holder = fs::read_dir(holders).ok()?.flatten().next()?;
    Some(format!(
        "a part of {}",
        holder.file_name().to_string_lossy()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_blkid_finds_is_told_in_words() {
        let ext4 = "DEVNAME=/dev/vdb\nUUID=1-2\nVERSION=1.0\nBLOCK_SIZE=4096\nTYPE=ext4\nUSAGE=filesystem\n";
        assert_eq!(Found::of(ext4).describe(), "ext4 data");
        let table = "DEVNAME=/dev/vdb\nPTUUID=12\nPTTYPE=gpt\n";
        assert_eq!(Found::of(table).describe(), "a partition table (gpt)");
        let member = "DEVNAME=/dev/vdb1\nTYPE=zfs_member\nPART_ENTRY_NAME=zfs-0a1b\n";
        let found = Found::of(member);
        assert_eq!(found.describe(), "a part of a ZFS pool");
        assert_eq!(found.entry_name.as_deref(), Some("zfs-0a1b"));
    }
}
