//! The root file system's directory: Debian with the engines.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use lazarette_tests::mirror::SUITE;

use super::recipe::Root;
use crate::apt::Apt;
use crate::cache::{self, Key};
use crate::command::logged;
use crate::progress::step;

/// Raised when what is done with the packages changes.
const VERSION: &str = "1";

/// Documentation nobody reads in a VM, and syncs nobody needs.
pub(super) const DPKG_OPTIONS: &[&str] = &[
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=force-unsafe-io",
];

/// Builds the directory.
pub(super) fn build(apt: &Apt, recipe: &Root) -> Result<PathBuf> {
    let versions = apt.versions(&recipe.packages, true)?;
    let key = Key::default()
        .add(VERSION)
        .add(versions.join("\n"))
        .finish();
    cache::entry("debian", &key, |path| {
        step("build the root file system", || {
            mmdebstrap(apt, "minbase", &recipe.packages, path)?;
            finish(path)
        })
    })
}

/// Runs mmdebstrap into a directory, whose log is put beside it.
pub(super) fn mmdebstrap(apt: &Apt, variant: &str, packages: &[String], path: &Path) -> Result<()> {
    let mut command = Command::new("mmdebstrap");
    command
        .args(["--mode=root", "--format=directory", "--skip=check/empty"])
        .arg("--aptopt=Apt::Install-Recommends \"0\"")
        .arg(format!("--variant={variant}"))
        .arg(format!("--include={}", packages.join(",")))
        .args(DPKG_OPTIONS)
        .arg(SUITE)
        .arg(path)
        .arg(apt.sources());
    logged(&mut command, &path.with_extension("log"))
}

/// Makes the mount points and removes what would differ between two builds or machines.
fn finish(root: &Path) -> Result<()> {
    let directories = [
        "mnt",
        "srv",
        "run",
        "tmp",
        "etc/docker",
        "usr/lib/lazarette",
        "var/lib/docker",
        "var/lib/system-docker",
        "var/lib/lazarette/conf",
    ];
    for directory in directories {
        fs::create_dir_all(root.join(directory))?;
    }
    for leftover in ["var/lib/apt/lists", "var/cache/apt", "etc/machine-id"] {
        cache::remove(&root.join(leftover))?;
    }
    Ok(())
}
