//! Disks: ext4 file systems made from directories, without mounting anything.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::kernel::Kernel;
use crate::cache::{self, Key};
use crate::command::{capture, logged};
use crate::progress::step;

/// Raised when what is put together changes.
const VERSION: &str = "1";

/// Size of the root file system; the file is sparse.
const ROOT_BYTES: u64 = 8 << 30;

/// The root disk: the root file system, the kernel's modules and `more` of them, the files of
/// `os/root`, the user engine's data root.
pub(super) fn root(
    os: &Path,
    rootfs: &Path,
    kernel: &Kernel,
    more: &Path,
    user: &Path,
) -> Result<PathBuf> {
    let mut key = Key::default().add(VERSION).add_tree(&os.join("root"))?;
    for part in [rootfs, kernel.image.as_path(), more, user] {
        key = key.add(part.file_name().unwrap_or_default().as_encoded_bytes());
    }
    cache::entry("root-disk", &key.finish(), |path| {
        step("make the root disk", || {
            let tree = path.with_extension("tree");
            cache::remove(&tree)?;
            copy(rootfs, &tree)?;
            let modules = tree.join("usr/lib/modules");
            copy(&kernel.modules, &modules)?;
            copy(more, &modules.join(&kernel.release).join("extra"))?;
            logged(
                Command::new("/sbin/depmod")
                    .arg("-b")
                    .arg(&tree)
                    .arg(&kernel.release),
                &path.with_extension("log"),
            )?;
            copy(&os.join("root"), &tree)?;
            copy(user, &tree.join("var/lib/docker"))?;
            make(&tree, path, ROOT_BYTES)?;
            cache::remove(&tree)
        })
    })
}

/// Copies what is in a directory into another, which may exist.
pub(super) fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| to.display().to_string())?;
    let mut command = Command::new("cp");
    command.args(["-a", "--reflink=auto", "--remove-destination", "--"]);
    capture(command.arg(from.join(".")).arg(to)).map(drop)
}

/// Makes a file system of the given size from a directory.
pub(super) fn make(tree: &Path, image: &Path, bytes: u64) -> Result<()> {
    let file = File::create(image).with_context(|| image.display().to_string())?;
    file.set_len(bytes)?;
    let mut command = Command::new("/sbin/mkfs.ext4");
    // The lab's disks do not outlive the machine: a journal would only cost time.
    command
        .args(["-q", "-F", "-O", "^has_journal,^metadata_csum", "-m", "0"])
        .args(["-E", "lazy_itable_init=1,nodiscard,root_owner=0:0", "-d"])
        .arg(tree)
        .arg(image);
    logged(&mut command, &image.with_extension("log"))
}
