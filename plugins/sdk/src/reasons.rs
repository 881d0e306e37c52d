//! What the messages of a tool mean.
//!
//! Tools of storage end with one status whatever went wrong, and say the reason in words. A table of
//! [`Reason`]s makes of such words a typed error with a remedy. Tools are to be run with
//! `LC_ALL=C`, which [`command`](crate::command) sets.

use crate::{Error, ErrorKind};

/// What a message means.
///
/// ```
/// use lazarette_plugin::{ErrorKind, reasons::Reason};
///
/// const REASONS: &[Reason] = &[
///     Reason::new("Access denied", ErrorKind::PermissionDenied, "let this host in"),
///     Reason::new("denied", ErrorKind::PermissionDenied, "ask the server's administrator"),
/// ];
///
/// let said = "mounting\nhammer: 17: Access denied\n";
/// let (reason, line) = Reason::of(REASONS, said.lines()).unwrap();
/// let error = reason.error("cannot mount media", line);
/// assert_eq!(error.kind, ErrorKind::PermissionDenied);
/// assert_eq!(error.cause.as_deref(), Some("hammer: 17: Access denied"));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reason {
    /// A part of the message.
    pub says: &'static str,
    /// The kind of the failure.
    pub kind: ErrorKind,
    /// What to do about it.
    pub remedy: &'static str,
}

impl Reason {
    /// What a message means that `says` this.
    pub const fn new(says: &'static str, kind: ErrorKind, remedy: &'static str) -> Self {
        Self { says, kind, remedy }
    }

    /// The first of `reasons` that one of `lines` says, and the first line that says it. Put what is
    /// special before what is general.
    pub fn of<'a>(
        reasons: &'static [Self],
        lines: impl Iterator<Item = &'a str> + Clone,
    ) -> Option<(&'static Self, &'a str)> {
        let said = |reason: &Self| lines.clone().find(|line| line.contains(reason.says));
        reasons
            .iter()
            .find_map(|reason| Some((reason, said(reason)?)))
    }

    /// The error for `what`, which could not be done, when a tool has said `line`.
    pub fn error(&self, what: impl Into<String>, line: &str) -> Error {
        Error::new(self.kind, what)
            .cause(line.trim())
            .remedy(self.remedy)
    }
}

#[cfg(test)]
mod unit_tests {
    use super::*;

    const REASONS: &[Reason] = &[
        Reason::new("no such pool", ErrorKind::NotFound, "scan"),
        Reason::new("no such", ErrorKind::Internal, "look at the log"),
    ];

    #[test]
    fn the_order_of_reasons_counts_and_not_that_of_the_lines() {
        let said = "no such device\n  no such pool: tank \n";
        let (reason, line) = Reason::of(REASONS, said.lines()).unwrap();
        let error = reason.error("cannot import tank", line);
        assert_eq!(error.kind, ErrorKind::NotFound);
        assert_eq!(error.cause.as_deref(), Some("no such pool: tank"));
        assert_eq!(error.remedy.as_deref(), Some("scan"));
    }

    #[test]
    fn what_no_reason_says_has_none() {
        assert_eq!(Reason::of(REASONS, "out of memory".lines()), None);
    }
}
