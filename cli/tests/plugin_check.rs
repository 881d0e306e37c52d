//! `laz plugin check`.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

#[allow(dead_code, reason = "shared with the tests against a stand-in core")]
mod support;

use std::path::Path;

use support::laz;

/// Runs the checks of `group` on the example in Python, with more arguments.
fn check(group: &str, more: &[&str]) -> support::Ran {
    let shelf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/examples/python/shelf.py");
    let storage = tempfile::tempdir().unwrap();
    let config = storage.path().join("check.json");
    let volumes = storage.path().join("volumes");
    std::fs::create_dir(&volumes).unwrap();
    std::fs::write(
        &config,
        format!(r#"{{"context": {{"directory": {volumes:?}}}}}"#),
    )
    .unwrap();
    let fixed = [
        "plugin",
        "check",
        shelf.to_str().unwrap(),
        "--config",
        config.to_str().unwrap(),
    ];
    laz(
        &[&fixed, ["--only", group].as_slice(), more].concat(),
        None,
        None,
    )
}

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("skipped: needs root for a mount namespace");
    }
    root
}

#[test]
fn the_result_is_a_table_json_or_junit_and_the_exit_status_says_it() {
    if !is_root() {
        return;
    }
    let table = check("volumes", &[]);
    assert_eq!(table.status, 0, "{table:?}");
    assert!(
        table.output.contains("volumes.create")
            && table.output.contains("6 passed, 0 failed, 0 skipped"),
        "{}",
        table.output
    );
    let json: serde_json::Value =
        serde_json::from_str(&check("volumes", &["--format", "json"]).output).unwrap();
    assert_eq!(json["checks"].as_array().unwrap().len(), 6);
    assert_eq!(json["checks"][0]["verdict"], "passed");
    let junit = check("copies", &["--format", "junit"]);
    assert!(
        junit.output.contains("<testsuite name=") && junit.output.contains("<skipped message=")
    );
    assert_eq!(junit.status, 1, "nothing was checked");
}

#[test]
fn a_plugin_that_breaks_the_contract_fails_with_what_was_wanted() {
    if !is_root() {
        return;
    }
    // /bin/cat says nothing and ends.
    let ran = laz(
        &["plugin", "check", "/bin/cat", "--only", "handshake.hello"],
        None,
        None,
    );
    assert_eq!(ran.status, 1, "{ran:?}");
    assert!(
        ran.output.contains("FAILED") && ran.output.contains("wanted: it says hello"),
        "{}",
        ran.output
    );
    assert!(
        ran.errors.contains("/bin/cat does not keep the contract"),
        "{}",
        ran.errors
    );
}

#[test]
fn what_cannot_be_checked_is_said_in_a_sentence() {
    let listed = laz(&["plugin", "check", "--list"], None, None);
    assert_eq!(listed.status, 0);
    assert!(listed.output.lines().count() > 60, "{}", listed.output);
    let unknown = laz(
        &["plugin", "check", "/bin/cat", "--only", "no.such"],
        None,
        None,
    );
    assert_eq!(unknown.status, 5);
    assert!(
        unknown.errors.contains("no check no.such"),
        "{}",
        unknown.errors
    );
    if rustix::process::geteuid().is_root() {
        let absent = laz(&["plugin", "check", "/no/such/plugin"], None, None);
        assert_eq!(absent.status, 1);
        assert!(
            absent.errors.contains("/no/such/plugin"),
            "{}",
            absent.errors
        );
    }
}
