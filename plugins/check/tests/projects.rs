//! What `laz plugin new` writes passes the conformance kit as it stands, in each language.

#![allow(clippy::unwrap_used)]

mod stand;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use stand::{built, can_run, checked, here, library, passes, program};

/// `laz plugin new KIND --lang LANG` in `directory`, on the SDK of this tree.
fn new(kind: &str, lang: &str, directory: &Path) -> PathBuf {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--package", "laz", "--manifest-path"]);
    succeeds(cargo.arg(here("Cargo.toml")));
    let mut laz = Command::new(built().host.with_file_name("laz"));
    laz.args(["plugin", "new", kind, "--lang", lang, "--sdk"]);
    laz.arg(here("../sdk")).current_dir(directory);
    succeeds(&mut laz);
    directory.join(kind)
}

fn succeeds(command: &mut Command) {
    let output = command.output().expect("the program is installed");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}

#[test]
fn a_new_project_in_rust_passes() {
    if !can_run() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let project = new("barrels", "rust", directory.path());
    // Built of the workspace's versions, beside what is built already.
    fs::copy(here("../../Cargo.lock"), project.join("Cargo.lock")).unwrap();
    let target = built().host.parent().unwrap().parent().unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--offline", "--target-dir"]);
    succeeds(cargo.arg(target).current_dir(&project));
    let plugin = project.join("plugin.so");
    fs::copy(target.join("debug/libbarrels.so"), &plugin).unwrap();
    fs::set_permissions(&plugin, fs::Permissions::from_mode(0o644)).unwrap();
    let settings = r#"{"volume": {"size": "8m"}}"#;
    passes(&checked(library(&plugin, ""), settings, &[]), 35);
}

#[test]
fn a_new_project_in_c_passes() {
    if !can_run() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let project = new("boxes", "c", directory.path());
    succeeds(Command::new("make").arg("plugin.so").current_dir(&project));
    let settings = r#"{"volume": {"size": "8M"}, "keeps_data": false}"#;
    let plugin = project.join("plugin.so");
    passes(&checked(library(&plugin, ""), settings, &[]), 35);
}

#[test]
fn a_new_project_in_python_passes() {
    if !can_run() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let project = new("crates", "python", directory.path());
    let storage = tempfile::tempdir().unwrap();
    let settings = format!(r#"{{"context": {{"directory": {:?}}}}}"#, storage.path());
    passes(
        &checked(program(&project.join("plugin.py")), &settings, &[]),
        35,
    );
    let left = fs::read_dir(storage.path()).unwrap().count();
    assert_eq!(left, 0, "the volumes of the check are gone");
}
