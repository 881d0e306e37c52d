//! The project's text files, in memory.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};

use crate::command;

/// What a check looks at: text files by their path relative to the project.
pub(crate) struct Tree {
    files: BTreeMap<String, String>,
}

impl Tree {
    /// The files that git knows or would add at `root`; those that are not text are empty.
    pub(crate) fn of_project(root: &Path) -> Result<Self> {
        let mut list = command::command(
            "git",
            &[
                // A checkout that is somebody else's, as in a container: only its names are asked for.
                "-c",
                "safe.directory=*",
                "ls-files",
                "-z",
                "--cached",
                "--others",
                "--exclude-standard",
            ],
        );
        let listed = command::capture(list.current_dir(root))?;
        let mut files = BTreeMap::new();
        for path in listed.split('\0').filter(|path| !path.is_empty()) {
            let full = root.join(path);
            // Listed, but removed and not yet committed; or a link to a directory.
            if !full.is_file() {
                continue;
            }
            let bytes = std::fs::read(&full).with_context(|| full.display().to_string())?;
            files.insert(
                path.to_owned(),
                String::from_utf8(bytes).unwrap_or_default(),
            );
        }
        Ok(Self { files })
    }

    /// A tree made of parts, for tests.
    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let owned = |(path, text): &(&str, &str)| ((*path).to_owned(), (*text).to_owned());
        Self {
            files: files.iter().map(owned).collect(),
        }
    }

    /// All paths.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// The text at `path`.
    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    /// The files whose path ends in `suffix`.
    pub(crate) fn ending_in(&self, suffix: &str) -> impl Iterator<Item = (&str, &str)> {
        self.files
            .iter()
            .filter(move |(path, _)| path.ends_with(suffix))
            .map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// Rust code that is part of a program: no tests, examples or benches.
    pub(crate) fn code(&self) -> impl Iterator<Item = (&str, &str)> {
        self.ending_in(".rs").filter(|(path, _)| !is_test(path))
    }

    /// Whether `path` is a file or a directory.
    pub(crate) fn has(&self, path: &str) -> bool {
        let below = format!("{path}/");
        path.is_empty()
            || self.files.contains_key(path)
            || self
                .files
                .range(below.clone()..)
                .next()
                .is_some_and(|(next, _)| next.starts_with(&below))
    }
}

/// Whether a Rust file holds tests or tools for them only.
pub(crate) fn is_test(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let directories = path.split('/');
    name == "tests.rs"
        || name.ends_with("_tests.rs")
        || directories
            .clone()
            .rev()
            .skip(1)
            .any(|part| matches!(part, "tests" | "benches" | "fuzz"))
        || (path.contains("/examples/") && !path.starts_with("plugins/examples/"))
}
