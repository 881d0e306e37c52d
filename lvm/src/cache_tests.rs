use super::*;
use crate::fakes::{Container, call_of, row};
use lazarette_plugin::serde_json::from_value;
use lazarette_plugin::{Created, Removed, SnapshotId, VolumeId};
use std::time::Duration;

/// A device of the group that is there on every machine.
const FAST: &str = "/dev/null";

fn volume(options: Value) -> Volume<VolumeOptions> {
    Volume {
        id: VolumeId::random(),
        options: from_value(options).unwrap(),
    }
}

fn call() -> Call {
    call_of(Duration::from_secs(60))
}

fn plain() -> Value {
    json!({"volume_group": "fast"})
}

/// The volume's row, with `more`.
fn of(volume: &Volume<VolumeOptions>, more: &[(&str, &str)]) -> Value {
    let tags = format!("{},{}", stamp::of_volume(volume.id), stamp::READY);
    row(&stamp::name_of_volume(volume.id), &tags, more)
}

/// The rows of the volume with a cache of `mode`; `more` is said of what lies beneath.
fn cached(volume: &Volume<VolumeOptions>, mode: &str, more: &[(&str, &str)]) -> Vec<Value> {
    let name = stamp::name_of_volume(volume.id);
    let (origin, pool) = (
        format!("[{name}_corig]"),
        format!("[{}_cvol]", stamp::name_of_cache(volume.id)),
    );
    let cache = [
        ("lv_layout", "cache"),
        ("origin", &origin),
        ("pool_lv", &pool),
        ("cache_mode", mode),
        ("lv_health_status", "partial"),
    ];
    let mut beneath = row(&origin, "", more);
    beneath["lv_role"] = json!("private,cache,origin,cacheorigin");
    let part = [("lv_layout", "cache,cachevol"), ("lv_role", "private")];
    vec![of(volume, &cache), beneath, row(&pool, "", &part)]
}

fn container(rows: &[Value]) -> Container {
    let container = Container::new(rows);
    let group = "ZuZyOH-ELib-KS5K-Vsp0-tpq1-y9f4-O0z756";
    let device = json!({"pv_name": FAST, "pv_uuid": "u", "vg_name": "fast", "vg_uuid": group,
        "pv_size": "1", "pv_missing": "0", "pv_duplicate": "0", "pv_in_use": "1"});
    container.set(
        "pvs.json",
        &json!({"report": [{"pv": [device]}]}).to_string(),
    );
    container
}

fn wanted(more: Value) -> Cache {
    let mut all = json!({"device": FAST, "size": "1G"});
    for (name, value) in more.as_object().unwrap() {
        all[name] = value.clone();
    }
    from_value(all).unwrap()
}

#[test]
fn a_cache_writes_through_unless_told_otherwise() {
    for (asked, mode) in [
        (json!({}), "writethrough"),
        (json!({"mode": "writeback"}), "writeback"),
    ] {
        let slow = volume(json!({"size": "1G"}));
        let container = container(&[of(&slow, &[])]);
        let inner = container.inner(plain());
        inner.cache(&call(), &slow, &wanted(asked)).unwrap();
        let (name, cache) = (
            stamp::name_of_volume(slow.id),
            stamp::name_of_cache(slow.id),
        );
        assert_eq!(
            container.calls(),
            [
                format!(
                    "lvm lvcreate --yes --type linear --name {cache} --size 1073741824b \
                     --wipesignatures y --zero y -- fast {FAST}"
                ),
                format!(
                    "lvm lvconvert --yes --type cache --cachevol {cache} --cachemode {mode} \
                     -- fast/{name}"
                ),
            ]
        );
    }
    for bad in [
        json!({"device": FAST}),
        json!({"size": "1G"}),
        json!({"device": FAST, "size": "1G", "mode": "writearound"}),
    ] {
        from_value::<Cache>(bad).unwrap_err();
    }
}

#[test]
fn what_an_interrupted_attempt_has_left_is_made_anew_and_goes_with_the_volume() {
    let slow = volume(json!({"size": "1G"}));
    let cache = stamp::name_of_cache(slow.id);
    let container = container(&[of(&slow, &[]), row(&cache, "", &[])]);
    let inner = container.inner(plain());
    inner.cache(&call(), &slow, &wanted(json!({}))).unwrap();
    let calls = container.calls();
    assert_eq!(calls[0], format!("lvm lvremove --yes -- fast/{cache}"));
    assert_eq!(calls.len(), 3, "{calls:?}");
    assert_eq!(inner.remove(&call(), &slow).unwrap(), Removed::Removed);
    let calls = &container.calls()[3..];
    assert_eq!(calls[0], format!("lvm lvremove --yes -- fast/{cache}"));
    assert!(calls[1].ends_with(&format!("fast/{}", stamp::name_of_volume(slow.id))));
}

#[test]
fn a_cached_volume_is_what_it_was_and_has_no_snapshots_copies_or_smaller_size() {
    let slow = volume(json!({"size": "1G", "type": "linear"}));
    let mut rows = cached(&slow, "writethrough", &[]);
    rows[0]["lv_health_status"] = json!("");
    let container = container(&rows);
    let inner = container.inner(plain());
    assert_eq!(
        inner.create(&call(), &slow).unwrap(),
        Created::AlreadyExists
    );
    inner.cache(&call(), &slow, &wanted(json!({}))).unwrap();
    let other = wanted(json!({"mode": "writeback"}));
    let error = inner.cache(&call(), &slow, &other).unwrap_err().to_string();
    assert!(error.contains("writethrough, not writeback"), "{error}");
    let error = inner.snapshot(&call(), &slow, SnapshotId::random());
    assert!(
        error
            .unwrap_err()
            .to_string()
            .contains("laz volume uncache")
    );
    let smaller = Volume {
        id: slow.id,
        options: from_value(json!({"size": "512M"})).unwrap(),
    };
    let error = inner.resize(&call(), &smaller).unwrap_err();
    assert!(error.to_string().contains("laz volume uncache"), "{error}");
    let changes = || {
        let mut calls = container.calls();
        calls.retain(|c| !c.starts_with("lvm lvchange --activate y"));
        calls
    };
    assert!(changes().is_empty(), "{:?}", changes());
    inner.uncache(&call(), &slow).unwrap();
    let name = stamp::name_of_volume(slow.id);
    assert_eq!(
        changes(),
        [format!("lvm lvconvert --yes --uncache -- fast/{name}")]
    );
}

#[test]
fn thin_volumes_those_with_snapshots_and_other_devices_are_refused() {
    let slow = volume(json!({"size": "1G"}));
    let name = stamp::name_of_volume(slow.id);
    let snapshot = [
        ("lv_role", "public,snapshot,thicksnapshot"),
        ("origin", &name),
    ];
    let refused = |rows: &[Value], asked: Value| {
        let container = container(rows);
        let inner = container.inner(plain());
        let error = inner.cache(&call(), &slow, &wanted(asked)).unwrap_err();
        assert!(container.calls().is_empty());
        error.to_string()
    };
    let said = refused(&[of(&slow, &[("lv_layout", "thin,sparse")])], json!({}));
    assert!(said.contains("it is thin"), "{said}");
    let said = refused(&[of(&slow, &[]), row("lzs-1", "", &snapshot)], json!({}));
    assert!(said.contains("1 snapshots"), "{said}");
    let said = refused(&[of(&slow, &[])], json!({"device": "/dev/zero"}));
    assert!(said.contains("laz pool extend"), "{said}");
    let said = refused(&[of(&slow, &[])], json!({"size": "1M"}));
    assert!(said.contains("16 MiB at least"), "{said}");
}

#[test]
fn a_lost_fast_device_costs_nothing_if_all_was_written_through() {
    for (mode, lose, done) in [
        ("writethrough", false, true),
        ("writeback", false, false),
        ("writeback", true, true),
    ] {
        let slow = volume(json!({"size": "1G"}));
        let container = container(&cached(&slow, mode, &[]));
        let inner = container.inner(plain());
        let call = call();
        let look = inner.look(Time::Of(&call)).unwrap();
        let result = inner.do_without_cache(Time::Of(&call), &look, &look.all[0], lose);
        assert_eq!(result.is_ok(), done, "{mode} {lose}: {result:?}");
        let name = stamp::name_of_volume(slow.id);
        let forced = format!("lvm lvconvert --yes --uncache --force -- fast/{name}");
        assert_eq!(container.calls().contains(&forced), done);
    }
    // Without its own device a volume is not saved by losing the cache.
    let slow = volume(json!({"size": "1G"}));
    let container = container(&cached(
        &slow,
        "writethrough",
        &[("lv_health_status", "partial")],
    ));
    let inner = container.inner(plain());
    let call = call();
    let look = inner.look(Time::Of(&call)).unwrap();
    inner
        .do_without_cache(Time::Of(&call), &look, &look.all[0], true)
        .unwrap_err();
    assert!(container.calls().is_empty());
}

#[test]
fn what_was_there_before_loses_the_cache_when_it_is_let_go() {
    let home = volume(json!({"logical_volume": "home"}));
    let mut rows = cached(&home, "writeback", &[]);
    rows[0]["lv_name"] = json!("home");
    let container = container(&rows);
    let inner = container.inner(plain());
    inner.remove(&call(), &home).unwrap();
    assert_eq!(
        container.calls(),
        ["lvm lvconvert --yes --uncache -- fast/home"]
    );
}
