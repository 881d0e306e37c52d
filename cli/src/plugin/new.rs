//! `laz plugin new`: a project from a template. The templates are files of this tree, and the
//! examples, so that what is written is what the tests build.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use lazarette_core::{Error, ErrorKind};

use super::{Language, NewArguments};
use crate::failure::Failure;
use crate::terminal::Terminal;

/// What is in its place in a template.
const KIND: &str = "@KIND@";
const SDK: &str = "@SDK@";

/// A file: its name, its content, and the name that the example it comes from has for its kind.
struct File(&'static str, &'static str, &'static str);

const RUST: &[File] = &[
    File(
        "Cargo.toml",
        include_str!("../../../plugins/templates/rust/Cargo.toml.in"),
        KIND,
    ),
    File(
        "src/lib.rs",
        include_str!("../../../plugins/templates/rust/lib.rs"),
        KIND,
    ),
    File(
        "Dockerfile",
        include_str!("../../../plugins/templates/rust/Dockerfile"),
        KIND,
    ),
    File(".gitignore", "target\n", KIND),
    File(".dockerignore", "target\n", KIND),
];

const C: &[File] = &[
    File(
        "plugin.c",
        include_str!("../../../plugins/examples/c/scratch.c"),
        "scratch",
    ),
    File(
        "lazarette.h",
        include_str!("../../../plugins/abi/include/lazarette.h"),
        KIND,
    ),
    File(
        "Makefile",
        include_str!("../../../plugins/templates/c/Makefile"),
        KIND,
    ),
    File(
        "Dockerfile",
        include_str!("../../../plugins/templates/c/Dockerfile"),
        KIND,
    ),
    File(".gitignore", "plugin.so\n", KIND),
];

const PYTHON: &[File] = &[
    File(
        "plugin.py",
        include_str!("../../../plugins/examples/python/shelf.py"),
        "shelf",
    ),
    File(
        "Dockerfile",
        include_str!("../../../plugins/templates/python/Dockerfile"),
        KIND,
    ),
];

/// The source of the SDK and of what it stands on: paths, and contents.
const SOURCE: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/sdk.rs"));
/// The directory of the project that it is written into.
const VENDORED: &str = "lazarette";
/// What says so there.
const ABOUT: &str = "\
# The source of lazarette-plugin

Of the version of `laz` that wrote this project, for the crate is not on crates.io. Keep it with the
project; to take a newer one, have a newer `laz plugin new` write a project, and put its directory
`lazarette` in the place of this one.

SPDX-License-Identifier: Apache-2.0
";

/// Writes the project.
pub(crate) fn run(arguments: &NewArguments, terminal: &mut Terminal) -> Result<(), Failure> {
    let root = arguments.directory.join(arguments.kind.as_str());
    let failed = |source| Failure::File {
        verb: "make",
        path: root.clone(),
        source,
    };
    // Not over what is there already: it may be somebody's work.
    if root.exists() {
        let what = format!("{} is there already", root.display());
        let error = Error::new(ErrorKind::AlreadyExists, what);
        return Err(Failure::Core(
            error.remedy("choose another name, or move it away"),
        ));
    }
    fs::create_dir(&root).map_err(failed)?;
    let sdk = sdk(arguments.sdk.as_deref()).map_err(failed)?;
    let put = |path: PathBuf, text: &str| {
        write(&path, text).map_err(|source| Failure::File {
            verb: "write",
            path,
            source,
        })
    };
    if arguments.lang == Language::Rust && arguments.sdk.is_none() {
        let vendored = root.join(VENDORED);
        put(vendored.join("README.md"), ABOUT)?;
        for (path, text) in SOURCE {
            put(vendored.join(path), text)?;
        }
    }
    let (files, steps) = match arguments.lang {
        Language::Rust => (RUST, rust_steps(arguments.kind.as_str())),
        Language::C => (C, "make\nlaz plugin pack plugin.so".to_owned()),
        Language::Python => (PYTHON, "laz plugin pack plugin.py".to_owned()),
    };
    for File(name, content, kind) in files {
        let text = content
            .replace(kind, arguments.kind.as_str())
            .replace(SDK, &sdk);
        put(root.join(name), &text)?;
    }
    terminal.line(&format!("{} is written. Go on with", root.display()))?;
    terminal.line(&format!("cd {}\n{steps}", root.display()))
}

fn rust_steps(kind: &str) -> String {
    let library = kind.replace('-', "_");
    format!("cargo build --release\nlaz plugin pack target/release/lib{library}.so")
}

/// The SDK as Cargo.toml names it: where it is said to be, or where it is written.
fn sdk(path: Option<&Path>) -> io::Result<String> {
    let Some(path) = path else {
        return Ok(format!("{{ path = \"{VENDORED}/plugins/sdk\" }}"));
    };
    // An absolute path without a quote, as TOML wants it.
    let path = serde_json::Value::from(path.canonicalize()?.display().to_string());
    Ok(format!("{{ path = {path} }}"))
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    fs::write(path, text)?;
    if path.extension().is_some_and(|end| end == "py") {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}
