//! Options that come as text (`docker volume create -o key=value`), turned into what a kind's
//! schema asks for.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::explain::{self, Wrong, unknown};
use super::schema;
use crate::error::Error;

/// The names of the options that `schema` (a kind's context or volume schema) knows.
pub fn option_names(schema: &Value) -> BTreeSet<String> {
    schema::field_names(schema, schema)
}

/// Says that `name` is none of `names`, and which of them was probably meant.
pub fn unknown_option(name: &str, names: &BTreeSet<String>) -> String {
    unknown("option", name, names)
}

/// Checks options that have their types already.
///
/// # Errors
/// As [`typed_options`].
pub fn check_options(options: &Value, schema: &Value) -> Result<(), Error> {
    refuse(wrong(options, schema))
}

/// What the schema finds wrong, a sentence each.
fn wrong(options: &Value, schema: &Value) -> Vec<String> {
    let found = explain::check(schema, options, &BTreeSet::new());
    let sentence = |wrong: Wrong| {
        let message = wrong.message.replacen("unknown field", "unknown option", 1);
        if wrong.path.0.is_empty() || message.starts_with("unknown option") {
            message
        } else {
            format!("`{}`: {message}", wrong.path)
        }
    };
    found.into_iter().map(sentence).collect()
}

fn refuse(wrong: Vec<String>) -> Result<(), Error> {
    if wrong.is_empty() {
        return Ok(());
    }
    Err(Error::invalid("options").cause(wrong.join("; ")))
}

/// `options` as `schema` types them. Text stays text where the schema takes text; elsewhere it is
/// read as a number, as true or false (an empty value is true), or as a list, by commas or as
/// `[a, b]`.
///
/// # Errors
/// `InvalidArgument` naming every option that is unknown, missing or of the wrong form.
pub fn typed_options(options: &BTreeMap<String, String>, schema: &Value) -> Result<Value, Error> {
    laid_over(&Map::new(), options, schema)
}

/// `base` with `options`, typed as [`typed_options`] does, in the place of what it has.
///
/// # Errors
/// As [`typed_options`], about the whole.
pub fn laid_over(
    base: &Map<String, Value>,
    options: &BTreeMap<String, String>,
    schema: &Value,
) -> Result<Value, Error> {
    let names = option_names(schema);
    let mut sentences = Vec::new();
    let mut typed = base.clone();
    for (name, text) in options {
        match schema::field(schema, schema, name) {
            Some(field) => {
                typed.insert(name.clone(), typed_value(text, schema, field));
            }
            None => sentences.push(unknown("option", name, &names)),
        }
    }
    let typed = Value::Object(typed);
    sentences.extend(wrong(&typed, schema));
    refuse(sentences)?;
    Ok(typed)
}

fn typed_value(text: &str, root: &Value, field: &Value) -> Value {
    let types = schema::types(root, field);
    let accepts = |name: &str| types.contains(name);
    if types.is_empty() || accepts("string") {
        return Value::String(text.into());
    }
    if accepts("integer") || accepts("number") {
        let number: Option<Value> = serde_json::from_str(text.trim()).ok();
        if let Some(number) = number.filter(Value::is_number) {
            return number;
        }
    }
    if accepts("boolean") {
        match text.trim() {
            "" | "true" | "yes" | "on" | "1" => return Value::Bool(true),
            "false" | "no" | "off" | "0" => return Value::Bool(false),
            _ => {}
        }
    }
    if accepts("array") || accepts("object") {
        let parsed: Option<Value> = serde_json::from_str(text).ok();
        if let Some(parsed) = parsed.filter(|value| value.is_array() || value.is_object()) {
            return parsed;
        }
    }
    if accepts("array") {
        let items = text
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty());
        return Value::Array(items.map(|item| Value::String(item.into())).collect());
    }
    Value::String(text.into())
}

/// One option of a kind, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionInfo {
    /// Its name.
    pub name: String,
    /// What it takes: `text`, `a whole number`, or the values there are.
    pub takes: String,
    /// Whether it must be given.
    pub required: bool,
    /// What it means.
    pub description: String,
}

/// The options that `schema` (a kind's context or volume schema) knows, by name.
pub fn describe_options(schema: &Value) -> Vec<OptionInfo> {
    let required = schema.get("required").and_then(Value::as_array);
    let required: BTreeSet<&str> = required
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let describe = |name: String| {
        let field = schema::field(schema, schema, &name)?;
        let own = field.get("description");
        let description = own.or_else(|| schema::resolve(schema, field).get("description"));
        let description = description.and_then(Value::as_str).unwrap_or_default();
        Some(OptionInfo {
            takes: takes(schema, field),
            required: required.contains(name.as_str()),
            description: description.split_whitespace().collect::<Vec<_>>().join(" "),
            name,
        })
    };
    option_names(schema)
        .into_iter()
        .filter_map(describe)
        .collect()
}

fn takes(root: &Value, field: &Value) -> String {
    let values = schema::values(root, field);
    if !values.is_empty() {
        return values.into_iter().collect::<Vec<_>>().join(", ");
    }
    let types = schema::types(root, field);
    let nouns: Vec<&str> = types
        .iter()
        .filter(|name| name.as_str() != "null")
        .map(|name| explain::type_noun(name))
        .collect();
    if nouns.is_empty() {
        "any value".into()
    } else {
        nouns.join(" or ")
    }
}
