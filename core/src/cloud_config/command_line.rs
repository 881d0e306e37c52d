//! Configuration on the kernel command line: `lazarette.storage.contexts.nas.server=nas.example`.
//!
//! What follows `lazarette.` is a path into the `lazarette` section, or into one of the other
//! top-level fields if it begins with one of these (`lazarette.hostname=shed`). Keys that contain
//! dots are quoted: `lazarette.network.hosts."nas.example"=192.0.2.7`. Values are YAML scalars or
//! flow lists: `lazarette.modules=[nfs,nfsv4]`, `lazarette.storage.contexts.nas.vers="4.2"`.

use serde_json::{Map, Value};

use super::Source;
use super::node::{Finding, Origin, Path};
use super::{outline, schema, yaml};
use crate::control::Problem;
use crate::name::quoted;

/// The name of this source in problems.
const NAME: &str = "kernel command line";
/// Words below `lazarette.` that are switches of init and no configuration.
const SWITCHES: [&str; 1] = ["debug"];

/// What `command_line` (the text of `/proc/cmdline`) configures, as a source whose text is JSON
/// (so YAML, too); none: nothing. Words that cannot be understood are left out and told.
pub fn from_kernel_command_line(command_line: &str) -> (Option<Source>, Vec<Problem>) {
    let mut document = Map::new();
    let mut problems = Vec::new();
    for word in words(command_line) {
        let Some((path, value)) = word
            .strip_prefix("lazarette.")
            .and_then(|word| split_assignment(word))
        else {
            continue;
        };
        if SWITCHES.contains(&path) {
            continue;
        }
        if let Err(message) = set(&mut document, path, value) {
            problems.push(Problem {
                source: NAME.into(),
                line: None,
                path: format!("lazarette.{path}"),
                message,
            });
        }
    }
    let source = (!document.is_empty()).then(|| Source {
        name: NAME.into(),
        text: format!("{:#}\n", Value::Object(document)),
    });
    (source, problems)
}

/// The words of the line; a space inside double quotes does not end one.
fn words(line: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    line.split(move |c: char| {
        if c == '"' {
            quoted = !quoted;
        }
        c.is_whitespace() && !quoted
    })
    .filter(|word| !word.is_empty())
}

/// Splits at the first `=` outside quotes.
fn split_assignment(word: &str) -> Option<(&str, &str)> {
    let mut quoted = false;
    let at = word.char_indices().find_map(|(index, c)| {
        if c == '"' {
            quoted = !quoted;
        }
        (c == '=' && !quoted).then_some(index)
    })?;
    Some((&word[..at], &word[at + 1..]))
}

/// The keys of a dotted path; quoted ones may hold dots.
fn keys(path: &str) -> Vec<String> {
    let mut quoted = false;
    path.split(|c: char| {
        if c == '"' {
            quoted = !quoted;
        }
        c == '.' && !quoted
    })
    .map(|key| key.replace('"', ""))
    .collect()
}

fn set(document: &mut Map<String, Value>, path: &str, text: &str) -> Result<(), String> {
    let mut keys = keys(path);
    if keys.iter().any(String::is_empty) {
        return Err("a name between two dots is empty".into());
    }
    if keys.len() >= outline::DEEPEST {
        return Err(format!("is more than {} levels deep", outline::DEEPEST));
    }
    if !schema::top_level_fields().contains(&keys[0]) {
        keys.insert(0, "lazarette".into());
    }
    let value = value(text)?;
    let Some((last, parents)) = keys.split_last() else {
        return Ok(());
    };
    let mut map = document;
    for key in parents {
        map = map
            .entry(key.clone())
            .or_insert_with(|| Value::Object(Map::new()))
            .as_object_mut()
            .ok_or_else(|| format!("{} has a value already, and no fields", quoted(key)))?;
    }
    map.insert(last.clone(), value);
    Ok(())
}

/// One value, as YAML types it.
fn value(text: &str) -> Result<Value, String> {
    let mut findings: Vec<Finding> = Vec::new();
    let node = yaml::read(&format!("value: {text}\n"), 0, &mut findings)
        .map_err(|refused| format!("the value {} {}", quoted(text), refused.why))?;
    let path = Path::of(&["value"]);
    if findings.is_empty()
        && let (Some(value), Some(1)) = (node.at(&path), node.entries().map(|map| map.len()))
    {
        return Ok(value.to_json());
    }
    let origin = Origin {
        source: 0,
        line: None,
    };
    let finding = findings
        .pop()
        .unwrap_or_else(|| Finding::new(origin, path, "is not one YAML value"));
    Err(format!("the value {}: {}", quoted(text), finding.message))
}
