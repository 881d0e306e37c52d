use super::*;
use serde_json::{from_value, json};

fn refused(config: Value) -> String {
    match from_value::<Config>(config.clone()) {
        Err(error) => error.to_string(),
        Ok(parsed) => parsed.check().expect_err(&config.to_string()).to_string(),
    }
}

#[test]
fn servers_are_a_list_or_a_text() {
    let list: Servers = from_value(json!(["g1", "g2.test", "10.0.0.1", "[fe80::1]"])).unwrap();
    assert_eq!(list.joined(), "g1,g2.test,10.0.0.1,fe80::1");
    assert_eq!(
        from_value::<Servers>(json!("g1,g2")).unwrap().joined(),
        "g1,g2"
    );
    for bad in [
        json!([]),
        json!(""),
        json!("g1,,g2"),
        json!("g1,g1"),
        json!("g1, g2"),
        json!(["-g1"]),
        json!(["g1/x"]),
        json!({"g1": 1}),
        json!(7),
        json!(vec!["g"; 17]),
    ] {
        assert!(from_value::<Servers>(bad.clone()).is_err(), "{bad}");
    }
}

#[test]
fn a_whole_configuration() {
    let config: Config = from_value(json!({
        "servers": ["g1", "g2"], "volume": "gv0", "transport": "tcp", "port": "24007",
        "log_level": "info", "directories": ["apps", {"path": "team/b", "name": "b"}],
        "options": {"direct-io-mode": "disable"}
    }))
    .unwrap();
    config.check().unwrap();
    assert_eq!(config.volumes().unwrap().len(), 2);
}

#[test]
fn what_is_wrong_is_named() {
    let with = |key: &str, value: Value| {
        let mut config = json!({"servers": "g1", "volume": "gv0"});
        config[key] = value;
        refused(config)
    };
    assert!(with("volume", json!("-gv0")).contains("gluster volume list"));
    assert!(with("volume", json!("gv0/x")).contains("gv0/x"));
    assert!(with("transport", json!("rdma")).contains("rdma"));
    assert!(with("password", json!("x")).contains("password"));
    assert!(with("port", json!(0)).contains("1 to 65535"));
    assert!(with("directories", json!(["a/x", "b/x"])).contains("would both be the volume"));
    assert!(with("directories", json!(["../x"])).contains(".."));
    assert!(with("directories", json!(["a b"])).contains("cannot be the name"));
    assert!(with("subdirectory", json!("/abs")).contains("must not begin"));
}

#[test]
fn schemas_have_no_null_and_say_every_option() {
    for schema in [
        lazarette_plugin::schemars::schema_for!(Config),
        lazarette_plugin::schemars::schema_for!(VolumeOptions),
    ] {
        let text = serde_json::to_string(&schema).unwrap();
        assert!(!text.contains("null"), "{text}");
    }
    let config = lazarette_plugin::schemars::schema_for!(Config).to_value();
    for name in ["servers", "volume", "transport", "directories", "options"] {
        assert!(config["properties"][name].is_object(), "{name}");
        assert!(
            config["properties"][name]["description"].is_string(),
            "{name}"
        );
    }
}

#[test]
fn options_of_a_volume_come_from_docker_as_text() {
    let options: VolumeOptions = from_value(json!({
        "path": "apps//one/", "create": "false", "mode": "2770", "uid": "1000", "gid": 0,
        "on_remove": "delete"
    }))
    .unwrap();
    assert_eq!(options.path.as_ref().unwrap().as_str(), "apps/one");
    assert_eq!(options.uid.unwrap().0, 1000);
    for bad in [
        json!({"path": "/apps"}),
        json!({"path": "a/../b"}),
        json!({"path": "a,b"}),
        json!({"mode": "4755"}),
        json!({"quota": "1G"}),
    ] {
        assert!(from_value::<VolumeOptions>(bad.clone()).is_err(), "{bad}");
    }
}
