//! Our example passes the conformance kit. Those in C and Python are what new projects are made of,
//! and checked as such.

#![allow(clippy::unwrap_used)]

mod stand;

use stand::{built, can_run, checked, library, passes};

#[test]
fn the_example_in_rust_passes() {
    if can_run() {
        let settings = r#"{"volume": {"size": "16M"}, "larger": "32M"}"#;
        passes(&checked(library(&built().hello, ""), settings, &[]), 50);
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
