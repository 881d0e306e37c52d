use super::*;
use crate::fakes::{Container, row};
use crate::report;
use lazarette_plugin::serde_json::json;
use lazarette_plugin::{SnapshotId, VolumeId};

fn group() -> Group {
    report::groups(include_str!("../fixtures/vgs.json"))
        .unwrap()
        .remove(0)
}

fn logicals() -> Vec<Logical> {
    report::logicals(include_str!("../fixtures/lvs.json")).unwrap()
}

fn changed(name: &str, change: impl FnOnce(&mut Logical)) -> Vec<Logical> {
    let mut all = logicals();
    change(all.iter_mut().find(|l| l.name == name).unwrap());
    all
}

#[test]
fn a_group_that_is_well_is_healthy_and_says_how_full_it_is() {
    let health = judge(&group(), &logicals(), &[]);
    assert_eq!(health.state, HealthState::Healthy);
    assert_eq!(health.reason, None);
    let capacity = health.capacity.unwrap();
    assert_eq!(capacity.total, 4_286_578_688);
    assert_eq!(capacity.used, 4_286_578_688 - 2_579_496_960);
    assert!(health.activities.is_empty());
}

#[test]
fn a_pool_from_80_per_cent_on_needs_attention_with_the_figure_and_the_remedy() {
    let nearly = changed("pool", |pool| pool.data = Some(79.9));
    assert_eq!(judge(&group(), &nearly, &[]).state, HealthState::Healthy);
    let full = changed("pool", |pool| pool.data = Some(80.0));
    let health = judge(&group(), &full, &[]);
    assert_eq!(health.state, HealthState::Degraded);
    let reason = health.reason.unwrap();
    assert!(
        reason.contains("80.0 %") && reason.contains("laz pool extend"),
        "{reason}"
    );
    let full = changed("pool", |pool| pool.metadata = Some(91.25));
    let reason = judge(&group(), &full, &[]).reason.unwrap();
    assert!(reason.contains("metadata: 91.2 %"), "{reason}");
}

#[test]
fn a_missing_device_is_named_and_only_what_lies_on_it_is_faulted() {
    let id = VolumeId::random();
    let all = changed("lz-1", |lost| {
        lost.tags = vec![stamp::of_volume(id), stamp::READY.into()];
        lost.active = false;
        lost.health = "partial".into();
    });
    let missing = ["/dev/disk/by-id/virtio-disk1 (LVVBmd)".to_owned()];
    let health = judge(&group(), &all, &missing);
    assert_eq!(health.state, HealthState::Degraded);
    assert!(health.reason.unwrap().contains("virtio-disk1"));
    let volumes: Vec<_> = health.volumes.iter().map(|v| (v.id, v.state)).collect();
    assert_eq!(volumes, [(id, HealthState::Faulted)]);
}

#[test]
fn a_raid_that_lost_a_part_goes_on_and_one_that_is_being_made_whole_shows_how_far_it_is() {
    let all = changed("lz-3", |raid| raid.health = "partial".into());
    let health = judge(&group(), &all, &[]);
    assert_eq!(health.state, HealthState::Degraded);
    assert!(health.reason.unwrap().contains("lz-3"));
    let all = changed("lz-3", |raid| raid.sync = Some(25.0));
    let health = judge(&group(), &all, &[]);
    assert_eq!(health.state, HealthState::Healthy);
    assert_eq!(health.activities[0].share, Some(0.25));
}

#[test]
fn a_snapshot_that_ran_full_is_lost_and_says_so() {
    let all = changed("lzs-1", |snapshot| snapshot.invalid = true);
    let reason = judge(&group(), &all, &[]).reason.unwrap();
    assert!(reason.contains("the snapshot lzs-1 ran full"), "{reason}");
    // Core knows the name of one of ours by this, and by nothing else.
    let id = SnapshotId::random();
    let tagged = |snapshot: &mut Logical| {
        snapshot.tags = vec![stamp::of_snapshot(id), stamp::origin(VolumeId::random())];
    };
    let all = changed("lzs-1", |snapshot| {
        snapshot.invalid = true;
        tagged(snapshot);
    });
    let reason = judge(&group(), &all, &[]).reason.unwrap();
    let wanted = format!("the snapshot {id} ran full and is lost: remove it");
    assert_eq!(reason, wanted);
    let all = changed("lzs-1", |snapshot| {
        snapshot.data = Some(85.0);
        tagged(snapshot);
    });
    let reason = judge(&group(), &all, &[]).reason.unwrap();
    assert!(
        reason.starts_with(&format!("the snapshot {id}: 85.0 %")),
        "{reason}"
    );
}

#[test]
fn what_is_as_full_as_the_policy_says_grows() {
    let policy = Autoextend {
        threshold: 70,
        by: 20,
    };
    assert!(to_grow(&policy, &logicals()).is_empty());
    let all = changed("pool", |pool| {
        pool.data = Some(70.0);
        pool.metadata = Some(75.0);
    });
    assert_eq!(to_grow(&policy, &all), [("pool", false), ("pool", true)]);
    let all = changed("lzs-1", |snapshot| snapshot.data = Some(90.0));
    assert_eq!(to_grow(&policy, &all), [("lzs-1", false)]);
    let lost = changed("lzs-1", |snapshot| {
        snapshot.data = Some(100.0);
        snapshot.invalid = true;
    });
    assert!(
        to_grow(&policy, &lost).is_empty(),
        "it cannot be saved any more"
    );
}

#[test]
fn a_pool_that_is_full_says_what_still_works() {
    let full = changed("pool", |pool| {
        pool.data = Some(100.0);
        pool.health = "out_of_data".into();
    });
    let health = judge(&group(), &full, &[]);
    assert_eq!(health.state, HealthState::Degraded);
    let reason = health.reason.unwrap();
    assert!(
        reason.contains("pool is full (100 %") && reason.contains("laz pool extend"),
        "{reason}"
    );
}

#[test]
fn a_cache_is_shown_with_its_mode_and_how_much_it_holds() {
    let all = changed("lz-1", |slow| {
        slow.layout = vec!["cache".into()];
        slow.cache_mode = "writeback".into();
        slow.data = Some(25.0);
        slow.dirty = 7;
        // So LVM calls the share that is not written back.
        slow.sync = Some(1.0);
    });
    let health = judge(&group(), &all, &[]);
    assert_eq!(health.state, HealthState::Healthy);
    let shown: Vec<_> = health
        .activities
        .iter()
        .map(|a| (&*a.name, a.share))
        .collect();
    assert_eq!(shown, [("cache", Some(0.25))]);
    let detail = health.activities[0].detail.as_deref();
    assert_eq!(detail, Some("lz-1: writeback, 7 blocks to be written back"));
}

#[test]
fn a_look_at_a_group_that_is_well_starts_two_programs() {
    let container = Container::new(&[row("home", "", &[])]);
    let inner = container.inner(json!({"volume_group": "fast"}));
    let mut course = Course::default();
    let health = look(&inner, &mut course);
    assert_eq!(health.state, HealthState::Healthy, "{health:?}");
    assert_eq!(container.starts(), ["dmsetup info", "lvm lvs"]);
}
