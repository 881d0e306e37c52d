//! The initial RAM disk: busybox, `os/initrd/init` and the modules that find the root disk.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::kernel::Kernel;
use crate::cache::{self, Key};

/// Modules to load, in this order; ext4 and virtio's PCI part are built into the kernel.
const MODULES: &[&str] = &["virtio_blk"];

/// Builds the cpio archive.
pub(super) fn build(os: &Path, rootfs: &Path, kernel: &Kernel) -> Result<PathBuf> {
    let script = os.join("initrd/init");
    let busybox = rootfs.join("usr/bin/busybox");
    let modules: Vec<PathBuf> = MODULES
        .iter()
        .map(|name| find_module(kernel, name))
        .collect::<Result<_>>()?;
    let mut key = Key::default().add_file(&script)?.add_file(&busybox)?;
    for module in &modules {
        key = key.add_file(module)?;
    }
    cache::entry("initrd", &key.finish(), |path| {
        let tree = path.with_extension("tree");
        cache::remove(&tree)?;
        for directory in ["bin", "dev", "modules", "proc", "root", "sys"] {
            fs::create_dir_all(tree.join(directory))?;
        }
        fs::copy(&busybox, tree.join("bin/busybox"))?;
        fs::copy(&script, tree.join("init"))?;
        for (index, module) in modules.iter().enumerate() {
            let name = module.file_name().unwrap_or_default().to_string_lossy();
            fs::copy(module, tree.join(format!("modules/{index:02}-{name}")))?;
        }
        archive(&tree, path)?;
        cache::remove(&tree)
    })
}

fn find_module(kernel: &Kernel, name: &str) -> Result<PathBuf> {
    let directory = kernel.modules.join(&kernel.release);
    let index = fs::read_to_string(directory.join("modules.dep"))?;
    let file = format!("/{name}.ko");
    let line = index.lines().find(|line| {
        line.split(':')
            .next()
            .is_some_and(|path| path.ends_with(&file))
    });
    let Some((path, needs)) = line.and_then(|line| line.split_once(':')) else {
        bail!("the kernel has no module {name}");
    };
    if !needs.trim().is_empty() {
        bail!("the module {name} needs {needs}, which the initial RAM disk would lack");
    }
    Ok(directory.join(path))
}

fn archive(tree: &Path, path: &Path) -> Result<()> {
    let listing = crate::command::capture(Command::new("find").arg(".").current_dir(tree))?;
    let mut cpio = Command::new("cpio")
        .args([
            "-o",
            "-H",
            "newc",
            "--quiet",
            "--reproducible",
            "-R",
            "0:0",
            "-O",
        ])
        .arg(path)
        .current_dir(tree)
        .stdin(Stdio::piped())
        .spawn()
        .context("cpio")?;
    if let Some(mut input) = cpio.stdin.take() {
        input.write_all(listing.as_bytes())?;
    }
    let status = cpio.wait()?;
    if !status.success() {
        bail!("cpio: {status}");
    }
    Ok(())
}
