use super::*;
use proptest::prelude::*;

/// Two pools: one that lacks a device of a mirror, and one of another machine.
const TWO: &str = "   pool: tank
     id: 236926305192442876
  state: DEGRADED
status: One or more devices are missing from the system.
 action: The pool can be imported despite missing or damaged devices.  The
\tfault tolerance of the pool may be compromised if imported.
   see: https://openzfs.github.io/openzfs-docs/msg/ZFS-8000-2Q
 config:

\ttank                      DEGRADED
\t  mirror-0                DEGRADED
\t    virtio-disk1          ONLINE
\t    15022189429289813929  UNAVAIL
\tspecial
\t  virtio-disk5            ONLINE
\tcache
\t  virtio-disk3
\tspares
\t  virtio-disk4
\tlogs
\t  virtio-disk6            FAULTED  corrupted data

   pool: far
     id: 77
  state: ONLINE
status: The pool was last accessed by another system.
 action: The pool can be imported using its name or numeric identifier and
\tthe '-f' flag.
   see: https://openzfs.github.io/openzfs-docs/msg/ZFS-8000-EY
 config:

\tfar               ONLINE
\t  virtio-disk7    ONLINE
";

#[test]
fn pools_are_told_with_what_is_wrong_with_them() {
    let all = parse(TWO);
    let [tank, far] = &all[..] else {
        panic!("{all:?}");
    };
    assert_eq!(
        (tank.name.as_str(), tank.guid.as_str()),
        ("tank", "236926305192442876")
    );
    assert_eq!(tank.state, "DEGRADED");
    assert!(tank.can_be_imported() && !tank.is_foreign());
    assert!(tank.action.ends_with("may be compromised if imported."));
    assert!(far.is_foreign() && !far.can_be_imported());
    assert_eq!(far.devices.len(), 1);
}

#[test]
fn caches_and_spares_have_no_state_and_are_not_bad() {
    let all = parse(TWO);
    let names: Vec<&str> = all[0].devices.iter().map(|d| d.name.as_str()).collect();
    assert!(names.contains(&"virtio-disk3") && names.contains(&"virtio-disk4"));
    let bad: Vec<&str> = all[0]
        .devices
        .iter()
        .filter(|leaf| leaf.is_bad())
        .map(|leaf| leaf.name.as_str())
        .collect();
    assert_eq!(bad, ["15022189429289813929", "virtio-disk6"]);
    assert_eq!(all[0].devices.last().unwrap().note, "corrupted data");
}

proptest! {
    #[test]
    fn no_listing_is_too_strange(lines in prop::collection::vec(
        "(   pool: |     id: |  state: |status: |\t|\t  |config:)?\\PC{0,30}", 0..20
    )) {
        let _ = parse(&lines.join("\n"));
    }
}
