//! What is configured: the servers, the Gluster volume, its directories, and the options of a
//! volume.

use lazarette_plugin::schemars::{Schema, SchemaGenerator, json_schema};
use lazarette_plugin::serde_json::Value;
use lazarette_plugin::values::{Flag, Number, OctalMode, ServerName, Subdirectory, without_null};
use lazarette_plugin::{Error, JsonSchema, Result, checked_text, quoted, serde_json};
use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize};

use crate::options::Options;
use crate::size::Size;

/// Most servers of one context.
const MOST_SERVERS: usize = 16;

checked_text!(
    /// The name of a Gluster volume.
    GlusterVolume, check_volume, "^[A-Za-z0-9_][A-Za-z0-9_-]*$"
);

checked_text!(
    /// Where a brick is: `g1.example:/bricks/gv0`.
    BrickPlace, check_brick, "^[A-Za-z0-9_.:%-]+:/.+$"
);

fn check_brick(text: &str) -> Result<String> {
    let bad = |why: &str| {
        Error::invalid(format!("brick {}: {why}", quoted(text)))
            .remedy("give it as SERVER:/DIRECTORY: g1.example:/bricks/gv0")
    };
    let (server, path) = text.split_once(":/").ok_or_else(|| bad("no directory"))?;
    ServerName::new(server).map_err(|e| bad(&e.message))?;
    Subdirectory::new(path).map_err(|e| bad(&e.message))?;
    Ok(text.to_owned())
}

fn check_volume(text: &str) -> Result<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if text.is_empty() || text.len() > 255 || text.starts_with('-') || !text.chars().all(plain) {
        return Err(Error::invalid(format!(
            "volume {}: not a Gluster volume's name",
            quoted(text)
        ))
        .remedy("give it as `gluster volume list` on a server shows it: gv0"));
    }
    Ok(text.to_owned())
}

/// Options of a Gluster context.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Servers of the trusted pool: the first that answers describes the volume, and the others
    /// take its place when it is away.
    pub servers: Servers,
    /// The Gluster volume.
    pub volume: GlusterVolume,
    /// The directory of it that the client is given, for clients that may see no other.
    #[serde(default)]
    #[schemars(transform = without_null_type)]
    pub subdirectory: Option<Subdirectory>,
    /// The transport to the servers (`tcp`).
    #[serde(default)]
    #[schemars(transform = without_null_type)]
    pub transport: Option<Transport>,
    /// The port of the servers' management daemon (24007).
    #[serde(default)]
    #[schemars(transform = without_null_type)]
    pub port: Option<Number<1, 65_535>>,
    /// How much the client tells `laz logs` (`warning`).
    #[serde(default)]
    #[schemars(transform = without_null_type)]
    pub log_level: Option<LogLevel>,
    /// Directories that each become a volume at `/mnt/CONTEXT/NAME`; without any, the whole
    /// Gluster volume becomes one, under its own name.
    #[serde(default)]
    pub directories: Vec<Directory>,
    /// Options of the mount, as in mount.glusterfs(8).
    #[serde(default)]
    pub options: Options,
    /// This host is a peer of the pool, and its glusterd (by its socket in /run/glusterd) may be
    /// told what to do: bricks, heals, sizes of volumes. Not, unless told.
    #[serde(default)]
    #[schemars(transform = without_null_type)]
    pub manage: Option<Flag>,
}

/// Takes `null` out of a single field's schema.
fn without_null_type(field: &mut Schema) {
    let mut around = json_schema!({ "properties": { "field": field.as_value() } });
    without_null(&mut around);
    let inner = around
        .get("properties")
        .and_then(|p| p.get("field"))
        .and_then(Value::as_object);
    if let Some(inner) = inner {
        *field = inner.clone().into();
    }
}

/// One or more servers: a list, or a text with commas between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Servers(Vec<ServerName>);

impl Servers {
    /// All of them, in the order in which they are asked.
    pub fn all(&self) -> &[ServerName] {
        &self.0
    }

    /// As people write them: `g1,g2`.
    pub fn joined(&self) -> String {
        let names: Vec<&str> = self.0.iter().map(ServerName::as_str).collect();
        names.join(",")
    }

    fn new(names: &[String]) -> Result<Self> {
        let mut servers: Vec<ServerName> = Vec::new();
        for name in names {
            let server = ServerName::new(name)?;
            if servers.contains(&server) {
                return Err(Error::invalid(format!("server {server} is named twice")));
            }
            servers.push(server);
        }
        if servers.is_empty() || servers.len() > MOST_SERVERS {
            return Err(Error::invalid(format!(
                "{} servers: must be 1 to {MOST_SERVERS}",
                servers.len()
            ))
            .remedy("name some of the pool: the client learns of the others"));
        }
        Ok(Self(servers))
    }
}

impl<'de> Deserialize<'de> for Servers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let names: Vec<String> = match Value::deserialize(deserializer)? {
            Value::String(text) => text.split(',').map(str::to_owned).collect(),
            list => serde_json::from_value(list).map_err(de::Error::custom)?,
        };
        Self::new(&names).map_err(de::Error::custom)
    }
}

impl JsonSchema for Servers {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Servers".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<ServerName>();
        json_schema!({ "anyOf": [
            { "type": "array", "items": one, "minItems": 1, "maxItems": MOST_SERVERS },
            { "type": "string", "minLength": 1, "maxLength": 4096 },
        ] })
    }
}

/// The transport to the servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Transport {
    /// TCP over IPv4.
    Tcp,
    /// TCP over IPv6.
    Tcp6,
}

/// How much the client tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum LogLevel {
    /// Everything.
    Trace,
    /// For whoever looks for a fault.
    Debug,
    /// What happens.
    Info,
    /// What is odd.
    Warning,
    /// What fails.
    Error,
    /// What ends it.
    Critical,
}

impl LogLevel {
    /// As the client takes it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Trace => "TRACE",
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warning => "WARNING",
            Self::Error => "ERROR",
            Self::Critical => "CRITICAL",
        }
    }
}

/// A directory that becomes a volume: a path, or a path with a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// Below the root of the Gluster volume.
    pub path: Subdirectory,
    /// The name of its volume.
    pub name: Option<String>,
}

/// A directory with more than a path.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = without_null)]
struct DirectoryFields {
    /// Below the root of the Gluster volume.
    path: Subdirectory,
    /// The name of its volume; without it, the last part of the path.
    #[serde(default)]
    #[schemars(regex(pattern = "^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$"))]
    name: Option<String>,
}

impl<'de> Deserialize<'de> for Directory {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        if value.is_string() {
            let path = serde_json::from_value(value).map_err(de::Error::custom)?;
            return Ok(Self { path, name: None });
        }
        let DirectoryFields { path, name } =
            serde_json::from_value(value).map_err(de::Error::custom)?;
        Ok(Self { path, name })
    }
}

impl JsonSchema for Directory {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Directory".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let path = generator.subschema_for::<Subdirectory>();
        let fields = generator.subschema_for::<DirectoryFields>();
        json_schema!({ "anyOf": [path, fields] })
    }
}

impl Directory {
    /// The name of its volume.
    ///
    /// # Errors
    /// `InvalidArgument` if that cannot be the name of a volume.
    pub fn volume_name(&self) -> Result<String> {
        let path = self.path.as_str();
        let last = path.rsplit('/').next().unwrap_or_default();
        let name = self.name.as_deref().unwrap_or(last);
        if is_volume_name(name) {
            return Ok(name.to_owned());
        }
        Err(Error::invalid(format!(
            "directory {path}: {} cannot be the name of its volume",
            quoted(name)
        ))
        .remedy(format!(
            "give it one of letters, digits, '_', '.' and '-': {{path: {path}, name: apps}}"
        )))
    }
}

fn is_volume_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.len() <= 128
        && name.chars().all(plain)
}

impl Config {
    /// Whether this host's glusterd may be told what to do.
    pub(crate) fn manages(&self) -> bool {
        self.manage == Some(Flag(true))
    }

    /// Checks what no single field shows.
    ///
    /// # Errors
    /// `InvalidArgument` naming the directories or options that do not go together.
    pub fn check(&self) -> Result<()> {
        self.options.check()?;
        let mut names: Vec<(String, &Directory)> = Vec::new();
        for directory in &self.directories {
            let name = directory.volume_name()?;
            if let Some((_, other)) = names.iter().find(|(n, _)| *n == name) {
                return Err(Error::invalid(format!(
                    "the directories {} and {} would both be the volume {}",
                    other.path,
                    directory.path,
                    quoted(&name)
                ))
                .remedy(format!(
                    "name one of them: {{path: {}, name: …}}",
                    directory.path
                )));
            }
            names.push((name, directory));
        }
        Ok(())
    }

    /// The volumes that the configuration names: each with its name and its directory, if it is
    /// not all of the Gluster volume.
    ///
    /// # Errors
    /// As [`Directory::volume_name`].
    pub fn volumes(&self) -> Result<Vec<(String, Option<&Subdirectory>)>> {
        if self.directories.is_empty() {
            let name = self.volume.as_str();
            let name = if is_volume_name(name) { name } else { "volume" };
            return Ok(vec![(name.to_owned(), None)]);
        }
        let named = |d: &'_ Directory| d.volume_name();
        self.directories
            .iter()
            .map(|d| Ok((named(d)?, Some(&d.path))))
            .collect()
    }
}

/// What becomes of a volume's directory when the volume is removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum OnRemove {
    /// It stays in the Gluster volume.
    #[default]
    Keep,
    /// It is deleted there with all that is in it.
    Delete,
}

/// Options of one volume.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(transform = without_null)]
pub struct VolumeOptions {
    /// The directory of the Gluster volume that is the volume; without it, all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<Subdirectory>,
    /// How much that directory may hold, where the Gluster volume has quotas and the context may
    /// manage its pool: 20G.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<Size>,
    /// Whether that directory is made if it is missing (the default).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub create: Option<Flag>,
    /// Permission bits of a directory that is made, in octal: "0750".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<OctalMode>,
    /// Owner of a directory that is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<Number<0, 4_294_967_294>>,
    /// Group of a directory that is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gid: Option<Number<0, 4_294_967_294>>,
    /// What becomes of that directory when the volume is removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "keep", "x-lazarette-deletes" = "path"))]
    pub on_remove: Option<OnRemove>,
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
