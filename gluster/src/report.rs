//! What the client's log means.
//!
//! The client says nothing but by its log, and its exit status tells little: it is 0 for a volume
//! that does not exist. So the log of a mount that failed becomes a typed error with the reason
//! and a remedy; and what it says of a split brain is remembered.

use std::collections::BTreeSet;

use lazarette_plugin::reasons::Reason;
use lazarette_plugin::{Error, ErrorKind};

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    /// `T`, `D`, `I`, `W`, `E`, `C`, …
    pub(crate) level: char,
    /// What it says, without the place in the source code.
    pub(crate) text: &'a str,
}

/// The lines that have a level; the description of the volume, which has none, is left out.
pub(crate) fn lines(log: &str) -> impl Iterator<Item = Line<'_>> + Clone {
    log.lines().filter_map(line)
}

/// `[DATE] LEVEL [MSGID: N] [FILE:LINE:FUNCTION] (BACKTRACE) N-TRANSLATOR: TEXT`, without what is
/// before the translator.
fn line(text: &str) -> Option<Line<'_>> {
    let rest = text.strip_prefix('[')?;
    let (date, mut rest) = rest.split_once("] ")?;
    if !date.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let level = rest.chars().next().filter(char::is_ascii_uppercase)?;
    rest = rest[1..].strip_prefix(' ')?;
    while let Some((_, after)) = rest.strip_prefix('[').and_then(|r| r.split_once("] ")) {
        rest = after;
    }
    // A backtrace ends where the translator, a number and a name, begins.
    if rest.starts_with('(')
        && let Some((_, after)) = rest.rsplit_once(") ")
    {
        rest = after;
    }
    Some(Line {
        level,
        text: rest.trim(),
    })
}

/// In the order in which they are looked for.
const REASONS: &[Reason] = &[
    Reason::new(
        "failed to fetch volume file",
        ErrorKind::NotFound,
        "check the volume's name: gluster volume list on a server",
    ),
    Reason::new(
        "subdirectory for mount",
        ErrorKind::NotFound,
        "make the directory in the volume, or leave subdirectory out",
    ),
    Reason::new(
        "remote-error=Authentication failed",
        ErrorKind::PermissionDenied,
        "let this host's address in: gluster volume set VOLUME auth.allow …",
    ),
    Reason::new(
        "DNS resolution failed",
        ErrorKind::Unreachable,
        "check the servers' names and this host's name server; it is tried again by itself",
    ),
    Reason::new(
        "cannot open /dev/fuse",
        ErrorKind::Internal,
        "this host's kernel has no FUSE, or the storage container lacks /dev/fuse: load the module fuse (laz doctor)",
    ),
    Reason::new(
        "failed to get the port number for remote subvolume",
        ErrorKind::Unreachable,
        "start the volume or its bricks: gluster volume status on a server; it is tried again by itself",
    ),
    Reason::new(
        "All subvolumes are down",
        ErrorKind::Unreachable,
        "start the volume or its bricks: gluster volume status on a server; it is tried again by itself",
    ),
    Reason::new(
        "Exhausted all volfile servers",
        ErrorKind::Unreachable,
        "check the servers and the network; it is tried again by itself",
    ),
    Reason::new(
        "failed to connect with remote-host",
        ErrorKind::Unreachable,
        "check the servers and the network; it is tried again by itself",
    ),
    Reason::new(
        "Operation not permitted",
        ErrorKind::PermissionDenied,
        "check that the storage container has the capability SYS_ADMIN",
    ),
];

/// Why the mount of `source` failed, by what its client wrote and did (`how`: `exit status 1`).
pub(crate) fn explain(log: &str, how: &str, source: &str) -> Error {
    let what = format!("cannot mount {source}");
    if let Some((reason, text)) = Reason::of(REASONS, lines(log).map(|l| l.text)) {
        return reason.error(what, without_translator(text));
    }
    let worst = lines(log).filter(|l| "EC".contains(l.level)).last();
    match worst {
        Some(line) => Error::new(ErrorKind::Unreachable, what)
            .cause(without_translator(line.text))
            .remedy("look at laz logs CONTEXT; it is tried again by itself"),
        // The client says nothing more of a connection that was refused.
        None => Error::new(ErrorKind::Unreachable, what)
            .cause(format!("the client ended ({how}) without a reason"))
            .remedy("check the servers; it is tried again by itself"),
    }
}

/// The text without the `0-mgmt: ` in front.
fn without_translator(text: &str) -> &str {
    match text.split_once(": ") {
        Some((translator, rest))
            if !rest.is_empty()
                && translator.starts_with(|c: char| c.is_ascii_digit())
                && !translator.contains(' ') =>
        {
            rest
        }
        _ => text,
    }
}

/// The files (by their gfid) that the log says are in split brain.
pub(crate) fn split_brains(log: &str) -> BTreeSet<String> {
    let gfid = |line: Line<'_>| {
        if !line.text.contains("split-brain observed") {
            return None;
        }
        let (_, after) = line.text.split_once("on gfid ")?;
        let end = after.find(|c: char| !c.is_ascii_hexdigit() && c != '-');
        let gfid = &after[..end.unwrap_or(after.len())];
        (gfid.len() == 36).then(|| gfid.to_owned())
    };
    lines(log).filter_map(gfid).collect()
}

/// What of the log is told to whoever reads the context's: all but what our own looks cause.
pub(crate) fn worth_telling(log: &str) -> Vec<Line<'_>> {
    /// The client's virtual directory is no real one, and warns of it at each look.
    const OURS: &[&str] = &[
        "Trying to link namespace which is not a directory",
        "extended attribute not supported by the backend storage",
        // Each request that fails has a line; that no brick is there has one too.
        "Transport endpoint is not connected",
        "Configure ios_sample_buf",
    ];
    lines(log)
        .filter(|l| !OURS.iter().any(|ours| l.text.contains(ours)))
        .collect()
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
