//! The types of option values: checked once, and fit to be an argument of LVM's tools.

use std::fmt;
use std::path::{Path, PathBuf};

use lazarette_plugin::schemars::{Schema, SchemaGenerator, json_schema};
use lazarette_plugin::{Error, JsonSchema, Result, checked_text, quoted};
use serde::{Deserialize, Serialize};

checked_text!(
    /// The name of a volume group, a logical volume or a thin pool, as LVM allows it.
    LvmName, check_name, "^[a-zA-Z0-9_.+][a-zA-Z0-9_.+-]{0,62}$"
);
checked_text!(
    /// A tag as LVM allows it, which is not one of ours.
    Tag, check_tag, "^[a-zA-Z0-9_.+/=!:&#-]{1,128}$"
);
checked_text!(
    /// The UUID that LVM gave to a volume group.
    GroupUuid, check_uuid, "^[a-zA-Z0-9]{6}(-[a-zA-Z0-9]{4}){5}-[a-zA-Z0-9]{6}$"
);
checked_text!(
    /// The label of a file system.
    Label, check_label, "^[a-zA-Z0-9_.+][a-zA-Z0-9_.+ -]{0,254}$"
);
checked_text!(
    /// The path of a block device.
    DevicePath, check_device, "^/dev/[a-zA-Z0-9_.+:/=@#%{}~-]{1,250}$"
);
checked_text!(
    /// The name of a secret of the context.
    SecretName, check_secret, "^[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,63}$"
);

fn bad(what: &str, text: &str, why: &str, remedy: &str) -> Error {
    Error::invalid(format!("{what} {}", quoted(text)))
        .cause(why)
        .remedy(remedy)
}

/// Parts of names that LVM keeps for what it makes itself.
const RESERVED_PREFIXES: [&str; 2] = ["snapshot", "pvmove"];
const RESERVED_PARTS: [&str; 15] = [
    "_cdata", "_cmeta", "_corig", "_iorig", "_mimage", "_mlog", "_pmspare", "_rimage", "_rmeta",
    "_tdata", "_tmeta", "_vorigin", "_vdata", "_wcorig", "_imeta",
];

fn check_name(text: &str) -> Result<String> {
    let remedy = "use 1 to 63 letters, digits, '_', '.', '+' and '-', not beginning with '-'";
    let refused = |why| Err(bad("the LVM name", text, why, remedy));
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_.+-".contains(&b);
    if text.is_empty() || text.len() > 63 {
        return refused("must have 1 to 63 characters");
    }
    if text.starts_with('-') || !text.bytes().all(allowed) || text == "." || text == ".." {
        return refused("has characters that LVM does not allow");
    }
    if RESERVED_PREFIXES.iter().any(|p| text.starts_with(p))
        || RESERVED_PARTS.iter().any(|p| text.contains(p))
    {
        return refused("is a name that LVM keeps for itself");
    }
    Ok(text.to_owned())
}

/// What our own tags begin with.
pub(crate) const OUR_TAGS: &str = "lazarette.";

fn check_tag(text: &str) -> Result<String> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_.+/=!:&#-".contains(&b);
    if text.is_empty() || text.len() > 128 || text.starts_with('-') || !text.bytes().all(allowed) {
        let remedy = "use 1 to 128 letters, digits and any of _ . + / = ! : & # -";
        return Err(bad("the tag", text, "LVM does not allow it", remedy));
    }
    if text.starts_with(OUR_TAGS) {
        let why = "tags that begin with `lazarette.` say which volume something is";
        return Err(bad("the tag", text, why, "choose another one"));
    }
    Ok(text.to_owned())
}

fn check_uuid(text: &str) -> Result<String> {
    let parts: Vec<&str> = text.split('-').collect();
    let lengths: Vec<usize> = parts.iter().map(|p| p.len()).collect();
    let alphanumeric = parts
        .iter()
        .all(|p| p.bytes().all(|b| b.is_ascii_alphanumeric()));
    if lengths == [6, 4, 4, 4, 4, 4, 6] && alphanumeric {
        return Ok(text.to_owned());
    }
    let remedy = "take it from `vgs -o vg_name,vg_uuid` or `laz scan`";
    Err(bad("the UUID", text, "is not one of LVM's", remedy))
}

fn check_label(text: &str) -> Result<String> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_.+ -".contains(&b);
    if text.is_empty()
        || text.len() > 255
        || text.starts_with(['-', ' '])
        || !text.bytes().all(allowed)
    {
        let remedy = "use letters, digits, '_', '.', '+', '-' and blanks inside";
        return Err(bad("the label", text, "cannot be one", remedy));
    }
    Ok(text.to_owned())
}

fn check_secret(text: &str) -> Result<String> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    if text.is_empty() || text.len() > 64 || text.starts_with(['-', '.']) {
        let remedy = "give the name of a file in /etc/lazarette/secrets/CONTEXT";
        // The text may be the secret itself: it is not shown.
        return Err(Error::invalid("the name of a key")
            .cause("must have 1 to 64 characters and not begin with '-' or '.'")
            .remedy(remedy));
    }
    if !text.bytes().all(allowed) {
        return Err(Error::invalid("the name of a key")
            .cause("has other characters than letters, digits, '_', '.' and '-'")
            .remedy("give the name of a file in /etc/lazarette/secrets/CONTEXT, not the key"));
    }
    Ok(text.to_owned())
}

/// Refuses what is no plain path below `/dev`.
fn check_device(text: &str) -> Result<String> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_.+-:/=@#%{}~".contains(&b);
    let mut parts = text.split('/').skip(1);
    let remedy = "give it as a stable path: /dev/disk/by-id/…";
    if !text.starts_with("/dev/") || text.len() > 255 || !text.bytes().all(allowed) {
        let why = "is no path below /dev that can be passed on";
        return Err(bad("the device", text, why, remedy));
    }
    if parts.any(|p| p.is_empty() || p == "." || p == "..") {
        return Err(bad("the device", text, "is not a plain path", remedy));
    }
    Ok(text.to_owned())
}

impl DevicePath {
    /// The path.
    pub fn path(&self) -> &Path {
        Path::new(&self.0)
    }
}

impl From<&DevicePath> for PathBuf {
    fn from(path: &DevicePath) -> Self {
        path.0.clone().into()
    }
}

/// A number of bytes, written as people do: `20G`, `512M`, `1.5T`, `4096`. Units are powers of 1024.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "String")]
pub struct Size(u64);

/// What a size is written as.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(u64),
    Text(String),
}

const UNITS: [(char, u32); 5] = [('K', 10), ('M', 20), ('G', 30), ('T', 40), ('P', 50)];

impl Size {
    /// So many bytes.
    pub fn of_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// How many.
    pub fn bytes(self) -> u64 {
        self.0
    }

    fn parse(text: &str) -> Option<u64> {
        let upper = text.trim().to_ascii_uppercase();
        let digits = upper.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = &upper[digits.len()..];
        let unit = unit
            .strip_suffix("IB")
            .or(unit.strip_suffix('B'))
            .unwrap_or(unit);
        let shift = match unit.chars().next() {
            None => 0,
            Some(letter) if unit.len() == 1 => UNITS.iter().find(|(u, _)| *u == letter)?.1,
            Some(_) => return None,
        };
        let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
        let plain = |t: &str| t.len() <= 19 && t.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || !plain(whole) || !plain(part) || part.len() > 6 {
            return None;
        }
        let mut bytes = u128::from(whole.parse::<u64>().ok()?) << shift;
        if !part.is_empty() {
            let scale = 10_u128.pow(u32::try_from(part.len()).ok()?);
            bytes += (u128::from(part.parse::<u64>().ok()?) << shift) / scale;
        }
        u64::try_from(bytes)
            .ok()
            .filter(|b| (1..=1 << 60).contains(b))
    }
}

impl TryFrom<Written> for Size {
    type Error = Error;
    fn try_from(written: Written) -> Result<Self> {
        let text = match written {
            Written::Number(number) => number.to_string(),
            Written::Text(text) => text,
        };
        let remedy = "write a number with K, M, G or T behind it: 20G";
        Self::parse(&text)
            .map(Self)
            .ok_or_else(|| bad("the size", &text, "is not one", remedy))
    }
}

impl std::str::FromStr for Size {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        Self::try_from(Written::Text(text.into()))
    }
}

impl From<Size> for String {
    fn from(size: Size) -> Self {
        size.to_string()
    }
}

/// The shortest that says it exactly: `20G`, `1536M`, `4097`.
impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, shift) in UNITS.iter().rev() {
            if self.0 >> shift > 0 && self.0.trailing_zeros() >= *shift {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{}", self.0)
    }
}

impl JsonSchema for Size {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Size".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9]{1,19}(\\.[0-9]{1,6})?([kKmMgGtTpP]([iI]?[bB])?)?$" })
    }
}

/// Bytes as people read them: `1.5 GiB`.
pub(crate) fn readable(bytes: u64) -> String {
    for (unit, shift) in UNITS.iter().rev() {
        if bytes >> shift > 0 {
            let tenths = (u128::from(bytes) * 10) >> shift;
            let (whole, tenth) = (tenths / 10, tenths % 10);
            return if tenth == 0 || whole >= 100 {
                format!("{whole} {unit}iB")
            } else {
                format!("{whole}.{tenth} {unit}iB")
            };
        }
    }
    format!("{bytes} bytes")
}

/// A size, or a share of another one: `2G`, `20%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "String")]
pub enum SizeOrShare {
    /// So many bytes.
    Size(Size),
    /// So many hundredths.
    Share(u8),
}

impl SizeOrShare {
    /// In bytes, where the whole has `whole`.
    pub fn bytes_of(self, whole: u64) -> u64 {
        match self {
            Self::Size(size) => size.bytes(),
            Self::Share(percent) => {
                let share = u128::from(whole) * u128::from(percent) / 100;
                u64::try_from(share).unwrap_or(u64::MAX)
            }
        }
    }
}

impl TryFrom<Written> for SizeOrShare {
    type Error = Error;
    fn try_from(written: Written) -> Result<Self> {
        let Written::Text(text) = &written else {
            return Size::try_from(written).map(Self::Size);
        };
        let Some(number) = text.trim().strip_suffix('%') else {
            return Size::try_from(written).map(Self::Size);
        };
        match number.parse() {
            Ok(percent @ 1..=100) => Ok(Self::Share(percent)),
            _ => Err(bad(
                "the share",
                text,
                "is not between 1% and 100%",
                "write 20%, or 2G",
            )),
        }
    }
}

impl From<SizeOrShare> for String {
    fn from(value: SizeOrShare) -> Self {
        value.to_string()
    }
}

impl fmt::Display for SizeOrShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size(size) => size.fmt(f),
            Self::Share(percent) => write!(f, "{percent}%"),
        }
    }
}

impl JsonSchema for SizeOrShare {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SizeOrShare".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^([0-9]{1,19}(\\.[0-9]{1,6})?([kKmMgGtTpP]([iI]?[bB])?)?|[0-9]{1,3}%)$" })
    }
}

#[cfg(test)]
#[path = "values_tests.rs"]
mod tests;
