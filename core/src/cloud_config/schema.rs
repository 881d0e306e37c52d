//! The JSON schema of the cloud-config, and looking things up in JSON schemas.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::model::CloudConfig;
use crate::manifest::Manifest;
use crate::name::Kind;

/// How many `$ref`s in a row are followed; a schema that needs more goes in circles.
const MOST_REFERENCES: usize = 16;

/// The schema of the document's structure; options of kinds are open in it.
pub(super) fn structure() -> Value {
    schemars::schema_for!(CloudConfig).to_value()
}

/// The names of the top-level fields.
pub(super) fn top_level_fields() -> BTreeSet<String> {
    let schema = structure();
    field_names(&schema, &schema)
}

/// The schema of the whole cloud-config, with the options of `kinds`, to be printed or given to
/// an editor.
pub fn schema(kinds: &BTreeMap<Kind, Manifest>) -> Value {
    let mut schema = structure();
    schema["title"] = json!("Lazarette's cloud-config");
    if kinds.is_empty() {
        return schema;
    }
    let own_of = |schema: &Value, name: &str| -> Map<String, Value> {
        schema["$defs"][name]["properties"]
            .as_object()
            .cloned()
            .unwrap_or_default()
    };
    let (context_own, volume_own) = (
        own_of(&schema, "Context"),
        own_of(&schema, "DeclaredVolume"),
    );
    let names: Vec<&str> = kinds.keys().map(Kind::as_str).collect();
    let mut cases = Vec::new();
    let mut volumes = Vec::new();
    for (kind, manifest) in kinds {
        let context = format!("{kind}-context");
        let volume = format!("{kind}-volume");
        cases.push(json!({
            "if": { "properties": { "kind": { "const": kind.as_str() } } },
            "then": { "$ref": format!("#/$defs/{context}") },
        }));
        volumes.push(json!({ "$ref": format!("#/$defs/{volume}") }));
        schema["$defs"][&context] = embedded(&manifest.context_schema, &context, &context_own);
        schema["$defs"][&volume] = embedded(&manifest.volume_schema, &volume, &volume_own);
    }
    schema["$defs"]["Context"]["properties"]["kind"] = json!({
        "description": "The kind of storage.",
        "type": "string",
        "enum": names,
    });
    schema["$defs"]["Context"]["allOf"] = Value::Array(cases);
    schema["$defs"]["DeclaredVolume"]["anyOf"] = Value::Array(volumes);
    schema
}

/// A kind's schema as part of ours: an identity of its own, so that its references stay inside
/// it, and our fields beside its own ones.
fn embedded(schema: &Value, name: &str, own: &Map<String, Value>) -> Value {
    let mut schema = schema.clone();
    let Some(map) = schema.as_object_mut() else {
        return schema;
    };
    map.remove("$schema");
    map.insert("$id".into(), json!(format!("urn:lazarette:{name}")));
    if let Some(properties) = map
        .entry("properties")
        .or_insert_with(|| json!({}))
        .as_object_mut()
    {
        for key in own.keys() {
            properties.entry(key.clone()).or_insert(Value::Bool(true));
        }
    }
    schema
}

/// What `place` (a part of `root`) refers to, references followed.
pub(super) fn resolve<'a>(root: &'a Value, mut place: &'a Value) -> &'a Value {
    for _ in 0..MOST_REFERENCES {
        let Some(target) = place
            .get("$ref")
            .and_then(Value::as_str)
            .and_then(|reference| root.pointer(reference.strip_prefix('#')?))
        else {
            return place;
        };
        place = target;
    }
    place
}

/// The fields that an object of schema `place` (a part of `root`) may have, whichever of its
/// alternatives applies.
pub(super) fn field_names(root: &Value, place: &Value) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    collect_properties(root, place, MOST_REFERENCES, &mut |name, _| {
        names.insert(name.to_owned());
    });
    names
}

/// The schema of field `name` in an object of schema `place` (a part of `root`).
pub(super) fn field<'a>(root: &'a Value, place: &'a Value, name: &str) -> Option<&'a Value> {
    let mut found = None;
    collect_properties(root, place, MOST_REFERENCES, &mut |key, schema| {
        if key == name && found.is_none() {
            found = Some(schema);
        }
    });
    found
}

fn collect_properties<'a>(
    root: &'a Value,
    place: &'a Value,
    depth: usize,
    found: &mut impl FnMut(&str, &'a Value),
) {
    if depth == 0 {
        return;
    }
    if let Some(properties) = place.get("properties").and_then(Value::as_object) {
        for (name, schema) in properties {
            found(name, schema);
        }
    }
    if place.get("$ref").is_some() {
        let target = resolve(root, place);
        if !std::ptr::eq(target, place) {
            collect_properties(root, target, depth - 1, found);
        }
    }
    for keyword in ["allOf", "anyOf", "oneOf"] {
        for part in parts(place, keyword) {
            collect_properties(root, part, depth - 1, found);
        }
    }
    for keyword in ["then", "else"] {
        if let Some(part) = place.get(keyword) {
            collect_properties(root, part, depth - 1, found);
        }
    }
}

/// The JSON types that a value of schema `place` (a part of `root`) may have.
pub(super) fn types(root: &Value, place: &Value) -> BTreeSet<String> {
    let mut types = BTreeSet::new();
    collect_types(root, place, MOST_REFERENCES, &mut types);
    types
}

fn collect_types(root: &Value, place: &Value, depth: usize, types: &mut BTreeSet<String>) {
    if depth == 0 {
        return;
    }
    let place = resolve(root, place);
    match place.get("type") {
        Some(Value::String(one)) => {
            types.insert(one.clone());
        }
        Some(Value::Array(many)) => {
            types.extend(many.iter().filter_map(Value::as_str).map(str::to_owned));
        }
        _ => {}
    }
    let given = place.get("const").into_iter();
    let listed = place.get("enum").and_then(Value::as_array);
    for value in given.chain(listed.into_iter().flatten()) {
        types.insert(type_of(value).to_owned());
    }
    for keyword in ["allOf", "anyOf", "oneOf"] {
        for part in parts(place, keyword) {
            collect_types(root, part, depth - 1, types);
        }
    }
}

/// The values that a value of schema `place` (a part of `root`) is chosen from, if it is; text
/// only, and null left out.
pub(super) fn values(root: &Value, place: &Value) -> BTreeSet<String> {
    let mut values = BTreeSet::new();
    collect_values(root, place, MOST_REFERENCES, &mut values);
    values
}

fn collect_values(root: &Value, place: &Value, depth: usize, values: &mut BTreeSet<String>) {
    if depth == 0 {
        return;
    }
    let place = resolve(root, place);
    let given = place.get("const").into_iter();
    let listed = place.get("enum").and_then(Value::as_array);
    let all = given.chain(listed.into_iter().flatten());
    values.extend(all.filter_map(Value::as_str).map(str::to_owned));
    for keyword in ["allOf", "anyOf", "oneOf"] {
        for part in parts(place, keyword) {
            collect_values(root, part, depth - 1, values);
        }
    }
}

fn parts<'a>(place: &'a Value, keyword: &str) -> impl Iterator<Item = &'a Value> {
    place
        .get(keyword)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

/// The JSON type of a value, as a schema names it.
pub(super) fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
