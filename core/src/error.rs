//! The error that crosses the plugin boundary, the wire and the control socket.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A result whose error can cross a process boundary.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of thing went wrong; decides whether core tries again and what `laz` exits with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request can never succeed as it stands: a bad name, option or value.
    InvalidArgument,
    /// What the request names is not there (an export, a pool, a volume).
    NotFound,
    /// The name is taken by something that differs from the request.
    AlreadyExists,
    /// It is in use or locked; it may work later.
    Busy,
    /// The storage refuses access.
    PermissionDenied,
    /// The storage, its name server or its network does not answer.
    Unreachable,
    /// The deadline passed.
    Timeout,
    /// The caller took the request back.
    Cancelled,
    /// This kind of storage (or this version of its plugin) cannot do that.
    Unsupported,
    /// No room left.
    NoSpace,
    /// The mounted file system is no longer what it was (ESTALE, ENOTCONN).
    Stale,
    /// The plugin broke its contract or died.
    Plugin,
    /// Our own fault or the operating system's.
    Internal,
    /// One that a newer version has and this one does not know.
    #[serde(other)]
    Unknown,
}

impl ErrorKind {
    /// Whether the same request may succeed later without anybody changing it.
    pub fn is_transient(self) -> bool {
        !matches!(
            self,
            Self::InvalidArgument | Self::AlreadyExists | Self::Cancelled | Self::Unsupported
        )
    }
}

/// What failed, why, and what to do about it.
///
/// `Display` prints all three on one line: `what: cause; remedy`. What a newer version says beside
/// them is not read.
///
/// ```
/// use lazarette_core::{Error, ErrorKind};
///
/// let error = Error::new(ErrorKind::Busy, "pool tank: cannot be exported")
///     .cause("dataset is busy")
///     .remedy("stop the containers that use it");
/// assert_eq!(
///     error.to_string(),
///     "pool tank: cannot be exported: dataset is busy; stop the containers that use it"
/// );
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    /// The kind, for programs.
    pub kind: ErrorKind,
    /// What could not be done, naming the thing (`volume "media": cannot mount nas.test:/srv/media`).
    pub message: String,
    /// The reason as the tool, server or kernel gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// What the reader can do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Error {
    /// An error of `kind` saying what could not be done.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            cause: None,
            remedy: None,
        }
    }

    /// Shorthand for [`ErrorKind::InvalidArgument`].
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidArgument, message)
    }

    /// Shorthand for [`ErrorKind::Internal`].
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// Shorthand for [`ErrorKind::NotFound`].
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    /// Shorthand for [`ErrorKind::Unsupported`], naming the operation and the kind of storage.
    pub fn unsupported(operation: &str, kind: &str) -> Self {
        Self::new(
            ErrorKind::Unsupported,
            format!("{kind} volumes cannot {operation}"),
        )
    }

    /// Adds the reason. Whole source chains are flattened by [`cause_chain`](Self::caused_by).
    #[must_use]
    pub fn cause(mut self, cause: impl fmt::Display) -> Self {
        self.cause = Some(cause.to_string());
        self
    }

    /// Adds the reason together with everything in its `source()` chain.
    #[must_use]
    pub fn caused_by(mut self, error: &dyn std::error::Error) -> Self {
        let mut text = error.to_string();
        let mut next = error.source();
        while let Some(source) = next {
            let line = source.to_string();
            if !text.contains(&line) {
                text.push_str(": ");
                text.push_str(&line);
            }
            next = source.source();
        }
        self.cause = Some(text);
        self
    }

    /// Adds what the reader can do.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(cause) = &self.cause {
            write!(f, ": {cause}")?;
        }
        if let Some(remedy) = &self.remedy {
            write!(f, "; {remedy}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}
