//! The types of option values of NFS beside those that every kind has, lenient in what they accept: Docker passes every value as text.

use std::fmt;
use std::net::IpAddr;

use lazarette_plugin::schemars::{Schema, SchemaGenerator, json_schema};
use lazarette_plugin::values::check_components;
pub use lazarette_plugin::values::{
    Flag, Number, OctalMode, ServerName, Subdirectory, without_null,
};
use lazarette_plugin::{Error, JsonSchema, checked_text, quoted};
use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};

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

checked_text!(
    /// The path of an export on its server: absolute, without `.` and `..`.
    ExportPath, check_export, "^/[^,\\x00-\\x1f\\x7f]*$"
);
checked_text!(
    /// One or more of `none`, `sys`, `krb5`, `krb5i` and `krb5p`, with `:` between them.
    Security, check_security, "^(none|sys|krb5[ip]?)(:(none|sys|krb5[ip]?)){0,4}$"
);
checked_text!(
    /// An IP address.
    Address, check_address, "^[0-9A-Fa-f.:]+$"
);

impl Security {
    /// Whether any of the flavours needs Kerberos.
    pub fn needs_kerberos(&self) -> bool {
        self.0.contains("krb5")
    }
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
