//! Whether a device may be written on: nothing is on it that anybody knows.

use std::fs;
use std::path::Path;
use std::time::Duration;

use lazarette_plugin::command::Exit;
use lazarette_plugin::{Error, ErrorKind, Host, Level, Result};

use crate::programs::Programs;
use crate::report;

/// blkid(8) reads a few sectors, cmp(1) those below.
const LIMIT: Duration = Duration::from_secs(20);
/// So many bytes at its beginning are zero on a blank device: what has no signature that blkid(8)
/// knows may still be data.
const ZEROS: &str = "1048576";
/// The exit status of blkid(8) if it finds nothing.
const NOTHING: i32 = 2;
/// The exit status of cmp(1) if it finds a difference.
const DIFFERENT: i32 = 1;

/// What is on the device, for people; none: it is blank.
///
/// # Errors
/// `NotFound` if there is no such device, and what blkid(8) and cmp(1) say.
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
        return match holder(&real) {
            Some(holder) => Ok(Some(holder)),
            None => unknown(programs, &real),
        };
    };
    if is_leftover(programs, &real, &found)? {
        return Ok(None);
    }
    Ok(Some(found.describe()))
}

/// Sees to it that the device may be written on: it is blank, or all that is on it may be lost.
///
/// # Errors
/// `AlreadyExists` saying what is on it; as [`content`].
pub(crate) fn ensure(host: &Host, programs: &Programs, device: &Path, wipe: bool) -> Result<()> {
    let Some(content) = content(programs, device)? else {
        return Ok(());
    };
    let name = device.display();
    if !wipe {
        return Err(Error::new(
            ErrorKind::AlreadyExists,
            format!("the device {name} is not blank: {content} is on it"),
        )
        .remedy("take a blank device; or, if all that is on it may be lost, set wipe: true"));
    }
    host.log(Level::Warn, format!("wiping {name}: {content} is on it"));
    self::wipe(programs, device)
}

/// Makes a device blank that is not in use.
///
/// # Errors
/// What wipefs(8) says, for one if it is in use.
fn wipe(programs: &Programs, device: &Path) -> Result<()> {
    let what = format!("cannot wipe {}", device.display());
    let wipefs = |path: &Path| {
        lazarette_plugin::command::Command::new(&programs.wipefs)
            .deadline(LIMIT)
            .args(["--all", "--quiet", "--"])
            .arg(path)
            .run()
            .map_err(|e| report::explain(&e, &what))
    };
    let real = fs::canonicalize(device).map_err(|e| Error::not_found(what.clone()).cause(e))?;
    // What is on partitions shows again when others are made in the same places.
    for partition in partitions(&real) {
        wipefs(&partition)?;
    }
    wipefs(&real)?;
    // Data of an unknown kind has no signature to take away.
    lazarette_plugin::command::Command::new(&programs.blkdiscard)
        .deadline(LIMIT)
        .args(["--zeroout", "--length", ZEROS, "--"])
        .arg(&real)
        .run()
        .map(drop)
        .map_err(|e| report::explain(&e, &what))
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

/// Whether a device without a signature is blank; else that it is not, in words.
fn unknown(programs: &Programs, device: &Path) -> Result<Option<String>> {
    let what = format!("cannot read {}", device.display());
    let compared = lazarette_plugin::command::Command::new(&programs.cmp)
        .deadline(LIMIT)
        .args(["--quiet", "--bytes", ZEROS, "--"])
        .arg(device)
        .arg("/dev/zero")
        .output()
        .map_err(|e| report::explain(&e, &what))?;
    match compared.exit {
        Exit::Code(0) => Ok(None),
        Exit::Code(DIFFERENT) => Ok(Some("data of an unknown kind".to_owned())),
        exit => {
            let said = String::from_utf8_lossy(&compared.stderr);
            Err(Error::new(ErrorKind::Unreachable, what)
                .cause(format!("{exit}: {}", said.trim()))
                .remedy("check the device; nothing was written to it"))
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
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// A device, a file, on which blkid finds nothing; its tools but that one are real.
    struct Stand {
        directory: tempfile::TempDir,
        programs: Programs,
        device: std::path::PathBuf,
    }

    impl Stand {
        fn new(content: &[u8]) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let at = |name: &str| directory.path().join(name);
            let program = |name: &str, script: &str| {
                fs::write(at(name), format!("#!/bin/sh\n{script}\n")).unwrap();
                fs::set_permissions(at(name), fs::Permissions::from_mode(0o755)).unwrap();
                at(name)
            };
            let programs = Programs {
                blkid: program("blkid", "exit 2"),
                wipefs: program("wipefs", "exit 0"),
                blkdiscard: program(
                    "blkdiscard",
                    r#"exec dd if=/dev/zero of="$5" bs="$3" count=1 conv=notrunc status=none"#,
                ),
                ..Programs::default()
            };
            fs::write(at("device"), content).unwrap();
            Self {
                programs,
                device: at("device"),
                directory,
            }
        }

        fn content(&self) -> Result<Option<String>> {
            content(&self.programs, &self.device)
        }

        fn ensure(&self, wipe: bool) -> Result<()> {
            ensure(
                &crate::health::tests::host(),
                &self.programs,
                &self.device,
                wipe,
            )
        }
    }

    #[test]
    fn what_no_tool_knows_is_still_data() {
        let blank = Stand::new(&vec![0; 2 << 20]);
        assert_eq!(blank.content().unwrap(), None);
        let mut bytes = vec![0; 2 << 20];
        bytes[(1 << 20) - 1] = 1;
        let said = Stand::new(&bytes).content().unwrap();
        assert_eq!(said.as_deref(), Some("data of an unknown kind"));
    }

    #[test]
    fn data_of_an_unknown_kind_is_kept_unless_it_may_be_lost() {
        let stand = Stand::new(&vec![7; 2 << 20]);
        let error = stand.ensure(false).unwrap_err();
        assert_eq!(error.kind, ErrorKind::AlreadyExists);
        let said = error.to_string();
        assert!(
            said.contains("is not blank: data of an unknown kind"),
            "{said}"
        );
        assert_eq!(fs::read(&stand.device).unwrap(), vec![7; 2 << 20]);
        stand.ensure(true).unwrap();
        assert_eq!(stand.content().unwrap(), None, "what was wiped is blank");
        stand.ensure(false).unwrap();
    }

    #[test]
    fn a_device_that_cannot_be_compared_is_not_blank() {
        let mut stand = Stand::new(&[0; 4096]);
        stand.programs.cmp = stand.directory.path().join("absent");
        assert!(stand.content().is_err());
        stand.programs.cmp = "/bin/sh".into();
        let error = stand.content().unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unreachable);
    }

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
