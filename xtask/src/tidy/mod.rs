//! `cargo xtask tidy`: checks those invariants of ARCHITECTURE.md that can be checked.
//!
//! Each check is a function of a [`Tree`] (all text files of the project, in memory), so its tests
//! need no project; only what cargo resolves is asked of cargo.

mod code;
mod crates;
mod documents;
mod rust_text;
mod scripts;
mod tree;

use std::collections::BTreeSet;
use std::fmt;

use anyhow::{Result, bail};

use crate::command;
use crate::progress;
use tree::Tree;

/// Something untidy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// The file, relative to the project.
    path: String,
    /// The line, from 1, where it is known.
    line: Option<usize>,
    /// Which rule is broken, and what to do.
    message: String,
}

impl Finding {
    fn new(path: &str, line: impl Into<Option<usize>>, message: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            line: line.into(),
            message: message.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.path, self.message),
            None => write!(f, "{}: {}", self.path, self.message),
        }
    }
}

/// Runs every check on this project; an error lists what was found.
pub(crate) fn run() -> Result<()> {
    let root = crate::images::workspace();
    let tree = Tree::of_project(&root)?;
    let mut findings = check(&tree);
    for package in crates::WITHOUT_DAEMON {
        let format = ["--prefix", "none", "--format", "{p}", "--package", package];
        let mut list = command::command("cargo", &["tree", "--locked", "--edges", "normal"]);
        let listed = command::capture(list.args(format).current_dir(&root))?;
        findings.extend(crates::check_dependencies_of(package, &listed));
    }
    findings.sort();
    for finding in &findings {
        println!("{finding}");
    }
    if !findings.is_empty() {
        bail!("tidy: {} things to put right", findings.len());
    }
    crate::header::check(&root)?;
    progress::say(&format!(
        "tidy: {} files are in order",
        tree.paths().count()
    ));
    Ok(())
}

fn check(tree: &Tree) -> Vec<Finding> {
    let checks: [fn(&Tree) -> Vec<Finding>; 13] = [
        code::core_names_no_kind,
        code::nothing_loads_libraries_but_the_loader,
        code::unsafe_only_where_allowed,
        code::only_linux_starts_processes,
        code::files_are_short,
        code::nothing_is_called_utils,
        crates::are_described,
        crates::share_one_dependency_table,
        crates::depend_one_way,
        documents::links_lead_somewhere,
        documents::exist,
        scripts::negations_can_fail,
        scripts::pipes_are_read_to_the_end,
    ];
    let findings: BTreeSet<Finding> = checks.iter().flat_map(|check| check(tree)).collect();
    findings.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_shown_as_editors_expect() {
        assert_eq!(Finding::new("a.rs", 3, "x").to_string(), "a.rs:3: x");
        assert_eq!(Finding::new("a.rs", None, "x").to_string(), "a.rs: x");
    }

    #[test]
    fn an_empty_tree_is_found_wanting() {
        assert!(
            !check(&Tree::of(&[])).is_empty(),
            "its documents are missing"
        );
    }
}
