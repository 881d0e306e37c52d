//! Checking a merged document, and taking out of it what cannot be used.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::explain::{self, Wrong, locate, unknown};
use super::node::{Data, Finding, Node, Path};
use super::{places, rules, schema};
use crate::manifest::Manifest;
use crate::name::Kind;

/// The path of the contexts.
pub(super) fn contexts_path() -> Path {
    Path::of(&["lazarette", "storage", "contexts"])
}

/// The path of the volumes.
pub(super) fn volumes_path() -> Path {
    Path::of(&["lazarette", "storage", "volumes"])
}

/// Everything wrong with `document`. Without kinds, options of contexts and volumes are not
/// looked at.
pub(super) fn check(document: &Node, kinds: &BTreeMap<Kind, Manifest>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let structure = schema::structure();
    for wrong in explain::check(&structure, &document.to_json(), &BTreeSet::new()) {
        add(document, &Path::default(), &wrong, &mut findings);
    }
    rules::machine(document, &mut findings);
    if !kinds.is_empty() {
        contexts(document, &structure, kinds, &mut findings);
        volumes(document, &structure, kinds, &mut findings);
    }
    volume_contexts(document, &mut findings);
    places::mounts(document, &mut findings);
    findings
}

fn add(document: &Node, base: &Path, wrong: &Wrong, findings: &mut Vec<Finding>) {
    let (origin, path) = locate(document, base, wrong);
    findings.push(Finding::new(origin, path, wrong.message.clone()));
}

/// The fields of `Context` or `DeclaredVolume` themselves.
fn own_fields(structure: &Value, name: &str) -> BTreeSet<String> {
    schema::field_names(structure, &structure["$defs"][name])
}

fn contexts(
    document: &Node,
    structure: &Value,
    kinds: &BTreeMap<Kind, Manifest>,
    findings: &mut Vec<Finding>,
) {
    let own = own_fields(structure, "Context");
    let names: BTreeSet<String> = kinds.keys().map(Kind::to_string).collect();
    for (name, node) in rules::entries(document, &contexts_path()) {
        let path = contexts_path().key(name);
        let Some(kind) = kind_of(node) else {
            continue;
        };
        match kinds.get(kind) {
            Some(manifest) => options(document, &path, &manifest.context_schema, &own, findings),
            None if Kind::new(kind).is_ok() => {
                let path = path.key("kind");
                let message = unknown("kind", kind, &names);
                let message = if message.contains("known here") {
                    message
                } else {
                    format!("{message} ({})", explain::known(&names))
                };
                findings.push(Finding::new(document.origin_at(&path), path, message));
            }
            None => {}
        }
    }
}

fn kind_of(context: &Node) -> Option<&str> {
    context.entries()?.get("kind")?.text()
}

fn volumes(
    document: &Node,
    structure: &Value,
    kinds: &BTreeMap<Kind, Manifest>,
    findings: &mut Vec<Finding>,
) {
    let own = own_fields(structure, "DeclaredVolume");
    for (name, node) in rules::entries(document, &volumes_path()) {
        let manifest = node
            .entries()
            .and_then(|fields| fields.get("context")?.text())
            .and_then(|context| document.at(&contexts_path().key(context)))
            .and_then(kind_of)
            .and_then(|kind| kinds.get(kind));
        if let Some(manifest) = manifest {
            let path = volumes_path().key(name);
            options(document, &path, &manifest.volume_schema, &own, findings);
        }
    }
}

/// Checks the kind's options that stand at `path` beside our `own` fields.
fn options(
    document: &Node,
    path: &Path,
    schema: &Value,
    own: &BTreeSet<String>,
    findings: &mut Vec<Finding>,
) {
    let Some(Value::Object(mut options)) = document.at(path).map(Node::to_json) else {
        return;
    };
    options.retain(|name, _| !own.contains(name));
    for wrong in explain::check(schema, &Value::Object(options), own) {
        add(document, path, &wrong, findings);
    }
}

/// Each volume's context must be there.
fn volume_contexts(document: &Node, findings: &mut Vec<Finding>) {
    let names: BTreeSet<String> = rules::entries(document, &contexts_path())
        .map(|(name, _)| name.clone())
        .collect();
    for (name, node) in rules::entries(document, &volumes_path()) {
        let Some(context) = node.entries().and_then(|fields| fields.get("context")) else {
            continue;
        };
        if let Some(text) = context.text().filter(|text| !names.contains(*text)) {
            let path = volumes_path().key(name).key("context");
            let message = unknown("context", text, &names);
            findings.push(Finding::new(context.origin, path, message));
        }
    }
}

/// Takes every unusable part out of `document`, and the volumes of contexts that go with them.
pub(super) fn take_out(document: &mut Node, findings: &mut Vec<Finding>) {
    let fatal: BTreeSet<Path> = findings
        .iter()
        .filter(|finding| finding.fatal)
        .map(|finding| unit(&finding.path))
        .collect();
    for path in &fatal {
        if path.0.is_empty() {
            document.data = Data::Map(BTreeMap::new());
        } else {
            document.remove(path);
        }
    }
    let mut lost = Vec::new();
    for (name, node) in rules::entries(document, &volumes_path()) {
        let context = node
            .entries()
            .and_then(|fields| fields.get("context")?.text());
        let Some(context) = context else { continue };
        let path = contexts_path().key(context);
        if fatal.iter().any(|gone| gone.covers(&path)) {
            let message = format!("left out, because its context `{context}` cannot be used");
            lost.push(Finding::new(node.origin, volumes_path().key(name), message));
        }
    }
    for finding in &lost {
        document.remove(&finding.path);
    }
    findings.extend(lost);
}

/// The smallest part that goes when the part at `path` is bad: a whole context, a whole volume,
/// otherwise the field alone; a list goes as a whole.
fn unit(path: &Path) -> Path {
    let keys = path.keys();
    let depth = match keys.as_slice() {
        ["lazarette", "storage", "contexts" | "volumes", _, ..] => 4,
        all => all.len(),
    };
    Path::of(&keys[..depth])
}

/// Takes out nulls, which say the same as nothing; a context or volume that is null stays, to be
/// complained of.
pub(super) fn prune(node: &mut Node, path: &Path) {
    let keep = *path == contexts_path() || *path == volumes_path();
    if let Data::Map(entries) = &mut node.data {
        if !keep {
            entries.retain(|_, node| !node.is_null());
        }
        for (key, node) in entries {
            prune(node, &path.key(key));
        }
    }
}
