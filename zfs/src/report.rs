//! What the messages of zpool(8) and zfs(8) mean.
//!
//! Both end with status 1 or 2 whatever went wrong and say the reason in a line or two. Here such
//! lines become a typed error with the reason and a remedy.

use lazarette_plugin::command::{CommandError, Failure};
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
        "I/O is currently suspended",
        ErrorKind::Unreachable,
        "bring its devices back, then run laz pool clear CONTEXT",
    ),
    reason(
        "previously in use from another system",
        ErrorKind::PermissionDenied,
        "export it there (zpool export); if that machine is gone for good, set force_import: true",
    ),
    reason(
        "currently imported",
        ErrorKind::Busy,
        "export it there (zpool export): importing it twice destroys it",
    ),
    reason(
        "use the form 'zpool import",
        ErrorKind::PermissionDenied,
        "look at laz scan for what is wrong with the pool",
    ),
    reason(
        "a pool with that name already exists",
        ErrorKind::AlreadyExists,
        "export the other pool of that name first",
    ),
    reason(
        "pool already exists",
        ErrorKind::AlreadyExists,
        "give the new pool another name",
    ),
    reason(
        "one or more devices is currently unavailable",
        ErrorKind::Unreachable,
        "attach the missing devices; laz scan shows which they are",
    ),
    reason(
        "no such pool or dataset",
        ErrorKind::Unreachable,
        "attach the missing devices; laz scan shows which they are",
    ),
    reason(
        "no such pool available",
        ErrorKind::NotFound,
        "check the devices; laz scan shows the pools that can be imported",
    ),
    reason(
        "pool is busy",
        ErrorKind::Busy,
        "something still uses one of its datasets: stop it first",
    ),
    reason(
        "device is too small",
        ErrorKind::InvalidArgument,
        "give it a device at least as large as the one it replaces",
    ),
    reason(
        "one or more vdevs refer to the same device",
        ErrorKind::InvalidArgument,
        "name each device once, by its path in /dev/disk/by-id",
    ),
    reason(
        "contains a filesystem",
        ErrorKind::AlreadyExists,
        "empty the device yourself, or let it be wiped: wipe: true",
    ),
    reason(
        "is part of",
        ErrorKind::AlreadyExists,
        "take a blank device, or let it be wiped: wipe: true",
    ),
    reason(
        "use '-f' to override",
        ErrorKind::InvalidArgument,
        "change what is named here: nothing is forced",
    ),
    reason(
        "dataset is busy",
        ErrorKind::Busy,
        "stop what uses it and try again",
    ),
    reason(
        "has dependent clones",
        ErrorKind::Busy,
        "remove the volumes that were cloned from it first",
    ),
    reason(
        "more recent snapshots or bookmarks exist",
        ErrorKind::Busy,
        "remove the later snapshots first, or clone this one",
    ),
    reason(
        "size is less than current used or reserved space",
        ErrorKind::InvalidArgument,
        "delete files first, or give it a larger size",
    ),
    reason(
        "is greater than available space",
        ErrorKind::NoSpace,
        "make room in the pool, or ask for less",
    ),
    reason(
        "out of space",
        ErrorKind::NoSpace,
        "remove volumes or snapshots, or add devices to the pool",
    ),
    reason(
        "No space left on device",
        ErrorKind::NoSpace,
        "remove volumes or snapshots, or add devices to the pool",
    ),
    reason(
        "dataset already exists",
        ErrorKind::AlreadyExists,
        "give it another name",
    ),
    reason(
        "dataset does not exist",
        ErrorKind::NotFound,
        "check its name: laz pool datasets CONTEXT",
    ),
    reason(
        "could not find any snapshots",
        ErrorKind::NotFound,
        "check its name: laz volume snapshots",
    ),
    reason(
        "Incorrect key provided",
        ErrorKind::PermissionDenied,
        "put the right key into the secret",
    ),
    reason(
        "Passphrase too short",
        ErrorKind::InvalidArgument,
        "put at least 8 characters into the secret",
    ),
    reason(
        "Raw key too",
        ErrorKind::InvalidArgument,
        "put exactly 32 bytes into the secret",
    ),
    reason(
        "Hex key too",
        ErrorKind::InvalidArgument,
        "put 64 hexadecimal digits into the secret",
    ),
    reason(
        "invalid property",
        ErrorKind::InvalidArgument,
        "zfsprops(7) and zpoolprops(7) list the properties",
    ),
    reason(
        "bad property",
        ErrorKind::InvalidArgument,
        "zfsprops(7) and zpoolprops(7) list the properties",
    ),
    reason(
        "must be",
        ErrorKind::InvalidArgument,
        "zfsprops(7) lists the values",
    ),
    reason(
        "currently scrubbing",
        ErrorKind::Busy,
        "laz status shows how far it is; stop it with stop=true",
    ),
    reason(
        "currently resilvering",
        ErrorKind::Busy,
        "laz status shows how far it is",
    ),
    reason(
        "there is no active scrub",
        ErrorKind::NotFound,
        "start one without stop",
    ),
    reason(
        "no such device in pool",
        ErrorKind::NotFound,
        "laz pool status CONTEXT lists the devices",
    ),
    reason(
        "no valid replicas",
        ErrorKind::Busy,
        "the data is on no other device: replace it first",
    ),
    reason(
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
    let found = REASONS.iter().find(|r| stderr.contains(r.says));
    let (kind, remedy) = found.map_or((ErrorKind::Internal, "look at laz logs CONTEXT"), |r| {
        (r.kind, r.remedy)
    });
    let said = condensed(stderr);
    let cause = if said.is_empty() {
        "the program failed without a word".to_owned()
    } else {
        said
    };
    Error::new(kind, what).cause(cause).remedy(remedy)
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
