use super::*;
use lazarette_plugin::serde_json::{self, Value, json};

fn config(value: Value) -> Config {
    serde_json::from_value(value).unwrap()
}

fn found(name: &str, guid: &str) -> Importable {
    Importable {
        name: name.into(),
        guid: guid.into(),
        ..Importable::default()
    }
}

#[test]
fn the_pool_that_is_meant_is_found_by_name_or_by_guid() {
    let all = [
        found("tank", "11"),
        found("tank", "22"),
        found("other", "33"),
    ];
    let choose = |value| choose(&all, &config(value)).map(|p| p.map(|p| p.guid.clone()));
    let two = choose(json!({"pool": "tank"})).unwrap_err().to_string();
    assert!(
        two.contains("2 pools are called tank") && two.contains("11, 22"),
        "{two}"
    );
    let by_guid = choose(json!({"pool": "tank", "guid": "22"})).unwrap();
    assert_eq!(by_guid.as_deref(), Some("22"));
    assert_eq!(
        choose(json!({"pool": "other"})).unwrap().as_deref(),
        Some("33")
    );
    assert_eq!(choose(json!({"pool": "none"})).unwrap(), None);
    assert_eq!(choose(json!({"pool": "tank", "guid": "44"})).unwrap(), None);
    let renamed = choose(json!({"pool": "tank", "guid": "33"}))
        .unwrap_err()
        .to_string();
    assert!(renamed.contains("set pool: other"), "{renamed}");
}

#[test]
fn a_pool_that_is_not_there_is_told_with_those_that_are() {
    let error = absent(&config(json!({"pool": "tank"})), &[found("other", "33")]);
    assert_eq!(error.kind, ErrorKind::NotFound);
    assert!(
        error.to_string().contains("on the devices are other"),
        "{error}"
    );
}

#[test]
fn the_kernel_tells_the_state_of_a_pool() {
    let directory = tempfile::tempdir().unwrap();
    let programs = Programs {
        kstat: directory.path().to_owned(),
        ..Programs::default()
    };
    let tank = PoolName::parse("tank").unwrap();
    assert_eq!(state(&programs, &tank), State::Absent);
    assert_eq!(
        ensure_serving(&programs, &tank).unwrap_err().kind,
        ErrorKind::NotFound
    );
    let files = directory.path().join("tank");
    fs::create_dir(&files).unwrap();
    fs::write(files.join("state"), "ONLINE\n").unwrap();
    assert_eq!(state(&programs, &tank), State::Imported("ONLINE".into()));
    ensure_serving(&programs, &tank).unwrap();
    fs::write(files.join("state"), "SUSPENDED\n").unwrap();
    let error = ensure_serving(&programs, &tank).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unreachable);
    assert!(error.to_string().contains("laz pool clear"), "{error}");
}

#[test]
fn an_imported_pool_of_another_guid_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let programs = Programs {
        kstat: directory.path().to_owned(),
        zpool: "/nonexistent".into(),
        ..Programs::default()
    };
    let files = directory.path().join("tank");
    fs::create_dir(&files).unwrap();
    fs::write(files.join("state"), "ONLINE\n").unwrap();
    fs::write(files.join("guid"), "11\n").unwrap();
    let host = crate::health::tests::host();
    let up = |value| bring_up(&host, &programs, &config(value));
    up(json!({"pool": "tank"})).unwrap();
    up(json!({"pool": "tank", "guid": "11"})).unwrap();
    let error = up(json!({"pool": "tank", "guid": "22"}))
        .unwrap_err()
        .to_string();
    assert!(error.contains("11") && error.contains("22"), "{error}");
}

/// A context that had the pool tank, and a zpool that exports it or says why not.
fn with_former(state: &str, zpool: &str) -> (tempfile::TempDir, Programs) {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let script = zpool.replace("POOLS", &at("kstat").display().to_string());
    fs::write(at("zpool"), format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(at("zpool"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir_all(at("kstat/tank")).unwrap();
    fs::write(at("kstat/tank/state"), state).unwrap();
    fs::write(at("held"), "tank\n").unwrap();
    let programs = Programs {
        kstat: at("kstat"),
        zpool: at("zpool"),
        held: at("held"),
        ..Programs::default()
    };
    (directory, programs)
}

#[test]
fn the_pool_of_earlier_options_is_exported_before_another_one_comes() {
    let host = crate::health::tests::host();
    let (_kept, programs) = with_former("ONLINE", "rm -r POOLS/tank");
    let other = PoolName::parse("other").unwrap();
    change_over(&host, &programs, &other).unwrap();
    let tank = PoolName::parse("tank").unwrap();
    assert_eq!(state(&programs, &tank), State::Absent);
    assert_eq!(fs::read_to_string(&programs.held).unwrap(), "other\n");
}

#[test]
fn the_same_pool_stays_as_it_is() {
    let host = crate::health::tests::host();
    let (_kept, programs) = with_former("ONLINE", "rm -r POOLS/tank");
    let tank = PoolName::parse("tank").unwrap();
    change_over(&host, &programs, &tank).unwrap();
    assert_eq!(state(&programs, &tank), State::Imported("ONLINE".into()));
}

#[test]
fn a_pool_that_is_in_use_or_suspended_is_not_forgotten() {
    let host = crate::health::tests::host();
    let busy = "echo \"cannot export 'tank': pool is busy\" >&2; exit 1";
    for (state, zpool, kind) in [
        ("ONLINE", busy, ErrorKind::Busy),
        ("SUSPENDED", "sleep 60", ErrorKind::Unreachable),
    ] {
        let (_kept, programs) = with_former(state, zpool);
        let other = PoolName::parse("other").unwrap();
        let error = change_over(&host, &programs, &other).unwrap_err();
        assert_eq!(error.kind, kind);
        assert!(
            error.to_string().contains("still has the pool tank"),
            "{error}"
        );
        assert_eq!(fs::read_to_string(&programs.held).unwrap(), "tank\n");
    }
}
