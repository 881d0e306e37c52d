//! ZFS for the lab's kernel: built by the script that the builder's image runs on any machine, but
//! at native speed and once for each kernel and version of OpenZFS.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::container;
use super::disk;
use super::kernel::Kernel;
use super::recipe::Image;
use super::rootfs::mmdebstrap;
use crate::apt::Apt;
use crate::cache::{self, Key};
use crate::command::{capture, logged};
use crate::progress::step;

/// Raised when what is done here changes.
const VERSION: &str = "1";

/// The builder's image.
const BUILDER: &str = "lazarette/zfs-module";

/// Builds the modules; gives the directory they lie in.
pub(super) fn build(apt: &Apt, images: &[Image], kernel: &Kernel) -> Result<PathBuf> {
    let builder = images
        .iter()
        .find(|image| image.name == BUILDER)
        .with_context(|| format!("no recipe for {BUILDER}"))?;
    let archive = container::build(apt, builder)?;
    let headers = [format!("linux-headers-{}", kernel.release)];
    let key = Key::default()
        .add(VERSION)
        .add(&kernel.release)
        .add(apt.versions(&headers, false)?.join("\n"))
        .add(archive.file_name().unwrap_or_default().as_encoded_bytes())
        .finish();
    cache::entry("zfs-module", &key, |path| {
        step(&format!("build ZFS for {}", kernel.release), || {
            let (tree, unpacked) = (path.with_extension("tree"), path.with_extension("headers"));
            cache::remove(&tree)?;
            cache::remove(&unpacked)?;
            fs::create_dir_all(&tree)?;
            capture(
                Command::new("tar")
                    .args(["--numeric-owner", "-C"])
                    .arg(&tree)
                    .arg("-xf")
                    .arg(&archive),
            )?;
            mmdebstrap(apt, "extract", &headers, &unpacked)?;
            add_headers(&unpacked, &tree)?;
            run(&tree, kernel, &path.with_extension("log"))?;
            fs::rename(tree.join("output"), path)?;
            cache::remove(&unpacked)?;
            cache::remove(&tree)
        })
    })
}

/// Puts the headers where the host's are bound when the image runs on a machine.
fn add_headers(unpacked: &Path, tree: &Path) -> Result<()> {
    for part in ["usr/src", "usr/lib/modules"] {
        disk::copy(&unpacked.join(part), &tree.join(part))?;
    }
    for entry in fs::read_dir(unpacked.join("usr/lib"))? {
        let entry = entry?;
        if entry
            .file_name()
            .to_string_lossy()
            .starts_with("linux-kbuild-")
        {
            disk::copy(&entry.path(), &tree.join("usr/lib").join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// Runs the builder as a container of its image would, out of the way of other work.
fn run(tree: &Path, kernel: &Kernel, log: &Path) -> Result<()> {
    fs::create_dir_all(tree.join("output"))?;
    let mut command = Command::new("nice");
    command
        .args(["-n", "10", "unshare", "--mount", "--propagation", "private"])
        .args(["--pid", "--fork", "--kill-child", "--mount-proc"])
        .arg(format!("--root={}", tree.display()))
        .args(["--", "/usr/bin/env", "-i"])
        .arg("PATH=/usr/sbin:/usr/bin:/sbin:/bin")
        .arg(format!("KERNEL={}", kernel.release))
        .arg("/usr/bin/build-module");
    logged(&mut command, log)
}
