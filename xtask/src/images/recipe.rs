//! What images are made of, as data: `os/root.toml`, `os/images/*.toml`, `*/image/image.toml`,
//! `*/module/image.toml`.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// The root file system.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Root {
    /// Debian packages.
    pub(super) packages: Vec<String>,
    /// The package that depends on the newest kernel.
    pub(super) kernel: String,
}

/// What the lab's machines have beside the OS.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LabFiles {
    /// Debian packages.
    pub(super) packages: Vec<String>,
    /// Which of their files, without the leading `/`.
    pub(super) files: Vec<String>,
}

/// A container image.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Image {
    /// Its name.
    pub(super) name: String,
    /// Debian packages, unpacked without their maintainer scripts.
    pub(super) packages: Vec<String>,
    /// `name:uid:gid:home` beside root and nobody.
    #[serde(default)]
    pub(super) users: Vec<String>,
    /// `name:gid` beside root and nogroup.
    #[serde(default)]
    pub(super) groups: Vec<String>,
    /// Empty directories, owned by the user whose home they are.
    #[serde(default)]
    pub(super) directories: Vec<String>,
    /// Files of the workspace: `from:to`.
    #[serde(default)]
    pub(super) files: Vec<String>,
    /// What is put elsewhere: `from:to`; the only thing of that name if `from` ends with `*`.
    #[serde(default)]
    pub(super) moves: Vec<String>,
    /// The crate of the plugin that it serves.
    pub(super) plugin: Option<String>,
    /// What it runs, if it serves no plugin.
    #[serde(default)]
    pub(super) entrypoint: Vec<String>,
}

/// As derived, but for what most images have none of: theirs are built once, not once for each field
/// that is added here.
impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut all = f.debug_struct("Image");
        all.field("name", &self.name)
            .field("packages", &self.packages)
            .field("users", &self.users)
            .field("groups", &self.groups)
            .field("directories", &self.directories);
        for (name, list) in [("files", &self.files), ("moves", &self.moves)] {
            if !list.is_empty() {
                all.field(name, list);
            }
        }
        all.field("plugin", &self.plugin)
            .field("entrypoint", &self.entrypoint)
            .finish()
    }
}

impl Image {
    /// The part of the name after the `/`.
    pub(super) fn short(&self) -> &str {
        self.name.rsplit('/').next().unwrap_or(&self.name)
    }

    /// All that the image is made from, apart from package versions and files' content.
    pub(super) fn identity(&self) -> String {
        format!("{self:?}")
    }
}

/// Reads the root's recipe.
pub(super) fn root(os: &Path) -> Result<Root> {
    read(&os.join("root.toml"))
}

/// Reads which files the lab's machines have beside the OS.
pub(super) fn lab(os: &Path) -> Result<LabFiles> {
    read(&os.join("lab.toml"))
}

/// Reads all container images' recipes, in the order of their files' names.
pub(super) fn images(workspace: &Path) -> Result<Vec<Image>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(workspace.join("os/images"))?.flatten() {
        files.push(entry.path());
    }
    for entry in fs::read_dir(workspace)?.flatten() {
        files.push(entry.path().join("image/image.toml"));
        files.push(entry.path().join("module/image.toml"));
    }
    files.retain(|file: &PathBuf| {
        file.is_file() && file.extension().is_some_and(|end| end == "toml")
    });
    files.sort();
    files.iter().map(|file| read(file)).collect()
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    toml::from_str(&text).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recipes_in_the_tree_are_understood() {
        let workspace = crate::images::workspace();
        assert!(
            root(&workspace.join("os"))
                .unwrap()
                .packages
                .contains(&"docker.io".to_owned())
        );
        assert!(!lab(&workspace.join("os")).unwrap().files.is_empty());
        let images = images(&workspace).unwrap();
        let nfs = images
            .iter()
            .find(|image| image.name == "lazarette/nfs")
            .unwrap();
        assert_eq!(nfs.short(), "nfs");
        assert_eq!(nfs.plugin.as_deref(), Some("lazarette-nfs"));
    }

    #[test]
    fn nothing_that_speaks_to_storage_is_in_the_root() {
        let packages = root(&crate::images::workspace().join("os"))
            .unwrap()
            .packages;
        for stranger in [
            "nfs-common",
            "lvm2",
            "zfsutils-linux",
            "glusterfs-client",
            "udev",
        ] {
            assert!(
                !packages.iter().any(|package| package == stranger),
                "{stranger}"
            );
        }
    }
}
