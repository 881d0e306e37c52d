//! What the messages of zpool(8) and zfs(8) mean.
//!
//! Both end with status 1 or 2 whatever went wrong and say the reason in a line or two. Here such
//! lines become a typed error with the reason and a remedy.

use lazarette_plugin::command::{CommandError, Failure};
use lazarette_plugin::reasons::Reason;
use lazarette_plugin::{Error, ErrorKind};

/// In the order in which they are looked for.
const REASONS: &[Reason] = &[
    Reason::new(
        "I/O is currently suspended",
        ErrorKind::Unreachable,
        "bring its devices back, then run laz pool clear CONTEXT",
    ),
    Reason::new(
        "previously in use from another system",
        ErrorKind::PermissionDenied,
        "export it there (zpool export); if that machine is gone for good, set force_import: true",
    ),
    Reason::new(
        "currently imported",
        ErrorKind::Busy,
        "export it there (zpool export): importing it twice destroys it",
    ),
    Reason::new(
        "use the form 'zpool import",
        ErrorKind::PermissionDenied,
        "look at laz scan for what is wrong with the pool",
    ),
    Reason::new(
        "a pool with that name already exists",
        ErrorKind::AlreadyExists,
        "export the other pool of that name first",
    ),
    Reason::new(
        "pool already exists",
        ErrorKind::AlreadyExists,
        "give the new pool another name",
    ),
    Reason::new(
        "one or more devices is currently unavailable",
        ErrorKind::Unreachable,
        "attach the missing devices; laz scan shows which they are",
    ),
    Reason::new(
        "no such pool or dataset",
        ErrorKind::Unreachable,
        "attach the missing devices; laz scan shows which they are",
    ),
    Reason::new(
        "no such pool available",
        ErrorKind::NotFound,
        "check the devices; laz scan shows the pools that can be imported",
    ),
    Reason::new(
        "pool is busy",
        ErrorKind::Busy,
        "something still uses one of its datasets: stop it first",
    ),
    Reason::new(
        "device is too small",
        ErrorKind::InvalidArgument,
        "give it a device at least as large as the one it replaces",
    ),
    Reason::new(
        "one or more vdevs refer to the same device",
        ErrorKind::InvalidArgument,
        "name each device once, by its path in /dev/disk/by-id",
    ),
    Reason::new(
        "contains a filesystem",
        ErrorKind::AlreadyExists,
        "empty the device yourself, or let it be wiped: wipe: true",
    ),
    Reason::new(
        "is part of",
        ErrorKind::AlreadyExists,
        "take a blank device, or let it be wiped: wipe: true",
    ),
    Reason::new(
        "use '-f' to override",
        ErrorKind::InvalidArgument,
        "change what is named here: nothing is forced",
    ),
    Reason::new(
        "dataset is busy",
        ErrorKind::Busy,
        "stop what uses it and try again",
    ),
    Reason::new(
        "has dependent clones",
        ErrorKind::Busy,
        "remove the volumes that were cloned from it first",
    ),
    Reason::new(
        "more recent snapshots or bookmarks exist",
        ErrorKind::Busy,
        "remove the later snapshots first, or clone this one",
    ),
    Reason::new(
        "size is less than current used or reserved space",
        ErrorKind::InvalidArgument,
        "delete files first, or give it a larger size",
    ),
    Reason::new(
        "is greater than available space",
        ErrorKind::NoSpace,
        "make room in the pool, or ask for less",
    ),
    Reason::new(
        "out of space",
        ErrorKind::NoSpace,
        "remove volumes or snapshots, or add devices to the pool",
    ),
    Reason::new(
        "No space left on device",
        ErrorKind::NoSpace,
        "remove volumes or snapshots, or add devices to the pool",
    ),
    Reason::new(
        "dataset already exists",
        ErrorKind::AlreadyExists,
        "give it another name",
    ),
    Reason::new(
        "dataset does not exist",
        ErrorKind::NotFound,
        "check its name: laz pool datasets CONTEXT",
    ),
    Reason::new(
        "could not find any snapshots",
        ErrorKind::NotFound,
        "check its name: laz volume snapshots",
    ),
    Reason::new(
        "Incorrect key provided",
        ErrorKind::PermissionDenied,
        "put the right key into the secret",
    ),
    Reason::new(
        "Passphrase too short",
        ErrorKind::InvalidArgument,
        "put at least 8 characters into the secret",
    ),
    Reason::new(
        "Raw key too",
        ErrorKind::InvalidArgument,
        "put exactly 32 bytes into the secret",
    ),
    Reason::new(
        "Hex key too",
        ErrorKind::InvalidArgument,
        "put 64 hexadecimal digits into the secret",
    ),
    Reason::new(
        "invalid property",
        ErrorKind::InvalidArgument,
        "zfsprops(7) and zpoolprops(7) list the properties",
    ),
    Reason::new(
        "bad property",
        ErrorKind::InvalidArgument,
        "zfsprops(7) and zpoolprops(7) list the properties",
    ),
    Reason::new(
        "must be",
        ErrorKind::InvalidArgument,
        "zfsprops(7) lists the values",
    ),
    Reason::new(
        "currently scrubbing",
        ErrorKind::Busy,
        "laz status shows how far it is; stop it with stop=true",
    ),
    Reason::new(
        "currently resilvering",
        ErrorKind::Busy,
        "laz status shows how far it is",
    ),
    Reason::new(
        "there is no active scrub",
        ErrorKind::NotFound,
        "start one without stop",
    ),
    Reason::new(
        "no such device in pool",
        ErrorKind::NotFound,
        "laz pool status CONTEXT lists the devices",
    ),
    Reason::new(
        "no valid replicas",
        ErrorKind::Busy,
        "the data is on no other device: replace it first",
    ),
    Reason::new(
        "permission denied",
        ErrorKind::PermissionDenied,
        "look at laz logs CONTEXT",
    ),
];

/// What the failure of a program means for `what`, which was to be done.
pub(crate) fn explain(failed: &CommandError, what: &str) -> Error {
    match failed.failure {
        Failure::Exit(_) => explain_message(&failed.stderr, what),
        Failure::Deadline(_) | Failure::Abandoned { .. } => Error::new(ErrorKind::Timeout, what)
            .cause(match last_line(&failed.stderr) {
                "" => "ZFS does not answer",
                said => said,
            })
            .remedy("look at the devices and at laz status; it is tried again by itself"),
        _ => Error::internal(what)
            .caused_by(failed)
            .remedy("the storage container's image lacks zfsutils-linux; build it again"),
    }
}

/// What a message means for `what`, which was to be done.
pub(crate) fn explain_message(stderr: &str, what: &str) -> Error {
    let said = match condensed(stderr) {
        said if said.is_empty() => "the program failed without a word".to_owned(),
        said => said,
    };
    match Reason::of(REASONS, stderr.lines()) {
        Some((reason, _)) => reason.error(what, &said),
        None => Error::internal(what)
            .cause(said)
            .remedy("look at laz logs CONTEXT"),
    }
}

/// Whether a message says that what it is about is not there.
pub(crate) fn is_absent(stderr: &str) -> bool {
    let absent = |line: &str| {
        line.contains("dataset does not exist")
            || line.contains("could not find any snapshots to destroy")
            || line.contains("snapshot does not exist")
    };
    stderr.lines().any(absent)
}

/// Lines that tell how to use the tools by hand.
const ADVICE: &[&str] = &[
    "use '-f'",
    "use '-r'",
    "use '-R'",
    "usage:",
    "The pool can be imported, use",
    "For more info",
    "Recovery is possible",
];

/// A message in one line, without advice that does not fit here.
fn condensed(stderr: &str) -> String {
    let lines = stderr.lines().map(str::trim);
    let kept: Vec<&str> = lines
        .filter(|line| !line.is_empty() && !ADVICE.iter().any(|a| line.starts_with(a)))
        .take(6)
        .collect();
    kept.join(" ")
}

fn last_line(stderr: &str) -> &str {
    stderr
        .lines()
        .rfind(|line| !line.trim().is_empty())
        .unwrap_or("")
        .trim()
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
