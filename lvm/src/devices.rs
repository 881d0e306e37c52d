//! Block devices: what is on them, whether they are blank, and what they are called for good.

use std::fs;
use std::path::{Path, PathBuf};

use lazarette_plugin::command::Command;
use lazarette_plugin::serde_json::{self, Value};
use lazarette_plugin::{Error, ErrorKind, Result};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use crate::lvm::Time;
use crate::message;
use crate::programs::Programs;

/// Where udev keeps stable names.
const BY_ID: &str = "/dev/disk/by-id";
/// At its beginning a blank device has so many zeros. What has no signature may still be data.
const ZEROS: &str = "1048576";

/// Names in [`BY_ID`] that say less than others: they come last.
const LESSER: [&str; 4] = ["wwn-", "dm-", "lvm-pv-uuid-", "nvme-eui."];

/// What is on a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    /// Nothing.
    Blank,
    /// These, in words: `ext4 "home"`, `gpt`.
    Known(Vec<String>),
    /// Something without a signature.
    Unknown,
}

impl Content {
    /// In words.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Blank => "nothing".into(),
            Self::Known(all) => all.join(", "),
            Self::Unknown => "data of an unknown kind".into(),
        }
    }
}

/// The device's own node: `/dev/sdb` for `/dev/disk/by-id/…`.
pub(crate) fn node(path: &Path) -> Result<PathBuf> {
    fs::canonicalize(path).map_err(|e| {
        Error::new(
            ErrorKind::NotFound,
            format!("the device {}", path.display()),
        )
        .cause(e)
        .remedy("check that it is plugged in; laz scan shows what there is")
    })
}

/// The name that `node` keeps for good, if udev has given one; else itself.
pub(crate) fn stable(node: &Path) -> PathBuf {
    let mut names: Vec<PathBuf> = fs::read_dir(BY_ID)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| fs::canonicalize(path).is_ok_and(|found| found == node))
        .collect();
    names.sort_by_key(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let lesser = LESSER.iter().any(|l| name.starts_with(l));
        (lesser, name.len(), name.into_owned())
    });
    names.into_iter().next().unwrap_or_else(|| node.to_owned())
}

/// Whether something holds the device: a mount, the device mapper, a RAID.
pub(crate) fn is_held(node: &Path) -> Result<bool> {
    let flags = OFlags::RDONLY | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NONBLOCK;
    match rustix::fs::openat(CWD, node, flags, Mode::empty()) {
        Ok(_) => Ok(false),
        Err(Errno::BUSY) => Ok(true),
        Err(errno) => Err(unreadable(node).cause(errno)),
    }
}

fn unreadable(node: &Path) -> Error {
    Error::new(
        ErrorKind::Unreachable,
        format!("the device {} cannot be read", node.display()),
    )
    .remedy("look at dmesg, and at its cable")
}

/// What is on the device.
pub(crate) fn content(programs: &Programs, time: Time<'_>, node: &Path) -> Result<Content> {
    let output = Command::new(&programs.wipefs)
        .args(["--json", "--"])
        .arg(node)
        .deadline(time.left())
        .run()
        .map_err(|failed| unreadable(node).caused_by(&failed))?;
    let known = signatures(&output.stdout_text())?;
    if !known.is_empty() {
        return Ok(Content::Known(known));
    }
    let compared = Command::new(&programs.cmp)
        .args(["--quiet", "--bytes", ZEROS, "--"])
        .arg(node)
        .arg("/dev/zero")
        .deadline(time.left())
        .output()
        .map_err(|failed| unreadable(node).caused_by(&failed))?;
    match compared.exit {
        lazarette_plugin::command::Exit::Code(0) => Ok(Content::Blank),
        lazarette_plugin::command::Exit::Code(1) => Ok(Content::Unknown),
        _ => Err(unreadable(node).cause(String::from_utf8_lossy(&compared.stderr).trim())),
    }
}

/// What wipefs(8) found, in words.
fn signatures(json: &str) -> Result<Vec<String>> {
    // It says nothing at all of a blank device.
    if json.trim().is_empty() {
        return Ok(Vec::new());
    }
    let strange = |why: String| Error::internal("the output of wipefs").cause(why);
    let value: Value = serde_json::from_str(json).map_err(|e| strange(e.to_string()))?;
    let Some(all) = value.get("signatures").and_then(Value::as_array) else {
        return Err(strange("it has no `signatures`".into()));
    };
    let mut words = Vec::new();
    for signature in all {
        let text = |name: &str| signature.get(name).and_then(Value::as_str);
        let Some(kind) = text("type") else {
            return Err(strange("a signature has no type".into()));
        };
        let word = match text("label").filter(|l| !l.is_empty()) {
            Some(label) => format!("{kind} {label:?}"),
            None => kind.to_owned(),
        };
        if !words.contains(&word) {
            words.push(word);
        }
    }
    Ok(words)
}

/// What blkid(8) says of file systems on devices.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Probed {
    /// The device.
    pub(crate) device: PathBuf,
    /// `ext4`, `xfs`, `crypto_LUKS`, …; empty if it is none that is known.
    pub(crate) kind: String,
}

/// Looks at the devices; those with nothing on them are left out.
pub(crate) fn probe(
    programs: &Programs,
    time: Time<'_>,
    devices: &[PathBuf],
) -> Result<Vec<Probed>> {
    if devices.is_empty() {
        return Ok(Vec::new());
    }
    let output = Command::new(&programs.blkid)
        .args(["--probe", "--output", "export", "--"])
        .args(devices)
        .deadline(time.left())
        .keep(4 << 20)
        .output()
        .map_err(|failed| message::explain(&failed, "the devices cannot be looked at"))?;
    Ok(probed(&output.stdout_text()))
}

/// `NAME=value` lines, a paragraph for each device.
fn probed(text: &str) -> Vec<Probed> {
    let mut all: Vec<Probed> = Vec::new();
    for line in text.lines() {
        match line.split_once('=') {
            Some(("DEVNAME", device)) => all.push(Probed {
                device: device.into(),
                ..Probed::default()
            }),
            Some(("TYPE", kind)) => {
                if let Some(last) = all.last_mut() {
                    last.kind = kind.to_owned();
                }
            }
            _ => {}
        }
    }
    all.retain(|p| !p.kind.is_empty());
    all
}

/// Makes a device that nothing is on any more a blank one: overwrites its beginning with zeros.
pub(crate) fn clear(programs: &Programs, time: Time<'_>, node: &Path) -> Result<()> {
    Command::new(&programs.blkdiscard)
        .args(["--zeroout", "--length", ZEROS, "--"])
        .arg(node)
        .deadline(time.left())
        .run()
        .map(drop)
        .map_err(|failed| message::explain(&failed, &format!("cannot clear {}", node.display())))
}

/// Takes all signatures off the device.
pub(crate) fn wipe(programs: &Programs, time: Time<'_>, node: &Path) -> Result<()> {
    Command::new(&programs.wipefs)
        .args(["--all", "--force", "--quiet", "--"])
        .arg(node)
        .deadline(time.left())
        .run()
        .map(drop)
        .map_err(|failed| message::explain(&failed, &format!("cannot wipe {}", node.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_on_a_device_is_said_once() {
        let json = r#"{
   "signatures": [
      {"device":"vdb", "offset":"0x1fe", "type":"dos", "uuid":null, "label":null},
      {"device":"vdb", "offset":"0x438", "type":"ext4", "uuid":"9c1f", "label":"home"},
      {"device":"vdb", "offset":"0x1ff", "type":"dos", "uuid":null, "label":null}
   ]
}"#;
        assert_eq!(signatures(json).unwrap(), ["dos", "ext4 \"home\""]);
        assert!(signatures("").unwrap().is_empty());
        assert!(signatures("[]").is_err());
    }

    #[test]
    fn a_paragraph_is_a_device() {
        let text = "DEVNAME=/dev/mapper/fast-a\nUUID=0d2a\nTYPE=ext4\nUSAGE=filesystem\n\n\
            DEVNAME=/dev/mapper/fast-b\nPTTYPE=dos\n\nDEVNAME=/dev/mapper/fast-c\nTYPE=xfs\n";
        let found = probed(text);
        let kinds: Vec<_> = found
            .iter()
            .map(|p| (p.device.to_str(), p.kind.as_str()))
            .collect();
        assert_eq!(
            kinds,
            [
                (Some("/dev/mapper/fast-a"), "ext4"),
                (Some("/dev/mapper/fast-c"), "xfs")
            ]
        );
    }

    proptest! {
        #[test]
        fn no_output_brings_it_down(text in "\\PC{0,300}") {
            let _ = signatures(&text);
            let _ = probed(&text);
        }
    }
}
