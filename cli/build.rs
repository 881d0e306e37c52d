//! Puts the source of the SDK, and of what it stands on, into `laz`: `laz plugin new` writes it beside
//! the plugin, for the SDK is not on crates.io.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// The crates, by their directories.
const CRATES: [&str; 4] = ["core", "linux", "plugins/abi", "plugins/sdk"];

/// What of them is no plugin's business, and left out without a trace when they are compiled for one.
const APART: [&str; 5] = [
    "core/src/bin",
    "core/src/cloud_config",
    "core/src/daemon",
    "core/src/planner",
    "linux/src/loop_device.rs",
];

fn main() {
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("Cargo sets it"));
    let root = here.parent().expect("this crate lies in the workspace");
    let mut files = vec![("Cargo.toml".to_owned(), quoted(&workspace(root)))];
    for name in CRATES {
        let manifest = format!("{name}/Cargo.toml");
        let text = without_programs(&read(&root.join(&manifest)));
        files.push((manifest, quoted(&text)));
        sources(root, &format!("{name}/src"), &mut files);
    }
    let entries: String = files
        .iter()
        .map(|(path, content)| format!("    ({path:?}, {content}),\n"))
        .collect();
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("Cargo sets it"));
    fs::write(out.join("sdk.rs"), format!("&[\n{entries}]\n")).expect("OUT_DIR is ours");
}

fn read(path: &Path) -> String {
    println!("cargo::rerun-if-changed={}", path.display());
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn quoted(text: &str) -> String {
    format!("{text:?}")
}

/// The workspace's manifest for those crates only: its versions and lints.
fn workspace(root: &Path) -> String {
    let text = read(&root.join("Cargo.toml"));
    let from = text.find("[workspace.package]").expect("a shared package");
    let to = text.find("[profile.").expect("profiles come last");
    format!(
        "[workspace]\nresolver = \"3\"\nmembers = {CRATES:?}\n\n{}",
        &text[from..to]
    )
}

/// A manifest without its programs, whose sources are left out.
fn without_programs(manifest: &str) -> String {
    let sections = manifest.split("\n[");
    let kept: Vec<&str> = sections.filter(|s| !s.starts_with("[bin]]")).collect();
    kept.join("\n[")
}

/// The sources below `directory`, without tests.
fn sources(root: &Path, directory: &str, files: &mut Vec<(String, String)>) {
    let path = root.join(directory);
    println!("cargo::rerun-if-changed={}", path.display());
    let entries = fs::read_dir(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("a directory that can be read").file_name())
        .map(|name| name.into_string().expect("sources have names in ASCII"))
        .collect();
    names.sort();
    for name in names {
        let path = format!("{directory}/{name}");
        if APART.contains(&path.as_str()) || name == "tests.rs" || name.ends_with("_tests.rs") {
            continue;
        }
        if root.join(&path).is_dir() {
            sources(root, &path, files);
        } else if name.ends_with(".rs") {
            let content = format!("include_str!({:?})", root.join(&path));
            files.push((path, content));
        }
    }
}
