//! The types of option values, lenient in what they accept: Docker passes every value as text.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use lazarette_plugin::schemars::{Schema, SchemaGenerator, json_schema};
use lazarette_plugin::serde_json::{Value, json};
use lazarette_plugin::{Error, JsonSchema, OptionText, quoted};
use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};

/// Takes `null` out of a schema's fields: an option that is not wanted is left out. Programs that
/// turn Docker's text into typed values then find one type for each option.
pub(crate) fn without_null(schema: &mut Schema) {
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

/// Implements a type that is one of some words.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize, JsonSchema)]
        #[schemars(inline)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $word)] $variant,)+
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $word,)+ })
            }
        }
    };
}

words! {
    /// The transport.
    Transport {
        /// TCP over IPv4.
        Tcp = "tcp",
        /// TCP over IPv6.
        Tcp6 = "tcp6",
        /// UDP over IPv4.
        Udp = "udp",
        /// UDP over IPv6.
        Udp6 = "udp6",
        /// RDMA over IPv4 addresses.
        Rdma = "rdma",
        /// RDMA over IPv6 addresses.
        Rdma6 = "rdma6",
    }
}

impl Transport {
    /// Whether it is UDP.
    pub fn is_udp(self) -> bool {
        matches!(self, Self::Udp | Self::Udp6)
    }

    /// Whether a TCP connection to the server's port tells whether it is there.
    pub fn is_tcp(self) -> bool {
        matches!(self, Self::Tcp | Self::Tcp6)
    }
}

words! {
    /// How directory entries are cached.
    LookupCache {
        /// Both what is there and what is not.
        All = "all",
        /// Nothing.
        None = "none",
        /// What is there.
        Pos = "pos",
        /// What is there.
        Positive = "positive",
    }
}

words! {
    /// Which locks stay on this machine.
    LocalLock {
        /// All.
        All = "all",
        /// Those of flock(2).
        Flock = "flock",
        /// Those of fcntl(2).
        Posix = "posix",
        /// None.
        None = "none",
    }
}

words! {
    /// Security of the transport (RPC with TLS).
    TransportSecurity {
        /// Plain.
        None = "none",
        /// Encrypted, the server authenticated.
        Tls = "tls",
        /// Encrypted, both sides authenticated.
        Mtls = "mtls",
    }
}

words! {
    /// When writes are sent.
    WriteMode {
        /// When the kernel sees fit.
        Lazy = "lazy",
        /// At once, without waiting.
        Eager = "eager",
        /// At once, and wait for the reply.
        Wait = "wait",
    }
}

/// The version of the NFS protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// NFS 3.
    V3,
    /// NFS 4.0.
    V40,
    /// NFS 4.1.
    V41,
    /// NFS 4.2.
    V42,
}

impl Version {
    /// What is tried in this order if no version is asked for.
    pub const NEWEST_FIRST: [Self; 4] = [Self::V42, Self::V41, Self::V40, Self::V3];

    /// Whether it is a version 4.
    pub fn is_4(self) -> bool {
        self != Self::V3
    }

    /// Its number as in `vers=`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V3 => "3",
            Self::V40 => "4.0",
            Self::V41 => "4.1",
            Self::V42 => "4.2",
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What `vers` may be: one version, or `4` for the newest 4.x that the server has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Versions {
    /// This one.
    One(Version),
    /// The newest 4.x that the server has.
    Newest4,
}

impl Versions {
    fn as_str(self) -> &'static str {
        match self {
            Self::One(version) => version.as_str(),
            Self::Newest4 => "4",
        }
    }
}

impl Serialize for Versions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Versions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Accept;
        impl Visitor<'_> for Accept {
            type Value = Versions;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("3, 4, 4.0, 4.1 or 4.2")
            }
            fn visit_str<E: de::Error>(self, value: &str) -> Result<Versions, E> {
                match value {
                    "3" => Ok(Versions::One(Version::V3)),
                    "4" => Ok(Versions::Newest4),
                    "4.0" => Ok(Versions::One(Version::V40)),
                    "4.1" => Ok(Versions::One(Version::V41)),
                    "4.2" => Ok(Versions::One(Version::V42)),
                    _ => Err(E::invalid_value(de::Unexpected::Str(value), &self)),
                }
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Versions, E> {
                self.visit_str(&value.to_string())
            }
            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Versions, E> {
                self.visit_str(&format!("{value:.1}"))
            }
        }
        deserializer.deserialize_any(Accept)
    }
}

impl JsonSchema for Versions {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Versions".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "enum": ["3", "4", "4.0", "4.1", "4.2", 3, 4, 4.1, 4.2] })
    }
}

/// Implements a type that is checked text.
macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $check:path, $pattern:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, serde::Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks `text`.
            ///
            /// # Errors
            /// `InvalidArgument` saying what is wrong.
            pub fn new(text: &str) -> Result<Self, Error> {
                $check(text).map(Self)
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;
            fn try_from(text: String) -> Result<Self, Error> {
                Self::new(&text)
            }
        }

        impl From<$name> for String {
            fn from(text: $name) -> String {
                text.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "minLength": 1, "maxLength": 1024, "pattern": $pattern })
            }
        }
    };
}

text!(
    /// A server: a host name, an IPv4 address or an IPv6 address (with or without brackets,
    /// link-local ones with `%interface`).
    ServerName, check_server, "^[A-Za-z0-9_\\[:][A-Za-z0-9_.:%\\[\\]-]*$"
);
text!(
    /// The path of an export on its server: absolute, without `.` and `..`.
    ExportPath, check_export, "^/[^,\\x00-\\x1f\\x7f]*$"
);
text!(
    /// A directory below an export: relative, without `.` and `..`.
    Subdirectory, check_subdirectory, "^[^/,\\x00-\\x1f\\x7f-][^,\\x00-\\x1f\\x7f]*$"
);
text!(
    /// One or more of `none`, `sys`, `krb5`, `krb5i` and `krb5p`, with `:` between them.
    Security, check_security, "^(none|sys|krb5[ip]?)(:(none|sys|krb5[ip]?)){0,4}$"
);
text!(
    /// An IP address.
    Address, check_address, "^[0-9A-Fa-f.:]+$"
);

impl ServerName {
    /// As it stands in front of `:/export`: IPv6 addresses in brackets.
    pub fn in_source(&self) -> String {
        if self.0.contains(':') {
            format!("[{}]", self.0)
        } else {
            self.0.clone()
        }
    }
}

impl Security {
    /// Whether any of the flavours needs Kerberos.
    pub fn needs_kerberos(&self) -> bool {
        self.0.contains("krb5")
    }
}

fn check_server(text: &str) -> Result<String, Error> {
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

fn check_components(what: &str, text: &str, path: &str) -> Result<String, Error> {
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

fn check_export(text: &str) -> Result<String, Error> {
    let Some(path) = text.strip_prefix('/') else {
        return Err(
            Error::invalid(format!("export {}: must begin with '/'", quoted(text)))
                .remedy("give the path as the server exports it: /srv/media"),
        );
    };
    check_components("export", text, path).map(|path| format!("/{path}"))
}

fn check_subdirectory(text: &str) -> Result<String, Error> {
    if text.starts_with('/') {
        return Err(
            Error::invalid(format!("path {}: must not begin with '/'", quoted(text)))
                .remedy("give a directory below the export: projects/one"),
        );
    }
    let path = check_components("path", text, text)?;
    // An empty path would be the export itself, which a removal must never reach.
    if path.is_empty() {
        return Err(Error::invalid(format!("path {}: is empty", quoted(text))));
    }
    Ok(path)
}

fn check_security(text: &str) -> Result<String, Error> {
    let known = ["none", "sys", "krb5", "krb5i", "krb5p"];
    let flavours: Vec<&str> = text.split(':').collect();
    match flavours.iter().find(|f| !known.contains(f)) {
        None if flavours.len() <= known.len() => Ok(text.to_owned()),
        None => Err(Error::invalid(format!(
            "sec {}: too many flavours",
            quoted(text)
        ))),
        Some(unknown) => Err(
            Error::invalid(format!("sec: unknown flavour {}", quoted(unknown)))
                .remedy("use none, sys, krb5, krb5i or krb5p, several with ':' between them"),
        ),
    }
}

fn check_address(text: &str) -> Result<String, Error> {
    match text.parse::<IpAddr>() {
        Ok(address) => Ok(address.to_string()),
        Err(_) => Err(Error::invalid(format!(
            "{} is not an IP address",
            quoted(text)
        ))),
    }
}

#[cfg(test)]
#[path = "values_tests.rs"]
mod tests;
