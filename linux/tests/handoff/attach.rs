//! What a mount looks like once it is in the view.

use std::path::Path;

use lazarette_linux::mount::{
    DetachedMount, Expected, Lookup, MountError, MountOptions, MountRoot, clone_tree_verified,
};
use lazarette_linux::view::{Attachment, Detached, Rung, Rungs, Sharing};

use crate::fixture::{Fixture, errno, mount_tmpfs, names, share, system_errno, tmpfs};

const PLAIN: MountOptions = MountOptions {
    read_only: false,
    no_exec: false,
};

#[test]
fn a_mount_arrives_readable_writable_constrained_and_goes_without_a_trace() {
    for (sharing, lookup) in [
        (Sharing::Shared, Lookup::Auto),
        (Sharing::Private, Lookup::Auto),
        (Sharing::Shared, Lookup::MountTable),
    ] {
        let Some(fixture) = Fixture::with(sharing, lookup) else {
            return;
        };
        let mount = fixture.tmpfs("hello");
        let attachment = fixture
            .root
            .attach(Path::new("nas/media"), mount, &tmpfs(), PLAIN)
            .unwrap();
        let Attachment::Attached(attached) = attachment else {
            panic!("{attachment:?}");
        };
        assert_eq!(attached.facts.target, fixture.target("nas/media"));
        assert!(attached.facts.no_suid && attached.facts.no_dev && attached.facts.private);
        assert_eq!(attached.facts.id.unique, lookup == Lookup::Auto);
        let rows = fixture.rows("nas/media");
        assert_eq!(rows.len(), 1);
        assert!(rows[0].has_option("nosuid") && rows[0].has_option("nodev"));
        assert!(rows[0].has_option("rw") && rows[0].is_private());
        assert_eq!(rows[0].id, attached.facts.table_id);
        assert_eq!(rows[0].device, attached.facts.device);
        assert_eq!(fixture.read("nas/media/hello").unwrap(), "hello");
        fixture.in_view(|_| std::fs::write(fixture.target("nas/media/new"), "x").unwrap());
        // The same file system: what is written in the view is there in the container.
        assert!(fixture.in_plugin(|_| fixture.source.join("new").exists()));
        let detached = fixture
            .root
            .detach(Path::new("nas/media"), Rungs::default());
        assert_eq!(detached.unwrap(), Detached::Detached(Rung::Plain));
        fixture.assert_clean();
    }
}

#[test]
fn read_only_and_no_exec_hold_for_sub_mounts_too() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let mount = fixture.in_plugin(|_| {
        mount_tmpfs(&fixture.source);
        for directory in ["sub", "sub/deeper"] {
            std::fs::create_dir(fixture.source.join(directory)).unwrap();
            mount_tmpfs(&fixture.source.join(directory));
        }
        share(&fixture.source);
        clone_tree_verified(&fixture.source, &tmpfs()).unwrap()
    });
    let options = MountOptions {
        read_only: true,
        no_exec: true,
    };
    fixture
        .root
        .attach(Path::new("a"), mount, &tmpfs(), options)
        .unwrap();
    let rows = fixture.rows("a");
    assert_eq!(rows.len(), 3);
    for row in rows {
        for option in ["ro", "nosuid", "nodev", "noexec"] {
            assert!(row.has_option(option), "{option}: {row:?}");
        }
        assert!(row.is_private(), "{row:?}");
    }
    for path in ["a/x", "a/sub/x", "a/sub/deeper/x"] {
        let written = fixture.in_view(|_| std::fs::write(fixture.target(path), "x"));
        assert_eq!(errno(written), libc::EROFS, "{path}");
    }
    let detached = fixture.root.detach(Path::new("a"), Rungs::default());
    // A mount with sub-mounts is busy for a plain umount; that is for the operator to decide.
    assert!(matches!(detached, Err(MountError::Busy(_))), "{detached:?}");
    let detached = fixture
        .root
        .detach(Path::new("a"), Rungs::up_to(Rung::Lazy));
    assert_eq!(detached.unwrap(), Detached::Detached(Rung::Lazy));
    fixture.assert_clean();
}

#[test]
fn trap_1_a_plain_directory_is_never_handed_out() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    // The directory is on a file system of the expected type, but the mount before has failed.
    let expected = Expected::types(["ext4", "overlay", "tmpfs", "xfs", "btrfs"]);
    for lookup in [Lookup::Auto, Lookup::MountTable] {
        let result = fixture.in_plugin(|_| MountRoot::open_by(&fixture.source, &expected, lookup));
        assert!(
            matches!(result, Err(MountError::NotMounted(_))),
            "{result:?}"
        );
    }
    let result = fixture.in_plugin(|_| clone_tree_verified(&fixture.source, &expected));
    assert!(
        result
            .unwrap_err()
            .to_string()
            .contains("nothing is mounted there")
    );
}

#[test]
fn trap_2_later_mounts_leak_in_neither_direction() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let mount = fixture.in_plugin(|_| {
        mount_tmpfs(&fixture.source);
        share(&fixture.source);
        std::fs::create_dir(fixture.source.join("in")).unwrap();
        std::fs::create_dir(fixture.source.join("out")).unwrap();
        clone_tree_verified(&fixture.source, &tmpfs()).unwrap()
    });
    fixture
        .root
        .attach(Path::new("a"), mount, &tmpfs(), PLAIN)
        .unwrap();
    fixture.in_plugin(|_| mount_tmpfs(&fixture.source.join("in")));
    assert_eq!(fixture.rows("a").len(), 1);
    fixture.in_view(|_| mount_tmpfs(&fixture.target("a/out")));
    let below = fixture.in_plugin(|inside| {
        let table = inside.mount_table().unwrap();
        table
            .below(&fixture.source)
            .map(|row| row.target.clone())
            .collect::<Vec<_>>()
    });
    assert_eq!(below, [fixture.source.clone(), fixture.source.join("in")]);
}

#[test]
fn the_wrong_file_system_is_refused_in_the_container_and_in_the_view() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let nfs = Expected::types(["nfs", "nfs4"]);
    let mount = fixture.tmpfs("hello");
    let refused = fixture.in_plugin(|_| MountRoot::open(&fixture.source, &nfs).map(drop));
    assert!(
        matches!(refused, Err(MountError::WrongFileSystem { .. })),
        "{refused:?}"
    );

    // A plugin host that lies, while somebody watches the target and the mount table all the time.
    let before = fixture.view.mount_table().unwrap();
    let refused = fixture.root.attach(Path::new("a/b"), mount, &nfs, PLAIN);
    let error = refused.unwrap_err();
    assert!(
        error.to_string().ends_with(
            "is a file system of type tmpfs, expected nfs or nfs4; the mount is refused"
        ),
        "{error}"
    );
    assert_eq!(fixture.view.mount_table().unwrap(), before);
    fixture.assert_clean();
}

#[test]
fn a_refused_mount_is_never_visible_at_its_target() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let nfs = Expected::types(["nfs"]);
    let done = std::sync::atomic::AtomicBool::new(false);
    let order = std::sync::atomic::Ordering::Relaxed;
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            fixture.in_view(|_| {
                let mut looks = 0_u64;
                while !done.load(order) {
                    assert_eq!(names(fixture.root.path()), Vec::<String>::new());
                    looks += 1;
                }
                looks
            })
        });
        for _ in 0..200 {
            let mount = fixture.tmpfs("x");
            assert!(
                fixture
                    .root
                    .attach(Path::new("a"), mount, &nfs, PLAIN)
                    .is_err()
            );
        }
        done.store(true, order);
        assert!(watcher.join().unwrap() > 200);
    });
}

#[test]
fn the_staging_directory_is_closed_to_users() {
    use std::os::unix::fs::PermissionsExt;
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let staging = fixture.directory.join("staging");
    let mode = fixture.in_view(|_| staging.metadata().unwrap().permissions().mode());
    assert_eq!(mode & 0o7777, 0o700);
}

#[test]
fn attaching_again_is_told_from_attaching_and_from_something_else_there() {
    for lookup in [Lookup::Auto, Lookup::MountTable] {
        let Some(fixture) = Fixture::with(Sharing::Shared, lookup) else {
            return;
        };
        let first = fixture.tmpfs("hello");
        let again = fixture.in_plugin(|_| clone_tree_verified(&fixture.source, &tmpfs()).unwrap());
        let read_only =
            fixture.in_plugin(|_| clone_tree_verified(&fixture.source, &tmpfs()).unwrap());
        let other = fixture.tmpfs("other");
        let target = Path::new("a");
        let attached = fixture.root.attach(target, first, &tmpfs(), PLAIN).unwrap();
        assert!(matches!(attached, Attachment::Attached(_)));
        let repeated = fixture.root.attach(target, again, &tmpfs(), PLAIN).unwrap();
        let Attachment::AlreadyAttached(there) = &repeated else {
            panic!("{repeated:?}");
        };
        assert_eq!(there.facts.table_id, attached.facts().table_id);
        let taken = fixture.root.attach(target, other, &tmpfs(), PLAIN);
        let error = taken.unwrap_err().to_string();
        assert!(
            error.ends_with("is taken by tmpfs (plugin); detach that first"),
            "{error}"
        );
        let options = MountOptions {
            read_only: true,
            ..PLAIN
        };
        let differs = fixture.root.attach(target, read_only, &tmpfs(), options);
        assert!(
            matches!(differs, Err(MountError::Occupied { .. })),
            "{differs:?}"
        );
        assert_eq!(fixture.rows("a").len(), 1);
        assert_eq!(fixture.read("a/hello").unwrap(), "hello");
        let inside = fixture.tmpfs("inside");
        let error = fixture
            .root
            .attach(Path::new("a/b"), inside, &tmpfs(), PLAIN);
        assert!(
            matches!(error, Err(MountError::BadPath { .. })),
            "{error:?}"
        );
        fixture.root.detach(target, Rungs::default()).unwrap();
        fixture.assert_clean();
    }
}

#[test]
fn a_sub_directory_is_handed_out_alone_and_checked_on_arrival() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let mounts = fixture.in_plugin(|_| {
        mount_tmpfs(&fixture.source);
        std::fs::write(fixture.source.join("secret"), "x").unwrap();
        let root = MountRoot::open(&fixture.source, &tmpfs()).unwrap();
        assert!(
            root.create_directory(Path::new("team/a"), 0o2770, Some((12, 34)))
                .unwrap()
        );
        assert!(
            !root
                .create_directory(Path::new("team/a"), 0o700, None)
                .unwrap()
        );
        std::os::unix::fs::symlink("team", fixture.source.join("link")).unwrap();
        std::os::unix::fs::symlink("/", fixture.source.join("out")).unwrap();
        std::fs::create_dir(fixture.source.join("other")).unwrap();
        mount_tmpfs(&fixture.source.join("other"));
        for (path, expected) in [
            ("link/a", libc::ELOOP),
            ("out/etc", libc::ELOOP),
            ("absent", libc::ENOENT),
            ("secret", libc::ENOTDIR),
            ("other", libc::EXDEV),
        ] {
            let error = root.clone_subtree(Path::new(path)).unwrap_err();
            assert_eq!(system_errno(&error), expected, "{path}: {error}");
        }
        for path in ["", "..", "team/../..", "/etc", "team//a"] {
            let error = root.clone_subtree(Path::new(path)).unwrap_err();
            assert!(
                matches!(error, MountError::BadPath { .. }),
                "{path}: {error}"
            );
            let error = root
                .create_directory(Path::new(path), 0o755, None)
                .unwrap_err();
            assert!(
                matches!(error, MountError::BadPath { .. }),
                "{path}: {error}"
            );
        }
        [(); 2].map(|()| root.clone_subtree(Path::new("team/a")).unwrap())
    });
    let [mount, second] = mounts;
    let expected = tmpfs().subdirectory("team/a");
    fixture
        .root
        .attach(Path::new("a"), mount, &expected, PLAIN)
        .unwrap();
    fixture.in_view(|_| {
        use std::os::unix::fs::MetadataExt;
        let metadata = fixture.target("a").metadata().unwrap();
        assert_eq!(
            (metadata.mode() & 0o7777, metadata.uid(), metadata.gid()),
            (0o2770, 12, 34)
        );
        assert_eq!(names(&fixture.target("a")), Vec::<String>::new());
    });
    let wrong = tmpfs().subdirectory("team/b");
    let error = fixture
        .root
        .attach(Path::new("b"), second, &wrong, PLAIN)
        .unwrap_err();
    assert!(matches!(error, MountError::WrongRoot { .. }), "{error}");
}

#[test]
fn a_mount_survives_the_storage_container() {
    let Some(mut fixture) = Fixture::new() else {
        return;
    };
    let mount = fixture.tmpfs("hello");
    fixture
        .root
        .attach(Path::new("a"), mount, &tmpfs(), PLAIN)
        .unwrap();
    fixture.plugin = crate::fixture::namespace();
    assert_eq!(fixture.read("a/hello").unwrap(), "hello");
}

#[test]
fn what_is_no_mount_is_refused() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let file = std::fs::File::open("/etc/passwd").unwrap();
    let directory = std::fs::File::open(&fixture.directory).unwrap();
    let (pipe, _writer) = std::io::pipe().unwrap();
    let before = fixture.view.mount_table().unwrap();
    for fd in [file.into(), directory.into(), pipe.into()] {
        let mount = DetachedMount::from_fd(fd);
        let error = fixture
            .root
            .attach(Path::new("a"), mount, &tmpfs(), PLAIN)
            .unwrap_err();
        system_errno(&error);
    }
    assert_eq!(fixture.view.mount_table().unwrap(), before);
    fixture.assert_clean();
}
