//! The types of option values, lenient in what they accept: Docker passes every value as text.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Component, Path, PathBuf};

use lazarette_plugin::schemars::{Schema, SchemaGenerator, json_schema};
use lazarette_plugin::serde_json::{Map, Value};
use lazarette_plugin::{Error, JsonSchema, OptionText, Result, quoted};
use serde::de::{self, Deserialize, Deserializer};
use serde::{Serialize, Serializer};

/// Implements serde and a schema for a type that is a checked text: `Type::parse` and `Display`.
macro_rules! checked_text {
    ($name:ident, $schema:tt) => {
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = match Value::deserialize(deserializer)? {
                    Value::String(text) => text,
                    Value::Number(number) => number.to_string(),
                    Value::Bool(true) => "on".to_owned(),
                    Value::Bool(false) => "off".to_owned(),
                    other => return Err(de::Error::custom(format!("{other} is not a text"))),
                };
                Self::parse(&text).map_err(de::Error::custom)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
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
                json_schema!($schema)
            }
        }
    };
}

/// A number of bytes, written with an IEC unit (`20G`, `1.5T`) or plainly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// Units by their exponents of 1024.
const UNITS: &[u8] = b"BKMGTPE";

impl Size {
    /// Reads `20G`, `20GiB`, `1.5T`, `1048576`.
    ///
    /// # Errors
    /// `InvalidArgument` if it is not like that, or nothing.
    pub fn parse(text: &str) -> Result<Self> {
        Self::number(text.trim())
            .filter(|size| size.0 > 0)
            .ok_or_else(|| {
                Error::invalid(format!("{} is not a size", quoted(text)))
                    .remedy("write a number and a unit: 512M, 20G, 1.5T")
            })
    }

    fn number(text: &str) -> Option<Self> {
        let upper = text.to_ascii_uppercase();
        let bare = upper
            .strip_suffix("IB")
            .or_else(|| upper.strip_suffix('B').filter(|rest| !rest.is_empty()))
            .unwrap_or(&upper);
        let last = *bare.as_bytes().last()?;
        let (digits, exponent) = match UNITS.iter().position(|unit| *unit == last) {
            Some(exponent) => (&bare[..bare.len() - 1], exponent),
            None => (bare, 0),
        };
        let unit = 1_u128 << (10 * exponent);
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let decimal = |s: &str| s.len() <= 20 && s.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || !decimal(whole) || !decimal(fraction) || fraction.len() > 12 {
            return None;
        }
        let mut bytes = whole.parse::<u128>().ok()? * unit;
        if !fraction.is_empty() {
            let power = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
            bytes += fraction.parse::<u128>().ok()? * unit / power;
        }
        u64::try_from(bytes).ok().map(Self)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.0;
        let mut exponent = 0;
        while bytes > 0 && bytes.is_multiple_of(1024) && exponent + 1 < UNITS.len() {
            bytes /= 1024;
            exponent += 1;
        }
        match exponent {
            0 => write!(f, "{bytes}"),
            _ => write!(f, "{bytes}{}", char::from(UNITS[exponent])),
        }
    }
}

checked_text!(Size, { "type": ["string", "integer"], "description": "A size: 512M, 20G, 1.5T" });

/// The name of a pool.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PoolName(String);

/// Words with which a vdev's description may begin, so that no pool can have them.
const RESERVED: &[&str] = &["mirror", "raidz", "draid", "spare", "log"];

impl PoolName {
    /// Checks a name.
    ///
    /// # Errors
    /// `InvalidArgument` saying what a name looks like.
    pub fn parse(text: &str) -> Result<Self> {
        let fine = text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic())
            && text.len() <= 200
            && text.bytes().all(allowed)
            && !RESERVED.iter().any(|word| text.starts_with(word));
        if fine {
            return Ok(Self(text.to_owned()));
        }
        Err(Error::invalid(format!("pool name {}", quoted(text))).remedy(
            "use letters, digits and _.:- beginning with a letter, and not mirror, raidz, draid, spare, log",
        ))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn allowed(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte)
}

impl fmt::Display for PoolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

checked_text!(PoolName, { "type": "string", "pattern": "^[A-Za-z][A-Za-z0-9_.:-]*$" });

/// The name of a dataset in its pool, without the pool: `media`, `home/people`; `.` is the pool's
/// own dataset.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DatasetName(String);

impl DatasetName {
    /// Checks a name.
    ///
    /// # Errors
    /// `InvalidArgument` saying what a name looks like.
    pub fn parse(text: &str) -> Result<Self> {
        let part = |part: &str| {
            !part.is_empty() && part != "." && part != ".." && part.bytes().all(allowed)
        };
        let fine = text == "."
            || (text.len() <= 200 && !text.starts_with('-') && text.split('/').all(part));
        if fine {
            return Ok(Self(text.to_owned()));
        }
        Err(
            Error::invalid(format!("dataset name {}", quoted(text))).remedy(
                "give the name without its pool: media, home/people; the pool's own dataset is .",
            ),
        )
    }

    /// The whole name, in `pool`.
    pub fn in_pool(&self, pool: &PoolName) -> String {
        match self.0.as_str() {
            "." => pool.to_string(),
            name => format!("{pool}/{name}"),
        }
    }
}

impl fmt::Display for DatasetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

checked_text!(DatasetName, { "type": "string" });

/// A pool's GUID: a decimal number. Text too, because it may be larger than what YAML's numbers hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Guid(pub u64);

impl Guid {
    /// Reads a decimal number.
    ///
    /// # Errors
    /// `InvalidArgument` if it is none.
    pub fn parse(text: &str) -> Result<Self> {
        match text.parse() {
            Ok(number) if text.bytes().all(|b| b.is_ascii_digit()) => Ok(Self(number)),
            _ => Err(Error::invalid(format!("GUID {}", quoted(text)))
                .remedy("write the decimal number that laz scan or zpool import shows, in quotes")),
        }
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

checked_text!(Guid, { "type": ["string", "integer"] });

/// The path of a device, below `/dev`; its stable name, as a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Device(PathBuf);

impl Device {
    /// Checks a path.
    ///
    /// # Errors
    /// `InvalidArgument` saying what a path looks like.
    pub fn parse(text: &str) -> Result<Self> {
        let path = Path::new(text);
        let plain = |part: Component<'_>| !matches!(part, Component::ParentDir);
        let fine = text.len() <= 255
            && path.starts_with("/dev/")
            && path.components().count() > 2
            && path.components().all(plain)
            && !text
                .chars()
                .any(|c| c == ',' || c.is_control() || c.is_whitespace());
        if fine {
            return Ok(Self(path.to_owned()));
        }
        Err(Error::invalid(format!("device {}", quoted(text)))
            .remedy("give its stable path: ls -l /dev/disk/by-id"))
    }

    /// The path.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

checked_text!(Device, { "type": "string", "pattern": "^/dev/[^,\\s]+$" });

/// The name of a file with a secret, below `/run/secrets`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretName(String);

impl SecretName {
    /// Checks a name.
    ///
    /// # Errors
    /// `InvalidArgument` if it is not a plain file name.
    pub fn parse(text: &str) -> Result<Self> {
        let fine = text
            .bytes()
            .next()
            .is_some_and(|b| b.is_ascii_alphanumeric())
            && text.len() <= 64
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
        if fine {
            return Ok(Self(text.to_owned()));
        }
        // A key that was put here by mistake must not be shown.
        Err(Error::invalid("key: not the name of a secret").remedy(
            "put the key into a file in /etc/lazarette/secrets/CONTEXT and name that file: letters, digits and _.-",
        ))
    }

    /// The file, below `directory`.
    pub fn in_directory(&self, directory: &Path) -> PathBuf {
        directory.join(&self.0)
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

checked_text!(SecretName, { "type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_.-]*$" });

/// The value of a property.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PropertyValue(String);

impl PropertyValue {
    /// Checks a value.
    ///
    /// # Errors
    /// `InvalidArgument` for control characters and commas, and for nothing at all.
    pub fn parse(text: &str) -> Result<Self> {
        OptionText::new(text).map(|text| Self(String::from(text)))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PropertyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

checked_text!(PropertyValue, { "type": ["string", "integer", "boolean"] });

/// Properties by their names: an object, or a text `name=value name=value`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Properties(pub BTreeMap<String, PropertyValue>);

impl Properties {
    fn check(self) -> Result<Self> {
        match self.0.keys().find(|name| !is_property(name)) {
            Some(name) => Err(Error::invalid(format!("property {}", quoted(name)))
                .remedy("zfsprops(7) and zpoolprops(7) list the names")),
            None => Ok(self),
        }
    }

    fn of_text(text: &str) -> Result<Self> {
        let mut all = BTreeMap::new();
        for pair in text.split_whitespace() {
            let Some((name, value)) = pair.split_once('=') else {
                return Err(Error::invalid(format!("property {}", quoted(pair)))
                    .remedy("write name=value, with blanks between several"));
            };
            all.insert(name.to_owned(), PropertyValue::parse(value)?);
        }
        Self(all).check()
    }
}

/// Whether a text is like a property's name: `atime`, `feature@async_destroy`, `com.example:who`.
pub(crate) fn is_property(name: &str) -> bool {
    let further = |b: u8| b.is_ascii_alphanumeric() || b"_.:@-".contains(&b);
    name.len() <= 255
        && name.bytes().next().is_some_and(|b| b.is_ascii_lowercase())
        && name.bytes().all(further)
}

impl<'de> Deserialize<'de> for Properties {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let map: Map<String, Value> = match Value::deserialize(deserializer)? {
            Value::String(text) => return Self::of_text(&text).map_err(de::Error::custom),
            Value::Object(map) => map,
            other => return Err(de::Error::custom(format!("{other} is not an object"))),
        };
        let mut all = BTreeMap::new();
        for (name, value) in map {
            let value = serde_json::from_value(value)
                .map_err(|e| de::Error::custom(format!("`{name}`: {e}")))?;
            all.insert(name, value);
        }
        Self(all).check().map_err(de::Error::custom)
    }
}

impl Serialize for Properties {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl JsonSchema for Properties {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Properties".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["object", "string"],
            "additionalProperties": { "type": ["string", "integer", "boolean"] }
        })
    }
}

/// How a pool's data devices are put together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout(String);

impl Layout {
    /// Reads `stripe`, `mirror`, `raidz1` to `raidz3`, `draid1` to `draid3` with its `:4d:1s:11c`.
    ///
    /// # Errors
    /// `InvalidArgument` listing what there is.
    pub fn parse(text: &str) -> Result<Self> {
        let plain = ["stripe", "mirror", "raidz", "raidz1", "raidz2", "raidz3"];
        if plain.contains(&text) || is_draid(text) {
            return Ok(Self(text.to_owned()));
        }
        Err(Error::invalid(format!("layout {}", quoted(text))).remedy(
            "use stripe, mirror, raidz1, raidz2, raidz3, or draid2:4d:1s:11c (4 data, 1 spare, 11 devices)",
        ))
    }

    /// The word for zpool(8); none for a stripe, whose devices just follow.
    pub fn word(&self) -> Option<&str> {
        (self.0 != "stripe").then_some(self.0.as_str())
    }

    /// How many devices may be lost.
    pub fn redundancy(&self) -> usize {
        match self.0.as_str() {
            "stripe" => 0,
            "mirror" => 1,
            text => {
                let digit = text.bytes().find(u8::is_ascii_digit);
                digit.map_or(1, |digit| usize::from(digit - b'0'))
            }
        }
    }
}

fn is_draid(text: &str) -> bool {
    let mut parts = text.split(':');
    let head = matches!(parts.next(), Some("draid" | "draid1" | "draid2" | "draid3"));
    head && parts.all(|part| {
        let digits = part.trim_end_matches(['d', 's', 'c']);
        part.len() == digits.len() + 1
            && (1..=3).contains(&digits.len())
            && digits.bytes().all(|b| b.is_ascii_digit())
    })
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

checked_text!(Layout, {
    "type": "string",
    "pattern": "^(stripe|mirror|raidz[123]?|draid[123]?(:[0-9]{1,3}[dsc])*)$"
});

#[cfg(test)]
mod tests {
    use super::*;
    use lazarette_plugin::serde_json::json;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_read_and_written() {
        for (text, bytes) in [
            ("20G", 20 << 30),
            ("20GiB", 20 << 30),
            ("1.5k", 1536),
            ("512", 512),
            ("16B", 16),
            ("0.5M", 524_288),
        ] {
            assert_eq!(Size::parse(text).unwrap().0, bytes, "{text}");
        }
        for bad in [
            "", "G", "0", "-1G", "1.2.3G", "1e9", "99999E", "1 G", "G1", ".5G",
        ] {
            assert!(Size::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(Size(20 << 30).to_string(), "20G");
        assert_eq!(Size(1536).to_string(), "1536");
        let of_number: Size = serde_json::from_value(json!(1_048_576)).unwrap();
        assert_eq!(of_number, Size(1 << 20));
    }

    #[test]
    fn names_that_could_become_something_else_are_refused() {
        for bad in [
            "", "-f", "1tank", "mirror", "raidz1x", "ta nk", "tank/x", "tank@x", "täNk", "log",
        ] {
            assert!(PoolName::parse(bad).is_err(), "{bad:?}");
        }
        for bad in [
            "", "-r", "a//b", "/a", "a/", "a/../b", "..", "a@b", "a#b", "a b", "a%b",
        ] {
            assert!(DatasetName::parse(bad).is_err(), "{bad:?}");
        }
        for bad in [
            "",
            "sda",
            "/dev/",
            "/dev/../etc/passwd",
            "/etc/shadow",
            "/dev/a b",
            "/dev/a,b",
            "/dev//x/..",
        ] {
            assert!(Device::parse(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "../x", "a/b", ".", "-k", "ä"] {
            assert!(SecretName::parse(bad).is_err(), "{bad:?}");
        }
        assert!(
            !SecretName::parse("pass word")
                .unwrap_err()
                .to_string()
                .contains("pass word")
        );
        let pool = PoolName::parse("tank").unwrap();
        let name = |text: &str| DatasetName::parse(text).unwrap().in_pool(&pool);
        assert_eq!(
            (name("a/b").as_str(), name(".").as_str()),
            ("tank/a/b", "tank")
        );
    }

    #[test]
    fn properties_are_an_object_or_text() {
        let of_text: Properties = serde_json::from_value(json!("atime=off a.b:c=x")).unwrap();
        let of_object: Properties =
            serde_json::from_value(json!({"atime": false, "a.b:c": "x"})).unwrap();
        assert_eq!(of_text, of_object);
        for bad in [
            json!("atime"),
            json!({"-o": "x"}),
            json!({"atime": "a,b"}),
            json!({"A": 1}),
            json!(["x"]),
        ] {
            assert!(
                serde_json::from_value::<Properties>(bad.clone()).is_err(),
                "{bad}"
            );
        }
    }

    #[test]
    fn layouts_say_how_much_may_be_lost() {
        for (text, lost) in [
            ("stripe", 0),
            ("mirror", 1),
            ("raidz", 1),
            ("raidz3", 3),
            ("draid2:4d:1s:11c", 2),
        ] {
            assert_eq!(Layout::parse(text).unwrap().redundancy(), lost, "{text}");
        }
        for bad in [
            "",
            "raid5",
            "raidz4",
            "draid:",
            "draid2:d",
            "draid2:4x",
            "-f",
            "mirror ",
        ] {
            assert!(Layout::parse(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_size_survives_being_written(bytes in 1_u64..) {
            prop_assert_eq!(Size::parse(&Size(bytes).to_string()).unwrap(), Size(bytes));
        }

        #[test]
        fn no_text_is_too_strange(text in "\\PC*|[0-9.]{0,40}[kKmMgGtTpPeEbBiI]{0,4}") {
            let _ = (Size::parse(&text), PoolName::parse(&text), DatasetName::parse(&text));
            let _ = (Device::parse(&text), Layout::parse(&text), Guid::parse(&text));
            let _ = serde_json::from_value::<Properties>(json!(text));
        }
    }
}
