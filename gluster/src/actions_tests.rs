use super::*;
use crate::fakes::{Container, SERVES, call};
use lazarette_plugin::StorageContext;

#[test]
fn parameters_are_flat_and_strict_and_what_loses_something_says_so() {
    for action in all() {
        let schema = &action.parameters;
        assert_eq!(schema["additionalProperties"], json!(false));
        let fields = schema["properties"].as_object();
        for (name, field) in fields.into_iter().flatten() {
            assert!(
                field["type"].is_string(),
                "{}: {name}: {field}",
                action.name
            );
        }
    }
    let losing = all().into_iter().filter(|a| a.loses.is_some());
    let losing: Vec<String> = losing.map(|a| a.name).collect();
    assert_eq!(losing, ["create", "expand", "replace-brick"]);
    let bad = parameters::<Create>("create", json!({"bricks": ["g1"]})).unwrap_err();
    assert!(bad.to_string().contains("SERVER:/DIRECTORY"), "{bad}");
    for bad in ["-g1:/b", "g1:b", "g1:/../b", "g1:/b\n", ":/b", "g1:/-x,y"] {
        assert!(
            parameters::<Create>("create", json!({ "bricks": [bad] })).is_err(),
            "{bad:?}"
        );
    }
}

#[test]
fn a_layout_becomes_words() {
    let words = |given: Value| layout(&parameters("create", given).unwrap());
    let (a, b, c) = ("g1:/b", "g2:/b", "g3:/b");
    assert_eq!(
        words(json!({"bricks": [a, b, c], "replica": "3", "arbiter": true, "force": true}))
            .unwrap(),
        ["replica", "3", "arbiter", "1", a, b, c, "force"]
    );
    assert_eq!(
        words(json!({"bricks": [a, b]})).unwrap(),
        ["replica", "2", a, b]
    );
    assert_eq!(words(json!({"bricks": [a]})).unwrap(), [a]);
    assert_eq!(
        words(json!({"bricks": [a, b, c], "disperse": 3, "redundancy": 1})).unwrap(),
        ["disperse", "3", "redundancy", "1", a, b, c]
    );
    for bad in [
        json!({"bricks": []}),
        json!({"bricks": [a, b], "arbiter": true}),
        json!({"bricks": [a, b, c], "disperse": 3, "replica": 3}),
        json!({"bricks": [a, b], "redundancy": 1}),
    ] {
        assert!(words(bad.clone()).is_err(), "{bad}");
    }
}

#[test]
fn a_volume_and_its_bricks_are_described() {
    let info = xml::parse(include_str!("../fixtures/info.xml")).unwrap();
    let status = xml::parse(include_str!("../fixtures/status.xml")).unwrap();
    let found = describe(&info, Some(&status), "gv0").unwrap();
    assert_eq!(found["type"], "Replicate");
    assert_eq!(found["state"], "Started");
    assert_eq!(
        found["bricks"],
        json!([
            {"brick": "g1.test:/bricks/gv0", "state": "online", "holds": "files"},
            {"brick": "g2.test:/bricks/gv0", "state": "away", "holds": "files"},
        ])
    );
    assert_eq!(found["options"]["features.quota"], "on");
    assert_eq!(
        describe(&info, None, "gv0").unwrap()["bricks"][0]["state"],
        "unknown"
    );
    assert_eq!(describe(&info, None, "gv1"), None);
}

#[test]
fn orders_are_given_to_this_host_s_glusterd_only_if_the_context_may() {
    Container::with(SERVES, |container| {
        let context = container.open();
        let error = context
            .act(&call(), "start", None, Value::Null)
            .unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains("manage: true"), "{error}");
        assert!(container.orders().is_empty());

        let context = container.open_as_manager();
        let error = context
            .act(&call(), "start", None, Value::Null)
            .unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unreachable, "{error}");
        assert!(error.to_string().contains("glusterd-sockfile"), "{error}");

        container.start_glusterd("echo done");
        let orders: &[(&str, Value, &str)] = &[
            ("start", json!({}), "start gv0"),
            ("start", json!({"force": true}), "start gv0 force"),
            (
                "create",
                json!({"bricks": ["g1:/b", "g2:/b"]}),
                "create gv0 replica 2 g1:/b g2:/b",
            ),
            (
                "expand",
                json!({"bricks": ["g3:/b"], "replica": 3}),
                "add-brick gv0 replica 3 g3:/b",
            ),
            ("heal", json!({}), "heal gv0"),
            ("heal", json!({"full": true}), "heal gv0 full"),
            ("quota", json!({}), "quota gv0 enable"),
            (
                "replace-brick",
                json!({"old": "g1:/b", "new": "g1:/c", "force": true}),
                "replace-brick gv0 g1:/b g1:/c commit force",
            ),
        ];
        for (action, given, words) in orders {
            context.act(&call(), action, None, given.clone()).unwrap();
            assert_eq!(container.orders().pop().unwrap(), format!("volume {words}"));
        }
        assert!(context.act(&call(), "scrub", None, Value::Null).is_err());
    });
}

#[test]
fn what_was_done_before_is_done_and_what_gluster_refuses_is_explained() {
    Container::with(SERVES, |container| {
        let context = container.open_as_manager();
        container
            .start_glusterd("echo 'volume start: gv0: failed: Volume gv0 already started'; exit 1");
        let said = context.act(&call(), "start", None, Value::Null).unwrap();
        assert_eq!(said, "gv0 is started");
        container.start_glusterd(
            "echo 'volume add-brick: failed: Multiple bricks of a replicate volume are present on the \
             same server. Use '\"'force'\"' at the end' >&2; exit 1",
        );
        let given = json!({"bricks": ["g1:/c"]});
        let error = context.act(&call(), "expand", None, given).unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidArgument, "{error}");
        let text = error.to_string();
        assert!(
            text.contains("Multiple bricks") && text.contains("force=true"),
            "{text}"
        );
    });
}

#[test]
fn no_brick_is_replaced_while_it_may_have_the_only_good_copy() {
    Container::with(SERVES, |container| {
        let context = container.open_as_manager();
        container.start_glusterd("echo done");
        container.unhealed("/apps/f - Is in split-brain");
        let given = json!({"old": "g1:/b", "new": "g1:/c"});
        let act = || context.act(&call(), "replace-brick", None, given.clone());
        let error = act().unwrap_err();
        assert_eq!(error.kind, ErrorKind::Busy, "{error}");
        assert!(container.orders().is_empty());
        let found = context.act(&call(), "unhealed", None, Value::Null).unwrap();
        assert_eq!(found, json!([{"file": "/apps/f", "state": "split brain"}]));
        container.unhealed("");
        act().unwrap();
        assert_eq!(container.orders().len(), 1);
    });
}
