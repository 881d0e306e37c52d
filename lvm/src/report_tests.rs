use super::*;
use proptest::prelude::*;

/// Of LVM 2.03.31: linear with a thick snapshot, thin with a thin snapshot, raid1.
const LVS: &str = include_str!("../fixtures/lvs.json");
const VGS: &str = include_str!("../fixtures/vgs.json");
/// The first megabytes of one of two devices were copied to a third.
const DUPLICATE: &str = include_str!("../fixtures/pvs-duplicate.json");

fn logical(name: &str) -> Logical {
    let all = logicals(LVS).unwrap();
    all.into_iter().find(|l| l.name == name).unwrap()
}

#[test]
fn a_group_is_read() {
    let group = groups(VGS).unwrap().remove(0);
    assert_eq!(group.name, "fast");
    assert_eq!(group.uuid, "ZuZyOH-ELib-KS5K-Vsp0-tpq1-y9f4-O0z756");
    assert_eq!((group.size, group.free), (4_286_578_688, 2_579_496_960));
    assert!(!group.exported && group.missing == 0 && group.system_id.is_empty());
    assert_eq!(group.rounded(1), 4 << 20);
    assert_eq!(group.rounded(4 << 20), 4 << 20);
}

#[test]
fn a_device_that_is_there_twice_is_seen() {
    let all = physicals(DUPLICATE).unwrap();
    let same: Vec<&str> = all
        .iter()
        .filter(|p| p.uuid == "LVVBmd-NZIc-YQeH-JzOh-OGeU-lSyx-nBxAjH")
        .map(|p| p.name.as_str())
        .collect();
    assert_eq!(
        same,
        [
            "/dev/disk/by-id/virtio-disk1",
            "/dev/disk/by-id/virtio-disk3"
        ]
    );
    assert!(all.iter().any(|p| p.duplicate));
}

#[test]
fn kinds_of_logical_volumes_are_told_apart() {
    let thick = logical("lz-1");
    assert!(thick.is_public() && !thick.is_thin() && !thick.is_thick_snapshot());
    assert_eq!(thick.node.to_str(), Some("/dev/mapper/fast-lz--1"));
    assert!(thick.has_tag("lazarette.x") && thick.active && !thick.open && thick.writable);
    let snapshot = logical("lzs-1");
    assert!(snapshot.is_thick_snapshot() && snapshot.origin == "lz-1" && !snapshot.invalid);
    assert_eq!(snapshot.data, Some(0.0));
    let thin = logical("lz-2");
    assert!(thin.is_thin() && !thin.is_pool() && thin.pool == "pool");
    let branch = logical("lzs-2");
    assert!(branch.is_thin() && !branch.is_thick_snapshot() && !branch.active && branch.writable);
    let pool = logical("pool");
    assert!(pool.is_pool() && !pool.is_thin() && pool.metadata == Some(11.43));
    assert_eq!(logical("lz-3").sync, Some(100.0));
    assert!(!logical("[pool_tdata]").is_public());
}

#[test]
fn what_is_no_report_is_said_to_be_none() {
    for bad in [
        "",
        "{}",
        "[]",
        r#"{"report":[{"lv":[1]}]}"#,
        r#"{"report":[{"lv":[{}]}]}"#,
    ] {
        let error = logicals(bad).unwrap_err().to_string();
        assert!(error.contains("LVM's report"), "{bad}: {error}");
    }
    assert!(logicals(r#"{"report":[{"lv":[]}]}"#).unwrap().is_empty());
    let odd = LVS.replace("\"536870912\"", "\"a lot\"");
    assert!(logicals(&odd).unwrap_err().to_string().contains("lv_size"));
}

proptest! {
    #[test]
    fn no_report_brings_it_down(text in "\\PC{0,200}", at in 0_usize..4000, new in "\\PC{0,3}") {
        let _ = logicals(&text);
        let mut changed = LVS.to_owned();
        if changed.is_char_boundary(at) && at + 1 < changed.len() {
            changed.replace_range(at..=at, &new);
        }
        let _ = logicals(&changed);
        let _ = groups(&changed);
        let _ = physicals(&changed);
    }
}
