//! Reading YAML: the one place that knows `serde_yaml`, and it only ever reads with it.
//!
//! `serde_yaml` gives the values, [`super::outline`] the lines and the limits; the two are read
//! side by side. Merge keys (`<<`) are applied here, since `serde_yaml` leaves them alone, and
//! doubled keys are told, since it would refuse the whole text for one.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, EnumAccess, MapAccess, SeqAccess, VariantAccess};
use serde_json::{Number, Value};

use super::node::{Data, Finding, Node, Origin, Path};
use super::outline::{Child, Outline, Refused, Shape};

/// Reads the text of source number `source`. What is wrong inside it is added to `findings`.
///
/// # Errors
/// [`Refused`] if nothing of the text can be used.
pub(super) fn read(
    text: &str,
    source: usize,
    findings: &mut Vec<Finding>,
) -> Result<Node, Refused> {
    let outline = Outline::read(text)?;
    let top = Origin { source, line: None };
    let Some(root) = outline.root() else {
        return Ok(Node::empty_map(top));
    };
    let raw: Raw = serde_yaml::from_str(text).map_err(|error| {
        let line = error.location().map(|at| at.line() as u64);
        Refused::new(line, format!("is not YAML: {error}"))
    })?;
    match raw {
        Raw::Scalar(Value::Null) => Ok(Node::empty_map(top)),
        Raw::Map(_) => {
            let mut reader = Reader {
                outline: &outline,
                source,
                findings,
            };
            Ok(reader.node(raw, Some(root), None, &Path::default()))
        }
        _ => Err(Refused::new(
            Some(root.line),
            format!("must be a map of fields, found {}", raw.noun()),
        )),
    }
}

/// The values as `serde_yaml` gives them: order and doubled keys kept.
enum Raw {
    Scalar(Value),
    List(Vec<Raw>),
    Map(Vec<(Raw, Raw)>),
    /// Something that a cloud-config cannot hold.
    Unusable(&'static str),
}

impl Raw {
    fn noun(&self) -> &'static str {
        match self {
            Self::Scalar(Value::String(_)) => "text",
            Self::Scalar(_) => "a single value",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
            Self::Unusable(what) => what,
        }
    }
}

/// Turns values and outline into nodes.
struct Reader<'a> {
    outline: &'a Outline,
    source: usize,
    findings: &'a mut Vec<Finding>,
}

impl Reader<'_> {
    /// `at` is none where the two parsers see different shapes: then lines are those around it.
    fn node(&mut self, raw: Raw, at: Option<Child>, line: Option<u64>, path: &Path) -> Node {
        let outline = self.outline;
        let line = line.or(at.map(|child| child.line));
        let origin = Origin {
            source: self.source,
            line,
        };
        let data = match raw {
            Raw::Scalar(value) => Data::Scalar(value),
            Raw::Unusable(what) => {
                let message = format!("{what} cannot be used here");
                self.findings
                    .push(Finding::new(origin, path.clone(), message));
                Data::Scalar(Value::Null)
            }
            Raw::List(items) => {
                let children = match at.map(|child| outline.shape(child)) {
                    Some(Shape::List(children)) if children.len() == items.len() => Some(children),
                    _ => None,
                };
                let mut nodes = Vec::with_capacity(items.len());
                for (index, item) in items.into_iter().enumerate() {
                    let child = children.and_then(|list| list.get(index)).copied();
                    let line = if child.is_none() { line } else { None };
                    nodes.push(self.node(item, child, line, &path.index(index)));
                }
                Data::List(nodes)
            }
            Raw::Map(entries) => Data::Map(self.map(entries, at, origin, path)),
        };
        Node { origin, data }
    }

    fn map(
        &mut self,
        entries: Vec<(Raw, Raw)>,
        at: Option<Child>,
        origin: Origin,
        path: &Path,
    ) -> BTreeMap<String, Node> {
        let outline = self.outline;
        let children = match at.map(|child| outline.shape(child)) {
            Some(Shape::Map(children)) if children.len() == 2 * entries.len() => Some(children),
            _ => None,
        };
        let mut map: BTreeMap<String, Node> = BTreeMap::new();
        let mut merged = Vec::new();
        for (index, (key, value)) in entries.into_iter().enumerate() {
            let pair =
                children.and_then(|list| Some((*list.get(2 * index)?, list.get(2 * index + 1)?)));
            let line = pair.map_or(origin.line, |(key, _)| Some(key.line));
            let origin = Origin { line, ..origin };
            let written = pair.map(|(key, _)| outline.shape(key));
            let Some(name) = key_text(&key, written) else {
                let message = format!("a key must be a single value, found {}", key.noun());
                self.findings
                    .push(Finding::new(origin, path.clone(), message));
                continue;
            };
            let below = path.key(&name);
            let value_at = pair.map(|(_, value)| *value);
            if name == "<<" {
                // Its lines are those of the merged map, not that of the `<<`.
                let node = self.node(value, value_at, None, path);
                self.collect_merged(node, origin, &below, &mut merged);
                continue;
            }
            if let Some(first) = map.get(&name) {
                let message = match first.origin.line {
                    Some(first) => {
                        format!(
                            "`{name}` is given twice (first on line {first}); this one is ignored"
                        )
                    }
                    None => format!("`{name}` is given twice; this one is ignored"),
                };
                self.findings.push(Finding::ignored(origin, below, message));
                continue;
            }
            let node = self.node(value, value_at, line, &below);
            map.insert(name, node);
        }
        for (name, node) in merged {
            map.entry(name).or_insert(node);
        }
        map
    }

    /// Lists what `<<: NODE` brings in; of two maps the first wins.
    fn collect_merged(
        &mut self,
        node: Node,
        origin: Origin,
        path: &Path,
        merged: &mut Vec<(String, Node)>,
    ) {
        match node.data {
            Data::Map(entries) => merged.extend(entries),
            Data::List(items) if items.iter().all(|item| item.entries().is_some()) => {
                for item in items {
                    self.collect_merged(item, origin, path, merged);
                }
            }
            Data::List(_) | Data::Scalar(_) => self.findings.push(Finding::new(
                origin,
                path.clone(),
                "`<<` takes a map or a list of maps",
            )),
        }
    }
}

/// The key as written; `on` and `0x10` stay what they are.
fn key_text(key: &Raw, written: Option<&Shape>) -> Option<String> {
    match (key, written) {
        (Raw::Scalar(_), Some(Shape::Scalar(text))) => Some(text.clone()),
        (Raw::Scalar(Value::String(text)), _) => Some(text.clone()),
        (Raw::Scalar(value), _) => Some(value.to_string()),
        (Raw::List(_) | Raw::Map(_) | Raw::Unusable(_), _) => None,
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> de::Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Scalar(value.into()))
    }

    fn visit_i128<E>(self, _: i128) -> Result<Raw, E> {
        Ok(Raw::Unusable("a number of more than 64 bits"))
    }

    fn visit_u128<E>(self, _: u128) -> Result<Raw, E> {
        Ok(Raw::Unusable("a number of more than 64 bits"))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(match Number::from_f64(value) {
            Some(number) => Raw::Scalar(Value::Number(number)),
            None => Raw::Unusable("a number that is not finite"),
        })
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::String(value.into())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw::Map(entries))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, access: A) -> Result<Raw, A::Error> {
        let (_tag, variant): (String, _) = access.variant()?;
        let _: Raw = variant.newtype_variant()?;
        Ok(Raw::Unusable("a value with a tag"))
    }
}
