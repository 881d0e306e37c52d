//! Plugins to check, built once for all tests of a binary.

#![allow(dead_code)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use lazarette_plugin_check::subject::{InProcess, Launch};
use lazarette_plugin_check::{Report, Settings, check};

/// Prints why and returns false where the test cannot run.
pub(crate) fn can_run() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("skipped: needs root for a mount namespace");
    }
    root
}

/// The directory of this package.
pub(crate) fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// What the tests drive, built.
pub(crate) struct Built {
    pub(crate) host: PathBuf,
    pub(crate) hello: PathBuf,
    pub(crate) misbehaving: PathBuf,
    pub(crate) scratch: PathBuf,
    _directory: tempfile::TempDir,
}

pub(crate) fn built() -> &'static Built {
    static BUILT: OnceLock<Built> = OnceLock::new();
    BUILT.get_or_init(build)
}

fn run(command: &mut Command) {
    let output = command.output().expect("the program is installed");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
}

fn build() -> Built {
    let packages = [
        "laz-plugin-host",
        "lazarette-hello",
        "lazarette-misbehaving",
    ];
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["build", "--quiet", "--manifest-path"])
        .arg(here("Cargo.toml"));
    run(cargo.args(packages.iter().flat_map(|package| ["--package", package])));
    // The test itself is target/PROFILE/deps/NAME.
    let test = std::env::current_exe().unwrap();
    let target = test.parent().unwrap().parent().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let library = |name: &str| {
        let path = directory.path().join(name);
        fs::copy(target.join(name), &path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        path
    };
    let scratch = directory.path().join("scratch.so");
    run(Command::new("cc")
        .args(["-shared", "-fPIC", "-O2", "-I"])
        .arg(here("../abi/include"))
        .arg("-o")
        .args([&scratch, &here("../examples/c/scratch.c")]));
    fs::set_permissions(&scratch, fs::Permissions::from_mode(0o644)).unwrap();
    Built {
        host: target.join("laz-plugin-host"),
        hello: library("liblazarette_hello.so"),
        misbehaving: library("liblazarette_misbehaving.so"),
        scratch,
        _directory: directory,
    }
}

/// A library in the plugin host.
pub(crate) fn library(plugin: &Path, behaviour: &str) -> Launch {
    Launch {
        plugin: plugin.into(),
        host: Some(built().host.clone()),
        environment: vec![("LAZARETTE_MISBEHAVE".into(), behaviour.into())],
    }
}

/// A program that serves the wire itself.
pub(crate) fn program(plugin: &Path) -> Launch {
    Launch {
        plugin: plugin.into(),
        host: None,
        environment: Vec::new(),
    }
}

/// Runs the checks named `wanted` (all if none is named) with the settings of `json`.
pub(crate) fn checked(launch: Launch, json: &str, wanted: &[&str]) -> Report {
    let settings = Settings::parse(json).unwrap();
    let subject = Box::new(InProcess::new(launch).unwrap());
    let wanted: Vec<String> = wanted.iter().map(|name| (*name).to_owned()).collect();
    check(subject, settings, &wanted, &mut |checked| {
        println!(
            "{:<8} {:<28} {:>6.2} s  {}",
            checked.word(),
            checked.id,
            checked.seconds,
            checked.why()
        );
    })
}

/// Fails unless every check passed or was skipped, and as many passed as `least`.
pub(crate) fn passes(report: &Report, least: usize) {
    let failed = report.checks.iter().filter(|c| c.word() == "FAILED");
    let failed: Vec<String> = failed.map(|c| format!("{}: {}", c.id, c.why())).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(
        report.counts().0 >= least,
        "only {} checks passed",
        report.counts().0
    );
}
