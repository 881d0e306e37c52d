//! A container image's file system: packages unpacked, without what only an installation needs.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::recipe::Image;
use super::rootfs::mmdebstrap;
use crate::apt::Apt;
use crate::cache::{self, Key};
use crate::command::logged;
use crate::images::workspace;
use crate::progress::step;

/// Raised when what is done with the packages changes.
const VERSION: &str = "1";

/// Builds the tar archive that an engine imports.
pub(super) fn build(apt: &Apt, image: &Image) -> Result<PathBuf> {
    let mut packages = image.packages.clone();
    packages.push("base-files".to_owned());
    let versions = apt.versions(&packages, false)?;
    let mut key = Key::default()
        .add(VERSION)
        .add(image.identity())
        .add(versions.join("\n"));
    for pair in &image.files {
        key = key.add_file(&workspace().join(halves(image, pair)?.0))?;
    }
    let kind = format!("image-{}", image.short());
    cache::entry(&kind, &key.finish(), |path| {
        step(&format!("build the image {}", image.name), || {
            let tree = path.with_extension("tree");
            cache::remove(&tree)?;
            mmdebstrap(apt, "extract", &packages, &tree)?;
            complete(image, &tree)?;
            let mut tar = Command::new("tar");
            tar.args(["--sort=name", "--numeric-owner", "-C"])
                .arg(&tree)
                .arg("-cf")
                .arg(path);
            logged(tar.arg("."), &path.with_extension("log"))?;
            cache::remove(&tree)
        })
    })
}

/// What the packages' maintainer scripts would have done, and less.
fn complete(image: &Image, tree: &Path) -> Result<()> {
    for waste in [
        "usr/share/doc",
        "usr/share/info",
        "usr/share/i18n",
        "var/lib/apt",
        "var/cache",
    ] {
        cache::remove(&tree.join(waste))?;
    }
    let mut passwd =
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n".to_owned();
    let mut owners = Vec::new();
    for user in &image.users {
        let parts: Vec<&str> = user.split(':').collect();
        let [name, uid, gid, home] = parts[..] else {
            bail!("{}: the user {user:?} is not name:uid:gid:home", image.name);
        };
        passwd.push_str(&format!("{name}:x:{uid}:{gid}::{home}:/bin/false\n"));
        owners.push((home, uid.parse::<u32>()?, gid.parse::<u32>()?));
    }
    fs::write(tree.join("etc/passwd"), passwd)?;
    let mut groups = "root:x:0:\nnogroup:x:65534:\n".to_owned();
    for group in &image.groups {
        let Some((name, gid)) = group.split_once(':') else {
            bail!("{}: the group {group:?} is not name:gid", image.name);
        };
        groups.push_str(&format!("{name}:x:{gid}:\n"));
    }
    fs::write(tree.join("etc/group"), groups)?;
    for name in ["dev", "proc", "sys", "run", "tmp", "etc", "root", "var/lib"] {
        fs::create_dir_all(tree.join(name))?;
    }
    fs::set_permissions(tree.join("tmp"), fs::Permissions::from_mode(0o1777))?;
    for directory in &image.directories {
        let path = tree.join(directory.trim_start_matches('/'));
        fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        let owner = owners.iter().find(|(home, ..)| directory.starts_with(home));
        if let Some(&(_, uid, gid)) = owner {
            chown(&path, Some(uid), Some(gid))?;
        }
    }
    for pair in &image.moves {
        let (from, to) = halves(image, pair)?;
        let from = find(tree, from)?;
        let to = below(tree, to)?;
        fs::rename(&from, &to).with_context(|| from.display().to_string())?;
    }
    for pair in &image.files {
        let (from, to) = halves(image, pair)?;
        fs::copy(workspace().join(from), below(tree, to)?).with_context(|| pair.clone())?;
    }
    Ok(())
}

/// The two parts of `from:to`.
fn halves<'a>(image: &Image, pair: &'a str) -> Result<(&'a str, &'a str)> {
    pair.split_once(':')
        .with_context(|| format!("{}: {pair:?} is not from:to", image.name))
}

/// A place in the tree, whose directory is made.
fn below(tree: &Path, path: &str) -> Result<PathBuf> {
    let path = tree.join(path.trim_start_matches('/'));
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    Ok(path)
}

/// The only thing in the tree that has this name, or a name that begins like this if it ends with `*`.
fn find(tree: &Path, pattern: &str) -> Result<PathBuf> {
    let path = tree.join(pattern.trim_start_matches('/'));
    let Some(beginning) = pattern.rsplit('/').next().and_then(|n| n.strip_suffix('*')) else {
        return Ok(path);
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(path.parent().unwrap_or(tree))? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(beginning) {
            found.push(entry.path());
        }
    }
    match found.as_slice() {
        [only] => Ok(only.clone()),
        _ => bail!("{pattern} is {} things, not one", found.len()),
    }
}
