//! What single sections come to: where volumes are mounted, the data root, which plugins may serve.

use super::load_tests::{NAS, kinds};
use super::*;
use crate::name::VolumeName;

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

#[test]
fn a_data_root_is_where_its_volume_is_mounted_and_a_wrong_one_is_nowhere() {
    let storage = "  storage:\n    contexts:\n      nas: {kind: nfs, server: x}\n    volumes:\n      \
                   own: {context: nas, mount: /mnt/engine}\n      \
                   far: {context: nas, mount: /srv/engine}\n    mount_roots: [/srv]\n";
    for (said, path, problem) in [
        ("nas/own", "/mnt/engine", None),
        ("nas/far", "/srv/engine", None),
        ("nas/listed", "/mnt/nas/listed", None),
        (
            "tank/own",
            "/mnt/tank/own",
            Some("no context is called `tank`"),
        ),
        ("own", "/mnt/own", Some("write CONTEXT/VOLUME")),
        ("nas/../..", "/mnt/nas/../..", Some("write CONTEXT/VOLUME")),
        ("[1]", "/mnt/?", Some("text")),
    ] {
        let text = format!("#cloud-config\nlazarette:\n  docker: {{data_root: {said}}}\n{storage}");
        let loaded = load(&[Source::new("x", text)], &kinds());
        assert_eq!(loaded.config.data_root().as_deref(), Some(path), "{said}");
        let told: Vec<String> = loaded.problems.iter().map(ToString::to_string).collect();
        match problem {
            None => assert!(told.is_empty(), "{told:?}"),
            Some(words) => assert!(
                told.len() == 1 && told[0].contains(words) && told[0].contains(":3: "),
                "{told:?}"
            ),
        }
    }
    assert_eq!(CloudConfig::default().data_root(), None);
}

#[test]
fn a_mistake_in_what_is_said_of_signatures_lets_no_plugin_in() {
    const KEY: &str = "RWRwV20vixiIyny+7qTubRGSM1lu+YgCXrfTrjcZ52Veurm8HP9Kl7qE";
    for (said, required, keys, problems) in [
        ("{}", false, 0, 0),
        ("{require_signature: false}", false, 0, 0),
        ("{keys: [KEY]}", false, 1, 0),
        ("{require_signature: true, keys: [KEY, KEY]}", true, 2, 0),
        ("{require_signature: true}", true, 0, 1),
        ("{require_signature: yess, keys: [KEY]}", true, 1, 1),
        ("{require_signature: true, keys: [KEY, x]}", true, 0, 1),
        ("{require_signature: true, keys: KEY}", true, 0, 1),
        ("{requires_signature: true, keys: [KEY]}", true, 1, 1),
        ("{keys: [x]}", false, 0, 1),
        ("true", true, 0, 1),
    ] {
        let said = said.replace("KEY", KEY);
        let text = format!("#cloud-config\nlazarette:\n  plugins: {said}\n");
        let loaded = load(&[Source::new("x", text)], &kinds());
        let policy = loaded.config.lazarette.plugins.policy();
        let found = (policy.required, policy.keys.len(), loaded.problems.len());
        assert_eq!(
            found,
            (required, keys, problems),
            "{said}: {:?}",
            loaded.problems
        );
    }
    let key = |text: &str| Source::new(text, text.replace("KEY", KEY));
    let sources = [
        key("lazarette: {plugins: {keys: [KEY]}}"),
        key("lazarette: {plugins: {require_signature: true}}"),
    ];
    let loaded = load(&sources, &kinds());
    assert_eq!(
        loaded.problems,
        [],
        "one source has the key, another the rule"
    );
    assert!(loaded.config.lazarette.plugins.policy().required);
}
