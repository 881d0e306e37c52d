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

/// What zpool 2.3.9 says of pools of all layouts, whole and after devices were taken away.
const WHOLE: &str = include_str!("fixtures/import-whole.txt");
const LOST: &str = include_str!("fixtures/import-lost.txt");

/// Names and states of the pools, and their bad devices.
fn told(text: &str) -> Vec<(String, String, Vec<String>)> {
    let bad = |pool: &Importable| {
        let bad = pool.devices.iter().filter(|leaf| leaf.is_bad());
        bad.map(|leaf| leaf.name.clone()).collect()
    };
    let all = parse(text).into_iter();
    all.map(|p| (p.name.clone(), p.state.clone(), bad(&p)))
        .collect()
}

#[test]
fn what_the_tool_prints_is_understood() {
    let row = |name: &str, state: &str, bad: &[&str]| {
        let bad = bad.iter().map(ToString::to_string).collect();
        (name.to_owned(), state.to_owned(), bad)
    };
    assert_eq!(
        told(WHOLE),
        [
            row("dr", "DEGRADED", &["loop18"]),
            row("z3", "ONLINE", &[]),
            row("z2", "ONLINE", &[]),
            row("z1", "ONLINE", &[]),
        ]
    );
    assert_eq!(
        told(LOST),
        [
            row("dr", "DEGRADED", &["loop18"]),
            row("z3", "UNAVAIL", &["loop12", "loop13", "loop14", "loop15"]),
            row("z2", "DEGRADED", &["loop8"]),
            row("z1", "DEGRADED", &["loop3"]),
        ]
    );
    assert!(parse(WHOLE).iter().all(Importable::can_be_imported));
    let lost: Vec<bool> = parse(LOST)
        .iter()
        .map(Importable::can_be_imported)
        .collect();
    assert_eq!(lost, [true, false, true, true]);
    assert_eq!(parse(WHOLE)[3].guid, "6075602671372811078");
}

proptest! {
    #[test]
    fn no_listing_is_too_strange(lines in prop::collection::vec(
        "(   pool: |     id: |  state: |status: |\t|\t  |config:)?\\PC{0,30}", 0..20
    )) {
        let _ = parse(&lines.join("\n"));
    }
}
