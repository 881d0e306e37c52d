use super::*;
use proptest::prelude::*;

/// Of LVM 2.03.31: linear with a thick snapshot, thin with a thin snapshot, raid1.
const LVS: &str = include_str!("../fixtures/lvs.json");
const VGS: &str = include_str!("../fixtures/vgs.json");
/// The first megabytes of one of two devices were copied to a third.
const DUPLICATE: &str = include_str!("../fixtures/pvs-duplicate.json");
/// One of three devices is away; a volume's cache lies on it. Nothing is active.
const VGS_MISSING: &str = include_str!("../fixtures/vgs-missing.json");
const PVS_MISSING: &str = include_str!("../fixtures/pvs-missing.json");
const LVS_MISSING: &str = include_str!("../fixtures/lvs-missing.json");
/// Of lvs with the group's columns: a thin volume with a snapshot, and a pool that lies on two devices.
const WHOLE: &str = include_str!("../fixtures/whole.json");
/// The same of a group that is not there.
const WHOLE_GONE: &str = include_str!("../fixtures/whole-gone.json");

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
fn a_group_is_read_with_its_logical_volumes_each_once() {
    let uuid = "rufBiN-JZ1r-DLmX-58uB-8RqO-pnUV-L0HcpF";
    let (group, all) = whole(WHOLE, uuid).unwrap().unwrap();
    assert_eq!((group.name.as_str(), group.uuid.as_str()), ("fast", uuid));
    assert_eq!((group.size, group.free), (6_429_868_032, 3_779_067_904));
    assert_eq!((group.extent, group.missing), (4 << 20, 0));
    let names: Vec<&str> = all.iter().map(|l| l.name.as_str()).collect();
    let wanted = [
        "[lvol0_pmspare]",
        "lz-1",
        "lz-2",
        "lzs-1",
        "pool",
        "[pool_tdata]",
        "[pool_tmeta]",
    ];
    assert_eq!(names, wanted);
    assert!(all[1].is_thin() && all[1].active && all[1].has_tag("lazarette.ready"));
    assert!(all[4].is_pool() && all[4].data == Some(0.0));
    assert_eq!(whole(WHOLE, &group.uuid.replace('r', "s")).unwrap(), None);
    assert_eq!(whole(WHOLE_GONE, uuid).unwrap(), None);
    whole("", uuid).unwrap_err();
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
fn a_missing_device_and_what_lies_on_it_are_seen() {
    assert_eq!(groups(VGS_MISSING).unwrap()[0].missing, 1);
    let all = physicals(PVS_MISSING).unwrap();
    let names: Vec<_> = all.iter().map(|p| (p.name.as_str(), p.missing)).collect();
    assert_eq!(
        names,
        [
            ("/dev/loop0", false),
            ("/dev/loop1", false),
            ("[unknown]", true)
        ]
    );
    let logicals = logicals(LVS_MISSING).unwrap();
    let partial: Vec<&str> = logicals
        .iter()
        .filter(|l| l.health == "partial")
        .map(|l| l.name.as_str())
        .collect();
    assert_eq!(partial, ["lost", "lz-1", "[lzc-1_cvol]"]);
    assert!(
        logicals
            .iter()
            .all(|l| !l.active && !l.invalid && l.writable)
    );
}

#[test]
fn a_volume_with_a_cache_is_told_from_its_parts() {
    let all = logicals(LVS_MISSING).unwrap();
    let cached: Vec<&Logical> = all.iter().filter(|l| l.is_cached()).collect();
    let [one] = cached[..] else {
        panic!("{cached:?}")
    };
    assert_eq!(
        (one.name.as_str(), one.cache_mode.as_str(), one.dirty),
        ("lz-1", "writethrough", 0)
    );
    let beneath = all.iter().find(|l| l.name == one.origin).unwrap();
    assert!(beneath.health.is_empty() && !beneath.is_public());
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
        let _ = whole(&changed, "");
        let _ = physicals(&changed);
    }
}
