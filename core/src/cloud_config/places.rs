//! Where volumes may be mounted: below `/mnt` or a directory set aside for them, no two in each
//! other's way.

use std::collections::BTreeMap;

use super::node::{Data, Finding, Node, Path};
use super::rules::entries;
use crate::name::{VolumeName, quoted};

/// Where volumes are mounted unless the configuration says otherwise.
const ROOT: &str = "/mnt";
/// Directories that belong to the system: nothing in or below them is set aside for volumes.
const OF_THE_SYSTEM: [&str; 15] = [
    "bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "proc", "root", "run", "sbin", "sys",
    "tmp", "usr", "var",
];
/// The longest path the kernel takes, and the longest part of one.
const LONGEST_PATH: usize = 4095;
const LONGEST_PART: usize = 255;

/// Checks which directories are set aside for volumes; those that may be.
fn roots(document: &Node, findings: &mut Vec<Finding>) -> Vec<String> {
    let path = Path::of(&["lazarette", "storage", "mount_roots"]);
    let mut roots: Vec<String> = Vec::new();
    let Some(Data::List(items)) = document.at(&path).map(|node| &node.data) else {
        return roots;
    };
    for (index, item) in items.iter().enumerate() {
        let Some(text) = item.text() else { continue };
        match root(text, &roots) {
            Ok(()) => roots.push(text.to_owned()),
            Err(message) => {
                findings.push(Finding::new(item.origin, path.index(index), message));
            }
        }
    }
    roots
}

fn root(text: &str, others: &[String]) -> Result<(), String> {
    let bad = |why: &str| {
        Err(format!(
            "{}: {why}; write an empty directory such as /srv",
            quoted(text)
        ))
    };
    let Some(below) = text.strip_prefix('/').filter(|below| !below.is_empty()) else {
        return bad("it is no absolute path of a directory below /");
    };
    if let Err(why) = parts(text, below) {
        return bad(why);
    }
    let first = below.split('/').next().unwrap_or_default();
    if OF_THE_SYSTEM.contains(&first) {
        return bad("it belongs to the system");
    }
    if first == "mnt" {
        return bad("volumes may be mounted below /mnt anyway");
    }
    let other = others
        .iter()
        .find(|other| text == *other || is_below(text, other) || is_below(other, text));
    match other {
        Some(other) if other == text => bad("it stands twice"),
        Some(other) => bad(&format!("it and {other} lie inside each other")),
        None => Ok(()),
    }
}

fn is_below(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory)
        .is_some_and(|rest| rest.starts_with('/'))
}

/// Checks where volumes are to be mounted: below `/mnt` or what is set aside, no two in each other's way.
pub(super) fn mounts(document: &Node, findings: &mut Vec<Finding>) {
    let volumes = Path::of(&["lazarette", "storage", "volumes"]);
    let contexts = Path::of(&["lazarette", "storage", "contexts"]);
    let roots = roots(document, findings);
    let mut places: BTreeMap<String, Path> = BTreeMap::new();
    // Of two that are in each other's way the one that was written first stays.
    let mut written: Vec<_> = entries(document, &volumes).collect();
    written.sort_by_key(|(_, node)| (node.origin.source, node.origin.line));
    for (name, node) in written {
        let field = |field: &str| node.entries()?.get(field)?.text();
        let path = volumes.key(name);
        let (place, path) = match (field("mount"), field("context")) {
            (Some(mount), _) => (mount.to_owned(), path.key("mount")),
            // A bad name has been told already.
            (None, Some(context)) if VolumeName::new(name).is_ok() => {
                (format!("{ROOT}/{context}/{name}"), path)
            }
            (None, _) => continue,
        };
        let context = place.strip_prefix("/mnt/").filter(|rest| {
            let mut all = entries(document, &contexts);
            all.any(|(context, _)| context == rest)
        });
        let wrong = match (mount_path(&place, &roots), context) {
            (Err(message), _) => Some(message),
            (Ok(()), Some(context)) => Some(format!(
                "{place} is where the volumes of context `{context}` are mounted; choose another path below {ROOT}"
            )),
            (Ok(()), None) => in_the_way(&place, &places),
        };
        match wrong {
            Some(message) => {
                findings.push(Finding::new(document.origin_at(&path), path, message));
            }
            None => {
                places.insert(place, path);
            }
        }
    }
}

fn in_the_way(place: &str, places: &BTreeMap<String, Path>) -> Option<String> {
    places.iter().find_map(|(other, path)| {
        let volume = path.keys().get(3).copied().unwrap_or_default().to_owned();
        if place == other {
            Some(format!(
                "{place} is where volume `{volume}` is mounted already"
            ))
        } else if is_below(place, other) {
            Some(format!(
                "{place} lies inside volume `{volume}`, which is mounted at {other}"
            ))
        } else if is_below(other, place) {
            Some(format!(
                "{place} would cover volume `{volume}`, which is mounted at {other}"
            ))
        } else {
            None
        }
    })
}

fn mount_path(text: &str, roots: &[String]) -> Result<(), String> {
    let bad = |why: &str| {
        Err(format!(
            "{}: {why}; write one such as /mnt/data",
            quoted(text)
        ))
    };
    let below = |root: &str| text.strip_prefix(root)?.strip_prefix('/');
    let below = std::iter::once(ROOT)
        .chain(roots.iter().map(String::as_str))
        .find_map(below)
        .filter(|below| !below.is_empty());
    let Some(below) = below else {
        // docs/decisions/0010 and 0014 say why.
        return bad(
            "a mount path must lie below /mnt or a directory of storage.mount_roots (containers may have it anywhere: -v /mnt/data:/srv)",
        );
    };
    parts(text, below).or_else(bad)
}

/// What is wrong with `path`, of which `below` are the parts to look at.
fn parts(path: &str, below: &str) -> Result<(), &'static str> {
    if path.len() > LONGEST_PATH {
        return Err("the path is longer than 4095 bytes");
    }
    if path.contains(|c: char| c.is_control() || c == ',' || c == ':' || c == '\\') {
        return Err("a mount path must not contain ',', ':', '\\' or control characters");
    }
    for part in below.split('/') {
        match part {
            "" => return Err("a mount path must not have empty parts or end with '/'"),
            "." | ".." => return Err("a mount path must not contain '.' or '..' as a part"),
            part if part.len() > LONGEST_PART => {
                return Err("a part of the path is longer than 255 bytes");
            }
            _ => {}
        }
    }
    Ok(())
}
