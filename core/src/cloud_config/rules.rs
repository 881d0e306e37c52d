//! Rules that a JSON schema does not tell well: addresses, host names, arguments.

use std::net::IpAddr;

use serde_json::Value;

use super::node::{Data, Finding, Node, Path};
use crate::name::{ContextName, VolumeName, quoted};
use crate::signature::TrustedKey;

/// Checks what does not concern storage.
pub(super) fn machine(document: &Node, findings: &mut Vec<Finding>) {
    each_text(document, &Path::of(&["hostname"]), findings, host_name);
    each_text(document, &Path::of(&["modules"]), findings, module_name);
    let network = Path::of(&["network"]);
    each_text(document, &network.key("search"), findings, host_name);
    each_key(document, &network.key("hosts"), findings, host_name);
    each_key(
        document,
        &network.key("interfaces"),
        findings,
        interface_name,
    );
    let interfaces = network.key("interfaces");
    for (name, node) in entries(document, &interfaces) {
        let path = interfaces.key(name);
        each_text(document, &path.key("addresses"), findings, address);
        if let Some(Data::Scalar(mtu)) = node
            .entries()
            .and_then(|fields| fields.get("mtu"))
            .map(|node| &node.data)
            && mtu
                .as_u64()
                .is_some_and(|mtu| !(68..=65_535).contains(&mtu))
        {
            let path = path.key("mtu");
            let message = format!("must lie between 68 and 65535 bytes, found {mtu}");
            findings.push(Finding::new(document.origin_at(&path), path, message));
        }
    }
    let args = Path::of(&["lazarette", "docker", "args"]);
    each_text(document, &args, findings, argument);
    data_root(document, findings);
    signatures(document, findings);
    commands(document, findings);
}

/// The path of `data_root`.
pub(super) fn data_root_path() -> Path {
    Path::of(&["lazarette", "docker", "data_root"])
}

/// A data root that is wrong stays what it is: user Docker waits for it, and fills no other place.
fn data_root(document: &Node, findings: &mut Vec<Finding>) {
    let path = data_root_path();
    let Some((node, text)) = document
        .at(&path)
        .and_then(|node| Some((node, node.text()?)))
    else {
        return;
    };
    let is_there = |context: &str| {
        let contexts = Path::of(&["lazarette", "storage", "contexts"]);
        entries(document, &contexts).any(|(name, _)| name == context)
    };
    let wrong = match text.split_once('/') {
        Some((context, volume))
            if ContextName::new(context).is_ok() && VolumeName::new(volume).is_ok() =>
        {
            (!is_there(context)).then(|| format!("no context is called `{context}`"))
        }
        _ => Some(format!(
            "{} is no volume: write CONTEXT/VOLUME",
            quoted(text)
        )),
    };
    if let Some(wrong) = wrong {
        let message = format!("{wrong}; user Docker does not start without it");
        findings.push(Finding::ignored(node.origin, path, message));
    }
}

/// The path of what is said of plugins.
pub(super) fn plugins_path() -> Path {
    Path::of(&["lazarette", "plugins"])
}

/// Requiring signatures without a key stays what it is: no plugin serves but those of the OS.
fn signatures(document: &Node, findings: &mut Vec<Finding>) {
    let path = plugins_path();
    let keys = path.key("keys");
    each_text(document, &keys, findings, |text| {
        TrustedKey::parse(text).map(drop)
    });
    let required = document.at(&path.key("require_signature"));
    let required = required.filter(|node| node.data == Data::Scalar(Value::Bool(true)));
    let keyless = document.at(&keys).is_none_or(|node| match &node.data {
        Data::List(items) => items.is_empty(),
        _ => node.is_null(),
    });
    if let Some(node) = required.filter(|_| keyless) {
        let message = "no key is given, so no plugin serves but those of the OS; \
                       list the public keys of those you trust: keys: [RW…]";
        let path = path.key("require_signature");
        findings.push(Finding::ignored(node.origin, path, message));
    }
}

/// Whether it cannot be told any more if signatures are required: what was said of it is among what
/// is left out, perhaps under another name.
pub(super) fn signatures_are_unclear(findings: &[Finding]) -> bool {
    let keys = plugins_path().key("keys");
    let mut lost = findings.iter().filter(|finding| finding.fatal);
    lost.any(|finding| plugins_path().covers(&finding.path) && !keys.covers(&finding.path))
}

fn commands(document: &Node, findings: &mut Vec<Finding>) {
    let runcmd = Path::of(&["runcmd"]);
    let Some(Data::List(list)) = document.at(&runcmd).map(|node| &node.data) else {
        return;
    };
    for (index, command) in list.iter().enumerate() {
        let path = runcmd.index(index);
        if matches!(&command.data, Data::List(words) if words.is_empty()) {
            let message = "a command must not be empty; write [program, argument, …]";
            findings.push(Finding::new(command.origin, path.clone(), message));
        }
        each_text(document, &path, findings, |text| {
            if text.contains('\0') {
                return Err("must not contain NUL".into());
            }
            Ok(())
        });
    }
}

/// Runs `rule` on the text at `path`, or on each text in the list there.
fn each_text(
    document: &Node,
    path: &Path,
    findings: &mut Vec<Finding>,
    rule: impl Fn(&str) -> Result<(), String>,
) {
    let Some(node) = document.at(path) else {
        return;
    };
    if let Some(Err(message)) = node.text().map(&rule) {
        findings.push(Finding::new(node.origin, path.clone(), message));
    }
    if let Data::List(items) = &node.data {
        for (index, item) in items.iter().enumerate() {
            if let Some(Err(message)) = item.text().map(&rule) {
                findings.push(Finding::new(item.origin, path.index(index), message));
            }
        }
    }
}

/// Runs `rule` on each key of the map at `path`.
fn each_key(
    document: &Node,
    path: &Path,
    findings: &mut Vec<Finding>,
    rule: impl Fn(&str) -> Result<(), String>,
) {
    for (key, node) in entries(document, path) {
        if let Err(message) = rule(key) {
            findings.push(Finding::new(node.origin, path.key(key), message));
        }
    }
}

/// The entries of the map at `path`.
pub(super) fn entries<'a>(
    document: &'a Node,
    path: &Path,
) -> impl Iterator<Item = (&'a String, &'a Node)> {
    document
        .at(path)
        .and_then(Node::entries)
        .into_iter()
        .flatten()
}

fn host_name(text: &str) -> Result<(), String> {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
    };
    if text.len() <= 253 && text.split('.').all(label) {
        return Ok(());
    }
    Err(format!(
        "{} is not a host name: use labels of letters, digits and '-', joined by '.'",
        quoted(text)
    ))
}

fn module_name(text: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !text.is_empty() && text.len() <= 64 && !text.starts_with('-') && text.chars().all(plain) {
        return Ok(());
    }
    Err(format!(
        "{} is not a module's name: use letters, digits, '_' and '-'",
        quoted(text)
    ))
}

fn interface_name(text: &str) -> Result<(), String> {
    let bad = |c: char| c.is_whitespace() || c.is_control() || c == '/' || c == ':';
    if (1..=15).contains(&text.len()) && text != "." && text != ".." && !text.contains(bad) {
        return Ok(());
    }
    Err(format!(
        "{} is not an interface's name: use 1 to 15 characters, without '/', ':' and spaces",
        quoted(text)
    ))
}

fn address(text: &str) -> Result<(), String> {
    let parsed = text.split_once('/').and_then(|(address, prefix)| {
        let address: IpAddr = address.parse().ok()?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        prefix.parse::<u8>().ok().filter(|bits| *bits <= longest)
    });
    parsed.map(drop).ok_or_else(|| {
        format!(
            "{} is not an address with a prefix length; write one such as 192.0.2.7/24",
            quoted(text)
        )
    })
}

fn argument(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("an argument must not be empty".into());
    }
    match text.chars().find(|c| c.is_control()) {
        Some(c) => Err(format!("must not contain {c:?}")),
        None => Ok(()),
    }
}
