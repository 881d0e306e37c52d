//! Our validator against a complete one.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::load_tests::kinds;
use super::validate::{Broken, validate};
use super::{explain, schema};

/// What both agree to find wrong: our liberties are kept out of the generated cases.
fn complete(schema: &Value) -> jsonschema::Validator {
    jsonschema::draft202012::options()
        .should_validate_formats(true)
        .with_format("ip", |text: &str| text.parse::<std::net::IpAddr>().is_ok())
        .build(schema)
        .unwrap_or_else(|error| panic!("{schema}: {error}"))
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3..4_i64).prop_map(Value::from),
        proptest::sample::select(vec![0.5, 1.5, 2.25]).prop_map(Value::from),
        "[ab]{0,3}".prop_map(Value::from),
        Just(json!("192.0.2.1")),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let map = |inner: BoxedStrategy<Value>| {
        proptest::collection::btree_map("[abc]", inner, 0..4)
            .prop_map(|map| Value::Object(map.into_iter().collect()))
    };
    let list = proptest::collection::vec(scalar(), 0..4).prop_map(Value::from);
    let nested = prop_oneof![3 => scalar().boxed(), 1 => map(scalar().boxed()).boxed()];
    prop_oneof![2 => scalar().boxed(), 2 => list.boxed(), 4 => map(nested.boxed()).boxed()]
}

/// One keyword with its value.
type Keyword = BoxedStrategy<(String, Value)>;

fn with(key: &'static str, strategy: impl Strategy<Value = Value> + 'static) -> Keyword {
    strategy
        .prop_map(move |value| (key.to_owned(), value))
        .boxed()
}

/// A schema of one to three of `keywords`.
fn of(keywords: Vec<Keyword>) -> BoxedStrategy<Value> {
    let keyword = proptest::strategy::Union::new(keywords);
    proptest::collection::vec(keyword, 1..4)
        .prop_map(|words| Value::Object(words.into_iter().collect::<Map<_, _>>()))
        .boxed()
}

fn small() -> impl Strategy<Value = Value> {
    (0..4_u64).prop_map(Value::from)
}

/// Schemas of values that hold nothing.
fn plain() -> BoxedStrategy<Value> {
    let name = || {
        let names = [
            "null", "boolean", "integer", "number", "string", "array", "object",
        ];
        proptest::sample::select(names.to_vec())
    };
    let limit = || (-2..3_i64).prop_map(Value::from);
    let numbers = of(vec![
        with("minimum", limit()),
        with("maximum", limit()),
        with("exclusiveMinimum", limit()),
        with("exclusiveMaximum", limit()),
        with(
            "multipleOf",
            proptest::sample::select(vec![json!(2), json!(0.5)]),
        ),
        with("type", Just(json!("integer"))),
        with("type", Just(json!("number"))),
    ]);
    let texts = of(vec![
        with("pattern", "\\^?[ab]".prop_map(Value::from)),
        with("format", Just(json!("ip"))),
        with("minLength", small()),
        with("maxLength", small()),
    ]);
    let types = proptest::collection::btree_set(name(), 1..4);
    prop_oneof![
        2 => Just(Value::Bool(true)),
        1 => Just(Value::Bool(false)),
        3 => name().prop_map(|name| json!({ "type": name })),
        1 => types.prop_map(|types| json!({ "type": types })),
        1 => scalar().prop_map(|value| json!({ "const": value })),
        1 => proptest::collection::vec(scalar(), 1..4).prop_map(|values| json!({ "enum": values })),
        3 => numbers,
        3 => texts,
    ]
    .boxed()
}

/// Schemas of lists and maps, of alternatives and conditions.
fn structured(inner: BoxedStrategy<Value>) -> BoxedStrategy<Value> {
    let list = || proptest::collection::vec(inner.clone(), 1..3).prop_map(Value::from);
    let map = |key: &'static str| {
        let map = proptest::collection::btree_map(key, inner.clone(), 1..3);
        map.prop_map(|map| Value::Object(map.into_iter().collect()))
    };
    let fields = || proptest::collection::btree_set("[abc]", 0..3).prop_map(|set| json!(set));
    let reference = proptest::sample::select(vec!["#/$defs/a", "#/$defs/b"]);
    of(vec![
        with("properties", map("[abc]")),
        with("properties", map("[abc]")),
        with("patternProperties", map("\\^?[ab]")),
        with("additionalProperties", inner.clone()),
        with("unevaluatedProperties", Just(Value::Bool(false))),
        with("unevaluatedProperties", inner.clone()),
        with("propertyNames", inner.clone()),
        with("required", fields()),
        with("minProperties", small()),
        with("maxProperties", small()),
        with("items", inner.clone()),
        with("prefixItems", list()),
        with("minItems", small()),
        with("maxItems", small()),
        with("uniqueItems", any::<bool>().prop_map(Value::from)),
        with("anyOf", list()),
        with("anyOf", list()),
        with("oneOf", list()),
        with("allOf", list()),
        with("not", inner.clone()),
        with("if", inner.clone()),
        with("then", inner.clone()),
        with("else", inner.clone()),
        with("$ref", reference.prop_map(Value::from)),
    ])
}

fn any_schema() -> impl Strategy<Value = Value> {
    let level = || prop_oneof![1 => plain(), 3 => structured(plain())].boxed();
    let definition = || prop_oneof![1 => plain(), 2 => structured(plain())];
    let top = prop_oneof![1 => plain(), 2 => structured(plain()), 5 => structured(level())];
    (top, definition(), definition()).prop_map(|(mut schema, a, b)| {
        if let Some(map) = schema.as_object_mut() {
            // Definitions refer to nothing, so that nothing goes in circles.
            let (a, b) = (without_references(a), without_references(b));
            map.insert("$defs".into(), json!({"a": a, "b": b}));
        }
        schema
    })
}

fn without_references(value: Value) -> Value {
    match value {
        Value::Object(map) => map
            .into_iter()
            .filter(|(key, _)| key != "$ref")
            .map(|(key, value)| (key, without_references(value)))
            .collect(),
        Value::Array(items) => items.into_iter().map(without_references).collect(),
        other => other,
    }
}

fn agree(schema: &Value, values: &[Value]) -> Result<(), TestCaseError> {
    let complete = complete(schema);
    for value in values {
        let ours = validate(schema, value).map_err(TestCaseError::fail)?;
        prop_assert_eq!(
            ours.is_empty(),
            complete.is_valid(value),
            "{} against {}: {:?}",
            value,
            schema,
            ours
        );
        // Whatever is found can be told.
        explain::check(schema, value, &BTreeSet::new());
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn on_any_schema_both_find_the_same(
        schema in any_schema(),
        values in proptest::collection::vec(value(), 24),
    ) {
        if schema.is_object() {
            agree(&schema, &values)?;
        }
    }

    #[test]
    fn on_schemas_of_kinds_both_find_the_same(
        fields in proptest::collection::btree_map(
            proptest::sample::select(vec!["server", "exports", "vers", "timeo", "hard", "root", "mode", "tags", "x"]),
            prop_oneof![value(), Just(json!("4.2")), Just(json!("/a")), Just(json!(["a"])), Just(json!(["-a"]))],
            0..4,
        ),
    ) {
        let value = json!(fields);
        for manifest in kinds().values() {
            agree(&manifest.context_schema, std::slice::from_ref(&value))?;
            agree(&manifest.volume_schema, std::slice::from_ref(&value))?;
        }
        agree(&schema::structure(), std::slice::from_ref(&value))?;
    }
}

#[test]
fn what_alternatives_and_conditions_have_looked_at_is_known() {
    let has = |name: &str| json!({ "properties": { name: { "const": 1 } }, "required": [name] });
    for schema in [
        json!({ "anyOf": [has("a"), has("b")], "unevaluatedProperties": false }),
        json!({ "oneOf": [has("a"), has("b")], "unevaluatedProperties": false }),
        json!({ "allOf": [has("a")], "unevaluatedProperties": false }),
        json!({ "if": has("a"), "then": { "properties": { "b": true } }, "unevaluatedProperties": false }),
        json!({ "$ref": "#/$defs/x", "$defs": { "x": has("a") }, "unevaluatedProperties": false }),
        json!({ "not": { "not": has("a") }, "unevaluatedProperties": false }),
        json!({ "allOf": [{ "unevaluatedProperties": true }], "unevaluatedProperties": false }),
    ] {
        let complete = complete(&schema);
        for value in [
            json!({"a": 1}),
            json!({"a": 1, "b": 1}),
            json!({"a": 2, "b": 1}),
            json!({"a": 1, "c": 1}),
            json!({"b": 1}),
            json!({}),
        ] {
            let ours = validate(&schema, &value).unwrap();
            assert_eq!(
                ours.is_empty(),
                complete.is_valid(&value),
                "{value} against {schema}: {ours:?}"
            );
        }
    }
}

#[test]
fn schemas_that_cannot_be_checked_are_refused_by_name() {
    for (bad, word) in [
        (json!({"contains": {}}), "`contains` is not supported"),
        (json!({"$ref": "#/$defs/none"}), "leads nowhere"),
        (json!({"$ref": "other.json"}), "leads nowhere"),
        (json!({"$ref": "#"}), "takes too long"),
        (
            json!({"pattern": "(?=a)"}),
            "is not a pattern that is supported",
        ),
        (json!({"items": 5}), "5 is no schema"),
    ] {
        let value = if bad.get("pattern").is_some() {
            json!("a")
        } else {
            json!([1])
        };
        let error = validate(&bad, &value)
            .map(|broken: Vec<Broken>| broken.len())
            .unwrap_err();
        assert!(error.contains(word), "{bad}: {error}");
        let told = explain::check(&bad, &value, &BTreeSet::new());
        assert!(
            told[0]
                .message
                .contains("use another version of the plugin")
        );
    }
}

#[test]
fn a_schema_cannot_stop_us() {
    // 30 levels of two alternatives each, all of which fail at the very bottom.
    let mut definitions = Map::new();
    for level in 0..30 {
        let next = format!("#/$defs/l{}", level + 1);
        definitions.insert(
            format!("l{level}"),
            json!({"anyOf": [{"$ref": next}, {"$ref": next}]}),
        );
    }
    definitions.insert("l30".into(), json!(false));
    let bomb = json!({"$ref": "#/$defs/l0", "$defs": definitions});
    let started = std::time::Instant::now();
    assert!(
        validate(&bomb, &json!(1))
            .unwrap_err()
            .contains("takes too long")
    );
    assert!(started.elapsed() < std::time::Duration::from_secs(20));
}
