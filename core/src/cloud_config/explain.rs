//! What a JSON schema finds wrong, in words a person can act on.

use std::collections::BTreeSet;

use jsonschema::error::{TypeKind, ValidationErrorKind as Kind};
use jsonschema::{ValidationError, Validator};
use schemars::JsonSchema;
use serde_json::Value;

use super::node::{Node, Path, Step};
use super::schema::{field_names, resolve, type_of};
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

/// Builds the validator of `schema`; a schema that is none is a plugin's fault.
///
/// # Errors
/// What is wrong with the schema.
pub(super) fn validator(schema: &Value) -> Result<Validator, String> {
    jsonschema::draft202012::options()
        .should_validate_formats(true)
        .with_format("ip", |text: &str| text.parse::<std::net::IpAddr>().is_ok())
        .build(schema)
        .map_err(|error| error.to_string())
}

/// All that `schema` finds wrong with `value`, except unknown fields named in `known`.
pub(super) fn check(schema: &Value, value: &Value, known: &BTreeSet<String>) -> Vec<Wrong> {
    let validator = match validator(schema) {
        Ok(validator) => validator,
        Err(error) => {
            return vec![Wrong {
                path: Path::default(),
                message: format!(
                    "the plugin's own schema is not valid ({error}); use another version of the plugin"
                ),
            }];
        }
    };
    let explainer = Explainer {
        schema,
        value,
        known,
    };
    let mut wrong = Vec::new();
    for error in validator.iter_errors(value) {
        explainer.explain(&error, &mut wrong);
    }
    wrong
}

struct Explainer<'a> {
    schema: &'a Value,
    value: &'a Value,
    known: &'a BTreeSet<String>,
}

impl Explainer<'_> {
    fn explain(&self, error: &ValidationError<'_>, wrong: &mut Vec<Wrong>) {
        let path = self.path(error.instance_path().as_str());
        let found = error.instance();
        let message = match error.kind() {
            Kind::AdditionalProperties { unexpected }
            | Kind::UnevaluatedProperties { unexpected } => {
                self.unknown_fields(error, unexpected, &path, wrong);
                return;
            }
            Kind::AnyOf { context } | Kind::OneOfNotValid { context } => {
                self.alternatives(context, found, &path, wrong);
                return;
            }
            Kind::Required { property } => {
                let name = property.as_str().unwrap_or_default();
                format!("`{name}` is missing{}", self.description_of(error, name))
            }
            Kind::Type { kind } => mismatch(&expected_types(kind), found),
            Kind::Enum { options } => {
                let options = options.as_array().map(Vec::as_slice).unwrap_or_default();
                one_of(options.iter(), found)
            }
            Kind::Constant { expected_value } => one_of([expected_value.as_ref()], found),
            Kind::Pattern { pattern } => pattern_message(pattern, found),
            Kind::Format { format } => {
                format!("expected {}, found {}", format_noun(format), shown(found))
            }
            Kind::Minimum { limit } => format!("must be {limit} or more, found {}", shown(found)),
            Kind::Maximum { limit } => format!("must be {limit} or less, found {}", shown(found)),
            Kind::MinLength { limit: 1 } => "must not be empty".to_owned(),
            Kind::MinLength { limit } => format!("must be {limit} characters long or more"),
            Kind::MaxLength { limit } => format!("must be {limit} characters long or less"),
            Kind::MinItems { limit: 1 } => "the list must not be empty".to_owned(),
            Kind::MinItems { limit } => format!("the list must have {limit} items or more"),
            Kind::MaxItems { limit } => format!("the list must have {limit} items or fewer"),
            Kind::UniqueItems => "the list has an item twice".to_owned(),
            _ => error.masked().to_string(),
        };
        wrong.push(Wrong { path, message });
    }

    fn unknown_fields(
        &self,
        error: &ValidationError<'_>,
        unexpected: &[String],
        path: &Path,
        wrong: &mut Vec<Wrong>,
    ) {
        let place = self.place_of(error);
        for field in unexpected {
            if path.0.is_empty() && self.known.contains(field) {
                continue;
            }
            let message = if let Some(pattern) = name_pattern(place) {
                pattern_message(pattern, &Value::String(field.clone()))
            } else {
                let mut names = field_names(self.schema, place);
                if path.0.is_empty() {
                    names.extend(self.known.iter().cloned());
                }
                unknown("field", field, &names)
            };
            wrong.push(Wrong {
                path: path.key(field),
                message,
            });
        }
    }

    /// Of several alternatives, tells what the one that was meant finds wrong.
    fn alternatives(
        &self,
        context: &[Vec<ValidationError<'static>>],
        found: &Value,
        path: &Path,
        wrong: &mut Vec<Wrong>,
    ) {
        let here = path.0.len();
        let misses_here = |errors: &&Vec<ValidationError<'static>>| {
            errors.iter().any(|error| {
                steps(error.instance_path().as_str()).count() == here
                    && matches!(
                        error.kind(),
                        Kind::Type { .. } | Kind::Enum { .. } | Kind::Constant { .. }
                    )
            })
        };
        let meant: Vec<_> = context
            .iter()
            .filter(|errors| !misses_here(errors))
            .collect();
        if let [errors] = meant.as_slice() {
            for error in *errors {
                self.explain(error, wrong);
            }
            return;
        }
        let mut types = BTreeSet::new();
        let mut values = Vec::new();
        for error in context.iter().flatten() {
            match error.kind() {
                Kind::Type { kind } => types.extend(expected_types(kind)),
                Kind::Constant { expected_value } => values.push(expected_value.as_ref()),
                Kind::Enum { options } => values.extend(options.as_array().into_iter().flatten()),
                _ => {}
            }
        }
        types.remove("null");
        values.retain(|value| !value.is_null());
        let message = if !values.is_empty() {
            one_of(values, found)
        } else if !types.is_empty() && meant.is_empty() {
            mismatch(&types, found)
        } else {
            let mut first = Vec::new();
            if let Some(error) = meant.first().and_then(|errors| errors.first()) {
                self.explain(error, &mut first);
            }
            wrong.extend(first);
            return;
        };
        wrong.push(Wrong {
            path: path.clone(),
            message,
        });
    }

    /// The part of the schema that holds the keyword which failed.
    fn place_of(&self, error: &ValidationError<'_>) -> &Value {
        let keyword = error.schema_path().as_str();
        let place = keyword.rsplit_once('/').map_or("", |(place, _)| place);
        self.schema.pointer(place).unwrap_or(self.schema)
    }

    fn description_of(&self, error: &ValidationError<'_>, name: &str) -> String {
        super::schema::field(self.schema, self.place_of(error), name)
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

    /// A JSON pointer as a path; which steps are list indices, the value itself tells.
    fn path(&self, pointer: &str) -> Path {
        let mut value = self.value;
        let mut path = Vec::new();
        for step in steps(pointer) {
            let (next, step) = match value {
                Value::Array(items) => {
                    let index = step.parse().unwrap_or(usize::MAX);
                    (items.get(index), Step::Index(index))
                }
                other => (other.get(&step), Step::Key(step)),
            };
            path.push(step);
            value = next.unwrap_or(&Value::Null);
        }
        Path(path)
    }
}

fn steps(pointer: &str) -> impl Iterator<Item = String> {
    pointer
        .split('/')
        .skip(1)
        .map(|step| step.replace("~1", "/").replace("~0", "~"))
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
        .filter(|(distance, candidate)| *distance <= name.len().max(candidate.len()).div_ceil(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate.as_str())
}

fn expected_types(kind: &TypeKind) -> BTreeSet<String> {
    match kind {
        TypeKind::Single(one) => BTreeSet::from([one.to_string()]),
        TypeKind::Multiple(many) => many.iter().map(|one| one.to_string()).collect(),
    }
}

/// `expected text, found the number 4.2; …`.
fn mismatch(types: &BTreeSet<String>, found: &Value) -> String {
    let nouns: Vec<&str> = types
        .iter()
        .filter(|name| name.as_str() != "null")
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
    let Ok(validator) = validator(&serde_json::json!({ "pattern": pattern })) else {
        return format!("{shown} is not of the form {pattern}");
    };
    let fits = |text: String| validator.is_valid(&Value::String(text));
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
