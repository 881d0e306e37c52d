//! What the plugin says of itself.

use std::collections::BTreeSet;

use lazarette_core::manifest::Capability;
use serde_json::{Value, json};

use super::{Found, Named, failed, skipped};
use crate::kit::Kit;
use crate::report::Verdict;
use crate::subject::Failed;

pub(super) const CHECKS: &[Named] = &[
    Named::before(
        "manifest.schemas",
        "the schemas are JSON schemas (2020-12) of objects that refuse unknown options",
        schemas,
    ),
    Named::before(
        "manifest.described",
        "every option has a description: it is what `laz kinds` shows",
        described,
    ),
    Named::before(
        "manifest.examples",
        "the examples and defaults in the schemas keep to the schemas",
        examples,
    ),
    Named::before(
        "manifest.settings",
        "the options of the settings keep to the schemas",
        settings,
    ),
    Named::before(
        "manifest.capabilities",
        "it claims no capability that there is not",
        capabilities,
    ),
    Named::before(
        "manifest.size",
        "a kind with `size` or `resize` has the volume option `size`",
        size,
    ),
    Named::before(
        "manifest.names",
        "`exclusive` and `url` name options that there are",
        names,
    ),
    Named::before(
        "manifest.actions",
        "actions have names of their own and valid schemas",
        actions,
    ),
    Named::before(
        "manifest.privileges",
        "privileges are real capabilities, devices and paths, and none that break the container open",
        privileges,
    ),
    Named::before("manifest.version", "its version is set", version),
];

/// The two schemas, with what they are of.
fn both(kit: &Kit) -> Result<[(&'static str, Value); 2], Failed> {
    let manifest = kit.manifest()?;
    Ok([
        ("context_schema", manifest.context_schema.clone()),
        ("volume_schema", manifest.volume_schema.clone()),
    ])
}

fn schemas(kit: &mut Kit) -> Found {
    for (name, schema) in both(kit)? {
        if let Err(error) = jsonschema::draft202012::meta::validate(&schema) {
            return failed(format!("{name} is no JSON schema: {error}"));
        }
        let validator = validator(name, &schema)?;
        if validator.is_valid(&json!(1)) || validator.is_valid(&json!([])) {
            return failed(format!(
                "{name} allows what is no object; say \"type\": \"object\""
            ));
        }
        let wrong = |options: &Value| validator.iter_errors(options).count();
        if wrong(&json!({"no-such-option-0": 1})) <= wrong(&json!({})) {
            return failed(format!(
                "{name} allows unknown options, so typing errors go unnoticed; say \
                 \"additionalProperties\": false"
            ));
        }
    }
    Ok(Verdict::Passed)
}

fn validator(name: &str, schema: &Value) -> Result<jsonschema::Validator, Failed> {
    jsonschema::draft202012::new(schema)
        .map_err(|e| Failed::new(format!("{name} cannot be used: {e}")))
}

fn properties(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
}

fn described(kit: &mut Kit) -> Found {
    for (name, schema) in both(kit)? {
        for (option, what) in properties(&schema) {
            let text = what
                .get("description")
                .and_then(Value::as_str)
                .unwrap_or_default();
            if text.trim().is_empty() {
                return failed(format!("{name}: `{option}` has no description"));
            }
        }
    }
    Ok(Verdict::Passed)
}

fn examples(kit: &mut Kit) -> Found {
    let mut seen = 0;
    for (name, schema) in both(kit)? {
        let whole = validator(name, &schema)?;
        for example in schema
            .get("examples")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            seen += 1;
            if let Err(error) = whole.validate(example) {
                return failed(format!("{name}: its example {example} is none: {error}"));
            }
        }
        for (option, what) in properties(&schema) {
            let examples = what
                .get("examples")
                .and_then(Value::as_array)
                .into_iter()
                .flatten();
            for value in examples.chain(what.get("default")) {
                seen += 1;
                let only = json!({"properties": {option: what}, "$defs": schema.get("$defs").unwrap_or(&json!({}))});
                if let Err(error) = validator(name, &only)?.validate(&json!({option: value})) {
                    return failed(format!(
                        "{name}: {value} as `{option}` is not allowed: {error}"
                    ));
                }
            }
        }
    }
    if seen == 0 {
        return skipped("there are no examples and no defaults");
    }
    Ok(Verdict::Passed)
}

fn settings(kit: &mut Kit) -> Found {
    let [(_, context), (_, volume)] = both(kit)?;
    let given = &kit.settings;
    let options = kit.nobody().options;
    let mut pairs = vec![("context", &context, &given.context)];
    if kit.offers(Capability::Create) {
        pairs.push(("volume", &volume, &options));
    }
    pairs.extend(
        given
            .existing
            .as_ref()
            .map(|options| ("existing", &volume, options)),
    );
    for (name, schema, options) in pairs {
        if let Err(error) = validator(name, schema)?.validate(options) {
            return failed(format!(
                "`{name}` = {options} does not keep to the schema ({error}); --config gives others"
            ));
        }
    }
    Ok(Verdict::Passed)
}

fn capabilities(kit: &mut Kit) -> Found {
    if kit.offers(Capability::Unknown) {
        return failed(
            "`capabilities` has one that this version does not know, so core makes nothing of it; \
             docs/plugin-abi.md lists them",
        );
    }
    Ok(Verdict::Passed)
}

fn size(kit: &mut Kit) -> Found {
    if !kit.offers(Capability::Size) && !kit.offers(Capability::Resize) {
        return skipped("the manifest offers neither `size` nor `resize`");
    }
    let [_, (_, volume)] = both(kit)?;
    if properties(&volume).any(|(name, _)| name == "size") {
        Ok(Verdict::Passed)
    } else {
        failed("volume_schema has no option `size`")
    }
}

fn names(kit: &mut Kit) -> Found {
    let manifest = kit.manifest()?.clone();
    let known = |schema: &Value, name: &str| properties(schema).any(|(known, _)| known == name);
    if let Some(option) = &manifest.exclusive
        && !known(&manifest.context_schema, option)
    {
        return failed(format!(
            "`exclusive` names the context option `{option}`, which there is not"
        ));
    }
    let Some(url) = &manifest.url else {
        return Ok(Verdict::Passed);
    };
    for option in url.authority.iter().chain(&url.root) {
        if !known(&manifest.context_schema, option) {
            return failed(format!(
                "`url` names the context option `{option}`, which there is not"
            ));
        }
    }
    if !known(&manifest.volume_schema, &url.path) {
        return failed(format!(
            "`url` names the volume option `{}`, which there is not",
            url.path
        ));
    }
    Ok(Verdict::Passed)
}

fn actions(kit: &mut Kit) -> Found {
    let actions = kit.manifest()?.actions.clone();
    if actions.is_empty() {
        return skipped("there are no actions");
    }
    let mut seen = BTreeSet::new();
    for action in &actions {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        if action.name.is_empty() || !action.name.chars().all(plain) {
            return failed(format!(
                "the action {:?} cannot be typed as a verb",
                action.name
            ));
        }
        if !seen.insert((format!("{:?}", action.on), action.name.clone())) {
            return failed(format!("there are two actions {}", action.name));
        }
        if action.summary.trim().is_empty() {
            return failed(format!("the action {} has no summary", action.name));
        }
        if let Err(error) = jsonschema::draft202012::meta::validate(&action.parameters) {
            return failed(format!(
                "the parameters of {} are no JSON schema: {error}",
                action.name
            ));
        }
    }
    Ok(Verdict::Passed)
}

/// What core itself refuses.
fn privileges(kit: &mut Kit) -> Found {
    match kit.manifest()?.privileges.check() {
        Ok(()) => Ok(Verdict::Passed),
        Err(error) => failed(error.to_string()),
    }
}

fn version(kit: &mut Kit) -> Found {
    let version = &kit.manifest()?.version;
    if version.trim().is_empty() || version.len() > 64 {
        return failed("`version` is empty or longer than 64 bytes");
    }
    Ok(Verdict::Passed)
}
