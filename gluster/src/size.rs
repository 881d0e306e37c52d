//! Sizes, as options write them.

use std::borrow::Cow;
use std::fmt;

use lazarette_plugin::schemars::{Schema, SchemaGenerator, json_schema};
use lazarette_plugin::serde_json::Value;
use lazarette_plugin::{Error, JsonSchema, Result, quoted};
use serde::de::{self, Deserialize, Deserializer};
use serde::{Serialize, Serializer};

/// A number of bytes, with an IEC unit (`20G`, `20GiB`) or plainly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(u64);

/// Units by their exponents of 1024.
const UNITS: &[u8] = b"BKMGTP";

impl Size {
    /// Reads `512M`, `20G`, `20GiB`, `1048576`.
    ///
    /// # Errors
    /// `InvalidArgument` if it is not like that, is nothing, or more than Gluster can count.
    pub fn parse(text: &str) -> Result<Self> {
        Self::number(text.trim()).ok_or_else(|| {
            Error::invalid(format!("{} is not a size", quoted(text)))
                .remedy("write a whole number and a unit: 512M, 20G, 2T")
        })
    }

    /// In bytes.
    pub fn bytes(self) -> u64 {
        self.0
    }

    fn number(text: &str) -> Option<Self> {
        let end = text.find(|c: char| !c.is_ascii_digit());
        let (digits, unit) = text.split_at(end.unwrap_or(text.len()));
        let unit = unit.to_ascii_uppercase();
        let exponent = match unit.as_bytes() {
            [] => 0,
            [letter] | [letter, b'B'] | [letter, b'I', b'B'] if *letter != b'B' => {
                UNITS.iter().position(|u| u == letter)?
            }
            b"B" => 0,
            _ => return None,
        };
        let bytes = digits.parse::<u64>().ok()?;
        let bytes = bytes.checked_mul(1 << (10 * exponent))?;
        // Its limits are signed.
        (bytes > 0 && i64::try_from(bytes).is_ok()).then_some(Self(bytes))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.0;
        let mut exponent = 0;
        while bytes.is_multiple_of(1024) && exponent + 1 < UNITS.len() {
            bytes /= 1024;
            exponent += 1;
        }
        match exponent {
            0 => write!(f, "{bytes}"),
            _ => write!(f, "{bytes}{}", char::from(UNITS[exponent])),
        }
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = match Value::deserialize(deserializer)? {
            Value::String(text) => text,
            Value::Number(number) => number.to_string(),
            other => return Err(de::Error::custom(format!("{other} is not a size"))),
        };
        Self::parse(&text).map_err(de::Error::custom)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Size {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "integer"] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_read_and_written() {
        for (text, bytes, shown) in [
            ("1048576", 1 << 20, "1M"),
            ("20G", 20 << 30, "20G"),
            ("20gib", 20 << 30, "20G"),
            ("3MB", 3 << 20, "3M"),
            ("1500B", 1500, "1500"),
            ("2T", 2 << 40, "2T"),
        ] {
            let size = Size::parse(text).unwrap();
            assert_eq!(
                (size.bytes(), size.to_string().as_str()),
                (bytes, shown),
                "{text}"
            );
        }
        for bad in [
            "", "0", "G", "-1", "1.5G", "1X", "1BB", "1IB", "9000000P", "8192P", "1 G",
        ] {
            assert!(Size::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(bytes in 1..i64::MAX) {
            let size = Size::parse(&bytes.to_string()).unwrap();
            prop_assert_eq!(Size::parse(&size.to_string()).unwrap(), size);
        }
    }
}
