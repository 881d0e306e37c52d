//! Putting the sources together, in their order: maps merge, lists and single values replace,
//! null takes back what an earlier source said.

use super::node::{Data, Finding, Node, Path};

/// `base` with `later` laid over it.
///
/// A map is never replaced by something that is no map, so that one wrong line in a later source
/// cannot take whole sections of the earlier ones away; that is told instead.
pub(super) fn merge(base: Node, later: Node, path: &Path, findings: &mut Vec<Finding>) -> Node {
    match (base.data, later.data) {
        (Data::Map(mut entries), Data::Map(overlay)) => {
            for (key, node) in overlay {
                let below = path.key(&key);
                match entries.remove(&key) {
                    Some(_) if node.is_null() => {}
                    Some(earlier) => {
                        entries.insert(key, merge(earlier, node, &below, findings));
                    }
                    None => {
                        entries.insert(key, node);
                    }
                }
            }
            Node {
                origin: later.origin,
                data: Data::Map(entries),
            }
        }
        (Data::Map(entries), Data::Scalar(_) | Data::List(_)) => {
            findings.push(Finding::ignored(
                later.origin,
                path.clone(),
                "expected a map, as earlier sources have here; this is ignored",
            ));
            Node {
                origin: base.origin,
                data: Data::Map(entries),
            }
        }
        (Data::Scalar(_) | Data::List(_), data) => Node {
            origin: later.origin,
            data,
        },
    }
}
