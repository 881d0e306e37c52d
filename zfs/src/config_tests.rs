use super::*;
use lazarette_plugin::serde_json::{Value, json};
use lazarette_plugin::{StorageContext, schemars};

fn config(value: Value) -> Result<Config, String> {
    let config: Config = serde_json::from_value(value).map_err(|e| e.to_string())?;
    config.check().map_err(|e| e.to_string())?;
    Ok(config)
}

fn options(value: Value) -> Result<VolumeOptions, String> {
    let options: VolumeOptions = serde_json::from_value(value).map_err(|e| e.to_string())?;
    options.check().map_err(|e| e.to_string())?;
    Ok(options)
}

#[test]
fn a_layout_becomes_the_words_of_zpool_create() {
    let create = |value: Value| {
        config(json!({"pool": "tank", "create": value}))
            .map(|c| c.create.unwrap().vdevs().join(" "))
    };
    let d = |names: &str| -> Vec<String> { names.chars().map(|c| format!("/dev/{c}")).collect() };
    assert_eq!(
        create(json!({"layout": "stripe", "devices": d("ab")})).unwrap(),
        "/dev/a /dev/b"
    );
    assert_eq!(
        create(json!({
            "layout": "mirror", "width": 2, "devices": d("abcd"),
            "log": d("ef"), "cache": d("g"), "special": d("hi"), "spares": d("j"),
        }))
        .unwrap(),
        "mirror /dev/a /dev/b mirror /dev/c /dev/d special mirror /dev/h /dev/i \
         log mirror /dev/e /dev/f cache /dev/g spare /dev/j"
    );
    for (bad, word) in [
        (
            json!({"layout": "mirror", "devices": d("a")}),
            "2 devices or more",
        ),
        (
            json!({"layout": "raidz2", "devices": d("ab")}),
            "3 devices or more",
        ),
        (json!({"layout": "stripe", "devices": []}), "devices"),
        (
            json!({"layout": "mirror", "width": 2, "devices": d("abc")}),
            "width",
        ),
        (
            json!({"layout": "stripe", "devices": d("ab"), "log": d("a")}),
            "named twice",
        ),
        (
            json!({"layout": "raid5", "devices": d("abc")}),
            "use stripe",
        ),
        (
            json!({"layout": "stripe", "devices": d("a"), "force": true}),
            "unknown field",
        ),
    ] {
        let error = create(bad.clone()).unwrap_err();
        assert!(error.contains(word), "{bad}: {error}");
    }
}

#[test]
fn options_become_properties() {
    let all = options(json!({
        "size": "1G", "quota": "2G", "recordsize": "16K", "compression": "zstd",
        "properties": {"atime": "off"}
    }))
    .unwrap();
    let wanted: Vec<String> = all
        .wanted()
        .iter()
        .map(|(n, v)| format!("{n}={v}"))
        .collect();
    assert_eq!(
        wanted,
        [
            "refquota=1073741824",
            "quota=2147483648",
            "recordsize=16384",
            "compression=zstd",
            "atime=off"
        ]
    );
    let zvol = options(json!({"type": "zvol", "size": "1G", "fs": "xfs"})).unwrap();
    assert_eq!(
        zvol.wanted(),
        [("volsize".to_owned(), "1073741824".to_owned())]
    );
}

#[test]
fn options_that_do_not_fit_together_are_refused() {
    for (bad, word) in [
        (json!({"fs": "xfs"}), "type: zvol"),
        (json!({"type": "zvol"}), "size"),
        (
            json!({"type": "zvol", "size": "1G", "recordsize": "16K"}),
            "volblocksize",
        ),
        (json!({"encryption": "on"}), "key"),
        (json!({"on_remove": "delete"}), "leave it out"),
        (json!({"sise": "1G"}), "unknown field"),
    ] {
        let error = options(bad.clone()).unwrap_err();
        assert!(error.contains(word), "{bad}: {error}");
    }
}

#[test]
fn what_is_destroyed_was_made_for_the_volume_or_is_told_to_be() {
    assert!(options(json!({})).unwrap().is_destroyed());
    assert!(!options(json!({"dataset": "media"})).unwrap().is_destroyed());
    let told = json!({"dataset": "media", "on_remove": "delete"});
    assert!(options(told).unwrap().is_destroyed());
}

#[test]
fn the_schemas_have_one_type_for_each_option_of_docker() {
    let schema = schemars::schema_for!(VolumeOptions).to_value();
    let fields = schema["properties"].as_object().unwrap();
    assert!(!schema.to_string().contains("null"), "{schema}");
    for name in ["size", "dataset", "type", "fs", "key", "properties"] {
        assert!(fields.contains_key(name), "{name}");
    }
    let manifest = crate::Zfs::manifest("1");
    assert_eq!(manifest.kind.as_str(), "zfs");
    assert!(!manifest.context_schema.to_string().contains("null"));
    // What `laz volume rm` says is what comes true.
    for given in [
        json!({"size": "1G"}),
        json!({"dataset": "media"}),
        json!({"dataset": "media", "on_remove": "keep"}),
        json!({"dataset": "media", "on_remove": "delete"}),
    ] {
        assert_eq!(
            manifest.removal_loses_data(&given),
            options(given.clone()).unwrap().is_destroyed(),
            "{given}"
        );
    }
}
