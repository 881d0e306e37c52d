//! The types of option values that several kinds share, lenient in what they accept: Docker passes
//! every value as text.
//!
//! ```
//! use lazarette_plugin::{JsonSchema, serde_json, values::{Directory, Flag, Number, OctalMode}};
//!
//! #[derive(serde::Deserialize, JsonSchema)]
//! #[serde(deny_unknown_fields)]
//! struct Options {
//!     /// Where it is.
//!     directory: Directory,
//!     /// Whether writes wait for the disk.
//!     sync: Flag,
//!     /// The port of the server.
//!     port: Number<1, 65535>,
//!     /// Who may look into it.
//!     mode: OctalMode,
//! }
//!
//! // As `docker volume create -o directory=/srv -o sync -o port=22 -o mode=0750` says it.
//! let said = r#"{"directory": "/srv//x", "sync": "", "port": "22", "mode": "0750"}"#;
//! let options: Options = serde_json::from_str(said)?;
//! assert_eq!((options.directory.as_str(), options.sync.0), ("/srv/x", true));
//! assert_eq!((options.port.0, options.mode.bits()), (22, 0o750));
//! # Ok::<(), serde_json::Error>(())
//! ```

use std::fmt;
use std::net::Ipv6Addr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{Error, OptionText, Result, quoted};

/// Implements a type that is checked text: its documentation and name, the function that checks a
/// text and gives it in its canonical form, and the pattern for the schema. The crate that uses it
/// depends on `serde`.
///
/// ```
/// use lazarette_plugin::{Error, Result, checked_text};
///
/// checked_text!(
///     /// A pool's name: letters only.
///     PoolName, check_pool, "^[a-z]+$"
/// );
///
/// fn check_pool(text: &str) -> Result<String> {
///     let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase());
///     plain.then(|| text.to_owned()).ok_or_else(|| Error::invalid("a pool has a name of letters"))
/// }
///
/// assert_eq!(PoolName::new("tank")?.as_str(), "tank");
/// assert!(PoolName::new("--force").is_err());
/// # Ok::<(), Error>(())
/// ```
#[macro_export]
macro_rules! checked_text {
    ($(#[$doc:meta])* $name:ident, $check:path, $pattern:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, ::serde::Serialize, ::serde::Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks `text`.
            ///
            /// # Errors
            /// `InvalidArgument` saying what is wrong.
            pub fn new(text: &str) -> ::std::result::Result<Self, $crate::Error> {
                $check(text).map(Self)
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = $crate::Error;
            fn try_from(text: String) -> ::std::result::Result<Self, $crate::Error> {
                Self::new(&text)
            }
        }

        impl From<$name> for String {
            fn from(text: $name) -> String {
                text.0
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl $crate::JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> ::std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut $crate::schemars::SchemaGenerator) -> $crate::schemars::Schema {
                $crate::schemars::json_schema!({ "type": "string", "minLength": 1, "maxLength": 1024, "pattern": $pattern })
            }
        }
    };
}

/// Takes `null` out of a schema's fields: an option that is not wanted is left out. Programs that
/// turn Docker's text into typed values then find one type for each option.
///
/// ```
/// use lazarette_plugin::{JsonSchema, schemars, values::without_null};
///
/// #[derive(JsonSchema)]
/// #[schemars(transform = without_null)]
/// struct Options { size: Option<u64> }
///
/// let schema = schemars::schema_for!(Options).to_value();
/// assert_eq!(schema["properties"]["size"]["type"], "integer");
/// ```
pub fn without_null(schema: &mut Schema) {
    let Some(Value::Object(fields)) = schema.get_mut("properties") else {
        return;
    };
    let null = json!({ "type": "null" });
    for field in fields.values_mut().filter_map(Value::as_object_mut) {
        if field.get("default") == Some(&Value::Null) {
            field.remove("default");
        }
        for name in ["type", "enum", "anyOf"] {
            if let Some(Value::Array(all)) = field.get_mut(name) {
                all.retain(|v| *v != Value::Null && *v != "null" && *v != null);
            }
        }
        let only = |name: &str| match field.get(name) {
            Some(Value::Array(all)) if all.len() == 1 => Some(all[0].clone()),
            _ => None,
        };
        if let Some(one) = only("type") {
            field.insert("type".into(), one);
        } else if let Some(Value::Object(one)) = only("anyOf") {
            field.remove("anyOf");
            field.extend(one);
        }
    }
}

/// A yes or no. Also `"true"`, `"1"`, `"yes"`, `"on"`, their opposites, and the empty text
/// (`docker volume create -o soft`) for yes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Flag(pub bool);

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Accept;
        impl Visitor<'_> for Accept {
            type Value = Flag;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true or false")
            }
            fn visit_bool<E>(self, value: bool) -> Result<Flag, E> {
                Ok(Flag(value))
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Flag, E> {
                match value {
                    0 | 1 => Ok(Flag(value == 1)),
                    _ => Err(E::invalid_value(de::Unexpected::Unsigned(value), &self)),
                }
            }
            fn visit_str<E: de::Error>(self, value: &str) -> Result<Flag, E> {
                match value {
                    "" | "true" | "1" | "yes" | "on" => Ok(Flag(true)),
                    "false" | "0" | "no" | "off" => Ok(Flag(false)),
                    _ => Err(E::invalid_value(de::Unexpected::Str(value), &self)),
                }
            }
        }
        deserializer.deserialize_any(Accept)
    }
}

impl JsonSchema for Flag {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Flag".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "boolean" })
    }
}

/// A whole number between `MIN` and `MAX` that is a multiple of `STEP`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Number<const MIN: u32, const MAX: u32, const STEP: u32 = 1>(pub u32);

impl<const MIN: u32, const MAX: u32, const STEP: u32> fmt::Display for Number<MIN, MAX, STEP> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de, const MIN: u32, const MAX: u32, const STEP: u32> Deserialize<'de>
    for Number<MIN, MAX, STEP>
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Accept<const MIN: u32, const MAX: u32, const STEP: u32>;
        impl<const MIN: u32, const MAX: u32, const STEP: u32> Visitor<'_> for Accept<MIN, MAX, STEP> {
            type Value = Number<MIN, MAX, STEP>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a whole number from {MIN} to {MAX}")?;
                if STEP > 1 {
                    write!(f, " that is a multiple of {STEP}")?;
                }
                Ok(())
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Self::Value, E> {
                match u32::try_from(value) {
                    Ok(n) if (MIN..=MAX).contains(&n) && n % STEP == 0 => Ok(Number(n)),
                    _ => Err(E::invalid_value(de::Unexpected::Unsigned(value), &self)),
                }
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Self::Value, E> {
                match u64::try_from(value) {
                    Ok(n) => self.visit_u64(n),
                    Err(_) => Err(E::invalid_value(de::Unexpected::Signed(value), &self)),
                }
            }
            fn visit_str<E: de::Error>(self, value: &str) -> Result<Self::Value, E> {
                let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
                match value.parse() {
                    Ok(n) if digits => self.visit_u64(n),
                    _ => Err(E::invalid_value(de::Unexpected::Str(value), &self)),
                }
            }
        }
        deserializer.deserialize_any(Accept)
    }
}

impl<const MIN: u32, const MAX: u32, const STEP: u32> JsonSchema for Number<MIN, MAX, STEP> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("Number{MIN}to{MAX}by{STEP}").into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        if STEP == 1 {
            json_schema!({ "type": "integer", "minimum": MIN, "maximum": MAX })
        } else {
            json_schema!({ "type": "integer", "minimum": MIN, "maximum": MAX, "multipleOf": STEP })
        }
    }
}

/// Permission bits, written in octal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OctalMode(u32);

impl OctalMode {
    /// The bits.
    pub fn bits(&self) -> u32 {
        self.0
    }
}

impl TryFrom<String> for OctalMode {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        let digits = (3..=4).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        match u32::from_str_radix(&text, 8) {
            Ok(mode) if digits && mode & 0o4000 == 0 => Ok(Self(mode)),
            Ok(_) if digits => Err(Error::invalid(format!(
                "mode {text}: setuid is not allowed"
            ))),
            _ => Err(Error::invalid(format!("mode {}: not octal", quoted(&text)))
                .remedy("write three or four octal digits in quotes: \"0750\"")),
        }
    }
}

impl From<OctalMode> for String {
    fn from(mode: OctalMode) -> Self {
        format!("{:04o}", mode.0)
    }
}

impl JsonSchema for OctalMode {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "OctalMode".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-3]?[0-7]{3}$" })
    }
}

checked_text!(
    /// A server: a host name, an IPv4 address or an IPv6 address (with or without brackets,
    /// link-local ones with `%interface`).
    ServerName, check_server, "^[A-Za-z0-9_\\[:][A-Za-z0-9_.:%\\[\\]-]*$"
);
checked_text!(
    /// A directory below a root: relative, without `.` and `..`.
    Subdirectory, check_subdirectory, "^[^/,\\x00-\\x1f\\x7f-][^,\\x00-\\x1f\\x7f]*$"
);
checked_text!(
    /// A directory of the container: absolute, without `.` and `..`.
    Directory, check_directory, "^/[^,\\x00-\\x1f\\x7f]*$"
);
impl ServerName {
    /// As it stands in front of `:/export`: IPv6 addresses in brackets.
    ///
    /// ```
    /// let server = lazarette_plugin::values::ServerName::new("fe80::1%eth0")?;
    /// assert_eq!(format!("{}:/srv", server.in_source()), "[fe80::1%eth0]:/srv");
    /// # Ok::<(), lazarette_plugin::Error>(())
    /// ```
    pub fn in_source(&self) -> String {
        if self.0.contains(':') {
            format!("[{}]", self.0)
        } else {
            self.0.clone()
        }
    }
}

fn check_server(text: &str) -> Result<String> {
    let bad = |why: &str| {
        Error::invalid(format!("server {}: {why}", quoted(text)))
            .remedy("give a host name, an IPv4 address or an IPv6 address: nas.example")
    };
    let bare = text
        .strip_prefix('[')
        .and_then(|t| t.strip_suffix(']'))
        .unwrap_or(text);
    if bare.contains(':') {
        let (address, zone) = bare.split_once('%').unwrap_or((bare, "eth0"));
        let zone_is_plain = (1..16).contains(&zone.len())
            && zone
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
        return match address.parse::<Ipv6Addr>() {
            Ok(_) if zone_is_plain => Ok(bare.to_owned()),
            Ok(_) => Err(bad("the interface behind '%' is not one")),
            Err(_) => Err(bad("not an IPv6 address")),
        };
    }
    if text.is_empty() || text.len() > 253 {
        return Err(bad("must be 1 to 253 characters long"));
    }
    let plain = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if text.strip_suffix('.').unwrap_or(text).split('.').all(plain) {
        Ok(text.to_owned())
    } else {
        Err(bad("not a host name"))
    }
}

/// The components of `path`, a part of `text`, joined by single slashes. Refuses `.` and `..`, more
/// than 64 of them, and what no option's text may hold; `what` names the option in the error.
///
/// ```
/// use lazarette_plugin::values::check_components;
///
/// assert_eq!(check_components("export", "/a//b/", "/a//b/")?, "a/b");
/// assert!(check_components("export", "a/../b", "a/../b").is_err());
/// # Ok::<(), lazarette_plugin::Error>(())
/// ```
///
/// # Errors
/// `InvalidArgument` saying what is wrong.
pub fn check_components(what: &str, text: &str, path: &str) -> Result<String> {
    let bad = |why: &str| Error::invalid(format!("{what} {}: {why}", quoted(text)));
    OptionText::new(text).map_err(|e| bad(&e.message))?;
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
    if parts.iter().any(|p| *p == "." || *p == "..") {
        return Err(bad("must not contain '.' or '..'"));
    }
    if parts.len() > 64 || parts.iter().any(|p| p.len() > 255) {
        return Err(bad("has more than 64 parts, or one of more than 255 bytes"));
    }
    Ok(parts.join("/"))
}

fn check_directory(text: &str) -> Result<String> {
    if !text.starts_with('/') {
        return Err(
            Error::invalid(format!("directory {}: must begin with '/'", quoted(text)))
                .remedy("give its whole path: /srv/stores"),
        );
    }
    Ok(format!("/{}", check_components("directory", text, text)?))
}

fn check_subdirectory(text: &str) -> Result<String> {
    if text.starts_with('/') {
        return Err(
            Error::invalid(format!("path {}: must not begin with '/'", quoted(text)))
                .remedy("give a directory below the root of it: projects/one"),
        );
    }
    let path = check_components("path", text, text)?;
    // An empty path would be the root itself, which a removal must never reach.
    if path.is_empty() {
        return Err(Error::invalid(format!("path {}: is empty", quoted(text))));
    }
    Ok(path)
}
