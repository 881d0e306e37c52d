//! Names and option text, validated once, at the edge.
//!
//! Everything that reaches a container engine, a mount option or a path goes through one of
//! these types, so the code behind them need not check again.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::Error;

macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident, $check:path, $pattern:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks `text`.
            ///
            /// # Errors
            /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) saying which rule is broken.
            pub fn new(text: impl Into<String>) -> Result<Self, Error> {
                let text = text.into();
                $check(&text)?;
                Ok(Self(text))
            }

            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;
            fn try_from(text: String) -> Result<Self, Error> {
                Self::new(text)
            }
        }

        impl std::str::FromStr for $name {
            type Err = Error;
            fn from_str(text: &str) -> Result<Self, Error> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "pattern": $pattern })
            }
        }
    };
}

text_type!(
    /// The name of a storage context: `[a-z0-9][a-z0-9-]{0,62}`.
    ContextName, check_context, "^[a-z0-9][a-z0-9-]{0,62}$"
);
text_type!(
    /// The kind of storage a plugin serves (`nfs`, `zfs`, …): written like a context's name.
    Kind, check_kind, "^[a-z0-9][a-z0-9-]{0,62}$"
);
text_type!(
    /// The name of a volume, as Docker allows it: `[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}`.
    VolumeName, check_volume, "^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$"
);
text_type!(
    /// The name of a snapshot, unique among those of its volume; written like a volume's.
    SnapshotName, check_snapshot, "^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$"
);
text_type!(
    /// Text that becomes a mount option or an argument of a storage tool: 1 to 1,024 bytes,
    /// no comma, no control character, no leading `-`.
    OptionText, check_option, "^[^,\\x00-\\x1f\\x7f-]([^,\\x00-\\x1f\\x7f]*)$"
);

fn check_context(text: &str) -> Result<(), Error> {
    check_identifier(
        "context name",
        text,
        63,
        |c| c.is_ascii_lowercase() || c.is_ascii_digit(),
        "-",
        "lower-case letters, digits and '-'",
    )
}

fn check_kind(text: &str) -> Result<(), Error> {
    check_identifier(
        "kind",
        text,
        63,
        |c| c.is_ascii_lowercase() || c.is_ascii_digit(),
        "-",
        "lower-case letters, digits and '-'",
    )
}

fn check_volume(text: &str) -> Result<(), Error> {
    check_volume_like("volume name", text)
}

fn check_snapshot(text: &str) -> Result<(), Error> {
    check_volume_like("snapshot name", text)
}

fn check_volume_like(what: &str, text: &str) -> Result<(), Error> {
    check_identifier(
        what,
        text,
        128,
        |c| c.is_ascii_alphanumeric(),
        "_.-",
        "letters, digits, '_', '.' and '-'",
    )
}

fn check_identifier(
    what: &str,
    text: &str,
    longest: usize,
    first: impl Fn(char) -> bool,
    further: &str,
    allowed: &str,
) -> Result<(), Error> {
    let bad = |why: String| {
        Err(
            Error::invalid(format!("{what} {}: {why}", quoted(text))).remedy(format!(
                "use 1 to {longest} {allowed}, beginning with a letter or digit"
            )),
        )
    };
    match text.chars().next() {
        None => return bad("is empty".into()),
        Some(c) if !first(c) => return bad(format!("must not begin with {c:?}")),
        Some(_) => {}
    }
    if text.len() > longest {
        return bad(format!("is {} characters long", text.len()));
    }
    match text.chars().find(|&c| !first(c) && !further.contains(c)) {
        Some(c) => bad(format!("must not contain {c:?}")),
        None => Ok(()),
    }
}

fn check_option(text: &str) -> Result<(), Error> {
    let bad = |why: String| {
        Err(Error::invalid(format!(
            "option text {}: {why}",
            quoted(text)
        )))
    };
    if text.is_empty() {
        return bad("is empty".into());
    }
    if text.len() > 1024 {
        return bad(format!("is {} bytes long, 1024 at most", text.len()));
    }
    if text.starts_with('-') {
        return bad("must not begin with '-'".into());
    }
    match text.chars().find(|&c| c == ',' || c.is_control()) {
        Some(c) => bad(format!("must not contain {c:?}")),
        None => Ok(()),
    }
}

/// `text` in quotes with control characters escaped and cut after 64 characters, fit for an error.
pub fn quoted(text: &str) -> String {
    let mut shown: String = text.chars().take(64).flat_map(char::escape_debug).collect();
    if text.chars().count() > 64 {
        shown.push('…');
    }
    format!("\"{shown}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_escape_a_path_or_an_option_are_refused() {
        for bad in [
            "", "-a", "a/b", "..", ".", "a,b", "a\nb", "A", "a b", "ä", "a\0",
        ] {
            assert!(ContextName::new(bad).is_err(), "{bad:?}");
        }
        for bad in [
            "", "-a", "a/b", "..", ".", "a,b", "a\nb", "a b", "ä", "_a", "a\0",
        ] {
            assert!(VolumeName::new(bad).is_err(), "{bad:?}");
        }
        assert!(ContextName::new("a".repeat(63)).is_ok());
        assert!(ContextName::new("a".repeat(64)).is_err());
        assert!(VolumeName::new("a".repeat(128)).is_ok());
        assert!(VolumeName::new("a".repeat(129)).is_err());
    }

    #[test]
    fn option_text_cannot_smuggle_a_second_option_or_a_flag() {
        for bad in ["", "-o", "a,b", "a\nb", "a\0", "a\u{7f}", "a\u{85}"] {
            assert!(OptionText::new(bad).is_err(), "{bad:?}");
        }
        for good in ["4.2", "/srv/media", "nas.test", "a=b", "[fe80::1]", "x-y"] {
            assert!(OptionText::new(good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn the_error_names_the_text_the_rule_and_the_remedy() {
        let error = ContextName::new("Nas").unwrap_err().to_string();
        assert!(
            error.contains("\"Nas\"")
                && error.contains("begin with 'N'")
                && error.contains("lower-case"),
            "{error}"
        );
    }
}
