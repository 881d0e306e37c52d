use super::*;
use crate::fakes::{Container, call_of, row};
use lazarette_plugin::serde_json::{Value, from_value, json};
use lazarette_plugin::{CloneSource, VolumeId};
use std::time::Duration;

fn volume() -> Volume<VolumeOptions> {
    Volume {
        id: VolumeId::random(),
        options: from_value(json!({"size": "1G"})).unwrap(),
    }
}

fn call() -> Call {
    call_of(Duration::from_secs(60))
}

/// A volume, its snapshot and, if it is thin, its pool.
fn rows(volume: &Volume<VolumeOptions>, id: SnapshotId, thin: bool) -> Vec<Value> {
    let (layout, pool) = if thin {
        ("thin,sparse", "pool")
    } else {
        ("linear", "")
    };
    let tags = format!("{},{}", stamp::of_volume(volume.id), stamp::READY);
    let of = format!("{},{}", stamp::of_snapshot(id), stamp::origin(volume.id));
    let name = stamp::name_of_volume(volume.id);
    let role = if thin {
        "public,snapshot"
    } else {
        "public,snapshot,thicksnapshot"
    };
    vec![
        row(&name, &tags, &[("lv_layout", layout), ("pool_lv", pool)]),
        row(
            &stamp::name_of_snapshot(id),
            &of,
            &[
                ("lv_layout", layout),
                ("pool_lv", pool),
                ("lv_role", role),
                ("origin", &name),
            ],
        ),
        row(
            "pool",
            "",
            &[
                ("lv_layout", "thin,pool"),
                ("lv_role", "private"),
                ("data_percent", "1.0"),
            ],
        ),
    ]
}

#[test]
fn a_thin_volume_is_replaced_by_a_branch_of_the_snapshot_that_is_stamped_from_its_beginning() {
    let (volume, id) = (volume(), SnapshotId::random());
    let container = Container::new(&rows(&volume, id, true));
    let inner = container.inner(json!({"volume_group": "fast", "thin_pool": {"name": "pool"}}));
    inner.rollback(&call(), &volume, id).unwrap();
    let (name, helper) = (
        stamp::name_of_volume(volume.id),
        stamp::name_of_helper(volume.id),
    );
    let calls = container.calls();
    assert_eq!(calls.len(), 3, "{calls:?}");
    let branch = format!(
        "lvm lvcreate --yes --snapshot --name {helper} --setactivationskip n --addtag {} --addtag {} -- fast/{}",
        stamp::of_volume(volume.id),
        stamp::READY,
        stamp::name_of_snapshot(id),
    );
    assert_eq!(calls[0], branch);
    assert_eq!(calls[1], format!("lvm lvremove --yes -- fast/{name}"));
    assert_eq!(calls[2], format!("lvm lvrename -- fast {helper} {name}"));
}

#[test]
fn a_thin_rollback_that_was_interrupted_before_it_grew_gives_the_volume_its_size() {
    let (mut volume, id) = (volume(), SnapshotId::random());
    // All that is left of what it had grown to.
    volume.options = from_value(json!({"size": "2G"})).unwrap();
    let container = Container::new(&rows(&volume, id, true));
    let inner = container.inner(json!({"volume_group": "fast", "thin_pool": {"name": "pool"}}));
    // The file system, which is none here, cannot grow.
    let _ = inner.rollback(&call(), &volume, id);
    let name = stamp::name_of_volume(volume.id);
    let calls = container.calls();
    let grown = calls.iter().find(|call| call.starts_with("lvm lvextend"));
    let grown = grown.unwrap_or_else(|| panic!("{calls:?}"));
    assert!(grown.contains("2147483648b"), "{grown}");
    assert!(grown.ends_with(&format!("fast/{name}")), "{grown}");
}

#[test]
fn a_thick_rollback_that_was_interrupted_after_the_merge_takes_the_snapshot_anew() {
    let (volume, id) = (volume(), SnapshotId::random());
    let mut all = rows(&volume, id, false);
    all.remove(1);
    let tags = format!(
        "{},{},{}",
        stamp::of_volume(volume.id),
        stamp::READY,
        stamp::rollback(id)
    );
    all[0]["lv_tags"] = json!(tags);
    let container = Container::new(&all);
    let inner = container.inner(json!({"volume_group": "fast"}));
    inner.rollback(&call(), &volume, id).unwrap();
    let calls = container.calls();
    let snapshot = format!("--snapshot --name {}", stamp::name_of_snapshot(id));
    assert!(calls[0].contains(&snapshot), "{calls:?}");
    assert!(
        calls[1].contains(&format!("--deltag {}", stamp::rollback(id))),
        "{calls:?}"
    );
}

#[test]
fn without_its_snapshot_a_volume_stays_as_it_is() {
    for thin in [true, false] {
        let (volume, id) = (volume(), SnapshotId::random());
        let container = Container::new(&rows(&volume, SnapshotId::random(), thin));
        let inner = container.inner(json!({"volume_group": "fast"}));
        let error = inner.rollback(&call(), &volume, id).unwrap_err();
        assert_eq!(error.kind, ErrorKind::NotFound);
        assert!(container.calls().is_empty());
    }
}

#[test]
fn a_volume_in_use_is_not_brought_back() {
    let (volume, id) = (volume(), SnapshotId::random());
    let mut all = rows(&volume, id, true);
    all[0]["lv_device_open"] = json!("1");
    let container = Container::new(&all);
    let inner = container.inner(json!({"volume_group": "fast"}));
    let error = inner.rollback(&call(), &volume, id).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Busy);
    assert!(container.calls().is_empty());
}

#[test]
fn taking_and_removing_a_snapshot_twice_does_it_once() {
    let (volume, id) = (volume(), SnapshotId::random());
    let container = Container::new(&rows(&volume, id, false));
    let inner = container.inner(json!({"volume_group": "fast"}));
    assert_eq!(
        inner.snapshot(&call(), &volume, id).unwrap(),
        Created::AlreadyExists
    );
    let other = SnapshotId::random();
    assert_eq!(
        inner.remove_snapshot(&call(), &volume, other).unwrap(),
        Removed::AlreadyAbsent
    );
    assert!(container.calls().is_empty());
    assert_eq!(
        inner.snapshot(&call(), &volume, other).unwrap(),
        Created::Created
    );
    // 20 % of a GiB, rounded up to 4 MiB.
    assert!(
        container.calls()[0].contains("--size 218103808b"),
        "{:?}",
        container.calls()
    );
}

#[test]
fn a_clone_of_what_is_cloned_already_is_there() {
    let (source, id) = (volume(), SnapshotId::random());
    let clone = volume();
    let mut all = rows(&source, id, true);
    let tags = format!("{},{}", stamp::of_volume(clone.id), stamp::READY);
    all.push(row(&stamp::name_of_volume(clone.id), &tags, &[]));
    let container = Container::new(&all);
    let inner = container.inner(json!({"volume_group": "fast"}));
    let from = CloneSource {
        volume: source,
        snapshot: Some(id),
    };
    let created = inner.clone_volume(&call(), &clone, &from).unwrap();
    assert_eq!(created, Created::AlreadyExists);
    assert!(container.calls().is_empty());
}
