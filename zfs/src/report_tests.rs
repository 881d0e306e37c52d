use super::*;
use ErrorKind::*;
use proptest::prelude::*;

#[test]
fn messages_become_kinds_reasons_and_remedies() {
    for (said, kind, part) in [
        (
            "cannot import 'tank': pool was previously in use from another system.\nLast accessed by other (hostid=deadbeef) at Mon Nov 23 16:00:00 2026\nThe pool can be imported, use 'zpool import -f' to import the pool.\n",
            PermissionDenied,
            "Last accessed by other (hostid=deadbeef)",
        ),
        (
            "cannot create 'tank/x': out of space\n",
            NoSpace,
            "out of space",
        ),
        ("cannot export 'tank': pool is busy\n", Busy, "pool is busy"),
        (
            "cannot set property for 'tank/x': size is less than current used or reserved space\n",
            InvalidArgument,
            "size is less",
        ),
        (
            "cannot rollback to 'tank/x@a': more recent snapshots or bookmarks exist\nuse '-r' to force deletion of the following snapshots and bookmarks:\ntank/x@b\n",
            Busy,
            "tank/x@b",
        ),
        (
            "cannot open 'tank/x': dataset does not exist\n",
            NotFound,
            "does not exist",
        ),
        (
            "Key load error: Incorrect key provided for 'tank/x'.\n",
            PermissionDenied,
            "Incorrect key",
        ),
        (
            "invalid vdev specification\nuse '-f' to override the following errors:\nmismatched replication level: pool uses mirror and new vdev uses disk\n",
            InvalidArgument,
            "mismatched replication level",
        ),
        ("", Internal, "without a word"),
        ("something nobody has seen\n", Internal, "nobody has seen"),
    ] {
        let error = explain_message(said, "cannot do it");
        assert_eq!(error.kind, kind, "{said}");
        let text = error.to_string();
        assert!(
            text.starts_with("cannot do it: ") && text.contains(part),
            "{text}"
        );
        assert!(
            !text.contains("use '-"),
            "advice that is not for us: {text}"
        );
        assert!(error.remedy.is_some());
    }
}

#[test]
fn what_is_not_there_is_told_from_what_fails() {
    assert!(is_absent("cannot open 'tank/x': dataset does not exist\n"));
    assert!(is_absent(
        "could not find any snapshots to destroy; check snapshot names.\n"
    ));
    assert!(!is_absent("cannot open 'tank/x': I/O error\n"));
}

proptest! {
    #[test]
    fn no_message_is_too_strange(text in "\\PC*") {
        let error = explain_message(&text, "what");
        prop_assert!(error.remedy.is_some());
        let _ = is_absent(&text);
    }
}
