//! What is configured: the server, its exports and the options of a volume.

use lazarette_plugin::schemars::{Schema, SchemaGenerator, json_schema};
use lazarette_plugin::serde_json::{Map, Value};
use lazarette_plugin::{Error, JsonSchema, Result, quoted, serde_json};
use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize};

use crate::options::{self, Options};
use crate::values::{ExportPath, Flag, Number, OctalMode, ServerName, Subdirectory, without_null};

/// Options of an NFS context.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The server: a host name or an address.
    pub server: ServerName,
    /// Its exports: each becomes a volume at `/mnt/CONTEXT/NAME`.
    #[serde(default)]
    pub exports: Vec<Export>,
    /// Options of all its mounts, as in nfs(5).
    #[serde(default, deserialize_with = "nfs_options")]
    pub options: Options,
}

/// A configured export: a path, or a path with more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// Its path on the server.
    pub path: ExportPath,
    /// The name of its volume.
    pub name: Option<String>,
    /// Whether it is mounted read-only.
    pub read_only: bool,
    /// Options of its mounts, over those of the context.
    pub options: Options,
}

/// An export with more than a path.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = without_null)]
struct ExportFields {
    /// Its path on the server.
    path: ExportPath,
    /// The name of its volume; without it, the last part of the path.
    #[serde(default)]
    #[schemars(regex(pattern = "^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$"))]
    name: Option<String>,
    /// Whether it is mounted read-only.
    #[serde(default)]
    read_only: Option<Flag>,
    /// Options of its mounts, over those of the context.
    #[serde(default, deserialize_with = "nfs_options")]
    options: Options,
}

impl<'de> Deserialize<'de> for Export {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let fields = if value.is_string() {
            let path = serde_json::from_value(value).map_err(de::Error::custom)?;
            ExportFields {
                path,
                name: None,
                read_only: None,
                options: Options::default(),
            }
        } else {
            serde_json::from_value(value).map_err(de::Error::custom)?
        };
        Ok(Self {
            path: fields.path,
            name: fields.name,
            read_only: fields.read_only == Some(Flag(true)),
            options: fields.options,
        })
    }
}

impl JsonSchema for Export {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Export".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let path = generator.subschema_for::<ExportPath>();
        let fields = generator.subschema_for::<ExportFields>();
        json_schema!({ "anyOf": [path, fields] })
    }
}

impl Export {
    /// The name of its volume.
    ///
    /// # Errors
    /// `InvalidArgument` if that cannot be the name of a volume.
    pub fn volume_name(&self) -> Result<String> {
        let path = self.path.as_str();
        let last = path.rsplit('/').next().unwrap_or_default();
        let name = self.name.as_deref().unwrap_or(last);
        let plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        let starts_well = name.starts_with(|c: char| c.is_ascii_alphanumeric());
        if starts_well && name.len() <= 128 && name.chars().all(plain) {
            return Ok(name.to_owned());
        }
        Err(Error::invalid(format!(
            "export {path}: {} cannot be the name of its volume",
            quoted(name)
        ))
        .remedy(format!(
            "give it one of letters, digits, '_', '.' and '-': {{path: {path}, name: media}}"
        )))
    }
}

impl Config {
    /// Checks what no single field shows.
    ///
    /// # Errors
    /// `InvalidArgument` naming the exports or options that do not go together.
    pub fn check(&self) -> Result<()> {
        self.options.check()?;
        let mut names: Vec<(String, &Export)> = Vec::new();
        for export in &self.exports {
            let name = export.volume_name()?;
            if let Some((_, other)) = names.iter().find(|(n, _)| *n == name) {
                return Err(Error::invalid(format!(
                    "the exports {} and {} would both be the volume {}",
                    other.path,
                    export.path,
                    quoted(&name)
                ))
                .remedy(format!(
                    "name one of them: {{path: {}, name: …}}",
                    export.path
                )));
            }
            names.push((name, export));
            self.options
                .overlaid_by(&export.options)
                .check()
                .map_err(|e| Error {
                    message: format!("export {}: {}", export.path, e.message),
                    ..e
                })?;
        }
        Ok(())
    }

    /// The configured export with the path `path`.
    pub fn export(&self, path: &ExportPath) -> Option<&Export> {
        self.exports.iter().find(|e| e.path == *path)
    }
}

/// What becomes of a volume's directory when the volume is removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum OnRemove {
    /// It stays on the server.
    #[default]
    Keep,
    /// It is deleted on the server with all that is in it.
    Delete,
}

/// A volume's own options, apart from those of nfs(5).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(transform = without_null)]
pub struct Place {
    /// The export; may be left out if the context has one only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub export: Option<ExportPath>,
    /// The directory below the export that is the volume; without it, the whole export.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<Subdirectory>,
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

/// The fields of [`Place`].
const PLACE: &[&str] = &[
    "export",
    "path",
    "create",
    "mode",
    "uid",
    "gid",
    "on_remove",
];

/// A volume's own options: its [`Place`] and, beside it, those of nfs(5).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct VolumeOptions {
    /// Where it is.
    #[serde(flatten)]
    pub place: Place,
    /// Options of its mount, over those of the export and the context.
    #[serde(flatten)]
    pub nfs: Options,
}

/// By hand, because serde cannot refuse unknown fields beside flattened ones.
impl<'de> Deserialize<'de> for VolumeOptions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (mut place, mut nfs) = (Map::new(), Map::new());
        for (name, value) in Map::deserialize(deserializer)? {
            if PLACE.contains(&name.as_str()) {
                place.insert(name, value);
            } else {
                nfs.insert(name, value);
            }
        }
        Ok(Self {
            place: serde_json::from_value(Value::Object(place)).map_err(de::Error::custom)?,
            nfs: nfs_options(Value::Object(nfs)).map_err(de::Error::custom)?,
        })
    }
}

impl JsonSchema for VolumeOptions {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "VolumeOptions".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = Place::json_schema(generator);
        let mut nfs = Options::json_schema(generator);
        let more = nfs.remove("properties");
        if let (Some(Value::Object(all)), Some(Value::Object(more))) =
            (schema.get_mut("properties"), more)
        {
            all.extend(more);
        }
        schema.insert(
            "description".into(),
            "Where an NFS volume is, and options of nfs(5).".into(),
        );
        schema
    }
}

/// Options of nfs(5) whose error says why an option is not offered, where there is a reason.
fn nfs_options<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Options, D::Error> {
    let map = Map::deserialize(deserializer)?;
    if let Some(name) = map.keys().find(|n| !options::NAMES.contains(&n.as_str())) {
        return Err(de::Error::custom(match options::refused(name) {
            Some(why) => format!("`{name}` is not offered: {why}"),
            None => format!("unknown option {}", quoted(name)),
        }));
    }
    // One by one, so that the error names the option.
    for (name, value) in &map {
        let one = Map::from_iter([(name.clone(), value.clone())]);
        serde_json::from_value::<Options>(Value::Object(one))
            .map_err(|e| de::Error::custom(format!("`{name}`: {e}")))?;
    }
    serde_json::from_value(Value::Object(map)).map_err(de::Error::custom)
}

#[cfg(test)]
#[path = "export_tests.rs"]
mod tests;
