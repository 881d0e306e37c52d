//! A document that remembers where each part of it came from.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

/// Where a part of the document was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Origin {
    /// Which of the sources, by index.
    pub(super) source: usize,
    /// The line, from 1, where it is known.
    pub(super) line: Option<u64>,
}

/// One part of the document.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    /// The line of its key (or of the item itself, in a list).
    pub(super) origin: Origin,
    /// What it holds.
    pub(super) data: Data,
}

/// What a part holds.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Data {
    /// Null, true or false, a number, text.
    Scalar(Value),
    /// A list.
    List(Vec<Node>),
    /// A map.
    Map(BTreeMap<String, Node>),
}

impl Node {
    /// A map without entries.
    pub(super) fn empty_map(origin: Origin) -> Self {
        Self {
            origin,
            data: Data::Map(BTreeMap::new()),
        }
    }

    /// Whether it is null.
    pub(super) fn is_null(&self) -> bool {
        self.data == Data::Scalar(Value::Null)
    }

    /// The entries, if it is a map.
    pub(super) fn entries(&self) -> Option<&BTreeMap<String, Node>> {
        match &self.data {
            Data::Map(entries) => Some(entries),
            Data::Scalar(_) | Data::List(_) => None,
        }
    }

    /// The text, if it is text.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.data {
            Data::Scalar(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    /// The part one step below.
    fn child(&self, step: &Step) -> Option<&Node> {
        match (&self.data, step) {
            (Data::Map(entries), Step::Key(key)) => entries.get(key),
            (Data::List(items), Step::Index(index)) => items.get(*index),
            _ => None,
        }
    }

    /// The part at `path`.
    pub(super) fn at(&self, path: &Path) -> Option<&Node> {
        path.0.iter().try_fold(self, |node, step| node.child(step))
    }

    /// Where the part at `path` was written, or the closest part around it that there is.
    pub(super) fn origin_at(&self, path: &Path) -> Origin {
        let mut node = self;
        for step in &path.0 {
            match node.child(step) {
                Some(child) => node = child,
                None => break,
            }
        }
        node.origin
    }

    /// Takes the part at `path` out. A step into a list takes the whole list out.
    pub(super) fn remove(&mut self, path: &Path) {
        let mut node = self;
        for (index, step) in path.0.iter().enumerate() {
            let (Data::Map(entries), Step::Key(key)) = (&mut node.data, step) else {
                return;
            };
            let last = index + 1 == path.0.len();
            let in_list = matches!(path.0.get(index + 1), Some(Step::Index(_)));
            if last || in_list {
                entries.remove(key);
                return;
            }
            match entries.get_mut(key) {
                Some(child) => node = child,
                None => return,
            }
        }
    }

    /// The same without its origins.
    pub(super) fn to_json(&self) -> Value {
        match &self.data {
            Data::Scalar(value) => value.clone(),
            Data::List(items) => Value::Array(items.iter().map(Node::to_json).collect()),
            Data::Map(entries) => Value::Object(
                entries
                    .iter()
                    .map(|(key, node)| (key.clone(), node.to_json()))
                    .collect(),
            ),
        }
    }
}

/// One step down a document.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// Into a map.
    Key(String),
    /// Into a list.
    Index(usize),
}

/// The way from the root to a part; shown as `lazarette.storage.contexts.nas.exports[0]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Path(pub(super) Vec<Step>);

impl Path {
    /// A path of map keys.
    pub(super) fn of(keys: &[&str]) -> Self {
        Self(keys.iter().map(|key| Step::Key((*key).into())).collect())
    }

    /// The same, one map key further down.
    pub(super) fn key(&self, key: &str) -> Self {
        let mut steps = self.0.clone();
        steps.push(Step::Key(key.into()));
        Self(steps)
    }

    /// The same, one list item further down.
    pub(super) fn index(&self, index: usize) -> Self {
        let mut steps = self.0.clone();
        steps.push(Step::Index(index));
        Self(steps)
    }

    /// The keys before the first list index.
    pub(super) fn keys(&self) -> Vec<&str> {
        self.0
            .iter()
            .map_while(|step| match step {
                Step::Key(key) => Some(key.as_str()),
                Step::Index(_) => None,
            })
            .collect()
    }

    /// Whether `other` is this path or lies below it.
    pub(super) fn covers(&self, other: &Path) -> bool {
        other.0.starts_with(&self.0)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) => {
                    if index > 0 {
                        f.write_str(".")?;
                    }
                    let plain = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
                    if !key.is_empty() && key.len() <= 64 && key.chars().all(plain) {
                        f.write_str(key)?;
                    } else {
                        f.write_str(&crate::name::quoted(key))?;
                    }
                }
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// Something wrong at a place, before it is told to anybody.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Finding {
    /// Where it was written.
    pub(super) origin: Origin,
    /// The place.
    pub(super) path: Path,
    /// What is wrong.
    pub(super) message: String,
    /// Whether the part cannot be used.
    pub(super) fatal: bool,
}

impl Finding {
    /// Something that makes the part at `path` unusable.
    pub(super) fn new(origin: Origin, path: Path, message: impl Into<String>) -> Self {
        Self {
            origin,
            path,
            message: message.into(),
            fatal: true,
        }
    }

    /// Something that has been put right already, by leaving it out.
    pub(super) fn ignored(origin: Origin, path: Path, message: impl Into<String>) -> Self {
        Self {
            fatal: false,
            ..Self::new(origin, path, message)
        }
    }
}
