use super::*;
use ErrorKind::*;
use proptest::prelude::*;

/// Logs of Gluster 11.1, the reason found in each and what it says.
const FAILED: &[(&str, ErrorKind, &str)] = &[
    (
        include_str!("../fixtures/no-such-volume.log"),
        NotFound,
        "failed to fetch volume file (key:nosuch)",
    ),
    (
        include_str!("../fixtures/no-such-name.log"),
        Unreachable,
        "DNS resolution failed on host nosuch.test",
    ),
    (
        include_str!("../fixtures/stopped-volume.log"),
        Unreachable,
        "failed to get the port number",
    ),
    (
        include_str!("../fixtures/not-allowed.log"),
        PermissionDenied,
        "Authentication failed",
    ),
    (
        include_str!("../fixtures/no-such-directory.log"),
        NotFound,
        "\"/nosuch\" is not found",
    ),
    (
        include_str!("../fixtures/refused.log"),
        Unreachable,
        "ended (exit status 1)",
    ),
];

#[test]
fn every_known_failure_has_its_kind_its_reason_and_a_remedy() {
    for (log, kind, says) in FAILED {
        let error = explain(log, "exit status 1", "g1:gv0");
        assert_eq!(error.kind, *kind, "{error}");
        let cause = error.cause.as_deref().unwrap();
        assert!(cause.contains(says), "{cause}");
        assert!(!cause.starts_with("0-"), "{cause}");
        assert!(
            error.message.contains("g1:gv0") && error.remedy.is_some(),
            "{error}"
        );
    }
}

#[test]
fn what_nobody_has_seen_yet_is_passed_on() {
    let log = "[2026-11-23 16:32:15.457859 +0000] E [fuse.c:1:f] 0-fuse: first\n\
               [2026-11-23 16:32:15.457860 +0000] E [fuse.c:1:f] 0-fuse: the moon is full\n\
               [2026-11-23 16:32:15.457861 +0000] W [fuse.c:1:f] 0-fuse: by the way\n";
    let error = explain(log, "exit status 2", "g1:gv0");
    assert_eq!(error.cause.as_deref(), Some("the moon is full"));
}

#[test]
fn a_line_is_its_level_and_its_text() {
    let backtrace = "[2026-11-23 16:32:15.457859 +0000] W [glusterfsd.c:1427:cleanup_and_exit] \
        (-->/lib/x86_64-linux-gnu/libgfrpc.so.0(+0xe525) [0x7fd58b808525] -->glusterfs(+0x12bf2) \
        [0x5636] ) 0-: received signum (1), shutting down ";
    let found: Vec<Line<'_>> = lines(backtrace).collect();
    assert_eq!(
        found,
        [Line {
            level: 'W',
            text: "0-: received signum (1), shutting down"
        }]
    );
    assert_eq!(
        lines("  1: volume gv0-client-0\n+----+\nFinal graph:\n\n").count(),
        0
    );
}

#[test]
fn a_split_brain_is_known_by_its_file() {
    let log = include_str!("../fixtures/split-brain.log");
    let found: Vec<String> = split_brains(log).into_iter().collect();
    assert_eq!(found, ["c06d1f69-6eff-421d-8a13-f0d67e59f72c"]);
    assert!(split_brains(include_str!("../fixtures/not-allowed.log")).is_empty());
}

#[test]
fn what_our_own_looks_cause_is_not_told() {
    let told = worth_telling(include_str!("../fixtures/brick-killed.log"));
    let texts: Vec<&str> = told.iter().map(|l| l.text).collect();
    assert_eq!(texts.len(), 1, "{texts:?}");
    assert!(texts[0].contains("readv on 10.77.0.12:59133 failed"));
}

proptest! {
    #[test]
    fn no_log_is_too_odd(log in "(\\PC|\n|\\[|\\]|\\)|: ){0,400}") {
        let _ = explain(&log, "exit status 1", "g1:gv0");
        let _ = split_brains(&log);
        let _ = worth_telling(&log);
    }
}
