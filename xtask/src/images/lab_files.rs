//! What the lab's machines have beside the OS: single files of Debian packages, named by `os/lab.toml`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::recipe;
use super::rootfs::mmdebstrap;
use crate::apt::Apt;
use crate::cache::{self, Key};
use crate::progress::step;

/// Raised when what is done with the packages changes.
const VERSION: &str = "1";

/// Builds the directory with the files at their paths.
pub(super) fn build(apt: &Apt, os: &Path) -> Result<PathBuf> {
    let recipe = recipe::lab(os)?;
    let versions = apt.versions(&recipe.packages, false)?;
    let key = Key::default()
        .add(VERSION)
        .add(recipe.files.join("\n"))
        .add(versions.join("\n"))
        .finish();
    cache::entry("lab-files", &key, |path| {
        step("unpack the lab's own files", || {
            let tree = path.with_extension("tree");
            cache::remove(&tree)?;
            mmdebstrap(apt, "extract", &recipe.packages, &tree)?;
            for file in &recipe.files {
                let target = path.join(file);
                let directory = target.parent().unwrap_or(path);
                fs::create_dir_all(directory)?;
                fs::copy(tree.join(file), &target).with_context(|| format!("the file {file}"))?;
            }
            cache::remove(&tree)
        })
    })
}
