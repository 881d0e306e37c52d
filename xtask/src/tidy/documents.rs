//! Checks of the documents.

use std::collections::BTreeSet;

use super::Finding;
use super::tree::Tree;

/// Documents that readers rely on.
const NEEDED: [&str; 8] = [
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "GLOSSARY.md",
    "LICENSE",
    "README.md",
    "deny.toml",
    "docs/index.md",
];

/// The needed documents are there, and links lead from `docs/index.md` to all others below docs.
pub(super) fn exist(tree: &Tree) -> Vec<Finding> {
    let mut findings: Vec<Finding> = NEEDED
        .iter()
        .filter(|path| !tree.has(path))
        .map(|path| Finding::new(path, None, "is missing"))
        .collect();
    let mut reached = BTreeSet::new();
    let mut open = vec!["docs/index.md".to_owned()];
    while let Some(path) = open.pop() {
        let text = tree.text(&path).unwrap_or_default();
        for (_, target) in links(text) {
            let file = target.split('#').next().unwrap_or_default();
            open.extend(resolve(&path, file).filter(|next| !reached.contains(next)));
        }
        reached.insert(path);
    }
    for (path, _) in tree.ending_in(".md") {
        if path.starts_with("docs/") && !reached.contains(path) {
            findings.push(Finding::new(
                path,
                None,
                "no link leads to it from docs/index.md",
            ));
        }
    }
    findings
}

/// Relative links name a file or directory that is there, and an anchor that is in it.
pub(super) fn links_lead_somewhere(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.ending_in(".md") {
        for (line, target) in links(text) {
            let scheme = target.split(['/', '#']).next().unwrap_or_default();
            if scheme.contains(':') {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let Some(resolved) = resolve(path, file) else {
                findings.push(Finding::new(
                    path,
                    line,
                    format!("link `{target}` leads out of the project"),
                ));
                continue;
            };
            if !tree.has(&resolved) {
                findings.push(Finding::new(
                    path,
                    line,
                    format!("link `{target}` leads nowhere"),
                ));
            } else if !anchor.is_empty()
                && resolved.ends_with(".md")
                && !anchors(tree.text(&resolved).unwrap_or_default()).contains(anchor)
            {
                findings.push(Finding::new(
                    path,
                    line,
                    format!("`{resolved}` has no heading for `#{anchor}`"),
                ));
            }
        }
    }
    findings
}

/// The path that `target`, in the file at `from`, means; none if it lies outside.
fn resolve(from: &str, target: &str) -> Option<String> {
    if target.is_empty() {
        return Some(from.into());
    }
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// Lines outside code blocks, with their numbers.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut in_code = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let fence = line.trim_start().starts_with("```");
        if fence {
            in_code = !in_code;
        }
        (!in_code && !fence).then_some((index + 1, line))
    })
}

/// The targets of `[text](target)`, with their lines.
fn links(text: &str) -> impl Iterator<Item = (usize, String)> {
    prose(text).flat_map(|(line, text)| {
        let text = without_code(text);
        let mut found = Vec::new();
        let mut rest = text.as_str();
        while let Some((_, after)) = rest.split_once("](") {
            let Some((target, after)) = after.split_once(')') else {
                break;
            };
            let target = target.split_whitespace().next().unwrap_or_default();
            found.push((line, target.to_owned()));
            rest = after;
        }
        found
    })
}

/// A line without its `code`.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join("")
}

/// The anchors that headings get: lower case, spaces as dashes, punctuation gone.
fn anchors(text: &str) -> BTreeSet<String> {
    prose(text)
        .filter(|(_, line)| line.starts_with('#'))
        .map(|(_, line)| line.trim_start_matches('#').trim())
        .map(|heading| {
            heading
                .to_lowercase()
                .chars()
                .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
                .map(|c| if c == ' ' { '-' } else { c })
                .collect()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_links_are_found() {
        let target = "# A heading, `x`: or two\n";
        for (link, wrong) in [
            ("[a](b.md)", false),
            ("[a](../docs/b.md)", false),
            ("[a](b.md#a-heading-x-or-two)", false),
            ("[a](../core)", false),
            ("[a](https://example.com/x)", false),
            ("[a](#here)", false),
            ("`[a](c.md)`", false),
            ("```\n[a](c.md)\n```", false),
            ("[a](c.md)", true),
            ("[a](b.md) [a](c.md)", true),
            ("[a](b.md#nowhere)", true),
            ("[a](../../x.md)", true),
            ("[a](#nowhere)", true),
        ] {
            let text = format!("# Here\n{link}\n");
            let tree = Tree::of(&[
                ("docs/a.md", &text),
                ("docs/b.md", target),
                ("core/src/lib.rs", ""),
            ]);
            assert_eq!(
                links_lead_somewhere(&tree).len(),
                usize::from(wrong),
                "{link}"
            );
        }
    }

    #[test]
    fn missing_and_unlisted_documents_are_found() {
        let files: Vec<(&str, &str)> = NEEDED.iter().map(|path| (*path, "")).collect();
        assert_eq!(exist(&Tree::of(&files)), []);
        assert_eq!(exist(&Tree::of(&files[1..])).len(), 1);
        let mut more = files.clone();
        more.push(("docs/b.md", ""));
        assert_eq!(exist(&Tree::of(&more)).len(), 1);
        more.retain(|(path, _)| *path != "docs/index.md");
        more.push(("docs/index.md", "[b](b.md)"));
        assert_eq!(exist(&Tree::of(&more)), []);
        more.push(("docs/c/d.md", ""));
        assert_eq!(exist(&Tree::of(&more)).len(), 1);
        more.retain(|(path, _)| *path != "docs/b.md");
        more.push(("docs/b.md", "[d](c/d.md#x) [itself](b.md)"));
        assert_eq!(exist(&Tree::of(&more)), []);
    }
}
