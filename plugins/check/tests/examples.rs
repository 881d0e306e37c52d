//! Our examples, in three languages, pass the conformance kit.

#![allow(clippy::unwrap_used)]

mod stand;

use stand::{built, can_run, checked, here, library, passes, program};

#[test]
fn the_example_in_rust_passes() {
    if can_run() {
        let settings = r#"{"volume": {"size": "16M"}, "larger": "32M"}"#;
        passes(&checked(library(&built().hello, ""), settings, &[]), 50);
    }
}

#[test]
fn the_example_in_c_passes() {
    if can_run() {
        let settings = r#"{"volume": {"size": "8M"}, "keeps_data": false}"#;
        passes(&checked(library(&built().scratch, ""), settings, &[]), 35);
    }
}

#[test]
fn the_example_in_python_passes() {
    if can_run() {
        let storage = tempfile::tempdir().unwrap();
        let settings = format!(r#"{{"context": {{"directory": {:?}}}}}"#, storage.path());
        let shelf = here("../examples/python/shelf.py");
        passes(&checked(program(&shelf), &settings, &[]), 35);
        let left = std::fs::read_dir(storage.path()).unwrap().count();
        assert_eq!(left, 0, "the volumes of the check are gone");
    }
}

#[test]
fn the_misbehaving_plugin_passes_when_it_behaves() {
    if can_run() {
        let settings = r#"{"volume": {"size": "8M"}, "larger": "16M"}"#;
        passes(
            &checked(library(&built().misbehaving, ""), settings, &[]),
            50,
        );
    }
}
