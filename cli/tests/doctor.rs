//! `laz doctor` against stand-ins of core and of the engines.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

#[expect(dead_code, reason = "each suite uses a part of it")]
mod support;

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;

use lazarette_core::control::{Request, Response};
use lazarette_core::{Kind, Manifest};
use serde_json::{Value, json};
use support::{Ran, StandIn, laz, status};

/// Something that answers as a Docker engine does, on `name` in `directory`.
fn engine(directory: &Path, name: &str, version: &'static str) -> String {
    let path = directory.join(name);
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 256];
            let length = stream.read(&mut request).unwrap();
            assert!(request[..length].starts_with(b"GET /version HTTP/1."));
            write!(
                stream,
                "HTTP/1.0 200 OK\r\n\r\n{{\"Version\":\"{version}\"}}"
            )
            .unwrap();
        }
    });
    path.to_str().unwrap().to_owned()
}

/// A core with contexts of the kind `nfs`, whose plugin needs a module that no kernel has.
fn core(configured: bool, builder: Option<&'static str>) -> StandIn {
    StandIn::answering(move |request| {
        let answer = match request {
            Request::Kinds => {
                let manifest: Manifest = serde_json::from_value(json!({
                    "kind": "nfs", "version": "1", "context_schema": {}, "volume_schema": {},
                    "capabilities": [],
                    "privileges": {
                        "kernel_modules": ["no_such_module"], "module_builder": builder,
                    },
                }))
                .unwrap();
                serde_json::to_value([manifest])
            }
            _ => {
                let mut status = status();
                if !configured {
                    status.contexts.clear();
                }
                serde_json::to_value(status)
            }
        };
        Response::Done(answer.unwrap())
    })
}

/// What was found of each thing, by its name.
struct Findings(Vec<Value>);

impl Findings {
    fn of(ran: &Ran) -> Self {
        assert_eq!(ran.errors, "");
        Self(serde_json::from_str(&ran.output).unwrap())
    }

    /// Its state and the remark.
    fn find(&self, what: &str) -> (&str, &str) {
        let found = self.0.iter().find(|finding| finding["what"] == what);
        let found = found.unwrap_or_else(|| panic!("{what} is not in {:#?}", self.0));
        (
            found["state"].as_str().unwrap(),
            found["remark"].as_str().unwrap(),
        )
    }
}

#[test]
fn what_is_missing_is_said_and_fails() {
    let directory = tempfile::tempdir().unwrap();
    let system = engine(directory.path(), "system.sock", "26.1.5");
    let old = engine(directory.path(), "old.sock", "19.03.15");
    let absent = directory.path().join("user.sock");
    let core = core(true, None);
    let run = |user: &str, more: &[&str]| {
        let arguments = ["doctor", "--system-docker", &system, "--user-docker", user];
        core.laz(&[&arguments, more].concat())
    };
    let ran = run(absent.to_str().unwrap(), &["--json"]);
    assert_eq!(ran.status, 1);
    let findings = Findings::of(&ran);
    assert_eq!(findings.find("core").0, "ok");
    assert_eq!(findings.find("system Docker"), ("ok", "version 26.1.5"));
    let (state, remark) = findings.find("user Docker");
    assert_eq!(state, "missing");
    assert!(remark.contains("--user-docker") && remark.contains("docker.io"));
    assert_ne!(findings.find("control groups").0, "unknown");

    let findings = Findings::of(&run(&old, &["--json"]));
    let (state, remark) = findings.find("user Docker");
    assert_eq!(state, "missing");
    assert!(
        remark.contains("version 19.03.15; 20.10 or newer"),
        "{remark}"
    );

    let ran = run(&old, &[]);
    assert!(
        ran.output.contains("LOOKED AT") && ran.output.contains("needed are missing"),
        "{}",
        ran.output
    );
}

#[test]
fn a_module_is_needed_once_a_context_wants_it_and_nothing_builds_it() {
    for (configured, builder, expected, says) in [
        (true, None, "missing", "linux-image-"),
        (false, None, "optional", "linux-image-"),
        (
            true,
            Some("registry/builder:1"),
            "optional",
            "registry/builder:1",
        ),
    ] {
        let ran = core(configured, builder).laz(&["doctor", "--json"]);
        let findings = Findings::of(&ran);
        let (state, remark) = findings.find("module no_such_module");
        assert_eq!(state, expected, "{configured} {builder:?}");
        assert!(
            remark.contains("storage of kind nfs") && remark.contains(says),
            "{remark}"
        );
    }
}

#[test]
fn a_context_that_no_image_serves_is_told() {
    let core = StandIn::answering(|request| {
        Response::Done(match request {
            Request::Kinds => json!([]),
            _ => {
                let mut status = status();
                status.contexts[0].kind = Kind::new("tape").unwrap();
                serde_json::to_value(status).unwrap()
            }
        })
    });
    let ran = core.laz(&["doctor", "--json"]);
    assert_eq!(ran.status, 1);
    let findings = Findings::of(&ran);
    let (state, remark) = findings.find("kind tape");
    assert_eq!(state, "missing");
    assert!(remark.contains("laz plugin install"), "{remark}");
}

#[test]
fn without_core_it_says_what_could_not_be_asked() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("core.sock");
    let arguments = ["--socket", socket.to_str().unwrap(), "doctor", "--json"];
    let ran = laz(&arguments, None, None);
    assert_eq!(ran.status, 1);
    let findings = Findings::of(&ran);
    assert_eq!(findings.find("core").0, "missing");
    let (state, remark) = findings.find("kinds of storage");
    assert_eq!(state, "unknown");
    assert!(remark.contains("core could not be asked"), "{remark}");
}
