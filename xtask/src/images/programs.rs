//! Lazarette's own programs, the plugins and the lab's tools.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::disk;
use crate::cache::{self, Key};
use crate::command::{capture, inherited};
use crate::images::{target, workspace};
use crate::progress::step;

/// Cargo's profile for what goes into machines.
const PROFILE: &str = "image";

/// What cargo is asked to build, a call each: in one call, features of one reach the others, and plugins
/// must not see the daemon's. Where they may, one call compiles once what several need.
const BUILDS: &[&[&str]] = &[
    &[
        "-p",
        "laz-plugin-host",
        "-p",
        "lazarette-nfs",
        "-p",
        "lazarette-lvm",
        "-p",
        "lazarette-zfs",
        "-p",
        "lazarette-gluster",
        "-p",
        "lazarette-hello",
    ],
    &[
        "-p",
        "laz-init",
        "-p",
        "laz",
        "-p",
        "lazarette-core",
        "--bin",
        "laz-init",
        "--bin",
        "laz",
        "--bin",
        "laz-core",
    ],
    &["-p", "lazarette-tests", "--bin", "lab-agent"],
];

/// Plugins by their crates' names.
const PLUGINS: &[&str] = &[
    "lazarette-nfs",
    "lazarette-zfs",
    "lazarette-gluster",
    "lazarette-lvm",
    "lazarette-hello",
];

/// A plugin.
pub(super) struct Plugin {
    /// Its crate.
    pub(super) name: String,
    /// The library.
    pub(super) library: PathBuf,
    /// Its storage kind.
    pub(super) kind: String,
    /// What it says of itself, in JSON.
    pub(super) manifest: String,
}

/// All programs.
pub(super) struct Programs {
    directory: PathBuf,
    /// The plugin host.
    pub(super) host: PathBuf,
    /// The plugins.
    pub(super) plugins: Vec<Plugin>,
}

/// Compiles everything.
pub(super) fn build() -> Result<Programs> {
    step("compile the programs", || {
        for packages in BUILDS {
            let mut cargo =
                Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
            cargo
                .current_dir(workspace())
                .args(["build", "--quiet", "--profile", PROFILE])
                .args(*packages);
            inherited(&mut cargo)?;
        }
        Ok(())
    })?;
    let directory = target().join(PROFILE);
    let host = directory.join("laz-plugin-host");
    let plugins = PLUGINS
        .iter()
        .map(|name| describe(&host, &directory, name))
        .collect::<Result<_>>()?;
    Ok(Programs {
        directory,
        host,
        plugins,
    })
}

fn describe(host: &Path, directory: &Path, name: &str) -> Result<Plugin> {
    let library = directory.join(format!("lib{}.so", name.replace('-', "_")));
    let text = capture(Command::new(host).arg("describe").arg(&library))?;
    let value: Value = serde_json::from_str(&text)
        .with_context(|| format!("what {name} says of itself: {text:?}"))?;
    let Some(kind) = value["kind"].as_str() else {
        bail!("{name} does not say its storage kind: {text}");
    };
    Ok(Plugin {
        name: name.to_owned(),
        library,
        kind: kind.to_owned(),
        manifest: serde_json::to_string(&value)?,
    })
}

/// The disk with the programs, the list of `built_in` images and the lab's tools, mounted read-only at
/// `/usr/lib/lazarette`. What is in its `lab/root` is copied into the root at boot.
pub(super) fn disk(
    programs: &Programs,
    os: &Path,
    lab_files: &Path,
    built_in: &str,
) -> Result<PathBuf> {
    let mut key = Key::default().add_tree(&os.join("lab"))?.add(built_in);
    key = key.add(lab_files.file_name().unwrap_or_default().as_encoded_bytes());
    let files = ["laz", "laz-core", "laz-init", "lab-agent"];
    for file in files {
        key = key.add(file).add_file(&programs.directory.join(file))?;
    }
    cache::entry("programs", &key.finish(), |path| {
        let tree = path.with_extension("tree");
        cache::remove(&tree)?;
        disk::copy(&os.join("lab"), &tree.join("lab"))?;
        disk::copy(lab_files, &tree.join("lab/root"))?;
        for file in files {
            let place = if file == "lab-agent" {
                "lab/lab-agent"
            } else {
                file
            };
            fs::copy(programs.directory.join(file), tree.join(place))?;
        }
        fs::write(tree.join("built-in-images"), built_in)?;
        disk::make(&tree, path, 256 << 20)?;
        cache::remove(&tree)
    })
}
