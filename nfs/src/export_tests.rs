use super::*;
use lazarette_plugin::serde_json::json;

fn config(value: Value) -> Result<Config, String> {
    let config: Config = serde_json::from_value(value).map_err(|e| e.to_string())?;
    config.check().map_err(|e| e.to_string())?;
    Ok(config)
}

#[test]
fn exports_are_paths_or_paths_with_more() {
    let config = config(json!({
        "server": "nas.test",
        "exports": ["/srv/media/", {"path": "/srv/home", "name": "people", "read_only": "true", "options": {"vers": 3}}],
        "options": {"vers": 4.2},
    }))
    .unwrap();
    assert_eq!(config.exports[0].volume_name().unwrap(), "media");
    assert!(!config.exports[0].read_only);
    assert_eq!(config.exports[1].volume_name().unwrap(), "people");
    assert!(config.exports[1].read_only);
}

#[test]
fn clashing_or_impossible_names_say_which() {
    let clash = config(json!({"server": "nas", "exports": ["/a/media", "/b/media"]})).unwrap_err();
    assert!(
        clash.contains("/a/media") && clash.contains("/b/media") && clash.contains("\"media\""),
        "{clash}"
    );
    let root = config(json!({"server": "nas", "exports": ["/"]})).unwrap_err();
    assert!(
        root.contains("export /") && root.contains("name:"),
        "{root}"
    );
    let odd = config(json!({"server": "nas", "exports": ["/srv/My Files"]})).unwrap_err();
    assert!(odd.contains("My Files"), "{odd}");
}

#[test]
fn what_is_wrong_is_named() {
    for (bad, says) in [
        (json!({"exports": []}), "server"),
        (json!({"server": "nas", "servr": 1}), "servr"),
        (json!({"server": "-nas"}), "-nas"),
        (
            json!({"server": "nas", "options": {"retry": 5}}),
            "`retry` is not offered",
        ),
        (
            json!({"server": "nas", "options": {"rsize": 1000}}),
            "`rsize`: invalid value: integer `1000`",
        ),
        (
            json!({"server": "nas", "options": {"wat": 1}}),
            "unknown option \"wat\"",
        ),
        (
            json!({"server": "nas", "exports": [{"path": "/a", "options": {"bg": true}}]}),
            "`bg`",
        ),
        (
            json!({"server": "nas", "exports": [{"path": "/a", "x": 1}]}),
            "x",
        ),
        (json!({"server": "nas", "exports": ["a"]}), "begin with '/'"),
        (
            json!({"server": "nas", "options": {"vers": 3}, "exports": [{"path": "/a", "options": {"clientaddr": "::1"}}]}),
            "export /a",
        ),
    ] {
        let error = config(bad.clone()).unwrap_err();
        assert!(error.contains(says), "{bad}: {error}");
    }
}

#[test]
fn a_volume_s_options_are_flat_and_come_back_as_they_were() {
    let given = json!({
        "export": "/srv/media", "path": "a/b", "create": "true", "mode": "0750", "uid": "1000", "gid": 1000,
        "on_remove": "delete", "vers": "4.2", "rsize": "1048576", "soft": "",
    });
    let options: VolumeOptions = serde_json::from_value(given).unwrap();
    assert_eq!(options.place.mode.as_ref().unwrap().bits(), 0o750);
    assert_eq!(options.nfs.soft, Some(Flag(true)));
    let again = serde_json::to_value(&options).unwrap();
    assert_eq!(again["rsize"], 1_048_576);
    assert_eq!(
        serde_json::from_value::<VolumeOptions>(again).unwrap(),
        options
    );
}

#[test]
fn bad_volume_options_are_named() {
    for (bad, says) in [
        (json!({"path": "../x"}), ".."),
        (json!({"path": "/x"}), "begin with '/'"),
        (json!({"mode": "9"}), "octal"),
        (json!({"mode": "4755"}), "setuid"),
        (json!({"on_remove": "burn"}), "burn"),
        (json!({"o": "x"}), "unknown option \"o\""),
        (json!({"ro": ""}), "read_only"),
        (json!({"uid": "-1"}), "4294967294"),
    ] {
        let error = serde_json::from_value::<VolumeOptions>(bad.clone())
            .unwrap_err()
            .to_string();
        assert!(error.contains(says), "{bad}: {error}");
    }
}

#[test]
fn the_schema_names_exactly_the_fields_that_are_read() {
    let schema = lazarette_plugin::schemars::schema_for!(VolumeOptions).to_value();
    let mut in_schema: Vec<&str> = schema["properties"]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    let mut read: Vec<&str> = PLACE.iter().chain(options::NAMES).copied().collect();
    in_schema.sort_unstable();
    read.sort_unstable();
    assert_eq!(in_schema, read);
    assert_eq!(schema["additionalProperties"], false);
    assert_eq!(schema["properties"]["on_remove"]["default"], "keep");
    assert_eq!(schema["properties"]["timeo"]["type"], "integer");
    assert_eq!(schema["properties"]["soft"]["type"], "boolean");
    assert!(!schema.to_string().contains("null"), "{schema}");
}
