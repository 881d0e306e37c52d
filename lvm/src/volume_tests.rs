use super::*;
use crate::fakes::{Container, call_of, row};
use lazarette_plugin::serde_json::{Value, from_value, json};
use lazarette_plugin::{SnapshotId, VolumeId};
use std::time::Duration;

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

fn name_and_tags(volume: &Volume<VolumeOptions>, ready: bool) -> (String, String) {
    let tag = stamp::of_volume(volume.id);
    let tags = if ready {
        format!("{tag},{}", stamp::READY)
    } else {
        tag
    };
    (stamp::name_of_volume(volume.id), tags)
}

#[test]
fn what_a_crash_has_left_without_a_file_system_gets_one_and_only_then_is_ready() {
    let wanted = volume(json!({"size": "1G", "label": "db"}));
    let (name, tags) = name_and_tags(&wanted, false);
    let container = Container::new(&[row(&name, &tags, &[])]);
    let inner = container.inner(plain());
    let error = inner.mount(&call(), &wanted).unwrap_err();
    assert!(error.to_string().contains("interrupted"), "{error}");
    assert_eq!(inner.create(&call(), &wanted).unwrap(), Created::Created);
    let calls = container.calls();
    assert!(!calls.iter().any(|c| c.contains("lvcreate")), "{calls:?}");
    let made = calls
        .iter()
        .position(|c| c.starts_with("mkfs.ext4 -q -F -L db -- "))
        .unwrap();
    let ready = calls
        .iter()
        .position(|c| c.contains("--addtag lazarette.ready"))
        .unwrap();
    assert!(made < ready, "{calls:?}");
}

#[test]
fn what_is_ready_is_never_formatted_again() {
    let wanted = volume(json!({"size": "1G"}));
    let (name, tags) = name_and_tags(&wanted, true);
    let container = Container::new(&[row(&name, &tags, &[])]);
    let inner = container.inner(plain());
    assert_eq!(
        inner.create(&call(), &wanted).unwrap(),
        Created::AlreadyExists
    );
    assert!(!container.calls().iter().any(|c| c.contains("mkfs")));
}

#[test]
fn another_size_type_or_file_system_is_told_with_both_values() {
    for (asked, says) in [
        (json!({"size": "2G"}), "its size is 1 GiB, not 2 GiB"),
        (
            json!({"size": "1G", "type": "raid1"}),
            "its type is linear, not raid1",
        ),
        (
            json!({"size": "1G", "fs": "xfs"}),
            "its file system is ext4, not xfs",
        ),
    ] {
        let wanted = volume(asked);
        let (name, tags) = name_and_tags(&wanted, true);
        let container = Container::new(&[row(&name, &tags, &[])]);
        let error = container
            .inner(plain())
            .create(&call(), &wanted)
            .unwrap_err();
        assert_eq!(error.kind, ErrorKind::AlreadyExists);
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[test]
fn a_pool_from_80_per_cent_on_takes_nothing_new() {
    let pool = |data: &str, metadata: &str| {
        let layout = [
            ("lv_layout", "thin,pool"),
            ("lv_role", "private"),
            ("data_percent", data),
            ("metadata_percent", metadata),
        ];
        row("pool", "", &layout)
    };
    let config = json!({"volume_group": "fast", "thin_pool": {"name": "pool"}});
    let wanted = volume(json!({"size": "1G"}));
    for (data, metadata, says) in [
        ("80.00", "1.0", "data are 80.0 %"),
        ("1", "93.5", "metadata are 93.5 %"),
    ] {
        let container = Container::new(&[pool(data, metadata)]);
        let error = container
            .inner(config.clone())
            .create(&call(), &wanted)
            .unwrap_err();
        assert_eq!(error.kind, ErrorKind::NoSpace);
        assert!(error.to_string().contains(says), "{error}");
        assert!(container.calls().is_empty());
    }
    let container = Container::new(&[pool("79.99", "1.0")]);
    container.inner(config).create(&call(), &wanted).unwrap();
    let calls = container.calls();
    assert!(calls[0].contains("--thinpool pool") && calls[0].contains(&wanted.id.to_string()));
}

#[test]
fn a_volume_with_snapshots_stays_and_names_them() {
    let doomed = volume(json!({"size": "1G"}));
    let (name, tags) = name_and_tags(&doomed, true);
    let snapshot = SnapshotId::random();
    let of = format!(
        "{},{}",
        stamp::of_snapshot(snapshot),
        stamp::origin(doomed.id)
    );
    let snapshot = row(&stamp::name_of_snapshot(snapshot), &of, &[]);
    let container = Container::new(&[row(&name, &tags, &[]), snapshot]);
    let error = container
        .inner(plain())
        .remove(&call(), &doomed)
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::Busy);
    assert!(error.to_string().contains("lzs-"), "{error}");
    assert!(container.calls().is_empty());
}

#[test]
fn what_was_there_before_is_removed_only_if_that_was_said() {
    let home = row("home", "", &[]);
    let container = Container::new(std::slice::from_ref(&home));
    let inner = container.inner(plain());
    let kept = volume(json!({"logical_volume": "home"}));
    assert_eq!(
        inner.create(&call(), &kept).unwrap(),
        Created::AlreadyExists
    );
    assert_eq!(
        inner.remove(&call(), &kept).unwrap(),
        Removed::AlreadyAbsent
    );
    assert!(!container.calls().iter().any(|c| c.contains("lvremove")));
    let doomed = volume(json!({"logical_volume": "home", "on_remove": "delete"}));
    assert_eq!(inner.remove(&call(), &doomed).unwrap(), Removed::Removed);
    assert_eq!(
        container.calls().last().unwrap(),
        "lvm lvremove --yes -- fast/home"
    );
}

#[test]
fn another_volume_s_own_logical_volume_is_not_taken_over() {
    let other = volume(json!({"size": "1G"}));
    let (name, tags) = name_and_tags(&other, true);
    let container = Container::new(&[row(&name, &tags, &[])]);
    let thief = volume(json!({"logical_volume": name, "on_remove": "delete"}));
    let error = container
        .inner(plain())
        .create(&call(), &thief)
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidArgument);
}

#[test]
fn a_rollback_that_ended_between_two_steps_is_finished() {
    // The old one is gone, the new one has not its name yet.
    let wanted = volume(json!({"size": "1G"}));
    let (_, tags) = name_and_tags(&wanted, true);
    let helper = stamp::name_of_helper(wanted.id);
    let container = Container::new(&[row(&helper, &tags, &[("lv_layout", "thin,sparse")])]);
    let inner = container.inner(plain());
    let mut look = inner.look(Time::Of(&call())).unwrap();
    inner.find(Time::Of(&call()), &mut look, &wanted).unwrap();
    let name = stamp::name_of_volume(wanted.id);
    assert_eq!(
        container.calls(),
        [format!("lvm lvrename -- fast {helper} {name}")]
    );
}

#[test]
fn what_lies_on_a_missing_device_is_not_mounted() {
    let wanted = volume(json!({"size": "1G"}));
    let (name, tags) = name_and_tags(&wanted, true);
    let container = Container::new(&[row(&name, &tags, &[("lv_health_status", "partial")])]);
    let error = container
        .inner(plain())
        .mount(&call(), &wanted)
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unreachable);
    assert!(error.to_string().contains("missing device"), "{error}");
}

#[test]
fn each_operation_starts_no_more_programs_than_it_must() {
    let made = volume(json!({"size": "1G"}));
    let pool = row(
        "pool",
        "",
        &[("lv_layout", "thin,pool"), ("data_percent", "1")],
    );
    let config = json!({"volume_group": "fast", "thin_pool": {"name": "pool"}});
    let container = Container::new(std::slice::from_ref(&pool));
    let inner = container.inner(config);
    inner.create(&call(), &made).unwrap();
    // One look, and a tag when all is done: only by that a crash before it is seen.
    let create = ["lvm lvs", "lvm lvcreate", "mkfs.ext4 -q", "lvm lvchange"];
    assert_eq!(container.starts(), create);

    let (name, tags) = name_and_tags(&made, true);
    let thin = [("lv_layout", "thin,sparse"), ("pool_lv", "pool")];
    let there = row(&name, &tags, &thin);
    let id = SnapshotId::random();
    let of = format!("{},{}", stamp::of_snapshot(id), stamp::origin(made.id));
    let snapshot = row(&stamp::name_of_snapshot(id), &of, &thin);
    let now = |rows: &[&Value]| {
        container.set("lvs.json", &json!({"report": [{"lv": rows}]}).to_string());
    };
    now(&[&pool, &there]);
    inner.snapshot(&call(), &made, id).unwrap();
    assert_eq!(container.starts(), ["lvm lvs", "lvm lvcreate"]);
    now(&[&pool, &there, &snapshot]);
    inner.rollback(&call(), &made, id).unwrap();
    let rollback = ["lvm lvs", "lvm lvcreate", "lvm lvremove", "lvm lvrename"];
    assert_eq!(container.starts(), rollback);
    inner.remove_snapshot(&call(), &made, id).unwrap();
    assert_eq!(container.starts(), ["lvm lvs", "lvm lvremove"]);
    now(&[&pool, &there]);
    inner.remove(&call(), &made).unwrap();
    assert_eq!(container.starts(), ["lvm lvs", "lvm lvremove"]);
    now(&[&pool]);
    inner.remove(&call(), &made).unwrap();
    assert_eq!(container.starts(), ["lvm lvs"]);
}

#[test]
fn what_is_made_without_a_node_is_activated_before_anything_is_written() {
    let container = Container::new(&[]);
    let mut inner = container.inner(plain());
    // Somebody has taken the node away at once.
    inner.lvm.nodes = "/nonexistent".into();
    inner
        .create(&call(), &volume(json!({"size": "1G"})))
        .unwrap();
    let starts = container.starts();
    let activated = starts.iter().position(|s| s == "lvm lvchange");
    let made = starts.iter().position(|s| s.starts_with("mkfs"));
    assert!(activated < made, "{starts:?}");
}

#[test]
fn a_group_that_is_gone_is_told_from_one_without_logical_volumes() {
    let wanted = volume(json!({"size": "1G"}));
    let container = Container::new(&[]);
    let inner = container.inner(plain());
    let look = inner.look(Time::Of(&call())).unwrap();
    assert!(look.all.is_empty() && look.group.uuid == inner.group.uuid);
    assert_eq!(container.starts(), ["lvm lvs", "lvm vgs"]);
    container.set("vgs.json", r#"{"report":[{"vg":[]}]}"#);
    let error = inner.remove(&call(), &wanted).unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
    assert!(
        error.to_string().contains("the volume group fast is gone"),
        "{error}"
    );
    // Another one of its name is not it, whatever is in that.
    let (name, tags) = name_and_tags(&wanted, true);
    let others = row(&name, &tags, &[("vg_uuid", "another")]);
    container.set(
        "lvs.json",
        &json!({"report": [{"lv": [others]}]}).to_string(),
    );
    let error = inner.remove(&call(), &wanted).unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
    assert!(container.calls().is_empty());
}
