//! What is told in the manifest is done, and what is not told is refused.

use lazarette_core::ErrorKind;
use lazarette_core::manifest::Capability;
use lazarette_core::message::Method;
use lazarette_core::volume::{CloneSource, SnapshotId};

use super::{Found, Named, failed, needs};
use crate::kit::Kit;
use crate::report::Verdict;

pub(super) const CHECKS: &[Named] = &[
    Named::open(
        "capabilities.missing",
        "a method that the manifest does not offer is refused with the kind `unsupported`",
        missing,
    ),
    Named::open(
        "capabilities.size",
        "a volume made with a size has no more room than that",
        size,
    ),
];

fn missing(kit: &mut Kit) -> Found {
    let volume = kit.made()?;
    let snapshot = SnapshotId::random();
    let clone = lazarette_core::volume::Volume {
        id: lazarette_core::VolumeId::random(),
        options: volume.options.clone(),
    };
    let source = CloneSource {
        volume: volume.clone(),
        snapshot: None,
    };
    let methods = [
        (
            Capability::Snapshot,
            Method::Snapshot {
                volume: volume.clone(),
                snapshot,
            },
        ),
        (
            Capability::Snapshot,
            Method::RemoveSnapshot {
                volume: volume.clone(),
                snapshot,
            },
        ),
        (
            Capability::Rollback,
            Method::Rollback {
                volume: volume.clone(),
                snapshot,
            },
        ),
        (
            Capability::Clone,
            Method::Clone {
                volume: clone,
                source,
            },
        ),
        (
            Capability::Resize,
            Method::Resize {
                volume: volume.clone(),
            },
        ),
    ];
    for (capability, method) in methods {
        if kit.offers(capability) {
            continue;
        }
        let name = method.name();
        let error = kit.refused(method, "though the manifest does not offer it")?;
        if error.kind != ErrorKind::Unsupported {
            return failed(format!(
                "{name}, which it does not offer, fails with the kind {:?}, not Unsupported: {error}",
                error.kind
            ));
        }
    }
    Ok(Verdict::Passed)
}

/// Bytes of a size as options write it.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_shl(unit)
}

fn size(kit: &mut Kit) -> Found {
    needs!(kit, Size);
    let asked = kit.settings.volume.get("size").cloned();
    let asked = asked.as_ref().and_then(|size| match size {
        serde_json::Value::String(text) => bytes(text),
        other => other.as_u64(),
    });
    let Some(asked) = asked else {
        return super::skipped("the settings give volumes no `size`");
    };
    let volume = kit.made()?;
    let (_, fd) = kit.mount(&volume)?;
    let room = room(&fd)?;
    // A file system rounds up to its own units.
    if room > asked + asked / 8 + (1 << 20) {
        return failed(format!("a volume of {asked} bytes has room for {room}"));
    }
    Ok(Verdict::Passed)
}

/// How many bytes a file system has in all.
pub(super) fn room(fd: &std::os::fd::OwnedFd) -> Result<u64, crate::subject::Failed> {
    let facts = rustix::fs::fstatvfs(fd).map_err(std::io::Error::from)?;
    Ok(facts.f_blocks * facts.f_frsize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_options_write_them() {
        assert_eq!(bytes("64"), Some(64));
        assert_eq!(bytes("64M"), Some(64 << 20));
        assert_eq!(bytes("1GiB"), Some(1 << 30));
        assert_eq!(bytes("many"), None);
        assert_eq!(bytes("1x"), None);
    }
}
