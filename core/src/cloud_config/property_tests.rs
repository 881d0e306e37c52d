//! What holds for any input.

use proptest::prelude::*;

use super::load_tests::kinds;
use super::node::{Data, Node, Origin, Path};
use super::{Source, from_kernel_command_line, load, merge};
use serde_json::{Value, json};

fn node(value: &Value) -> Node {
    let data = match value {
        Value::Object(map) => Data::Map(map.iter().map(|(k, v)| (k.clone(), node(v))).collect()),
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
