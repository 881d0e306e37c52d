use super::*;
use crate::fakes::{Container, call, call_of, in_namespace};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::mpsc;
use std::time::{Duration, Instant};

const MOUNTS: &str = "mounts \"$@\"";

fn volume(options: Value) -> Volume<VolumeOptions> {
    Volume {
        id: VolumeId::random(),
        options: serde_json::from_value(options).unwrap(),
    }
}

#[test]
fn versions_are_tried_newest_first_and_only_if_none_is_asked_for() {
    in_namespace(|| {
        let container = Container::new();
        let script = "case $5 in vers=4.0*) mounts \"$@\";; esac
            refuses 'requested NFS version or transport protocol is not supported'";
        let nfs = container.open(script, json!(["/srv/media"]), json!({}));
        let mounted = nfs.mount(&call(), &volume(json!({})), false).unwrap();
        assert_eq!(
            (mounted.source.as_str(), mounted.subdirectory),
            ("127.0.0.1:/srv/media", None)
        );
        let calls = container.calls();
        let tried: Vec<&str> = calls.iter().map(|c| &c[4][..8]).collect();
        assert_eq!(tried, ["vers=4.2", "vers=4.1", "vers=4.0"]);
        for arguments in &calls {
            assert_eq!(arguments.len(), 5, "{arguments:?}");
            assert_eq!(arguments[0], "127.0.0.1:/srv/media");
            assert_eq!(arguments[1], mounted.path.to_str().unwrap());
            assert_eq!(arguments[2..4], ["-n", "-o"]);
            assert!(
                arguments[4].contains(",hard,") && arguments[4].ends_with("nosuid,nodev,retry=0")
            );
        }
        let error = nfs
            .mount(&call(), &volume(json!({"vers": "4.1"})), false)
            .unwrap_err();
        assert_eq!(error.kind, ErrorKind::NotFound);
        assert!(error.to_string().contains("with NFS 4.1"), "{error}");
        assert_eq!(container.calls().len(), 4);
        nfs.close().unwrap();
    });
}

#[test]
fn a_reason_that_another_version_cannot_mend_ends_it() {
    in_namespace(|| {
        let container = Container::new();
        let script = "refuses \"access denied by server while mounting $1\"";
        let nfs = container.open(script, json!(["/srv/media"]), json!({}));
        let error = nfs.mount(&call(), &volume(json!({})), false).unwrap_err();
        assert_eq!(error.kind, ErrorKind::PermissionDenied);
        assert!(
            error
                .to_string()
                .contains("access denied by server while mounting 127.0.0.1:/srv/media")
        );
        assert_eq!(container.calls().len(), 1);
        assert!(container.mounted().is_empty());
    });
}

#[test]
fn an_export_that_nfs_4_lacks_is_looked_for_by_nfs_3_and_the_first_reason_is_told() {
    in_namespace(|| {
        let container = Container::new();
        let script =
            "case $5 in vers=3*) refuses \"access denied by server while mounting $1\";; esac
            refuses \"mounting $1 failed, reason given by server: No such file or directory\"";
        let nfs = container.open(script, json!(["/srv/media"]), json!({"nolock": true}));
        let error = nfs.mount(&call(), &volume(json!({})), false).unwrap_err();
        assert_eq!(error.kind, ErrorKind::NotFound);
        assert!(
            error.to_string().contains("No such file or directory"),
            "{error}"
        );
        let tried: Vec<String> = container
            .calls()
            .iter()
            .map(|c| c[4][..6].to_owned())
            .collect();
        assert_eq!(tried, ["vers=4", "vers=3"]);
    });
}

#[test]
fn volumes_of_one_export_share_a_mount_and_the_last_one_takes_it_away() {
    in_namespace(|| {
        let container = Container::new();
        let nfs = container.open(MOUNTS, json!(["/srv/media"]), json!({}));
        let (whole, part) = (volume(json!({})), volume(json!({"path": "team/a"})));
        let other = volume(json!({"soft": true}));
        let first = nfs.mount(&call(), &whole, false).unwrap();
        let second = nfs.mount(&call(), &part, false).unwrap();
        assert_eq!(first.path, second.path);
        assert_eq!(second.subdirectory, Some("team/a".into()));
        assert!(first.path.join("team/a").is_dir());
        let third = nfs.mount(&call(), &other, false).unwrap();
        assert_ne!(first.path, third.path, "other options, other mount");
        nfs.mount(&call(), &whole, false).unwrap();
        assert_eq!(container.calls().len(), 2);
        nfs.unmount(&call(), whole.id).unwrap();
        assert!(container.mounted().contains(&first.path));
        nfs.unmount(&call(), part.id).unwrap();
        assert!(!container.mounted().contains(&first.path));
        nfs.unmount(&call(), part.id).unwrap();
        nfs.unmount(&call(), other.id).unwrap();
        assert!(container.mounted().is_empty());
        assert_eq!(
            fs::read_dir(container.mounts()).unwrap().count(),
            0,
            "nothing is left"
        );
    });
}

#[test]
fn the_next_plugin_host_finds_mounts_and_their_users() {
    in_namespace(|| {
        let container = Container::new();
        let (one, two) = (volume(json!({})), volume(json!({"path": "two"})));
        let dies = container.open(MOUNTS, json!(["/srv/media"]), json!({}));
        dies.mount(&call(), &one, false).unwrap();
        dies.mount(&call(), &two, false).unwrap();
        drop(dies);
        let next = container.open(MOUNTS, json!(["/srv/media"]), json!({}));
        next.mount(&call(), &one, false).unwrap();
        assert_eq!(container.calls().len(), 1, "not mounted a second time");
        next.unmount(&call(), one.id).unwrap();
        assert_eq!(container.mounted().len(), 1, "the other one still uses it");
        next.unmount(&call(), two.id).unwrap();
        assert!(container.mounted().is_empty());
    });
}

#[test]
fn directories_are_made_with_mode_and_owner_and_deleted_only_when_asked() {
    in_namespace(|| {
        let container = Container::new();
        let nfs = container.open(MOUNTS, json!(["/srv/media"]), json!({}));
        let kept = volume(json!({"path": "kept", "mode": "0750", "uid": 1000, "gid": "1001"}));
        let gone = volume(json!({"path": "a/gone", "on_remove": "delete"}));
        assert_eq!(nfs.create(&call(), &kept).unwrap(), Created::Created);
        assert_eq!(nfs.create(&call(), &kept).unwrap(), Created::AlreadyExists);
        assert_eq!(nfs.create(&call(), &gone).unwrap(), Created::Created);
        assert_eq!(
            nfs.create(&call(), &volume(json!({}))).unwrap(),
            Created::AlreadyExists
        );
        let root = container.mounted()[0].clone();
        let made = fs::metadata(root.join("kept")).unwrap();
        assert_eq!(
            (made.mode() & 0o7777, made.uid(), made.gid()),
            (0o750, 1000, 1001)
        );
        fs::write(root.join("a/gone/file"), "x").unwrap();
        nfs.mount(&call(), &gone, false).unwrap();
        assert_eq!(nfs.remove(&call(), &kept).unwrap(), Removed::AlreadyAbsent);
        assert_eq!(
            nfs.remove(&call(), &volume(json!({"on_remove": "delete"})))
                .unwrap(),
            Removed::AlreadyAbsent
        );
        assert!(root.join("kept").is_dir());
        assert_eq!(container.calls().len(), 1);
    });
}

#[test]
fn a_directory_is_deleted_with_what_is_in_it_unless_another_volume_lies_in_it() {
    in_namespace(|| {
        let container = Container::new();
        let nfs = container.open(MOUNTS, json!(["/srv/media"]), json!({}));
        let keeper = volume(json!({}));
        nfs.mount(&call(), &keeper, false).unwrap();
        let outer = volume(json!({"path": "outer", "on_remove": "delete"}));
        let inner = volume(json!({"path": "outer/inner"}));
        nfs.mount(&call(), &outer, false).unwrap();
        let root = nfs.mount(&call(), &inner, false).unwrap().path;
        let error = nfs.remove(&call(), &outer).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Busy);
        assert!(error.to_string().contains(&inner.id.to_string()), "{error}");
        assert!(root.join("outer/inner").is_dir());
        nfs.unmount(&call(), inner.id).unwrap();
        assert_eq!(nfs.remove(&call(), &outer).unwrap(), Removed::Removed);
        assert!(!root.join("outer").exists());
        assert_eq!(nfs.remove(&call(), &outer).unwrap(), Removed::AlreadyAbsent);
    });
}

#[test]
fn a_missing_directory_is_an_error_where_it_may_not_be_made() {
    in_namespace(|| {
        let container = Container::new();
        let exports = json!(["/srv/media", {"path": "/srv/iso", "read_only": true}]);
        let nfs = container.open(MOUNTS, exports, json!({}));
        for (options, read_only) in [
            (
                json!({"export": "/srv/media", "path": "x", "create": false}),
                false,
            ),
            (json!({"export": "/srv/media", "path": "x"}), true),
            (json!({"export": "/srv/iso", "path": "x"}), false),
        ] {
            let error = nfs.mount(&call(), &volume(options), read_only).unwrap_err();
            assert_eq!(error.kind, ErrorKind::NotFound);
            assert!(error.to_string().contains("directory x"), "{error}");
        }
        assert!(
            container.calls()[1][4].ends_with(",ro"),
            "{:?}",
            container.calls()
        );
        assert!(!container.calls()[0][4].ends_with(",ro"));
    });
}

#[test]
fn a_link_on_the_way_is_refused() {
    in_namespace(|| {
        let container = Container::new();
        let nfs = container.open(MOUNTS, json!(["/srv/media"]), json!({}));
        let root = nfs.mount(&call(), &volume(json!({})), false).unwrap().path;
        std::os::unix::fs::symlink("/etc", root.join("link")).unwrap();
        for path in ["link", "link/sub"] {
            let error = nfs
                .mount(&call(), &volume(json!({"path": path})), false)
                .unwrap_err();
            assert!(!error.kind.is_transient(), "{error}");
        }
        assert!(!std::path::Path::new("/etc/sub").exists());
    });
}

#[test]
fn a_mount_program_that_lies_or_hangs_is_found_out() {
    in_namespace(|| {
        let container = Container::new();
        let lies = container.open("exit 0", json!(["/srv/media"]), json!({}));
        let error = lies.mount(&call(), &volume(json!({})), false).unwrap_err();
        assert!(error.to_string().contains("nothing is mounted"), "{error}");
        let hangs = container.open("sleep 60", json!(["/srv/media"]), json!({}));
        let began = Instant::now();
        let brief = call_of(Duration::from_millis(1500));
        let error = hangs.mount(&brief, &volume(json!({})), false).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Timeout);
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "{:?}",
            began.elapsed()
        );
    });
}

#[test]
fn an_unreachable_server_is_found_before_anything_is_tried() {
    let container = Container::new();
    let nfs = container.open(MOUNTS, json!(["/srv/media"]), json!({}));
    let away = volume(json!({"port": 1}));
    let error = nfs.mount(&call(), &away, false).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unreachable);
    assert!(
        error.to_string().contains("127.0.0.1:/srv/media") && error.to_string().contains("refused")
    );
    assert!(container.calls().is_empty());
}

/// Acceptance case 5: an unmount never waits for a server that is away.
#[test]
fn a_server_that_went_fails_mounts_at_once_and_unmounts_go_on() {
    in_namespace(|| {
        let container = Container::new();
        let nfs = container.open(MOUNTS, json!(["/srv/media"]), json!({}));
        let one = volume(json!({"path": "one"}));
        nfs.mount(&call(), &one, false).unwrap();
        let hung = nfs.mounts.clone();
        let source = nfs.source(&one.options).unwrap();
        std::thread::scope(|scope| {
            let (unmounted, waits) = mpsc::channel::<()>();
            // Somebody's call hangs with the mount in his hands.
            scope.spawn(|| {
                hung.with(&call(), &source, move |_| {
                    let _ = waits.recv_timeout(Duration::from_secs(30));
                    Ok(())
                })
            });
            std::thread::sleep(Duration::from_millis(200));
            let began = Instant::now();
            nfs.unmount(&call(), one.id).unwrap();
            assert!(
                began.elapsed() < Duration::from_secs(20),
                "{:?}",
                began.elapsed()
            );
            drop(unmounted);
            assert!(container.mounted().is_empty());
        });
        nfs.mount(&call(), &one, false).unwrap();
        container.server_leaves();
        let began = Instant::now();
        let error = nfs.mount(&call(), &one, false).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unreachable);
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "{:?}",
            began.elapsed()
        );
        nfs.unmount(&call(), one.id).unwrap();
        assert_eq!(fs::read_dir(container.mounts()).unwrap().count(), 0);
    });
}

#[test]
fn kerberos_is_accepted_and_what_it_needs_is_said() {
    if std::path::Path::new("/etc/krb5.keytab").exists() {
        println!("skipped: this machine has a keytab");
        return;
    }
    let container = Container::new();
    let nfs = container.open(MOUNTS, json!(["/srv/media"]), json!({"sec": "krb5p"}));
    let error = nfs.mount(&call(), &volume(json!({})), false).unwrap_err();
    assert!(error.to_string().contains("/etc/krb5.keytab"), "{error}");
    assert!(container.calls().is_empty());
}

#[test]
fn a_stale_mount_is_replaced_by_the_next_who_wants_it() {
    in_namespace(|| {
        let container = Container::new();
        let nfs = container.open(MOUNTS, json!(["/srv/media"]), json!({}));
        let one = volume(json!({}));
        let path = nfs.mount(&call(), &one, false).unwrap().path;
        fs::write(path.join("old"), "x").unwrap();
        nfs.mounts.mark_stale(&path);
        assert_eq!(nfs.mount(&call(), &one, false).unwrap().path, path);
        assert_eq!(container.calls().len(), 2);
        assert!(!path.join("old").exists(), "a fresh one");
        nfs.mount(&call(), &one, false).unwrap();
        assert_eq!(container.calls().len(), 2);
        assert_eq!(container.mounted().len(), 1);
    });
}

#[test]
fn closing_leaves_what_is_used_to_whoever_opens_the_context_anew() {
    in_namespace(|| {
        let container = Container::new();
        let exports = json!(["/a", "/b"]);
        let nfs = container.open(MOUNTS, exports.clone(), json!({}));
        let used = volume(json!({"export": "/a"}));
        let done = volume(json!({"export": "/b", "path": "x"}));
        let path = nfs.mount(&call(), &used, false).unwrap().path;
        nfs.create(&call(), &done).unwrap();
        assert_eq!(container.mounted().len(), 2);
        nfs.close().unwrap();
        nfs.close().unwrap();
        assert_eq!(container.mounted(), std::slice::from_ref(&path));
        // The options change: the volume moves to another mount, and the old one goes when idle.
        let anew = container.open(MOUNTS, exports, json!({"soft": true}));
        let moved = anew.mount(&call(), &used, false).unwrap().path;
        assert_ne!(moved, path);
        anew.close().unwrap();
        assert_eq!(container.mounted(), [moved]);
        anew.unmount(&call(), used.id).unwrap();
        assert!(container.mounted().is_empty());
        assert_eq!(fs::read_dir(container.mounts()).unwrap().count(), 0);
    });
}

#[test]
fn mounts_side_by_side_are_made_once() {
    in_namespace(|| {
        let container = Container::new();
        let nfs = container.open("sleep 0.3; mounts \"$@\"", json!(["/srv/media"]), json!({}));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| nfs.mount(&call(), &volume(json!({})), false).unwrap());
            }
        });
        assert_eq!(container.calls().len(), 1);
    });
}

#[test]
fn the_export_may_be_left_out_only_where_there_is_one() {
    let of = |exports: Value, options: Value| {
        let container = Container::new();
        let nfs = container.open(MOUNTS, exports, json!({}));
        nfs.source(&volume(options).options)
            .map(|s| s.name())
            .map_err(|e| e.to_string())
    };
    assert_eq!(of(json!(["/a"]), json!({})).unwrap(), "127.0.0.1:/a");
    assert_eq!(
        of(json!([]), json!({"export": "/b"})).unwrap(),
        "127.0.0.1:/b"
    );
    assert!(of(json!([]), json!({})).unwrap_err().contains("set export"));
    assert!(
        of(json!(["/a", "/b"]), json!({}))
            .unwrap_err()
            .contains("/a, /b")
    );
    assert!(
        of(json!(["/a"]), json!({"soft": true, "hard": true}))
            .unwrap_err()
            .contains("hard and soft")
    );
}

#[test]
fn exports_are_listed_by_name() {
    let container = Container::new();
    let nfs = container.open(
        MOUNTS,
        json!(["/srv/media", {"path": "/srv/home", "name": "people"}]),
        json!({}),
    );
    let listed = nfs.list(&call()).unwrap();
    let names: Vec<&str> = listed.iter().map(|l| l.name.as_str()).collect();
    assert_eq!(names, ["media", "people"]);
    assert!(listed.iter().all(|l| l.declared));
    for volume in &listed {
        let options: VolumeOptions = serde_json::from_value(volume.options.clone()).unwrap();
        nfs.source(&options).unwrap();
    }
}

#[test]
fn the_manifest_is_complete() {
    let manifest = Nfs::manifest("1.0.0");
    assert_eq!(manifest.kind.as_str(), "nfs");
    assert!(manifest.privileges.host_network);
    assert!(!manifest.privileges.capabilities.contains("ALL"));
    let loses = |options| manifest.removal_loses_data(&options);
    assert!(!loses(json!({"export": "/media", "path": "a"})));
    assert!(!loses(json!({"export": "/media", "on_remove": "delete"})));
    assert!(loses(json!({"path": "a", "on_remove": "delete"})));
    assert_eq!(manifest.url.unwrap().scheme, "nfs");
    assert!(
        manifest.context_schema["required"]
            .as_array()
            .unwrap()
            .contains(&json!("server"))
    );
}
