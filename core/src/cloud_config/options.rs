//! Options that come as text (`docker volume create -o key=value`), turned into what a kind's
//! schema asks for.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::explain::{self, unknown};
use super::schema;
use crate::error::Error;

/// The names of the options that `schema` (a kind's context or volume schema) knows.
pub fn option_names(schema: &Value) -> BTreeSet<String> {
    schema::field_names(schema, schema)
}

/// `options` as `schema` types them. Text stays text where the schema takes text; elsewhere it is
/// read as a number, as true or false (an empty value is true), or as a list, by commas or as
/// `[a, b]`.
///
/// # Errors
/// `InvalidArgument` naming every option that is unknown, missing or of the wrong form.
pub fn typed_options(options: &BTreeMap<String, String>, schema: &Value) -> Result<Value, Error> {
    let names = option_names(schema);
    let mut wrong = Vec::new();
    let mut typed = Map::new();
    for (name, text) in options {
        match schema::field(schema, schema, name) {
            Some(field) => {
                typed.insert(name.clone(), typed_value(text, schema, field));
            }
            None => wrong.push(unknown("option", name, &names)),
        }
    }
    let typed = Value::Object(typed);
    for problem in explain::check(schema, &typed, &BTreeSet::new()) {
        wrong.push(match problem.path.0.is_empty() {
            true => problem.message.replacen("field", "option", 1),
            false => format!("`{}`: {}", problem.path, problem.message),
        });
    }
    if wrong.is_empty() {
        return Ok(typed);
    }
    Err(Error::invalid("options").cause(wrong.join("; ")))
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
