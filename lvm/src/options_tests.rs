use super::*;
use lazarette_plugin::schemars::schema_for;
use lazarette_plugin::serde_json::{Value, from_value, json};

fn config(value: Value) -> Config {
    from_value(value).unwrap()
}

fn checked(options: Value, context: Value) -> Result<()> {
    from_value::<VolumeOptions>(options)
        .unwrap()
        .check(&config(context))
}

#[test]
fn a_group_is_made_only_on_devices_that_are_named() {
    let check = |value: Value| config(value).check();
    check(json!({"volume_group": "fast"})).unwrap();
    check(json!({"volume_group": "fast", "devices": ["/dev/sdb"], "create": true})).unwrap();
    for (bad, says) in [
        (json!({"volume_group": "fast", "create": true}), "devices"),
        (
            json!({"volume_group": "fast", "devices": ["/dev/sdb"], "wipe": true}),
            "create: true",
        ),
        (
            json!({"volume_group": "fast", "devices": ["/dev/sdb", "/dev/sdb"]}),
            "twice",
        ),
        (
            json!({"volume_group": "fast", "autoextend": {"threshold": 99}}),
            "between 50 and 95",
        ),
        (
            json!({"volume_group": "fast", "thin_pool": {"name": "p", "chunk_size": "100K"}}),
            "multiple of 64K",
        ),
    ] {
        let error = check(bad.clone()).unwrap_err().to_string();
        assert!(error.contains(says), "{bad}: {error}");
    }
}

#[test]
fn unknown_fields_are_refused() {
    assert!(from_value::<Config>(json!({"volume_group": "fast", "pool": "x"})).is_err());
    assert!(from_value::<VolumeOptions>(json!({"sise": "1G"})).is_err());
}

#[test]
fn options_that_contradict_each_other_are_told() {
    let plain = || json!({"volume_group": "fast"});
    for (options, says) in [
        (
            json!({"size": "1G", "stripes": 2}),
            "stripes with type: linear",
        ),
        (
            json!({"size": "1G", "type": "raid5", "mirrors": 1}),
            "mirrors",
        ),
        (json!({"size": "1G", "type": "thin"}), "no thin pool"),
        (json!({"size": "1G", "type": "linear", "pool": "p"}), "pool"),
        (
            json!({"size": "1G", "type": "striped", "stripes": 1}),
            "between 2 and 64",
        ),
        (json!({"size": "1G", "on_remove": "keep"}), "goes with it"),
        (
            json!({"size": "1G", "fs": "xfs", "label": "thirteenchars"}),
            "12 characters",
        ),
        (json!({"size": "1G", "mkfs_options": ["x=1"]}), "inode_size"),
        (
            json!({"logical_volume": "home", "type": "linear"}),
            "is there already",
        ),
        (json!({"size": "1G", "fs": "ext3"}), "ext4"),
        (
            json!({"size": "1G", "pool": "p", "wipe_on_remove": true}),
            "never shows old bytes",
        ),
    ] {
        let error = checked(options.clone(), plain()).unwrap_err().to_string();
        assert!(error.contains(says), "{options}: {error}");
    }
    checked(json!({"size": "1G"}), plain()).unwrap();
    checked(
        json!({"logical_volume": "home", "on_remove": "delete"}),
        plain(),
    )
    .unwrap();
}

#[test]
fn a_context_with_a_thin_pool_makes_thin_volumes() {
    let pool = json!({"volume_group": "fast", "thin_pool": {"name": "pool"}});
    let context = config(pool);
    let layout = |options: Value| {
        from_value::<VolumeOptions>(options)
            .unwrap()
            .layout(context.thin_pool.as_ref())
    };
    assert_eq!(layout(json!({})), Layout::Thin);
    assert_eq!(layout(json!({"type": "linear"})), Layout::Linear);
    let options = VolumeOptions::default();
    assert_eq!(options.layout(None), Layout::Linear);
}

#[test]
fn each_option_of_a_volume_has_one_type() {
    // docker volume create gives text, which is turned into what the schema says.
    let schema = schema_for!(VolumeOptions).to_value();
    for (name, field) in schema["properties"].as_object().unwrap() {
        let words = field["oneOf"].as_array().map_or(&[][..], Vec::as_slice);
        let word = !words.is_empty() && words.iter().all(|w| w["type"] == "string");
        assert!(field["type"].is_string() || word, "{name}: {field}");
    }
}

#[test]
fn what_laz_says_is_lost_is_what_is_deleted() {
    let manifest = <crate::LvmContext as lazarette_plugin::StorageContext>::manifest("1");
    for options in [
        json!({"size": "1G"}),
        json!({"logical_volume": "data"}),
        json!({"logical_volume": "data", "on_remove": "keep"}),
        json!({"logical_volume": "data", "on_remove": "delete"}),
    ] {
        let deleted = from_value::<VolumeOptions>(options.clone())
            .unwrap()
            .is_deleted();
        assert_eq!(manifest.removal_loses_data(&options), deleted, "{options}");
    }
}
