//! The wire as files that are kept (`tests/wire`): what they hold was understood once, and is for as
//! long as the major version is the same. Add to them; change nothing. And the page that describes the
//! wire says what is so.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use lazarette_core::manifest::Capability;
use lazarette_core::message::{FromPlugin, Method, ToPlugin};
use lazarette_core::volume::{Found, Health, ListedVolume, Mounted};
use lazarette_core::{Created, ErrorKind, Removed};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

fn golden(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/wire")
        .join(name);
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Reads `value` as a `T`, which is written as `value` again.
fn same<T: Serialize + DeserializeOwned>(value: &Value) {
    let read: T = serde_json::from_value(value.clone()).unwrap_or_else(|e| panic!("{value}: {e}"));
    assert_eq!(serde_json::to_value(&read).unwrap(), *value);
}

/// The texts at `pointer` in those of `all` that have it.
fn texts<'a>(all: &'a [Value], pointer: &str) -> BTreeSet<&'a str> {
    all.iter()
        .filter_map(|value| value.pointer(pointer)?.as_str())
        .collect()
}

#[test]
fn what_core_says_is_as_it_was() {
    let golden = golden("to-plugin.json");
    let all = golden.as_array().unwrap();
    all.iter().for_each(same::<ToPlugin>);
    let methods: BTreeSet<&str> = Method::NAMES.iter().copied().collect();
    assert_eq!(texts(all, "/method"), methods);
    assert_eq!(texts(all, "/type"), ["hello", "call", "cancel"].into());
}

#[test]
fn what_a_plugin_says_is_as_it_was() {
    let golden = golden("from-plugin.json");
    let all = golden.as_array().unwrap();
    all.iter().for_each(same::<FromPlugin>);
    let types = ["hello", "reply", "progress", "changed", "log"];
    assert_eq!(texts(all, "/type"), types.into());
    assert_eq!(
        texts(all, "/level"),
        ["error", "warn", "info", "debug"].into()
    );
    let kinds = texts(all, "/error/kind");
    assert_eq!(
        kinds,
        words_after("An error's `kind` is one of")
            .iter()
            .map(String::as_str)
            .collect()
    );
    for kind in kinds {
        assert_ne!(
            serde_json::from_value::<ErrorKind>(json!(kind)).unwrap(),
            ErrorKind::Unknown,
            "{kind}"
        );
    }
}

#[test]
fn the_value_of_each_reply_is_as_it_was() {
    let golden = golden("replies.json");
    let replies = golden.as_object().unwrap();
    for name in Method::NAMES {
        assert!(replies.contains_key(*name), "{name}");
    }
    for (method, values) in replies {
        for value in values.as_array().unwrap() {
            match method.as_str() {
                "create" | "snapshot" | "clone" => same::<Created>(value),
                "remove" | "remove_snapshot" => same::<Removed>(value),
                "list" => same::<Vec<ListedVolume>>(value),
                "mount" => same::<Mounted>(value),
                "health" => same::<Health>(value),
                "scan" => same::<Vec<Found>>(value),
                "act" => {}
                _ => same::<()>(value),
            }
        }
    }
}

/// What a newer peer answers is understood as far as it can be.
#[test]
fn answers_of_a_newer_version_are_read_for_what_is_known() {
    let mut golden = golden("from-plugin.json");
    for message in golden.as_array_mut().unwrap() {
        for place in [
            "/error",
            "/manifest",
            "/manifest/privileges",
            "/manifest/url",
            "/manifest/actions/0",
            "",
        ] {
            if let Some(object) = message.pointer_mut(place).and_then(Value::as_object_mut) {
                // An outcome is one of two: it cannot grow.
                if place.is_empty() && object.contains_key("fd") {
                    continue;
                }
                object.insert("novelty".into(), json!([1]));
            }
        }
        serde_json::from_value::<FromPlugin>(message.clone())
            .unwrap_or_else(|e| panic!("{message}: {e}"));
    }
    let health =
        json!({"state": "sparkling", "glitter": 1, "capacity": {"total": 2, "used": 1, "lent": 1}});
    serde_json::from_value::<Health>(health).unwrap();
    let mounted = json!({"path": "/mnt/x", "fs_type": "x", "source": "x", "id": 7});
    serde_json::from_value::<Mounted>(mounted).unwrap();
}

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/plugin-abi.md");
    fs::read_to_string(path).unwrap()
}

/// The words in backticks after `start`, up to the end of the sentence or of the table's row.
fn words_after(start: &str) -> BTreeSet<String> {
    let page = page();
    let after = page
        .split(start)
        .nth(1)
        .unwrap_or_else(|| panic!("the page has no {start}"));
    let sentence = after.split(['.', '|']).next().unwrap();
    sentence
        .split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_page_shows_messages_that_are_messages() {
    let page = page();
    let blocks: Vec<&str> = page
        .split("\n```json\n")
        .skip(1)
        .map(|rest| rest.split("\n```").next().unwrap())
        .collect();
    assert_eq!(blocks.len(), 2, "what core says, and what a plugin says");
    let (mut asked, mut answered) = (BTreeSet::new(), BTreeSet::new());
    for line in blocks[0].lines() {
        serde_json::from_str::<ToPlugin>(line).unwrap_or_else(|e| panic!("{line}: {e}"));
        asked.insert(serde_json::from_str::<Value>(line).unwrap()["type"].to_string());
    }
    for line in blocks[1].lines() {
        serde_json::from_str::<FromPlugin>(line).unwrap_or_else(|e| panic!("{line}: {e}"));
        answered.insert(serde_json::from_str::<Value>(line).unwrap()["type"].to_string());
    }
    assert_eq!((asked.len(), answered.len()), (3, 5), "each type is shown");
}

#[test]
fn the_page_names_every_method_and_capability() {
    let page = page();
    for name in Method::NAMES {
        assert!(page.contains(&format!("\n| `{name}` |")), "{name}");
    }
    let capabilities = words_after("| `capabilities` |");
    assert_eq!(capabilities.len(), 9);
    for name in capabilities {
        let read: Capability = serde_json::from_value(json!(name)).unwrap();
        assert_ne!(read, Capability::Unknown, "{name}");
    }
}
