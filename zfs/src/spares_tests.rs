use super::*;
use crate::status::parse;
use lazarette_plugin::serde_json::{Value, json};

fn disk(name: &str, state: &str, guid: u64) -> Value {
    json!({"name": name, "vdev_type": "disk", "guid": guid, "path": name, "state": state})
}

fn pool(group: &str, kind: &str, disks: Value, spares: Value) -> PoolStatus {
    let text = json!({"pools": {"tank": {
        "name": "tank", "state": "DEGRADED", "error_count": 0, "spares": spares,
        "vdevs": {"tank": {"vdev_type": "root", "state": "DEGRADED", "vdevs": {
            group: {"vdev_type": kind, "state": "DEGRADED", "vdevs": disks}
        }}}
    }}});
    parse(&text.to_string(), "tank").unwrap()
}

/// Identities of failed devices with their spares.
fn found(status: &PoolStatus) -> Vec<(&str, Vec<&str>)> {
    let all = vacancies(status).into_iter();
    all.map(|v| (v.failed.id(), v.spares)).collect()
}

#[test]
fn a_failed_device_of_a_group_has_the_free_spares() {
    let spares = json!({
        "/dev/s": disk("/dev/s", "INUSE", 7), "/dev/t": disk("/dev/t", "AVAIL", 8),
        "/dev/u": disk("/dev/u", "UNAVAIL", 9),
    });
    for state in ["FAULTED", "REMOVED", "UNAVAIL"] {
        let disks =
            json!({"/dev/a": disk("/dev/a", state, 1), "/dev/b": disk("/dev/b", "ONLINE", 2)});
        for (group, kind) in [("mirror-0", "mirror"), ("raidz2-0", "raidz")] {
            let status = pool(group, kind, disks.clone(), spares.clone());
            assert_eq!(found(&status), [("1", vec!["/dev/t"])], "{state}");
        }
    }
}

#[test]
fn a_device_that_somebody_took_out_or_that_is_replaced_has_none() {
    let spares = json!({"/dev/t": disk("/dev/t", "AVAIL", 8)});
    let offline = json!({"/dev/a": disk("/dev/a", "OFFLINE", 1)});
    assert_eq!(
        found(&pool("mirror-0", "mirror", offline, spares.clone())),
        []
    );
    let lost =
        json!({"/dev/a": disk("/dev/a", "UNAVAIL", 1), "/dev/b": disk("/dev/b", "ONLINE", 2)});
    for group in ["spare", "replacing"] {
        let name = format!("{group}-0");
        assert_eq!(found(&pool(&name, group, lost.clone(), spares.clone())), []);
    }
    // Without redundancy there is nothing to fill a spare with.
    let alone = json!({"pools": {"tank": {"name": "tank", "state": "UNAVAIL", "spares": spares,
        "vdevs": {"tank": {"vdev_type": "root", "vdevs": {"/dev/a": disk("/dev/a", "FAULTED", 1)}}}
    }}});
    assert_eq!(found(&parse(&alone.to_string(), "tank").unwrap()), []);
}

#[test]
fn a_draids_own_spares_come_first_and_only_for_it() {
    let spares = json!({
        "/dev/t": disk("/dev/t", "AVAIL", 8),
        "draid1-0-0": {"vdev_type": "dspare", "state": "AVAIL", "guid": 10},
        "draid1-1-0": {"vdev_type": "dspare", "state": "AVAIL", "guid": 11},
        "draid2-1-0": {"vdev_type": "dspare", "state": "AVAIL", "guid": 12},
    });
    let disks = json!({"/dev/a": disk("/dev/a", "FAULTED", 1)});
    let status = pool("draid1:2d:5c:1s-1", "draid", disks.clone(), spares.clone());
    assert_eq!(found(&status), [("1", vec!["draid1-1-0", "/dev/t"])]);
    let status = pool("mirror-1", "mirror", disks, spares);
    assert_eq!(found(&status), [("1", vec!["/dev/t"])]);
}
