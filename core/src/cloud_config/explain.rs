//! What a JSON schema finds wrong, in words a person can act on.

use std::collections::BTreeSet;

use regex_lite::Regex;
use schemars::JsonSchema;
use serde_json::Value;

use super::node::{Node, Path};
use super::schema::{field_names, resolve, type_of};
use super::validate::{Broken, Rule, validate};
use crate::name::{self, ContextName, OptionText, VolumeName, quoted};

/// The most names listed in one message.
const MOST_NAMES: usize = 16;

/// One thing wrong, where, relative to what was checked.
pub(super) struct Wrong {
    /// The place.
    pub(super) path: Path,
    /// What is wrong.
    pub(super) message: String,
}

/// All that `schema` finds wrong with `value`, except unknown fields named in `known`.
pub(super) fn check(schema: &Value, value: &Value, known: &BTreeSet<String>) -> Vec<Wrong> {
    let explainer = Explainer { schema, known };
    let mut wrong = Vec::new();
    match validate(schema, value) {
        Ok(broken) => {
            for broken in &broken {
                explainer.explain(broken, &mut wrong);
            }
        }
        Err(fault) => wrong.push(Wrong {
            path: Path::default(),
            message: format!(
                "the plugin's schema cannot be used: {fault}; use another version of the plugin"
            ),
        }),
    }
    wrong
}

struct Explainer<'a> {
    schema: &'a Value,
    known: &'a BTreeSet<String>,
}

impl Explainer<'_> {
    fn explain(&self, broken: &Broken<'_>, wrong: &mut Vec<Wrong>) {
        let found = &broken.found;
        let list = found.is_array();
        let message = match &broken.rule {
            Rule::Unknown(field) => {
                wrong.extend(self.unknown_field(broken, field));
                return;
            }
            Rule::Alternatives(alternatives) => {
                self.alternatives(broken, alternatives, wrong);
                return;
            }
            Rule::Required(name) => {
                format!(
                    "`{name}` is missing{}",
                    self.description_of(broken.place, name)
                )
            }
            Rule::Type(types) => mismatch(types, found),
            Rule::OneOf(options) => one_of(options.iter().copied(), found),
            Rule::Pattern(pattern) => pattern_message(pattern, found),
            Rule::Format(format) => {
                format!("expected {}, found {}", format_noun(format), shown(found))
            }
            Rule::Number(words, limit) => {
                format!(
                    "{}, found {}",
                    words.replace("{}", &limit.to_string()),
                    shown(found)
                )
            }
            Rule::Length(1, true) if list => "the list must not be empty".to_owned(),
            Rule::Length(1, true) => "must not be empty".to_owned(),
            Rule::Length(limit, least) => {
                let what = match found {
                    Value::Array(_) => "items",
                    Value::Object(_) => "fields",
                    _ => "characters",
                };
                let bound = if *least { "at least" } else { "at most" };
                format!("must have {bound} {limit} {what}")
            }
            Rule::Twice => "the list has an item twice".to_owned(),
            Rule::Ambiguous => "fits several forms of which only one may apply".to_owned(),
            Rule::Forbidden => format!("{} cannot be used here", shown(found)),
        };
        wrong.push(Wrong {
            path: broken.path.clone(),
            message,
        });
    }

    fn unknown_field(&self, broken: &Broken<'_>, field: &str) -> Option<Wrong> {
        let top = broken.path.0.is_empty();
        if top && self.known.contains(field) {
            return None;
        }
        let message = if let Some(pattern) = name_pattern(broken.place) {
            pattern_message(pattern, &Value::String(field.to_owned()))
        } else {
            let mut names = field_names(self.schema, broken.place);
            if top {
                names.extend(self.known.iter().cloned());
            }
            unknown("field", field, &names)
        };
        Some(Wrong {
            path: broken.path.key(field),
            message,
        })
    }

    /// Of several alternatives, tells what the one that was meant finds wrong.
    fn alternatives(
        &self,
        broken: &Broken<'_>,
        alternatives: &[Vec<Broken<'_>>],
        wrong: &mut Vec<Wrong>,
    ) {
        let other_shape = |lacking: &Broken<'_>| {
            lacking.path == broken.path && matches!(lacking.rule, Rule::Type(_) | Rule::OneOf(_))
        };
        let mut meant = alternatives
            .iter()
            .filter(|lacking| !lacking.iter().any(other_shape));
        if let Some(first) = meant.next() {
            let only = meant.next().is_none();
            for lacking in first.iter().take(if only { usize::MAX } else { 1 }) {
                self.explain(lacking, wrong);
            }
            return;
        }
        let mut types = BTreeSet::new();
        let mut values = Vec::new();
        for lacking in alternatives.iter().flatten() {
            collect(lacking, &mut types, &mut values);
        }
        types.remove("null");
        values.retain(|value| !value.is_null());
        let message = if values.is_empty() {
            mismatch(&types, &broken.found)
        } else {
            one_of(values, &broken.found)
        };
        wrong.push(Wrong {
            path: broken.path.clone(),
            message,
        });
    }

    fn description_of(&self, place: &Value, name: &str) -> String {
        super::schema::field(self.schema, place, name)
            .and_then(|field| {
                let own = field.get("description");
                own.or_else(|| resolve(self.schema, field).get("description"))
            })
            .and_then(Value::as_str)
            .and_then(|text| text.split(['\n', '.']).next())
            .filter(|text| !text.is_empty() && text.len() <= 80)
            .map(|text| format!(" ({text})"))
            .unwrap_or_default()
    }
}

/// The types and values that alternatives, and theirs, would have taken.
fn collect<'s>(broken: &Broken<'s>, types: &mut BTreeSet<&'s str>, values: &mut Vec<&'s Value>) {
    match &broken.rule {
        Rule::Type(expected) => types.extend(expected),
        Rule::OneOf(options) => values.extend(options),
        Rule::Alternatives(alternatives) => {
            for lacking in alternatives.iter().flatten() {
                collect(lacking, types, values);
            }
        }
        _ => {}
    }
}

/// The pattern of a map's keys, if the schema `place` is that of a map with named entries.
fn name_pattern(place: &Value) -> Option<&str> {
    let patterns = place.get("patternProperties")?.as_object()?;
    patterns.keys().next().map(String::as_str)
}

/// `unknown field `servr`; did you mean `server`?`, or which ones there are.
pub(super) fn unknown(what: &str, name: &str, names: &BTreeSet<String>) -> String {
    let shown = printable(name);
    if let Some(near) = nearest(name, names) {
        return format!("unknown {what} `{shown}`; did you mean `{near}`?");
    }
    format!("unknown {what} `{shown}`; {}", known(names))
}

/// Lists `names`.
pub(super) fn known(names: &BTreeSet<String>) -> String {
    if names.is_empty() {
        return "none is known here".into();
    }
    let list: Vec<String> = names
        .iter()
        .take(MOST_NAMES)
        .map(|name| format!("`{name}`"))
        .collect();
    let more = if names.len() > MOST_NAMES {
        ", …"
    } else {
        ""
    };
    format!("known here: {}{more}", list.join(", "))
}

/// The name that was probably meant.
pub(super) fn nearest<'a>(name: &str, names: &'a BTreeSet<String>) -> Option<&'a str> {
    if name.len() > 64 {
        return None;
    }
    let plain = |text: &str| text.to_lowercase().replace('-', "_");
    let wanted = plain(name);
    names
        .iter()
        .map(|candidate| {
            let distance = strsim::damerau_levenshtein(&wanted, &plain(candidate));
            (distance, candidate)
        })
        // A third of it: `nsa` may mean `nas`, but `ntfs` is not a slip of the pen for `btrfs`.
        .filter(|(distance, candidate)| *distance <= (name.len().max(candidate.len()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate.as_str())
}

/// `expected text, found the number 4.2; …`.
fn mismatch(types: &BTreeSet<&str>, found: &Value) -> String {
    let nouns: Vec<&str> = types
        .iter()
        .filter(|name| **name != "null")
        .map(|name| type_noun(name))
        .collect();
    let mut message = format!("expected {}, found {}", nouns.join(" or "), shown(found));
    let scalar = found.is_number() || found.is_boolean();
    if types.contains("string") && scalar {
        message.push_str(&format!("; put it in quotes: \"{found}\""));
    } else if types.contains("array") && (scalar || found.is_string()) {
        message.push_str(&format!("; write [{}]", plain(found)));
    }
    message
}

fn one_of<'a>(options: impl IntoIterator<Item = &'a Value>, found: &Value) -> String {
    let names: BTreeSet<String> = options.into_iter().map(plain).collect();
    let near = found.as_str().and_then(|text| nearest(text, &names));
    let list: Vec<String> = names
        .iter()
        .take(MOST_NAMES)
        .map(|name| format!("`{name}`"))
        .collect();
    let mut message = format!("expected {}, found {}", list.join(", "), shown(found));
    if names.len() > 1 {
        message = message.replacen("expected ", "expected one of ", 1);
    }
    if let Some(near) = near {
        message.push_str(&format!("; did you mean `{near}`?"));
    } else if found.is_number() && names.contains(&found.to_string()) {
        message.push_str(&format!("; put it in quotes: \"{found}\""));
    }
    message
}

/// A pattern that is one of our names' says which rule of it is broken.
fn pattern_message(pattern: &str, found: &Value) -> String {
    let text = found.as_str().unwrap_or_default();
    let ours = [
        (pattern_of::<ContextName>(), ContextName::new(text).err()),
        (pattern_of::<name::Kind>(), name::Kind::new(text).err()),
        (pattern_of::<VolumeName>(), VolumeName::new(text).err()),
        (pattern_of::<OptionText>(), OptionText::new(text).err()),
    ];
    let broken = ours
        .into_iter()
        .filter(|(ours, _)| ours.as_str() == Some(pattern))
        .find_map(|(_, error)| error);
    match broken {
        Some(error) => error.to_string(),
        None => misfit(pattern, text),
    }
}

/// What a text that does not fit a foreign pattern has too much or too little, found by trying.
fn misfit(pattern: &str, text: &str) -> String {
    let shown = quoted(text);
    let Ok(regex) = Regex::new(pattern) else {
        return format!("{shown} is not of the form {pattern}");
    };
    let fits = |text: String| regex.is_match(&text);
    let odd: BTreeSet<char> = text.chars().filter(|c| !c.is_alphanumeric()).collect();
    let first = text.chars().next();
    if let Some(c) = odd.iter().find(|c| fits(text.replace(**c, ""))) {
        return if first == Some(*c) && text.matches(*c).count() == 1 {
            format!("{shown} must not begin with {c:?}")
        } else {
            format!("{shown} must not contain {c:?}")
        };
    }
    if !text.is_empty() && fits(format!("/{text}")) {
        return format!("{shown} must begin with '/'");
    }
    format!("{shown} is not of the form {pattern}")
}

fn pattern_of<T: JsonSchema>() -> Value {
    let schema = T::json_schema(&mut schemars::SchemaGenerator::default());
    schema.get("pattern").cloned().unwrap_or_default()
}

/// What a JSON type is called in messages.
pub(super) fn type_noun(name: &str) -> &str {
    match name {
        "string" => "text",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "true or false",
        "array" => "a list",
        "object" => "a map",
        "null" => "nothing",
        other => other,
    }
}

fn format_noun(format: &str) -> &str {
    match format {
        "ip" => "an IP address",
        "ipv4" => "an IPv4 address",
        "ipv6" => "an IPv6 address",
        "hostname" => "a host name",
        "uri" => "a URL",
        "uuid" => "a UUID",
        other => other,
    }
}

/// A value in a message: what it is and, if it is short, itself.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Null => "nothing".into(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) => format!("the text {}", quoted(text)),
        Value::Array(_) | Value::Object(_) => type_noun(type_of(value)).into(),
    }
}

/// A value as it is written in messages.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => printable(text),
        other => other.to_string(),
    }
}

/// A name fit for a message: no control characters, not too long.
fn printable(text: &str) -> String {
    let quoted = quoted(text);
    quoted[1..quoted.len() - 1].to_owned()
}

/// Where in `node` the wrong part lies, below `base`.
pub(super) fn locate(node: &Node, base: &Path, wrong: &Wrong) -> (super::node::Origin, Path) {
    let mut path = base.clone();
    path.0.extend(wrong.path.0.iter().cloned());
    (node.origin_at(&path), path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_slip_of_the_pen_is_taken_for_another_name() {
        let names = ["btrfs", "ext4", "nas"].map(String::from).into();
        assert_eq!(nearest("nsa", &names), Some("nas"));
        assert_eq!(nearest("brtfs", &names), Some("btrfs"));
        assert_eq!(nearest("EXT-4", &names), Some("ext4"));
        assert_eq!(nearest("ntfs", &names), None);
    }
}
