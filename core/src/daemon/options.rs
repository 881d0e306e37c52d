//! Options as text (`-o key=value`) sorted and typed by what a kind's manifest says of them.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::manifest::Manifest;
use crate::name::quoted;

/// Options of a new volume, and of the context it lies in.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sorted {
    /// The volume's own.
    pub volume: Map<String, Value>,
    /// Those that only a context has.
    pub context: Map<String, Value>,
}

/// Sorts `options`: what the volume schema has is the volume's, what only the context schema has
/// is the context's.
///
/// # Errors
/// `InvalidArgument` naming an unknown option and the nearest known one, or a value of the wrong type.
pub fn sort(manifest: &Manifest, options: &BTreeMap<String, String>) -> Result<Sorted> {
    let mut sorted = Sorted::default();
    for (key, text) in options {
        if let Some(schema) = property(&manifest.volume_schema, key) {
            sorted.volume.insert(key.clone(), typed(&manifest.volume_schema, schema, key, text)?);
        } else if let Some(schema) = property(&manifest.context_schema, key) {
            sorted.context.insert(key.clone(), typed(&manifest.context_schema, schema, key, text)?);
        } else {
            return Err(unknown(manifest, key));
        }
    }
    Ok(sorted)
}

fn unknown(manifest: &Manifest, key: &str) -> Error {
    let mut names: Vec<&str> = names(&manifest.volume_schema).chain(names(&manifest.context_schema)).collect();
    names.sort_unstable();
    names.dedup();
    let error = Error::invalid(format!("unknown option {} for kind \"{}\"", quoted(key), manifest.kind));
    match nearest(key, names.iter().copied()) {
        Some(name) => error.remedy(format!("did you mean \"{name}\"?")),
        None => error.remedy(format!("the options are: {}", names.join(", "))),
    }
}

/// The name nearest to `wrong`, if one is near enough to be meant.
pub fn nearest<'a>(wrong: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    names
        .map(|name| (strsim::jaro_winkler(wrong, name), name))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

fn names(schema: &Value) -> impl Iterator<Item = &str> {
    schema.get("properties").and_then(Value::as_object).into_iter().flat_map(|o| o.keys().map(String::as_str))
}

fn property<'a>(schema: &'a Value, key: &str) -> Option<&'a Value> {
    schema.get("properties")?.get(key)
}

/// `text` as the type that `schema` (a property of `root`) allows; a string where it allows one.
fn typed(root: &Value, schema: &Value, key: &str, text: &str) -> Result<Value> {
    let mut types = Vec::new();
    collect_types(root, schema, &mut types, 0);
    let allows = |name: &str| types.iter().any(|t| t == name);
    if types.is_empty() || allows("string") {
        return Ok(Value::String(text.into()));
    }
    if allows("boolean") {
        match text {
            "true" | "yes" | "on" | "1" | "" => return Ok(Value::Bool(true)),
            "false" | "no" | "off" | "0" => return Ok(Value::Bool(false)),
            _ => {}
        }
    }
    if allows("integer") {
        if let Ok(number) = text.parse::<i64>() {
            return Ok(number.into());
        }
    }
    if allows("number") {
        if let Some(number) = text.parse().ok().and_then(serde_json::Number::from_f64) {
            return Ok(Value::Number(number));
        }
    }
    if allows("array") {
        return Ok(Value::Array(text.split(',').map(|part| Value::String(part.trim().into())).collect()));
    }
    Err(Error::invalid(format!("option \"{key}\": {} is not {}", quoted(text), types.join(" or "))))
}

fn collect_types(root: &Value, schema: &Value, types: &mut Vec<String>, depth: u8) {
    // A schema from an image is not ours to trust: it may refer to itself.
    if depth > 8 {
        return;
    }
    match schema.get("type") {
        Some(Value::String(name)) => types.push(name.clone()),
        Some(Value::Array(names)) => types.extend(names.iter().filter_map(Value::as_str).map(str::to_owned)),
        _ => {}
    }
    if schema.get("enum").is_some() && schema.get("type").is_none() {
        types.push("string".into());
    }
    for word in ["anyOf", "oneOf", "allOf"] {
        for part in schema.get(word).and_then(Value::as_array).into_iter().flatten() {
            collect_types(root, part, types, depth + 1);
        }
    }
    if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
        if let Some(found) = target.strip_prefix('#').and_then(|pointer| root.pointer(pointer)) {
            collect_types(root, found, types, depth + 1);
        }
    }
    types.retain(|t| t != "null");
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn manifest() -> Manifest {
        serde_json::from_value(json!({
            "kind": "fake", "version": "1", "capabilities": [], "privileges": {},
            "context_schema": {"properties": {"server": {"type": "string"}, "vers": {"type": "string"}}},
            "volume_schema": {
                "properties": {
                    "export": {"type": "string"}, "vers": {"anyOf": [{"$ref": "#/$defs/Vers"}, {"type": "null"}]},
                    "timeo": {"type": ["integer", "null"]}, "soft": {"type": "boolean"},
                    "looped": {"$ref": "#/$defs/Looped"}
                },
                "$defs": {"Vers": {"enum": ["3", "4.2"], "type": "string"}, "Looped": {"$ref": "#/$defs/Looped"}}
            }
        }))
        .unwrap()
    }

    fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect()
    }

    #[test]
    fn options_go_where_the_schemas_have_them_with_the_right_type() {
        let given = options(&[("server", "nas"), ("export", "/x"), ("vers", "4.2"), ("timeo", "600"), ("soft", "true")]);
        let sorted = sort(&manifest(), &given).unwrap();
        assert_eq!(Value::Object(sorted.context), json!({"server": "nas"}));
        assert_eq!(Value::Object(sorted.volume), json!({"export": "/x", "vers": "4.2", "timeo": 600, "soft": true}));
    }

    #[test]
    fn an_unknown_option_names_the_nearest_and_a_wrong_type_names_the_right_one() {
        let error = sort(&manifest(), &options(&[("servr", "nas")])).unwrap_err().to_string();
        assert!(error.contains("\"servr\"") && error.contains("did you mean \"server\""), "{error}");
        let error = sort(&manifest(), &options(&[("timeo", "soon")])).unwrap_err().to_string();
        assert!(error.contains("\"timeo\"") && error.contains("integer"), "{error}");
    }

    #[test]
    fn a_schema_that_refers_to_itself_does_no_harm() {
        assert!(sort(&manifest(), &options(&[("looped", "x")])).is_ok());
    }
}
