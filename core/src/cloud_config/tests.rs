//! What users write, good and bad, and what they are told.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::manifest::Privileges;
use crate::name::{ContextName, VolumeName};

/// A kind with the shapes that plugins' schemas have: plain fields, enums, references, lists.
pub(super) fn kinds() -> BTreeMap<Kind, Manifest> {
    let manifest = |kind: &str, context: Value, volume: Value| Manifest {
        kind: Kind::new(kind).unwrap(),
        version: "1".into(),
        context_schema: context,
        volume_schema: volume,
        capabilities: std::collections::BTreeSet::new(),
        privileges: Privileges::default(),
        url: None,
    };
    let nfs = manifest(
        "nfs",
        json!({
            "type": "object",
            "properties": {
                "server": { "$ref": "#/$defs/OptionText", "description": "The server's name." },
                "exports": { "type": "array", "items": { "$ref": "#/$defs/OptionText" } },
                "vers": { "anyOf": [{ "$ref": "#/$defs/Version" }, { "type": "null" }] },
                "timeo": { "type": ["integer", "null"], "minimum": 1, "format": "uint32" },
                "hard": { "type": "boolean" },
                "root": { "type": "string", "pattern": "^/[^,]*$" },
            },
            "additionalProperties": false,
            "required": ["server"],
            "$defs": {
                "OptionText": { "type": "string", "pattern": "^[^,\\x00-\\x1f\\x7f-]([^,\\x00-\\x1f\\x7f]*)$" },
                "Version": { "oneOf": [
                    { "const": "3", "description": "three" }, { "const": "4.1" }, { "const": "4.2" },
                ] },
            },
        }),
        json!({
            "type": "object",
            "properties": {
                "export": { "type": "string" },
                "mode": { "type": "string" },
                "rsize": { "type": ["integer", "null"] },
                "soft": { "type": "boolean" },
                "tags": { "type": "array", "items": { "type": "string" } },
                "vers": { "anyOf": [{ "type": "string", "enum": ["3", "4.2"] }, { "type": "null" }] },
            },
            "additionalProperties": false,
        }),
    );
    let hello = manifest(
        "hello",
        json!({ "type": "object" }),
        json!({ "type": "object" }),
    );
    [nfs, hello]
        .into_iter()
        .map(|m| (m.kind.clone(), m))
        .collect()
}

fn one(text: &str) -> Loaded {
    load(&[Source::new("cloud-config.yml", text)], &kinds())
}

const NAS: &str =
    "lazarette:\n  storage:\n    contexts:\n      nas: {kind: nfs, server: nas.test}\n";

#[test]
fn a_whole_document_is_read() {
    let text = "\
#cloud-config
hostname: shed
modules: [nfs]
network:
  interfaces:
    eth0: {addresses: [192.0.2.7/24], gateway: 192.0.2.1, mtu: 1500}
  nameservers: [192.0.2.1, '2001:db8::1']
  hosts: {nas.test: 10.201.0.2}
lazarette:
  docker: {args: [--debug], wait_seconds: 30}
  storage:
    contexts:
      nas: {kind: nfs, server: nas.test, exports: [/srv/media], vers: '4.2'}
    volumes:
      db: {context: nas, export: /srv/db, mount: /mnt/db, required: true, read_only: true}
runcmd:
- [/bin/true, '-x']
";
    let Loaded { config, problems } = one(text);
    assert_eq!(problems, []);
    assert_eq!(config.hostname.as_deref(), Some("shed"));
    assert_eq!(config.network.interfaces["eth0"].mtu, Some(1500));
    assert_eq!(config.network.hosts["nas.test"].to_string(), "10.201.0.2");
    assert_eq!(config.lazarette.docker.wait_seconds, Some(30));
    let nas = &config.lazarette.storage.contexts[&ContextName::new("nas").unwrap()];
    assert_eq!(nas.options["vers"], json!("4.2"));
    assert!(!nas.options.contains_key("kind"));
    let db = &config.lazarette.storage.volumes[&VolumeName::new("db").unwrap()];
    assert!(db.required && db.read_only);
    assert_eq!(
        db.options,
        *json!({"export": "/srv/db"}).as_object().unwrap()
    );
    assert_eq!(config.runcmd, [["/bin/true", "-x"]]);
}

#[test]
fn nothing_at_all_is_a_valid_configuration() {
    for text in [
        "",
        "#cloud-config\n",
        "---\n",
        "{}",
        "lazarette:\n  storage:\n    volumes:\n",
    ] {
        assert_eq!(one(text).problems, [], "{text:?}");
        assert_eq!(one(text).config, CloudConfig::default(), "{text:?}");
    }
}

/// Each bad input of a kind, with the line, the path and the words that must be told.
const BAD: &[(&str, &str, u64, &str, &[&str])] = &[
    (
        "unknown field of a context",
        "lazarette:\n  storage:\n    contexts:\n      nas:\n        kind: nfs\n        server: a\n        servr: b\n",
        7,
        "lazarette.storage.contexts.nas.servr",
        &["unknown field `servr`", "did you mean `server`?"],
    ),
    (
        "unknown field of a volume, near one of ours",
        "lazarette:\n  storage:\n    contexts: {nas: {kind: nfs, server: a}}\n    volumes:\n      db:\n        context: nas\n        requird: true\n",
        7,
        "lazarette.storage.volumes.db.requird",
        &["did you mean `required`?"],
    ),
    (
        "unknown field of a volume, near one of the kind's",
        "lazarette:\n  storage:\n    contexts: {nas: {kind: nfs, server: a}}\n    volumes:\n      db: {context: nas,\n        exprt: /x}\n",
        6,
        "lazarette.storage.volumes.db.exprt",
        &["did you mean `export`?"],
    ),
    (
        "unknown field at the top",
        "hostname: a\nlazarete: {}\n",
        2,
        "lazarete",
        &["unknown field `lazarete`", "did you mean `lazarette`?"],
    ),
    (
        "unknown field without a neighbour",
        "network:\n  zzzzzz: 1\n",
        2,
        "network.zzzzzz",
        &[
            "unknown field",
            "known here: `hosts`, `interfaces`, `nameservers`, `search`",
        ],
    ),
    (
        "wrong type: a number for text",
        "\nhostname: 5\n",
        2,
        "hostname",
        &[
            "expected text, found the number 5",
            "put it in quotes: \"5\"",
        ],
    ),
    (
        "wrong type: text for true or false",
        "lazarette:\n  storage:\n    contexts:\n      nas:\n        kind: nfs\n        server: a\n        hard: nope\n",
        7,
        "lazarette.storage.contexts.nas.hard",
        &["expected true or false, found the text \"nope\""],
    ),
    (
        "wrong type: text for a whole number that may be null",
        "lazarette:\n  storage:\n    contexts:\n      nas:\n        kind: nfs\n        server: a\n        timeo: soon\n",
        7,
        "lazarette.storage.contexts.nas.timeo",
        &["expected a whole number, found the text \"soon\""],
    ),
    (
        "wrong type: text for a list",
        "lazarette:\n  storage:\n    contexts:\n      nas:\n        kind: nfs\n        server: a\n        exports: /srv\n",
        7,
        "lazarette.storage.contexts.nas.exports",
        &["expected a list, found the text \"/srv\"", "write [/srv]"],
    ),
    (
        "wrong type: a list for a map",
        "lazarette:\n  storage:\n    contexts:\n    - nas\n",
        3,
        "lazarette.storage.contexts",
        &["expected a map, found a list"],
    ),
    (
        "wrong value: a version as a number",
        "lazarette:\n  storage:\n    contexts:\n      nas:\n        kind: nfs\n        server: a\n        vers: 4.2\n",
        7,
        "lazarette.storage.contexts.nas.vers",
        &["`4.2`", "found the number 4.2", "put it in quotes"],
    ),
    (
        "wrong value: not one of the versions",
        "lazarette:\n  storage:\n    contexts:\n      nas:\n        kind: nfs\n        server: a\n        vers: '4.3'\n",
        7,
        "lazarette.storage.contexts.nas.vers",
        &["expected one of `3`, `4.1`, `4.2`, found the text \"4.3\""],
    ),
    (
        "wrong value: too small",
        "lazarette:\n  storage:\n    contexts:\n      nas:\n        kind: nfs\n        server: a\n        timeo: 0\n",
        7,
        "lazarette.storage.contexts.nas.timeo",
        &["must be 1 or more, found the number 0"],
    ),
    (
        "missing field",
        "lazarette:\n  storage:\n    contexts:\n      nas:\n        kind: nfs\n",
        4,
        "lazarette.storage.contexts.nas",
        &["`server` is missing", "The server's name"],
    ),
    (
        "missing kind",
        "lazarette:\n  storage:\n    contexts:\n      nas: {server: a}\n",
        4,
        "lazarette.storage.contexts.nas",
        &["`kind` is missing"],
    ),
    (
        "an empty context",
        "lazarette:\n  storage:\n    contexts:\n      nas:\n",
        4,
        "lazarette.storage.contexts.nas",
        &["expected a map, found nothing"],
    ),
    (
        "unknown kind",
        "lazarette:\n  storage:\n    contexts:\n      nas:\n        kind: nsf\n        server: a\n",
        5,
        "lazarette.storage.contexts.nas.kind",
        &[
            "unknown kind `nsf`",
            "did you mean `nfs`?",
            "known here: `hello`, `nfs`",
        ],
    ),
    (
        "unknown kind without a neighbour",
        "lazarette:\n  storage:\n    contexts:\n      nas: {kind: ceph-rbd}\n",
        4,
        "lazarette.storage.contexts.nas.kind",
        &["unknown kind `ceph-rbd`; known here: `hello`, `nfs`"],
    ),
    (
        "duplicate name",
        "lazarette:\n  storage:\n    contexts:\n      nas: {kind: nfs, server: a}\n      nas: {kind: nfs, server: b}\n",
        5,
        "lazarette.storage.contexts.nas",
        &["`nas` is given twice (first on line 4)"],
    ),
    (
        "volume of a context that is not there",
        "lazarette:\n  storage:\n    contexts: {nas: {kind: nfs, server: a}}\n    volumes:\n      db:\n        context: nsa\n",
        6,
        "lazarette.storage.volumes.db.context",
        &["unknown context `nsa`", "did you mean `nas`?"],
    ),
    (
        "context name with a slash",
        "lazarette:\n  storage:\n    contexts:\n      a/b: {kind: nfs, server: a}\n",
        4,
        "lazarette.storage.contexts.\"a/b\"",
        &[
            "context name \"a/b\": must not contain '/'",
            "lower-case letters",
        ],
    ),
    (
        "context name with two dots",
        "lazarette:\n  storage:\n    contexts:\n      ..: {kind: nfs, server: a}\n",
        4,
        "lazarette.storage.contexts.\"..\"",
        &["must not begin with '.'"],
    ),
    (
        "context name with a comma",
        "lazarette:\n  storage:\n    contexts:\n      'a,b': {kind: nfs, server: a}\n",
        4,
        "lazarette.storage.contexts.\"a,b\"",
        &["must not contain ','"],
    ),
    (
        "volume name with a newline",
        "lazarette:\n  storage:\n    contexts: {nas: {kind: nfs, server: a}}\n    volumes:\n      \"a\\nb\": {context: nas}\n",
        5,
        "lazarette.storage.volumes.\"a\\nb\"",
        &["volume name \"a\\nb\": must not contain '\\n'"],
    ),
    (
        "volume name with a leading dash",
        "lazarette:\n  storage:\n    contexts: {nas: {kind: nfs, server: a}}\n    volumes:\n      -v: {context: nas}\n",
        5,
        "lazarette.storage.volumes.-v",
        &["must not begin with '-'"],
    ),
    (
        "option text with a comma",
        "lazarette:\n  storage:\n    contexts:\n      nas:\n        kind: nfs\n        server: a,soft\n",
        6,
        "lazarette.storage.contexts.nas.server",
        &["option text \"a,soft\": must not contain ','"],
    ),
    (
        "option text in a list with a leading dash",
        "lazarette:\n  storage:\n    contexts:\n      nas:\n        kind: nfs\n        server: a\n        exports:\n        - /a\n        - -o\n",
        9,
        "lazarette.storage.contexts.nas.exports[1]",
        &["must not begin with '-'"],
    ),
    (
        "a text that lacks what its pattern wants at the beginning",
        "lazarette:\n  storage:\n    contexts:\n      nas: {kind: nfs, server: a, root: srv}\n",
        4,
        "lazarette.storage.contexts.nas.root",
        &["\"srv\" must begin with '/'"],
    ),
    (
        "a text with something that its pattern does not want",
        "lazarette:\n  storage:\n    contexts:\n      nas: {kind: nfs, server: a, root: '/a,b'}\n",
        4,
        "lazarette.storage.contexts.nas.root",
        &["\"/a,b\" must not contain ','"],
    ),
    (
        "mount path outside /mnt",
        "lazarette:\n  storage:\n    contexts: {nas: {kind: nfs, server: a}}\n    volumes:\n      db:\n        context: nas\n        mount: /etc\n",
        7,
        "lazarette.storage.volumes.db.mount",
        &["must lie below /mnt"],
    ),
    (
        "mount path that climbs",
        "lazarette:\n  storage:\n    contexts: {nas: {kind: nfs, server: a}}\n    volumes:\n      db:\n        context: nas\n        mount: /mnt/../etc\n",
        7,
        "lazarette.storage.volumes.db.mount",
        &["must not contain '.' or '..'"],
    ),
    (
        "mount path over a context's own",
        "lazarette:\n  storage:\n    contexts: {nas: {kind: nfs, server: a}}\n    volumes:\n      db:\n        context: nas\n        mount: /mnt/nas\n",
        7,
        "lazarette.storage.volumes.db.mount",
        &["where the volumes of context `nas` are mounted"],
    ),
    (
        "mount path twice",
        "lazarette:\n  storage:\n    contexts: {nas: {kind: nfs, server: a}}\n    volumes:\n      a: {context: nas, mount: /mnt/x}\n      b: {context: nas, mount: /mnt/x}\n",
        6,
        "lazarette.storage.volumes.b.mount",
        &["where volume `a` is mounted already"],
    ),
    (
        "mount path inside another volume",
        "lazarette:\n  storage:\n    contexts: {nas: {kind: nfs, server: a}}\n    volumes:\n      a: {context: nas}\n      b: {context: nas, mount: /mnt/nas/a/x}\n",
        6,
        "lazarette.storage.volumes.b.mount",
        &["lies inside volume `a`"],
    ),
    (
        "an address without a prefix length",
        "network:\n  interfaces:\n    eth0:\n      addresses: [192.0.2.7]\n",
        4,
        "network.interfaces.eth0.addresses[0]",
        &["write one such as 192.0.2.7/24"],
    ),
    (
        "no address",
        "network:\n  interfaces:\n    eth0:\n      gateway: 192.0.2.300\n",
        4,
        "network.interfaces.eth0.gateway",
        &["expected an IP address, found the text \"192.0.2.300\""],
    ),
    (
        "an mtu out of range",
        "network:\n  interfaces:\n    eth0:\n      mtu: 9\n",
        4,
        "network.interfaces.eth0.mtu",
        &["between 68 and 65535"],
    ),
    (
        "an interface name that is too long",
        "network:\n  interfaces:\n    a-very-long-interface: {dhcp: true}\n",
        3,
        "network.interfaces.a-very-long-interface",
        &["1 to 15 characters"],
    ),
    (
        "no host name",
        "hostname: a b\n",
        1,
        "hostname",
        &["is not a host name"],
    ),
    (
        "an empty command",
        "runcmd:\n- [a]\n- []\n",
        3,
        "runcmd[1]",
        &["must not be empty"],
    ),
    (
        "a tag",
        "modules:\n- !foo bar\n",
        2,
        "modules[0]",
        &["a value with a tag cannot be used here"],
    ),
    (
        "a number that is not finite",
        "lazarette:\n  docker:\n    wait_seconds: .inf\n",
        3,
        "lazarette.docker.wait_seconds",
        &["not finite"],
    ),
    (
        "bad syntax",
        "a: 1\nb: [1, 2\nc: }\n",
        3,
        "",
        &["is not YAML"],
    ),
    (
        "a list at the top",
        "- a\n",
        1,
        "",
        &["must be a map of fields, found a list"],
    ),
    (
        "a second document",
        "hostname: a\n---\nhostname: b\n",
        2,
        "",
        &["a second document begins here"],
    ),
];

#[test]
fn bad_input_is_told_with_line_path_and_remedy() {
    for (what, text, line, path, words) in BAD {
        let problems = one(text).problems;
        let found = problems
            .iter()
            .find(|p| p.path == *path && words.iter().all(|word| p.message.contains(word)));
        let Some(found) = found else {
            panic!("{what}: wanted {path} {words:?}, got {problems:#?}");
        };
        assert_eq!(found.line, Some(*line), "{what}: {found}");
        assert_eq!(found.source, "cloud-config.yml", "{what}");
        assert_eq!(
            problems.len(),
            1,
            "{what}: one mistake, one problem: {problems:#?}"
        );
    }
}

#[test]
fn what_is_bad_goes_alone() {
    for (what, text, _, path, _) in BAD {
        if path.is_empty() || text.contains("services") {
            continue;
        }
        // A second, good source beside the bad one must come through whole.
        let good = "services: {x: {}}\nlazarette:\n  console: default\n  storage:\n    contexts:\n      other: {kind: nfs, server: b}\n    volumes:\n      fine: {context: other, mount: /mnt/fine}\n";
        let sources = [Source::new("good", good), Source::new("bad", *text)];
        let loaded = load(&sources, &kinds());
        assert!(!loaded.problems.is_empty(), "{what}");
        assert!(
            loaded.problems.iter().all(|p| p.source == "bad"),
            "{what}: {:?}",
            loaded.problems
        );
        let storage = &loaded.config.lazarette.storage;
        assert!(storage.contexts.contains_key("other"), "{what}");
        assert!(storage.volumes.contains_key("fine"), "{what}");
        assert_eq!(
            loaded.config.lazarette.console.as_deref(),
            Some("default"),
            "{what}"
        );
        // What is left has no fault of its own.
        let text = serde_json::to_string(&loaded.config).unwrap();
        assert_eq!(one(&text).problems, [], "{what}");
    }
}

#[test]
fn a_bad_context_takes_its_volumes_along_and_says_so() {
    let text = "\
lazarette:
  storage:
    contexts:
      nas: {kind: nfs, servr: a}
      ok: {kind: nfs, server: a}
    volumes:
      db: {context: nas}
      fine: {context: ok}
";
    let Loaded { config, problems } = one(text);
    let names: Vec<_> = config
        .lazarette
        .storage
        .volumes
        .keys()
        .map(VolumeName::as_str)
        .collect();
    assert_eq!(names, ["fine"]);
    let told = problems
        .iter()
        .find(|p| p.path == "lazarette.storage.volumes.db")
        .unwrap();
    assert_eq!(told.line, Some(7));
    assert!(
        told.message.contains("its context `nas` cannot be used"),
        "{told}"
    );
    assert_eq!(
        problems.len(),
        3,
        "unknown field, missing field, lost volume: {problems:#?}"
    );
}

#[test]
fn without_kinds_only_the_structure_is_checked() {
    let text = "lazarette:\n  storage:\n    contexts:\n      nas: {kind: what, servr: 1}\n      B: {kind: x}\n";
    let loaded = load(&[Source::new("x", text)], &BTreeMap::new());
    assert_eq!(loaded.problems.len(), 1, "{:?}", loaded.problems);
    assert_eq!(loaded.config.lazarette.storage.contexts.len(), 1);
}

#[test]
fn problems_point_at_the_source_that_has_them() {
    let sources = [
        Source::new("defaults.yml", "hostname: a\nmodules: [x]\n"),
        Source::new("10-nas.yml", NAS),
        Source::new(
            "20.yml",
            "\nlazarette:\n  storage:\n    contexts:\n      nas:\n        timeo: x\n",
        ),
    ];
    let problems = load(&sources, &kinds()).problems;
    assert_eq!(problems.len(), 1);
    assert_eq!(
        problems[0].to_string(),
        "20.yml:6: lazarette.storage.contexts.nas.timeo: expected a whole number, found the text \"x\""
    );
}

#[test]
fn later_sources_win_and_null_takes_back() {
    let sources = [
        Source::new(
            "a",
            "hostname: a\nmodules: [x, y]\nnetwork: {search: [s]}\nservices: {a: {b: 1, c: 2}}\n",
        ),
        Source::new(
            "b",
            "hostname: b\nmodules: [z]\nnetwork: {search: null}\nservices: {a: {c: 3}}\n",
        ),
    ];
    let Loaded { config, problems } = load(&sources, &kinds());
    assert_eq!(problems, []);
    assert_eq!(config.hostname.as_deref(), Some("b"));
    assert_eq!(config.modules, ["z"]);
    assert!(config.network.search.is_empty());
    assert_eq!(config.services["a"], json!({"b": 1, "c": 3}));
}

#[test]
fn a_later_source_cannot_blot_out_a_section_by_mistake() {
    let sources = [
        Source::new("a", NAS),
        Source::new("b", "lazarette:\n  storage: 5\n"),
    ];
    let Loaded { config, problems } = load(&sources, &kinds());
    assert_eq!(config.lazarette.storage.contexts.len(), 1);
    assert_eq!(problems.len(), 1);
    assert_eq!(
        (problems[0].source.as_str(), problems[0].line),
        ("b", Some(2))
    );
}

#[test]
fn a_source_that_is_no_yaml_goes_alone() {
    let sources = [
        Source::new("a", NAS),
        Source::new("b", "{{{"),
        Source::new("c", "hostname: c\n"),
    ];
    let Loaded { config, problems } = load(&sources, &kinds());
    assert_eq!(config.hostname.as_deref(), Some("c"));
    assert_eq!(config.lazarette.storage.contexts.len(), 1);
    assert_eq!(problems.len(), 1);
}

#[test]
fn merge_keys_are_applied_with_their_own_lines() {
    let text = "\
services:
  base: &base
    kind: nfs
    server: a
    timeo: x
lazarette:
  storage:
    contexts:
      one: {<<: *base, timeo: 5}
      two:
        <<: [{server: b, timeo: 7}, *base]
      three:
        <<: *base
";
    let Loaded { config, problems } = one(text);
    let contexts = &config.lazarette.storage.contexts;
    assert_eq!(
        contexts["one"].options,
        *json!({"server": "a", "timeo": 5}).as_object().unwrap()
    );
    assert_eq!(
        contexts["two"].options,
        *json!({"server": "b", "timeo": 7}).as_object().unwrap()
    );
    assert_eq!(contexts.len(), 2);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(problems[0].path, "lazarette.storage.contexts.three.timeo");
    assert_eq!(problems[0].line, Some(5), "the line of the merged field");
}

#[test]
fn oversize_deep_and_unfolding_texts_are_refused_at_once() {
    let started = std::time::Instant::now();
    let large = format!("hostname: a\n#{}", "x".repeat(LARGEST_SOURCE));
    assert!(one(&large).problems[0].message.contains("1 MiB at most"));

    let deep = format!("services: {}1{}", "[".repeat(40), "]".repeat(40));
    assert!(
        one(&deep).problems[0].message.contains("32 levels"),
        "{:?}",
        one(&deep).problems
    );
    let deeper = "[".repeat(LARGEST_SOURCE);
    assert_eq!(one(&deeper).problems.len(), 1);
    let block: String = (0..200)
        .map(|depth| format!("{}a:\n", " ".repeat(depth)))
        .collect();
    assert!(one(&block).problems[0].message.contains("32 levels"));

    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let before = format!("*a{}", level - 1);
        bomb.push_str(&format!(
            "a{level}: &a{level} [{}]\n",
            [before.as_str(); 10].join(", ")
        ));
    }
    let problems = one(&bomb).problems;
    assert!(
        problems[0].message.contains("unfolds to more than"),
        "{problems:?}"
    );
    assert!(
        one("services: &a {x: *a}\n").problems[0]
            .message
            .contains("repeats what it is part of")
    );
    assert!(started.elapsed() < std::time::Duration::from_secs(10));
}

#[test]
fn keys_stay_as_written() {
    let Loaded { config, problems } = one("services: {on: 1, 0x10: 2, 1.0: 3, 'yes': 4}\n");
    assert_eq!(problems, []);
    let names: Vec<_> = config.services.keys().map(String::as_str).collect();
    assert_eq!(names, ["0x10", "1.0", "on", "yes"]);
}

#[test]
fn the_kernel_command_line_is_a_source() {
    let line = "quiet root=/dev/vda lazarette.debug lazarette.hostname=shed \
        lazarette.storage.contexts.nas.kind=nfs lazarette.storage.contexts.nas.server=nas.test \
        lazarette.storage.contexts.nas.vers=\"4.2\" lazarette.modules=[a,b] \
        lazarette.network.hosts.\"nas.test\"=10.0.0.2 lazarette.docker.wait_seconds=30";
    let (source, problems) = from_kernel_command_line(line);
    assert_eq!(problems, []);
    let Loaded { config, problems } = load(&[source.unwrap()], &kinds());
    assert_eq!(problems, []);
    assert_eq!(config.hostname.as_deref(), Some("shed"));
    assert_eq!(config.modules, ["a", "b"]);
    assert_eq!(config.network.hosts["nas.test"].to_string(), "10.0.0.2");
    assert_eq!(config.lazarette.docker.wait_seconds, Some(30));
    assert_eq!(
        config.lazarette.storage.contexts["nas"].options["vers"],
        json!("4.2")
    );

    let (source, problems) = from_kernel_command_line("quiet lazarette.debug=1 ro");
    assert_eq!((source, problems.len()), (None, 0));
    let (source, problems) =
        from_kernel_command_line("lazarette.a=1 lazarette.a.b=2 lazarette..x=3 lazarette.y={");
    assert!(source.is_some());
    let paths: Vec<_> = problems.iter().map(|p| p.path.as_str()).collect();
    assert_eq!(paths, ["lazarette.a.b", "lazarette..x", "lazarette.y"]);
}

#[test]
fn the_printed_schema_accepts_what_load_accepts_and_knows_the_kinds() {
    let schema = schema(&kinds());
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    let good = json!({"lazarette": {"storage": {
        "contexts": {"nas": {"kind": "nfs", "server": "a", "vers": "4.2"}, "h": {"kind": "hello", "x": 1}},
        "volumes": {"db": {"context": "nas", "export": "/x", "mount": "/mnt/db"}},
    }}});
    assert!(validator.is_valid(&good), "{:?}", validator.validate(&good));
    for bad in [
        json!({"lazarette": {"storage": {"contexts": {"nas": {"kind": "nfs", "servr": "a"}}}}}),
        json!({"lazarette": {"storage": {"contexts": {"nas": {"kind": "zfs"}}}}}),
        json!({"lazarette": {"storage": {"contexts": {"nas": {"kind": "nfs", "server": 5}}}}}),
        json!({"x": 1}),
    ] {
        assert!(!validator.is_valid(&bad), "{bad}");
    }
}

#[test]
fn options_given_as_text_become_what_the_schema_takes() {
    let kinds = kinds();
    let schema = &kinds["nfs"].volume_schema;
    let options = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(k, v)| ((*k).into(), (*v).into()))
            .collect()
    };
    let given = options(&[
        ("export", "/1"),
        ("mode", "0755"),
        ("rsize", "1048576"),
        ("soft", ""),
        ("tags", "a, b"),
        ("vers", "4.2"),
    ]);
    assert_eq!(
        typed_options(&given, schema).unwrap(),
        json!({"export": "/1", "mode": "0755", "rsize": 1048576, "soft": true, "tags": ["a", "b"], "vers": "4.2"})
    );
    let error = typed_options(
        &options(&[("exprt", "/1"), ("rsize", "big"), ("vers", "9")]),
        schema,
    )
    .unwrap_err()
    .to_string();
    for word in [
        "unknown option `exprt`; did you mean `export`?",
        "`rsize`: expected a whole number",
        "`vers`: expected one of",
    ] {
        assert!(error.contains(word), "{error}");
    }
    let names: Vec<_> = option_names(schema).into_iter().collect();
    assert_eq!(names, ["export", "mode", "rsize", "soft", "tags", "vers"]);
}

#[test]
fn a_directory_is_read_in_the_order_of_names() {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("20-b.yml", "hostname: b\n"),
        ("10-a.yaml", "hostname: a\n"),
        ("x.txt", "{{{"),
    ] {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    std::fs::write(dir.path().join("30.yml"), [0xff, 0xfe]).unwrap();
    let (sources, problems) = read_directory(dir.path());
    assert_eq!(
        load(&sources, &kinds()).config.hostname.as_deref(),
        Some("b")
    );
    assert_eq!(sources.len(), 2);
    assert_eq!(problems.len(), 1);
    assert!(problems[0].source.ends_with("30.yml"), "{}", problems[0]);
    assert_eq!(read_directory(&dir.path().join("none")), (vec![], vec![]));
}

mod properties {
    use proptest::prelude::*;

    use super::super::node::{Data, Node, Origin, Path};
    use super::super::{Source, from_kernel_command_line, load, merge};
    use super::kinds;
    use serde_json::{Value, json};

    fn node(value: &Value) -> Node {
        let data = match value {
            Value::Object(map) => {
                Data::Map(map.iter().map(|(k, v)| (k.clone(), node(v))).collect())
            }
            Value::Array(items) => Data::List(items.iter().map(node).collect()),
            scalar => Data::Scalar(scalar.clone()),
        };
        let origin = Origin {
            source: 0,
            line: None,
        };
        Node { origin, data }
    }

    fn merged(base: &Value, later: &Value) -> Value {
        let mut findings = Vec::new();
        merge::merge(node(base), node(later), &Path::default(), &mut findings).to_json()
    }

    /// Documents in which a name means the same shape wherever it stands, as in a real one:
    /// `m…` are maps, `l…` lists, `s…` scalars.
    fn document() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            ("s[ab]", any::<u8>().prop_map(|n| json!(n))),
            (
                "l[ab]",
                proptest::collection::vec(0..9_u8, 0..3).prop_map(|l| json!(l))
            ),
        ];
        let level = |inner: BoxedStrategy<(String, Value)>| {
            proptest::collection::vec(inner, 0..4)
                .prop_map(|entries| Value::Object(entries.into_iter().collect()))
        };
        let first = level(leaf.clone().boxed());
        let second = level(prop_oneof![leaf.clone(), ("m[ab]", first)].boxed());
        level(prop_oneof![leaf, ("m[ab]", second)].boxed())
    }

    /// Pieces of real and broken documents, so that the generated texts get past the first line.
    fn text() -> impl Strategy<Value = String> {
        let piece = proptest::sample::select(vec![
            "lazarette:\n",
            "  storage:\n",
            "    contexts:\n",
            "      nas:\n",
            "    volumes:\n",
            "network:\n",
            "        kind: nfs\n",
            "        server: a\n",
            "      db: {context: nas}\n",
            "{",
            "}",
            "[",
            "]",
            ": ",
            "- ",
            "&a ",
            "*a",
            "<<: *a\n",
            "? ",
            "| \n",
            "!!int ",
            "null\n",
            "\t",
            "---\n",
            "\"",
            "'",
            "#",
            "1e999",
            "hostname: ",
            "\u{feff}",
            "\0",
            "%YAML 1.2\n",
            "mount: /mnt/x\n",
            "  hosts: {a: 1.2.3.4}\n",
            "\n",
            "  ",
        ]);
        proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
    }

    /// Contexts, and whether they are good.
    const CONTEXTS: &[(&str, bool)] = &[
        ("{kind: nfs, server: a}", true),
        (
            "{kind: nfs, server: a, vers: '3', exports: [/a, /b], hard: true}",
            true,
        ),
        ("{kind: hello}", true),
        ("{kind: nfs}", false),
        ("{kind: nfs, server: [a]}", false),
        ("{kind: nfs, server: a, servr: b}", false),
        ("{kind: nfs, server: 'a,b'}", false),
        ("{kind: nowhere}", false),
        ("{server: a}", false),
        ("5", false),
        ("", false),
        ("[kind, nfs]", false),
        ("{kind: nfs, server: a, timeo: !x 5}", false),
    ];

    /// What volumes have beside their context, and whether it is good for every kind above.
    const VOLUMES: &[(&str, bool)] = &[
        ("", true),
        (", required: true, read_only: true", true),
        (", required: maybe", false),
        (", mount: /etc", false),
        (", mount: /mnt/c0", false),
        (", mount: [x]", false),
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn no_text_makes_load_panic(text in text()) {
            load(&[Source::new("x", text)], &kinds());
        }

        #[test]
        fn no_bytes_make_load_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            load(&[Source::new("x", String::from_utf8_lossy(&bytes))], &kinds());
        }

        #[test]
        fn what_load_leaves_has_no_problem_of_its_own(text in text()) {
            let config = load(&[Source::new("x", text)], &kinds()).config;
            let text = serde_json::to_string(&config).unwrap();
            let again = load(&[Source::new("y", text)], &kinds());
            prop_assert_eq!(again.problems, vec![]);
            prop_assert_eq!(again.config, config);
        }

        #[test]
        fn the_good_ones_among_bad_ones_are_kept_and_only_these(
            contexts in proptest::collection::vec(0..CONTEXTS.len(), 0..6),
            volumes in proptest::collection::vec((0..VOLUMES.len(), 0..6_usize), 0..6),
        ) {
            let mut text = String::from("lazarette:\n  storage:\n    contexts:\n");
            let mut good_contexts = Vec::new();
            for (index, which) in contexts.iter().enumerate() {
                let (body, good) = CONTEXTS[*which];
                text.push_str(&format!("      c{index}: {body}\n"));
                good_contexts.extend(good.then(|| format!("c{index}")));
            }
            text.push_str("    volumes:\n");
            let mut good_volumes = Vec::new();
            for (index, (which, context)) in volumes.iter().enumerate() {
                let (body, good) = VOLUMES[*which];
                let context = format!("c{context}");
                text.push_str(&format!("      v{index}: {{context: {context}{body}}}\n"));
                let good = good && good_contexts.contains(&context);
                good_volumes.extend(good.then(|| format!("v{index}")));
            }
            let loaded = load(&[Source::new("x", text.clone())], &kinds());
            let storage = loaded.config.lazarette.storage;
            let names: Vec<String> = storage.contexts.keys().map(ToString::to_string).collect();
            prop_assert_eq!(names, good_contexts, "{}", text);
            let names: Vec<String> = storage.volumes.keys().map(ToString::to_string).collect();
            prop_assert_eq!(names, good_volumes, "{}", text);
        }

        #[test]
        fn no_command_line_panics(line in "(lazarette\\.[a-z.\"=\\[\\]{},0-9 ]{0,30} ?){0,4}") {
            let (source, _) = from_kernel_command_line(&line);
            if let Some(source) = source {
                load(&[source], &kinds());
            }
        }

        #[test]
        fn it_does_not_matter_which_neighbours_are_merged_first(
            a in document(), b in document(), c in document(),
        ) {
            prop_assert_eq!(merged(&merged(&a, &b), &c), merged(&a, &merged(&b, &c)));
        }

        #[test]
        fn merging_twice_changes_nothing_and_the_last_leaf_wins(a in document(), b in document()) {
            let once = merged(&a, &b);
            prop_assert_eq!(merged(&once, &b), once.clone());
            for (key, value) in b.as_object().unwrap() {
                if !value.is_object() {
                    prop_assert_eq!(&once[key], value);
                }
            }
            for key in a.as_object().unwrap().keys() {
                prop_assert!(once.get(key).is_some());
            }
        }
    }
}

/// The examples that the documents show must be what they say they are.
#[test]
fn the_documents_examples_are_valid() {
    let root = FilePath::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut seen = 0;
    for file in [
        "README.md",
        "docs/configuration.md",
        "docs/nfs.md",
        "docs/boot.md",
    ] {
        // The documents of a kind come and go with it.
        let Ok(text) = std::fs::read_to_string(root.join(file)) else {
            continue;
        };
        for block in text.split("```yaml\n").skip(1) {
            let Some((example, _)) = block.split_once("```") else {
                continue;
            };
            if example.starts_with("#cloud-config") {
                seen += 1;
                let source = Source::new(file, example);
                assert_eq!(check(&source, &BTreeMap::new()), [], "{example}");
            }
        }
    }
    assert!(seen >= 2, "{seen}");
}

#[test]
fn a_candidate_may_refer_to_other_sources_and_is_not_blamed_for_them() {
    let volume = |context: &str| {
        let text =
            format!("lazarette:\n  storage:\n    volumes:\n      db: {{context: {context}}}\n");
        Source::new("candidate", text)
    };
    let bad = Source::new("bad", "hostnam: x\n");
    let nas = Source::new("defaults", NAS);
    let among =
        |candidate: Source| check_among(&[nas.clone(), bad.clone(), candidate], 2, &kinds());
    assert_eq!(among(volume("nas")), []);
    assert_eq!(among(volume("nsa")).len(), 1);
    assert_eq!(among(volume("nsa"))[0].source, "candidate");

    // It spoils what another source declares: that is its doing.
    let spoils = Source::new(
        "candidate",
        "lazarette:\n  storage:\n    contexts:\n      nas: {timeo: x}\n",
    );
    let others = Source::new("volumes", volume("nas").text);
    let problems = check_among(&[nas.clone(), others, spoils], 2, &kinds());
    let sources: Vec<_> = problems.iter().map(|p| p.source.as_str()).collect();
    assert_eq!(sources, ["volumes", "candidate"], "{problems:?}");
}

#[test]
fn of_two_mounts_in_each_others_way_the_first_one_stays() {
    let first = Source::new(
        "first",
        format!("{NAS}    volumes:\n      z: {{context: nas, mount: /mnt/x}}\n"),
    );
    let text = "lazarette:\n  storage:\n    volumes:\n      a: {context: nas, mount: /mnt/x/y}\n";
    let Loaded { config, problems } = load(&[first, Source::new("second", text)], &kinds());
    let names: Vec<_> = config
        .lazarette
        .storage
        .volumes
        .keys()
        .map(VolumeName::as_str)
        .collect();
    assert_eq!(names, ["z"]);
    assert_eq!((problems[0].source.as_str(), problems.len()), ("second", 1));
}
