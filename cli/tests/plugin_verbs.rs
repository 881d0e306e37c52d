//! `laz plugin` against a stand-in for core.

#![allow(clippy::unwrap_used)]

// Each suite uses a part of it.
#[allow(dead_code)]
mod support;

use std::io::Read;
use std::sync::{Arc, Mutex};

use lazarette_core::control::{PluginInstall, Request, Response};
use lazarette_core::{Error, ErrorKind, frame};
use serde_json::{Value, json};
use support::StandIn;

fn plugin(kind: &str, version: &str) -> Value {
    json!({
        "kind": kind,
        "version": version,
        "image": "sha256:0123456789abcdef",
        "contexts": ["attic"],
        "manifest": {
            "kind": kind, "version": version, "context_schema": {}, "volume_schema": {},
            "capabilities": [],
            "privileges": {"capabilities": ["SYS_ADMIN"], "host_network": true},
        },
    })
}

fn core() -> StandIn {
    StandIn::answering(|request| match request {
        Request::Plugins => Response::Done(json!({
            "plugins": [plugin("sshfs", "1.0.0")],
            "problems": ["image old:1 is not used: it has no label; rebuild it"],
        })),
        Request::PluginInstall(_) => Response::Done(plugin("sshfs", "1.1.0")),
        _ => Response::Failed(
            Error::new(ErrorKind::Busy, "plugin \"sshfs\"")
                .cause("it serves the context attic")
                .remedy("detach it first"),
        ),
    })
}

#[test]
fn plugins_are_listed_with_what_is_not_used() {
    let ran = core().laz(&["plugin", "ls"]);
    assert_eq!(ran.status, 0);
    let words: Vec<&str> = ran.output.split_whitespace().collect();
    let row = ["sshfs", "1.0.0", "0123456789ab", "nobody", "attic"];
    assert_eq!(words[6..], row, "{}", ran.output);
    assert!(ran.errors.contains("image old:1"), "{}", ran.errors);
    let ran = core().laz(&["plugin", "inspect", "sshfs"]);
    let shown: Value = serde_json::from_str(&ran.output).unwrap();
    assert_eq!(shown["image"], "sha256:0123456789abcdef");
    assert_eq!(core().laz(&["plugin", "inspect", "other"]).status, 4);
}

#[test]
fn an_image_is_named_and_its_rights_are_told() {
    let core = core();
    let ran = core.laz(&["plugin", "upgrade", "--force", "shop/sshfs:1.1"]);
    assert_ne!(ran.status, 0, "nobody can be asked here");
    assert!(ran.errors.contains("only what you agree to") && ran.errors.contains("--yes"));
    let ran = core.laz(&["plugin", "upgrade", "--yes", "--force", "shop/sshfs:1.1"]);
    assert_eq!(ran.status, 0, "{}", ran.errors);
    let first = ran.output.lines().next().unwrap();
    assert_eq!(
        first, "sshfs 1.1.0, not signed",
        "from a core that knows no signatures"
    );
    let rights = "its containers may use: SYS_ADMIN, the host's network";
    assert!(ran.output.contains(rights), "{}", ran.output);
    let wanted = PluginInstall {
        image: Some("shop/sshfs:1.1".into()),
        upgrade: true,
        force: true,
        ..PluginInstall::default()
    };
    assert_eq!(core.last_request(), Request::PluginInstall(wanted));
    let ran = core.laz(&[
        "plugin",
        "upgrade",
        "--yes",
        "--downgrade",
        "shop/sshfs:1.1",
    ]);
    assert_eq!(ran.status, 0, "{}", ran.errors);
    let wanted = PluginInstall {
        image: Some("shop/sshfs:1.1".into()),
        upgrade: true,
        downgrade: true,
        ..PluginInstall::default()
    };
    assert_eq!(core.last_request(), Request::PluginInstall(wanted));
    core.laz(&[
        "plugin",
        "install",
        "--yes",
        "--downgrade",
        "shop/sshfs:1.1",
    ]);
    let wanted = PluginInstall {
        image: Some("shop/sshfs:1.1".into()),
        downgrade: true,
        ..PluginInstall::default()
    };
    assert_eq!(core.last_request(), Request::PluginInstall(wanted));
    let ran = core.laz(&["plugin", "rm", "sshfs"]);
    assert_eq!(ran.status, 1);
    let line = "laz: plugin \"sshfs\": it serves the context attic; detach it first\n";
    assert_eq!(ran.errors, line);
}

#[test]
fn what_it_asks_for_is_agreed_to_before_it_is_installed() {
    let core = core();
    let socket = core.socket();
    let install = |answer: &str| {
        let line = [
            "--socket",
            socket.to_str().unwrap(),
            "plugin",
            "install",
            "shop/sshfs:1.1",
        ];
        support::laz(&line, None, Some(answer))
    };
    let look = PluginInstall {
        image: Some("shop/sshfs:1.1".into()),
        look: true,
        ..PluginInstall::default()
    };
    let ran = install("\n");
    assert_ne!(ran.status, 0);
    assert!(ran.output.contains("may use: SYS_ADMIN"), "{}", ran.output);
    assert!(ran.errors.contains("Install it?"), "{}", ran.errors);
    assert_eq!(
        *core.requests.lock().unwrap(),
        [Request::PluginInstall(look)]
    );
    let ran = install("y\n");
    assert_eq!(ran.status, 0, "{}", ran.errors);
    let wanted = PluginInstall {
        image: Some("shop/sshfs:1.1".into()),
        expected: Some("sha256:0123456789abcdef".into()),
        ..PluginInstall::default()
    };
    assert_eq!(core.last_request(), Request::PluginInstall(wanted));
    let ran = core.laz(&["plugin", "install", "-"]);
    assert!(ran.errors.contains("standard input"), "{}", ran.errors);
}

#[test]
fn what_serves_in_the_place_of_a_removed_plugin_is_told() {
    for (left, told) in [
        (Value::Null, ""),
        (
            plugin("nfs", "1.0.0"),
            "nfs 1.0.0, which is part of the OS, serves again\n",
        ),
    ] {
        let core = StandIn::answering(move |_| Response::Done(left.clone()));
        let ran = core.laz(&["plugin", "rm", "nfs"]);
        assert_eq!((ran.status, &*ran.output, &*ran.errors), (0, "nfs\n", told));
    }
}

#[test]
fn an_archive_follows_its_request() {
    let received = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&received);
    let core = StandIn::new(move |request, stream| {
        let Request::PluginInstall(PluginInstall { image: None, .. }) = request else {
            panic!("{request:?}");
        };
        loop {
            let mut header = [0; 4];
            stream.read_exact(&mut header).unwrap();
            let mut chunk = vec![0; u32::from_le_bytes(header).try_into().unwrap()];
            stream.read_exact(&mut chunk).unwrap();
            if chunk.is_empty() {
                break;
            }
            kept.lock().unwrap().extend(chunk);
        }
        frame::write(stream, &Response::Done(plugin("sshfs", "1.0.0"))).unwrap();
    });
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("image.tar");
    let content: Vec<u8> = (0..700_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    std::fs::write(&file, &content).unwrap();
    let ran = core.laz(&["plugin", "install", "--yes", file.to_str().unwrap()]);
    assert_eq!(ran.status, 0, "{}", ran.errors);
    assert!(*received.lock().unwrap() == content);
    let missing = directory.path().join("absent.tar");
    let ran = core.laz(&["plugin", "install", "--yes", missing.to_str().unwrap()]);
    assert_eq!(ran.status, 4, "{}", ran.errors);
}

const SIGNATURE: &str = "untrusted comment: x\nRU\ntrusted comment: y\nAA\n";

#[test]
fn a_signature_is_sent_that_was_named_or_lies_beside_the_archive() {
    let core = StandIn::answering(|_| {
        let mut signed = plugin("sshfs", "1.0.0");
        signed["signature"] = json!({"state": "verified", "key": "CA88188B2F6D5770"});
        Response::Done(signed)
    });
    let signature = || match core.last_request() {
        Request::PluginInstall(install) => install.signature,
        other => panic!("{other:?}"),
    };
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (file, named, missing) = (path("image.tar"), path("named"), path("missing"));
    std::fs::write(&named, SIGNATURE).unwrap();
    let image = [
        "plugin",
        "install",
        "--yes",
        "shop/sshfs:1.1",
        "--signature",
    ];
    let ran = core.laz(&[&image[..], &[&named]].concat());
    let told = ran.output.lines().next();
    assert_eq!(told, Some("sshfs 1.0.0, signed by CA88188B2F6D5770"));
    assert_eq!(signature().as_deref(), Some(SIGNATURE));
    let sent = core.requests.lock().unwrap().len();
    assert_eq!(core.laz(&[&image[..], &[&missing]].concat()).status, 4);
    std::fs::write(&missing, "x".repeat(5000)).unwrap();
    let ran = core.laz(&[&image[..], &[&missing]].concat());
    assert!(ran.errors.contains("too large"), "{}", ran.errors);
    assert_eq!(
        core.requests.lock().unwrap().len(),
        sent,
        "nothing was asked"
    );

    // The end of an archive: the stand-in reads no more than the request.
    std::fs::write(&file, "").unwrap();
    core.laz(&["plugin", "upgrade", "--yes", &file]);
    assert_eq!(signature(), None);
    std::fs::write(path("image.tar.statement.minisig"), SIGNATURE).unwrap();
    core.laz(&["plugin", "upgrade", "--yes", &file]);
    assert_eq!(signature().as_deref(), Some(SIGNATURE));
    core.laz(&["plugin", "upgrade", "--yes", "--signature", &named, &file]);
    assert_eq!(signature().as_deref(), Some(SIGNATURE));
}

#[test]
fn a_list_tells_whose_each_plugin_is_and_which_are_refused() {
    let core = StandIn::answering(|_| {
        let mut plugins = Vec::new();
        for (kind, signature) in [
            ("nfs", json!({"state": "built_in"})),
            ("a", json!({"state": "verified", "key": "01"})),
            ("b", json!({"state": "unchecked", "key": "02"})),
            ("c", json!({"state": "wrong"})),
            ("d", json!({"state": "of tomorrow", "by": 1})),
        ] {
            let mut plugin = plugin(kind, "1");
            plugin["signature"] = signature;
            plugins.push(plugin);
        }
        plugins[2]["refused"] = json!({"kind": "permission_denied", "message": "no"});
        Response::Done(json!({"plugins": plugins, "problems": []}))
    });
    let ran = core.laz(&["plugin", "ls"]);
    for (kind, signer) in [
        ("nfs", "(the OS)"),
        ("a", "01 "),
        ("b", "02 (not checked): refused"),
        ("c", "wrongly"),
        ("d", "?"),
    ] {
        let line = ran
            .output
            .lines()
            .find(|line| line.starts_with(&format!("{kind} ")));
        assert!(line.unwrap().contains(signer), "{}", ran.output);
    }
    let ran = core.laz(&["plugin", "inspect", "b"]);
    assert!(ran.output.contains("permission_denied"), "{}", ran.output);
}
