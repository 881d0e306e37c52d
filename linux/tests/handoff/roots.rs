//! The target root: read-only for everybody, found again by anybody.

use std::path::Path;
use std::process::Command;

use lazarette_linux::mount::{MountError, MountOptions};
use lazarette_linux::namespace::{MountNamespace, NamespaceError};
use lazarette_linux::view::{Missing, Prepared, Rungs, Sharing, View, target_roots};

use crate::fixture::{Fixture, errno, is_root, names, namespace, tmpfs};

#[test]
fn nothing_can_be_written_under_a_missing_mount() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    fixture.root.prepare(Path::new("nas/media")).unwrap();
    fixture.in_view(|_| {
        for path in ["nas/media", "nas", ""] {
            let directory = fixture.target(path);
            assert_eq!(
                errno(std::fs::create_dir(directory.join("new"))),
                libc::EROFS
            );
            assert_eq!(
                errno(std::fs::write(directory.join("file"), "x")),
                libc::EROFS
            );
        }
        assert_eq!(
            errno(std::fs::remove_dir(fixture.target("nas/media"))),
            libc::EROFS
        );
    });
    assert!(fixture.root.remove(Path::new("nas/media")).unwrap());
    fixture.assert_clean();
}

#[test]
fn directories_are_made_and_removed_with_their_empty_parents() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let root = &fixture.root;
    assert_eq!(root.prepare(Path::new("a/b/c")).unwrap(), Prepared::Created);
    assert_eq!(
        root.prepare(Path::new("a/b/c")).unwrap(),
        Prepared::AlreadyThere
    );
    assert_eq!(root.prepare(Path::new("a/x")).unwrap(), Prepared::Created);
    let mode = fixture.in_view(|_| {
        use std::os::unix::fs::MetadataExt;
        fixture.target("a/b").metadata().unwrap().mode()
    });
    assert_eq!(mode & 0o7777, 0o755);
    assert!(matches!(
        root.remove(Path::new("a")),
        Err(MountError::Busy(_))
    ));
    assert!(root.remove(Path::new("a/b/c")).unwrap());
    assert_eq!(fixture.in_view(|_| names(&fixture.target("a"))), ["x"]);
    assert!(!root.remove(Path::new("a/b/c")).unwrap());
    assert!(root.remove(Path::new("a/x")).unwrap());
    fixture.assert_clean();
    for bad in ["", "/", "..", "a/..", "../a", "a//b", "./a", "a\0b"] {
        assert!(
            matches!(
                root.prepare(Path::new(bad)),
                Err(MountError::BadPath { .. })
            ),
            "{bad:?}"
        );
        assert!(
            matches!(root.remove(Path::new(bad)), Err(MountError::BadPath { .. })),
            "{bad:?}"
        );
    }
}

#[test]
fn a_mounted_target_cannot_be_removed() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let mount = fixture.tmpfs("hello");
    fixture
        .root
        .attach(Path::new("a/b"), mount, &tmpfs(), MountOptions::default())
        .unwrap();
    for path in ["a/b", "a"] {
        let removed = fixture.root.remove(Path::new(path));
        assert!(
            matches!(removed, Err(MountError::Busy(_))),
            "{path}: {removed:?}"
        );
    }
    assert_eq!(fixture.read("a/b/hello").unwrap(), "hello");
    assert!(fixture.root.is_mounted(Path::new("a/b")).unwrap());
    assert!(!fixture.root.is_mounted(Path::new("a")).unwrap());
}

#[test]
fn several_volumes_below_one_directory_come_and_go() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    for name in ["nas/a", "nas/b"] {
        let mount = fixture.tmpfs("hello");
        fixture
            .root
            .attach(Path::new(name), mount, &tmpfs(), MountOptions::default())
            .unwrap();
    }
    fixture
        .root
        .detach(Path::new("nas/a"), Rungs::default())
        .unwrap();
    assert_eq!(fixture.in_view(|_| names(&fixture.target("nas"))), ["b"]);
    fixture
        .root
        .detach(Path::new("nas/b"), Rungs::default())
        .unwrap();
    fixture.assert_clean();
}

#[test]
fn sharing_decides_whether_slaves_see_later_mounts() {
    use rustix::mount::{MountPropagationFlags, mount_bind_recursive, mount_change};
    for (sharing, seen) in [(Sharing::Shared, "hello"), (Sharing::Private, "")] {
        let Some(fixture) = Fixture::with(sharing, Default::default()) else {
            return;
        };
        let copy = fixture.directory.join("copy");
        std::fs::create_dir(&copy).unwrap();
        fixture.in_view(|_| {
            mount_bind_recursive(fixture.root.path(), &copy).unwrap();
            let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
            mount_change(&copy, slave).unwrap();
        });
        let mount = fixture.tmpfs("hello");
        fixture
            .root
            .attach(Path::new("a"), mount, &tmpfs(), MountOptions::default())
            .unwrap();
        let text = fixture.in_view(|_| std::fs::read_to_string(copy.join("a/hello")));
        assert_eq!(text.unwrap_or_default(), seen);
    }
}

/// Runs as a process of its own for the test below: finds the view by its pin alone.
#[test]
fn another_process() {
    let Some(directory) = std::env::var_os("LAZARETTE_TEST_RECOVER") else {
        // Not started by that test.
        return;
    };
    let directory = Path::new(&directory);
    let namespace = MountNamespace::open_pin(&directory.join("pin/mnt")).unwrap();
    let view = View::open(namespace, &directory.join("staging")).unwrap();
    let root = view
        .target_root(&directory.join("mnt"), Sharing::Shared)
        .unwrap();
    assert!(root.is_mounted(Path::new("a/b")).unwrap());
    assert_eq!(root.prepare(Path::new("a/c")).unwrap(), Prepared::Created);
    root.detach(Path::new("a/b"), Rungs::default()).unwrap();
}

#[test]
fn another_process_finds_everything_by_the_pin_alone() {
    if !is_root() {
        return;
    }
    // The pin's own namespace: a child process must see it, and nothing else of this machine.
    let outer = namespace();
    let temporary = tempfile::tempdir().unwrap();
    let directory = temporary.path().canonicalize().unwrap();
    let program = std::env::current_exe().unwrap();
    outer
        .enter(|_| {
            let pin = directory.join("pin/mnt");
            let view = MountNamespace::create_pinned(&pin).unwrap();
            view.pin(&pin).unwrap();
            assert!(MountNamespace::open_pin(&pin).unwrap().is_same(&view));
            let first = View::open(view, &directory.join("staging")).unwrap();
            let root = first
                .target_root(&directory.join("mnt"), Sharing::Shared)
                .unwrap();
            let fixture = directory.join("source");
            std::fs::create_dir(&fixture).unwrap();
            let mount = namespace()
                .enter(|_| {
                    crate::fixture::mount_tmpfs(&fixture);
                    lazarette_linux::mount::clone_tree_verified(&fixture, &tmpfs()).unwrap()
                })
                .unwrap();
            root.attach(Path::new("a/b"), mount, &tmpfs(), MountOptions::default())
                .unwrap();
            drop((root, first));
            let output = Command::new(&program)
                .args(["--exact", "roots::another_process", "--nocapture"])
                .env("LAZARETTE_TEST_RECOVER", &directory)
                .output()
                .unwrap();
            assert!(
                output.status.success(),
                "{}",
                String::from_utf8_lossy(&output.stderr)
            );
            let again = MountNamespace::open_pin(&pin).unwrap();
            let view = View::open(again, &directory.join("staging")).unwrap();
            let root = view
                .target_root(&directory.join("mnt"), Sharing::Shared)
                .unwrap();
            assert!(!root.is_mounted(Path::new("a/b")).unwrap());
            assert_eq!(
                root.prepare(Path::new("a/c")).unwrap(),
                Prepared::AlreadyThere
            );
            let table = view.mount_table().unwrap();
            let at = table
                .rows
                .iter()
                .filter(|row| row.target == directory.join("mnt"));
            assert_eq!(at.count(), 1, "the target root was mounted again");
            MountNamespace::unpin(&pin).unwrap();
            MountNamespace::unpin(&pin).unwrap();
            assert!(MountNamespace::open_pin(&pin).is_err());
        })
        .unwrap();
}

#[test]
fn what_is_no_pin_is_refused() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("mnt");
    std::fs::write(&file, "").unwrap();
    for path in [
        file.as_path(),
        Path::new("/proc/self/ns/net"),
        Path::new("/no/such"),
    ] {
        let error: NamespaceError = MountNamespace::open_pin(path).unwrap_err();
        assert!(error.to_string().contains("opening it failed"), "{error}");
    }
}

#[test]
fn an_unfinished_hand_off_is_cleared_when_the_view_is_opened_again() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let staging = fixture.directory.join("staging");
    fixture.in_view(|_| {
        std::fs::create_dir(staging.join("1-0")).unwrap();
        crate::fixture::mount_tmpfs(&staging.join("1-0"));
        crate::fixture::mount_tmpfs(&staging.join("1-0"));
    });
    let namespace = fixture.view.namespace().try_clone().unwrap();
    let view = View::open(namespace, &staging).unwrap();
    let table = view.mount_table().unwrap();
    assert_eq!(table.below(&staging).count(), 1);
}

#[test]
fn a_directory_is_set_aside_only_where_nothing_is_covered() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let view = fixture.root.view().clone();
    let place = |name: &str| fixture.target("").parent().unwrap().join(name);
    let (empty, full) = (place("empty"), place("full"));
    let made = (empty.clone(), full.clone());
    fixture.in_view(move |_| {
        std::fs::create_dir(&made.0).unwrap();
        std::fs::create_dir(&made.1).unwrap();
        std::fs::write(made.1.join("file"), "x").unwrap();
    });
    let open = |path: &Path, missing| view.target_root_if(path, Sharing::Shared, missing);
    assert!(open(&empty, Missing::Leave).unwrap().is_none());
    let refused = open(&full, Missing::MakeOnEmpty).unwrap_err();
    assert!(refused.to_string().contains("not empty"), "{refused}");
    for fresh in [&empty, &place("absent/deep")] {
        let root = open(fresh, Missing::MakeOnEmpty).unwrap().unwrap();
        let mount = fixture.tmpfs("hello");
        root.attach(Path::new("a"), mount, &tmpfs(), MountOptions::default())
            .unwrap();
        // Found again now that it holds something.
        let again = open(fresh, Missing::MakeOnEmpty).unwrap().unwrap();
        assert!(again.is_mounted(Path::new("a")).unwrap());
    }
    let table = view.mount_table().unwrap();
    let found: Vec<_> = target_roots(&table).collect();
    for (path, is_one) in [
        (fixture.target(""), true),
        (empty, true),
        (place("absent/deep"), true),
        (full, false),
        (place("staging"), false),
    ] {
        let is_found = found
            .iter()
            .any(|root| path.components().eq(root.components()));
        assert_eq!(is_found, is_one, "{path:?} {found:?}");
    }
}
