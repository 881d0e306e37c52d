//! What users write, good and bad, and what they are told.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::bad_input_tests::BAD;
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
        actions: Vec::new(),
        exclusive: None,
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

pub(super) fn one(text: &str) -> Loaded {
    load(&[Source::new("cloud-config.yml", text)], &kinds())
}

pub(super) const NAS: &str =
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
