//! Plugins and cores of the version before ours and of the one after it.

#![allow(clippy::unwrap_used)]

mod harness;

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use harness::{Core, Running, can_run, crafted, crashing, newer, plain_volume};
use lazarette_core::manifest::Capability;
use lazarette_core::message::{FromPlugin, Method, PROTOCOL, Version};
use lazarette_core::{ErrorKind, HealthState};
use serde_json::{Value, json};

fn plugin_host(command: &str, library: &Path) -> Output {
    let mut host = Command::new(env!("CARGO_BIN_EXE_laz-plugin-host"));
    host.arg(command).arg(library).output().unwrap()
}

#[test]
fn a_plugin_of_the_version_before_is_served_for_what_it_has() {
    if !can_run() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let found = plugin_host("scan", &crafted(directory.path()));
    let found: Value = serde_json::from_slice(&found.stdout).unwrap();
    assert_eq!(found["error"]["kind"], "unsupported", "{found}");

    let host = Running::start("serve", crafted);
    let (mut core, _) = Core::connect(&host.socket);
    core.open(json!({})).unwrap();
    assert_eq!(core.call(Method::Health).unwrap()["state"], "healthy");
    assert_eq!(core.call(Method::Close).unwrap(), Value::Null);
}

#[test]
fn a_plugin_of_the_next_version_is_served_for_what_we_know() {
    if !can_run() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let library = newer(directory.path());
    let described = plugin_host("describe", &library);
    let manifest: Value = serde_json::from_slice(&described.stdout).unwrap();
    assert_eq!(manifest["capabilities"], json!(["create", "unknown"]));
    let found = plugin_host("scan", &library);
    let found: Value = serde_json::from_slice(&found.stdout).unwrap();
    assert_eq!(found["ok"][0]["name"], "/dev/x");

    let host = Running::start("serve", newer);
    let (mut core, greeting) = Core::connect(&host.socket);
    let capabilities = greeting.manifest.capabilities;
    assert_eq!(
        capabilities,
        [Capability::Create, Capability::Unknown].into()
    );
    core.open(json!({})).unwrap();
    // It uses `changed`, which we have, and not what it appended behind it.
    let health: lazarette_core::Health =
        serde_json::from_value(core.call(Method::Health).unwrap()).unwrap();
    assert_eq!(health.state, HealthState::Unknown);
    assert_eq!(health.reason.as_deref(), Some("it is new"));
    assert!(
        core.heard.contains(&FromPlugin::Changed),
        "{:?}",
        core.heard
    );
    let id = plain_volume().id;
    let error = core.call(Method::Unmount { id }).unwrap_err();
    assert_eq!(
        (error.kind, error.message.as_str()),
        (ErrorKind::Unknown, "a new way to fail")
    );
    assert_eq!(core.call(Method::Close).unwrap(), Value::Null);
}

/// A core of 1.0 does not know `changed`: it would drop the connection.
#[test]
fn a_core_hears_what_its_version_has() {
    if !can_run() {
        return;
    }
    let host = Running::start("serve", newer);
    for (minor, hears) in [
        (0, false),
        (PROTOCOL.minor, true),
        (PROTOCOL.minor + 1, true),
    ] {
        let mut core = Core::silent(&host.socket);
        let major = PROTOCOL.major;
        let greeting = core.hello(Version { major, minor });
        assert_eq!(greeting.protocol, PROTOCOL);
        core.open(json!({})).unwrap();
        core.call(Method::Health).unwrap();
        let heard = core.heard.contains(&FromPlugin::Changed);
        assert_eq!(heard, hears, "core {major}.{minor}");
    }
}

#[test]
fn a_method_of_the_next_version_is_unsupported_and_a_bad_call_an_error() {
    if !can_run() {
        return;
    }
    let host = Running::start("serve", crafted);
    let (mut core, _) = Core::connect(&host.socket);
    core.open(json!({})).unwrap();
    let mut say = |method: &str, params: Value| {
        let call = json!({"type": "call", "id": 900, "deadline_ms": 5000, "method": method,
                          "params": params, "urgent": true});
        core.send_bytes(&lazarette_core::frame::encode(&call).unwrap());
        let (id, result, fd) = core.reply();
        assert!(id == 900 && fd.is_none());
        result.unwrap_err()
    };
    let error = say("teleport", json!({"to": "the moon"}));
    assert_eq!(error.kind, ErrorKind::Unsupported);
    assert!(
        error
            .to_string()
            .contains("crafted volumes cannot teleport"),
        "{error}"
    );
    let error = say("unmount", json!({"id": "not one"}));
    assert_eq!(error.kind, ErrorKind::InvalidArgument);
    assert!(error.to_string().contains("unmount"), "{error}");
    assert_eq!(core.call(Method::Health).unwrap()["state"], "healthy");
}

/// A constructor runs before anything can be asked: its crash is the server's, not the supervisor's,
/// which tries again with growing pauses.
#[test]
fn a_plugin_that_dies_while_it_is_loaded_is_tried_again_and_can_be_stopped() {
    if !can_run() {
        return;
    }
    let mut host = Running::start("supervise", crashing);
    harness::within(Duration::from_secs(30), || {
        (host.log().matches("signal").count() >= 2).then_some(())
    });
    host.signal(rustix::process::Signal::TERM);
    assert_eq!(host.ended(), Some(0), "{}", host.log());
}
