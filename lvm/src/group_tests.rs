use super::*;
use crate::fakes::{Container, call_of};
use lazarette_plugin::Call;
use lazarette_plugin::serde_json::{Value, from_value, json};

const ONE: &str = "ZuZyOH-ELib-KS5K-Vsp0-tpq1-y9f4-O0z756";
const OTHER: &str = "6QTv6c-saEx-nkWR-Rzjp-IokU-Tvmy-wH3320";

fn call() -> Call {
    call_of(Duration::from_secs(60))
}

fn config(more: Value) -> Config {
    let mut all = json!({"volume_group": "fast"});
    for (name, value) in more.as_object().unwrap() {
        all[name] = value.clone();
    }
    from_value(all).unwrap()
}

/// A row of vgs(8) for a group called `fast`.
fn group(uuid: &str, more: &[(&str, &str)]) -> Value {
    let mut row = json!({"vg_name": "fast", "vg_uuid": uuid, "vg_size": "1", "vg_free": "1",
        "vg_extent_size": "1", "vg_missing_pv_count": "0", "vg_exported": "0",
        "vg_lock_type": "", "vg_systemid": ""});
    for (column, value) in more {
        row[*column] = json!(value);
    }
    row
}

/// A row of pvs(8) for a device of that group.
fn device(name: &str, uuid: &str, group: &str) -> Value {
    let in_group = if group.is_empty() { "" } else { "fast" };
    json!({"pv_name": name, "pv_uuid": uuid, "vg_name": in_group, "vg_uuid": group, "pv_size": "1",
        "pv_missing": "0", "pv_duplicate": "0", "pv_in_use": "0"})
}

/// What the machine has.
fn machine(groups: &[Value], devices: &[Value]) -> Container {
    let container = Container::new(&[]);
    container.set("vgs.json", &json!({"report": [{"vg": groups}]}).to_string());
    container.set(
        "pvs.json",
        &json!({"report": [{"pv": devices}]}).to_string(),
    );
    container
}

fn found(container: &Container, more: Value) -> Result<Option<Found>> {
    let call = call();
    let inner = container.inner(json!({"volume_group": "fast"}));
    find(&inner.lvm, Time::Of(&call), &config(more))
}

#[test]
fn of_several_groups_of_a_name_the_uuid_says_which_is_meant() {
    let machine = machine(
        &[group(ONE, &[]), group(OTHER, &[])],
        &[
            device("/dev/null", "a", ONE),
            device("/dev/zero", "b", OTHER),
        ],
    );
    let error = found(&machine, json!({})).err().unwrap().to_string();
    for said in [ONE, OTHER, "uuid: UUID"] {
        assert!(error.contains(said), "{error}");
    }
    for (uuid, own, others) in [
        (ONE, "/dev/null", "/dev/zero"),
        (OTHER, "/dev/zero", "/dev/null"),
    ] {
        let one = found(&machine, json!({"uuid": uuid})).unwrap().unwrap();
        assert_eq!(one.group.uuid, uuid);
        let paths: Vec<_> = one.devices.values().collect();
        assert_eq!(paths, [&PathBuf::from(own)]);
        assert_eq!(one.namesakes, [PathBuf::from(others)]);
    }
}

#[test]
fn a_group_of_another_uuid_is_not_taken_for_the_one_that_is_meant() {
    let there = machine(&[group(OTHER, &[])], &[device("/dev/zero", "b", OTHER)]);
    let error = found(&there, json!({"uuid": ONE})).err().unwrap();
    assert_eq!(error.kind, ErrorKind::NotFound);
    let text = error.to_string();
    assert!(text.contains(ONE) && text.contains(OTHER), "{text}");
    let none = machine(&[], &[]);
    assert!(found(&none, json!({"uuid": ONE})).unwrap().is_none());
    assert!(found(&none, json!({})).unwrap().is_none());
}

#[test]
fn a_device_that_is_there_twice_is_refused_with_both_names() {
    let copied = [device("/dev/null", "a", ONE), device("/dev/zero", "a", ONE)];
    let error = found(&machine(&[group(ONE, &[])], &copied), json!({}));
    let text = error.err().unwrap().to_string();
    assert!(
        text.contains("there twice") && text.contains("/dev/null and /dev/zero"),
        "{text}"
    );
    // Two others that are the same are none of its business.
    let others = [
        device("/dev/null", "a", ONE),
        device("/dev/zero", "b", OTHER),
        device("/dev/full", "b", OTHER),
    ];
    let alone = machine(&[group(ONE, &[])], &others);
    assert!(found(&alone, json!({})).unwrap().is_some());
}

#[test]
fn what_belongs_to_others_is_refused() {
    let cases: [(&[(&str, &str)], &str); 4] = [
        (&[("vg_exported", "1")], "vgimport"),
        (&[("vg_lock_type", "sanlock")], "sanlock"),
        (&[("vg_systemid", "other")], "system ID other"),
        (&[("vg_lock_type", "none")], ""),
    ];
    for (what, says) in cases {
        let machine = machine(&[group(ONE, what)], &[device("/dev/null", "a", ONE)]);
        let group = found(&machine, json!({})).unwrap().unwrap().group;
        match refuse_foreign(&group) {
            Ok(()) => assert_eq!(says, ""),
            Err(error) => assert!(error.to_string().contains(says), "{error}"),
        }
    }
}

#[test]
fn a_group_that_is_not_there_is_told_from_a_device_that_is_not() {
    let machine = machine(&[], &[]);
    let inner = machine.inner(json!({"volume_group": "fast"}));
    let (call, gone) = (call(), json!({"devices": ["/dev/nonexistent/disk"]}));
    let said = absent(&inner.lvm, Time::Of(&call), &config(gone)).to_string();
    assert!(said.contains("no device /dev/nonexistent/disk"), "{said}");
    let said = absent(&inner.lvm, Time::Of(&call), &config(json!({}))).to_string();
    assert!(said.contains("there is none at all"), "{said}");
}

#[test]
fn a_device_of_another_group_is_never_taken() {
    let machine = machine(&[], &[device("/dev/null", "a", OTHER)]);
    let inner = machine.inner(json!({"volume_group": "fast"}));
    let call = call();
    let wanted = [from_value(json!("/dev/null")).unwrap()];
    // Not even if it may be wiped.
    let error = prepare(&inner.lvm, Time::Of(&call), &wanted, true).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("belongs to the volume group fast"),
        "{error}"
    );
    assert!(machine.calls().is_empty());
}
