//! Options as text (`-o key=value`), sorted by what a kind's manifest says of them.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::cloud_config::{option_names, typed_options, unknown_option};
use crate::error::{Error, Result};
use crate::manifest::Manifest;

/// Options of a new volume, and of the context it lies in.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sorted {
    /// The volume's own.
    pub volume: Map<String, Value>,
    /// Those that only a context has; empty if none is given.
    pub context: Map<String, Value>,
}

/// Sorts `options`: what the volume schema has is the volume's, what only the context schema has
/// is the context's.
///
/// # Errors
/// `InvalidArgument` naming an unknown option and the nearest known one, or a value of the wrong form.
pub fn sort(manifest: &Manifest, options: &BTreeMap<String, String>) -> Result<Sorted> {
    let of_volume = option_names(&manifest.volume_schema);
    let of_context = option_names(&manifest.context_schema);
    let (mut volume, mut context) = (BTreeMap::new(), BTreeMap::new());
    for (key, text) in options {
        if of_volume.contains(key) {
            volume.insert(key.clone(), text.clone());
        } else if of_context.contains(key) {
            context.insert(key.clone(), text.clone());
        } else {
            let all = of_volume.union(&of_context).cloned().collect();
            return Err(Error::invalid(unknown_option(key, &all)));
        }
    }
    let context = if context.is_empty() {
        Map::new()
    } else {
        object(typed_options(&context, &manifest.context_schema)?)
    };
    Ok(Sorted {
        volume: object(typed_options(&volume, &manifest.volume_schema)?),
        context,
    })
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn manifest() -> Manifest {
        serde_json::from_value(json!({
            "kind": "fake", "version": "1", "capabilities": [], "privileges": {},
            "context_schema": {"type": "object", "properties": {"server": {"type": "string"}, "vers": {"type": "string"}}},
            "volume_schema": {"type": "object", "properties": {
                "export": {"type": "string"}, "vers": {"type": "string"}, "timeo": {"type": ["integer", "null"]}
            }}
        }))
        .unwrap()
    }

    fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(k, v)| ((*k).into(), (*v).into()))
            .collect()
    }

    #[test]
    fn options_go_where_the_schemas_have_them_with_the_right_type() {
        let given = options(&[
            ("server", "nas"),
            ("export", "/x"),
            ("vers", "4.2"),
            ("timeo", "600"),
        ]);
        let sorted = sort(&manifest(), &given).unwrap();
        assert_eq!(Value::Object(sorted.context), json!({"server": "nas"}));
        assert_eq!(
            Value::Object(sorted.volume),
            json!({"export": "/x", "vers": "4.2", "timeo": 600})
        );
    }

    #[test]
    fn an_unknown_option_names_the_nearest_and_a_wrong_type_names_the_option() {
        let error = sort(&manifest(), &options(&[("servr", "nas")]))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("servr") && error.contains("server"),
            "{error}"
        );
        let error = sort(&manifest(), &options(&[("timeo", "soon")]))
            .unwrap_err()
            .to_string();
        assert!(error.contains("timeo") && error.contains("soon"), "{error}");
    }
}
