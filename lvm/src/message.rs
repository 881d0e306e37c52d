//! What the messages of LVM's tools mean: a typed error with the reason and a remedy.

use lazarette_plugin::command::{CommandError, Exit, Failure};
use lazarette_plugin::{Error, ErrorKind};

/// What a message means.
struct Reason {
    /// A part of the message.
    says: &'static str,
    kind: ErrorKind,
    remedy: &'static str,
}

const fn reason(says: &'static str, kind: ErrorKind, remedy: &'static str) -> Reason {
    Reason { says, kind, remedy }
}

/// In the order in which they are looked for.
const REASONS: &[Reason] = &[
    reason(
        "duplicate PV",
        ErrorKind::InvalidArgument,
        "take the copy away, or name the right ones by stable paths: devices: [/dev/disk/by-id/…]",
    ),
    reason(
        "while PVs are missing",
        ErrorKind::Unreachable,
        "plug the missing device in again, or give it up: laz pool repair CONTEXT",
    ),
    reason(
        "insufficient free space",
        ErrorKind::NoSpace,
        "remove volumes, or add a device: laz pool extend CONTEXT",
    ),
    reason(
        "Insufficient free space",
        ErrorKind::NoSpace,
        "remove volumes, or add a device: laz pool extend CONTEXT",
    ),
    reason(
        "Insufficient suitable",
        ErrorKind::NoSpace,
        "the layout needs room on several devices: add one (laz pool extend CONTEXT), or choose another type",
    ),
    reason(
        "is above threshold, new volumes are not allowed",
        ErrorKind::NoSpace,
        "extend the thin pool, or remove volumes or snapshots",
    ),
    reason(
        "Snapshot origin volumes can be resized only while inactive",
        ErrorKind::Busy,
        "remove its snapshots first: only thin volumes grow while they have some",
    ),
    reason(
        "contains a filesystem in use",
        ErrorKind::Busy,
        "stop what uses it; the host itself may have mounted it",
    ),
    reason(
        " in use",
        ErrorKind::Busy,
        "stop what uses it; the host itself may have mounted it",
    ),
    reason(
        "already exists in volume group",
        ErrorKind::AlreadyExists,
        "choose another name",
    ),
    reason(
        "A volume group called",
        ErrorKind::AlreadyExists,
        "choose another name",
    ),
    reason(
        "is exported",
        ErrorKind::Busy,
        "it was taken out of its machine on purpose: vgimport it first",
    ),
    reason(
        "with system ID",
        ErrorKind::PermissionDenied,
        "it belongs to another machine: change its system ID there (vgchange --systemid)",
    ),
    reason(
        "Failed to find logical volume",
        ErrorKind::NotFound,
        "laz scan and laz volume ls show what there is",
    ),
    reason(
        "not found",
        ErrorKind::NotFound,
        "check the name, and that all its devices are plugged in: laz scan",
    ),
    reason(
        "Manual repair required",
        ErrorKind::Internal,
        "repair the thin pool's metadata: lvconvert --repair (see docs/lvm.md)",
    ),
    reason(
        "target support missing",
        ErrorKind::Internal,
        "load the device mapper's modules on the host (laz doctor)",
    ),
    reason(
        "target(s) not detected",
        ErrorKind::Internal,
        "load the device mapper's modules on the host (laz doctor)",
    ),
    reason(
        "device-mapper driver",
        ErrorKind::Internal,
        "load the module dm_mod on the host (laz doctor)",
    ),
    reason(
        "get lock",
        ErrorKind::Busy,
        "another LVM command holds the volume group; it is tried again by itself",
    ),
    reason(
        "Input/output error",
        ErrorKind::Unreachable,
        "look at the devices: laz status, dmesg",
    ),
];

/// What the failure of a program means; `what` says what could not be done.
pub(crate) fn explain(failed: &CommandError, what: &str) -> Error {
    match failed.failure {
        Failure::Deadline(_) | Failure::Abandoned { .. } => {
            let cause = match last_line(&failed.stderr) {
                "" => "it took too long; does a device not answer?".to_owned(),
                said => said.to_owned(),
            };
            Error::new(ErrorKind::Timeout, what)
                .cause(cause)
                .remedy("look at the devices (dmesg); it is tried again by itself")
        }
        // What it said before is not why.
        Failure::Exit(Exit::Signal(signal)) => Error::internal(what)
            .cause(format!("the command was killed by signal {signal}"))
            .remedy("try again; look at dmesg: was there not enough memory?"),
        Failure::Exit(_) => explain_text(&failed.stderr, what),
        _ => Error::internal(what)
            .caused_by(failed)
            .remedy("the storage container's image lacks a program; build it again"),
    }
}

/// What a program's messages mean.
pub(crate) fn explain_text(said: &str, what: &str) -> Error {
    let found = REASONS
        .iter()
        .find_map(|r| Some((r, said.lines().find(|l| l.contains(r.says))?)));
    match found {
        Some((reason, line)) => Error::new(reason.kind, what)
            .cause(line.trim())
            .remedy(reason.remedy),
        None => {
            let cause = match last_line(said) {
                "" => "the program failed without a word",
                line => line,
            };
            Error::internal(what)
                .cause(cause)
                .remedy("look at laz logs CONTEXT and dmesg")
        }
    }
}

/// The last line that says what is wrong: not one that only warns, or says where to read on.
fn last_line(text: &str) -> &str {
    let says = |line: &&str| {
        let line = line.trim();
        !line.is_empty() && !line.starts_with("Run `") && !line.starts_with("WARNING: ")
    };
    text.lines().rfind(says).unwrap_or("").trim()
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
