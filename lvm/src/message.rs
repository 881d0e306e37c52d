//! What the messages of LVM's tools mean: a typed error with the reason and a remedy.

use lazarette_plugin::command::{CommandError, Exit, Failure};
use lazarette_plugin::reasons::Reason;
use lazarette_plugin::{Error, ErrorKind};

/// In the order in which they are looked for.
const REASONS: &[Reason] = &[
    Reason::new(
        "duplicate PV",
        ErrorKind::InvalidArgument,
        "take the copy away, or name the right ones by stable paths: devices: [/dev/disk/by-id/…]",
    ),
    Reason::new(
        "while PVs are missing",
        ErrorKind::Unreachable,
        "plug the missing device in again, or give it up: laz pool repair CONTEXT",
    ),
    Reason::new(
        "insufficient free space",
        ErrorKind::NoSpace,
        "remove volumes, or add a device: laz pool extend CONTEXT",
    ),
    Reason::new(
        "Insufficient free space",
        ErrorKind::NoSpace,
        "remove volumes, or add a device: laz pool extend CONTEXT",
    ),
    Reason::new(
        "Insufficient suitable",
        ErrorKind::NoSpace,
        "the layout needs room on several devices: add one (laz pool extend CONTEXT), or choose another type",
    ),
    Reason::new(
        "must not exceed number of physical volumes",
        ErrorKind::InvalidArgument,
        "add devices to the volume group (laz pool extend CONTEXT), or ask for fewer stripes or another type",
    ),
    Reason::new(
        "is above threshold, new volumes are not allowed",
        ErrorKind::NoSpace,
        "extend the thin pool, or remove volumes or snapshots",
    ),
    Reason::new(
        "Snapshot origin volumes can be resized only while inactive",
        ErrorKind::Busy,
        "remove its snapshots first: only thin volumes grow while they have some",
    ),
    Reason::new(
        "contains a filesystem in use",
        ErrorKind::Busy,
        "stop what uses it; the host itself may have mounted it",
    ),
    Reason::new(
        " in use",
        ErrorKind::Busy,
        "stop what uses it; the host itself may have mounted it",
    ),
    Reason::new(
        "already exists in volume group",
        ErrorKind::AlreadyExists,
        "choose another name",
    ),
    Reason::new(
        "A volume group called",
        ErrorKind::AlreadyExists,
        "choose another name",
    ),
    Reason::new(
        "is exported",
        ErrorKind::Busy,
        "it was taken out of its machine on purpose: vgimport it first",
    ),
    Reason::new(
        "with system ID",
        ErrorKind::PermissionDenied,
        "it belongs to another machine: change its system ID there (vgchange --systemid)",
    ),
    Reason::new(
        "Failed to find logical volume",
        ErrorKind::NotFound,
        "laz scan and laz volume ls show what there is",
    ),
    Reason::new(
        "not found",
        ErrorKind::NotFound,
        "check the name, and that all its devices are plugged in: laz scan",
    ),
    Reason::new(
        "Manual repair required",
        ErrorKind::Internal,
        "repair the thin pool's metadata: lvconvert --repair (see docs/lvm.md)",
    ),
    Reason::new(
        "target support missing",
        ErrorKind::Internal,
        "load the device mapper's modules on the host (laz doctor)",
    ),
    Reason::new(
        "target(s) not detected",
        ErrorKind::Internal,
        "load the device mapper's modules on the host (laz doctor)",
    ),
    Reason::new(
        "device-mapper driver",
        ErrorKind::Internal,
        "load the module dm_mod on the host (laz doctor)",
    ),
    Reason::new(
        "get lock",
        ErrorKind::Busy,
        "another LVM command holds the volume group; it is tried again by itself",
    ),
    Reason::new(
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
    match Reason::of(REASONS, said.lines()) {
        Some((reason, line)) => reason.error(what, line),
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
