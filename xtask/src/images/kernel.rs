//! The kernel and its modules.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::recipe::Root;
use super::rootfs::mmdebstrap;
use crate::apt::Apt;
use crate::cache::{self, Key};
use crate::command::{capture, logged};
use crate::progress::step;

/// Raised when what is done with the package changes.
const VERSION: &str = "1";

/// A kernel.
pub(super) struct Kernel {
    /// The boot image.
    pub(super) image: PathBuf,
    /// The directory `/usr/lib/modules`.
    pub(super) modules: PathBuf,
    /// Its release, as `uname -r` says it.
    pub(super) release: String,
}

/// Unpacks the newest kernel that the recipe's package depends on.
pub(super) fn build(apt: &Apt, recipe: &Root) -> Result<Kernel> {
    let packages = [recipe.kernel.clone()];
    let versions = apt.versions(&packages, false)?;
    let kernels: Vec<_> = versions
        .iter()
        .filter(|name| name.starts_with("linux-image"))
        .collect();
    let key = Key::default()
        .add(VERSION)
        .add(format!("{kernels:?}"))
        .finish();
    let path = cache::entry("kernel", &key, |path| {
        step("unpack the kernel", || unpack(apt, &packages, path))
    })?;
    let release = only_entry(&path.join("modules"))?;
    Ok(Kernel {
        // A name of its own: the lab's key is made of names.
        image: path.join(format!("vmlinuz-{release}")),
        modules: path.join("modules"),
        release,
    })
}

fn unpack(apt: &Apt, packages: &[String], path: &Path) -> Result<()> {
    let unpacked = path.with_extension("unpacked");
    cache::remove(&unpacked)?;
    mmdebstrap(apt, "extract", packages, &unpacked)?;
    let release = only_entry(&unpacked.join("usr/lib/modules"))?;
    fs::create_dir_all(path)?;
    fs::rename(unpacked.join("usr/lib/modules"), path.join("modules"))?;
    let image = format!("vmlinuz-{release}");
    fs::copy(unpacked.join("boot").join(&image), path.join(&image))?;
    // Decompressing modules costs seconds where the processor is emulated.
    let listing = capture(Command::new("find").arg(path).args(["-name", "*.ko.xz"]))?;
    let files: Vec<&str> = listing.lines().collect();
    for batch in files.chunks(200) {
        logged(
            Command::new("xz").args(["-d", "--"]).args(batch),
            &path.join("log"),
        )?;
    }
    // depmod wants to see lib/modules below its base.
    let base = path.join("base/lib");
    fs::create_dir_all(&base)?;
    std::os::unix::fs::symlink("../../modules", base.join("modules"))?;
    logged(
        Command::new("/sbin/depmod")
            .arg("-b")
            .arg(path.join("base"))
            .arg(&release),
        &path.join("log"),
    )?;
    cache::remove(&path.join("base"))?;
    cache::remove(&unpacked)
}

fn only_entry(directory: &Path) -> Result<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .with_context(|| directory.display().to_string())?
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
        .pop()
        .with_context(|| format!("{} is empty", directory.display()))
}
