//! Attackers on the target path, and mounts that will not go.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use lazarette_linux::mount::{MountError, MountOptions};
use lazarette_linux::view::{Detached, Rung, Rungs};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::mount::{MountFlags, mount_bind, mount_remount};

use crate::fixture::{Fixture, system_errno, tmpfs};

const PLAIN: MountOptions = MountOptions {
    read_only: false,
    no_exec: false,
};

/// Binds the target root writable elsewhere in the view, as only somebody with CAP_SYS_ADMIN could.
fn writable_copy(fixture: &Fixture) -> std::path::PathBuf {
    let copy = fixture.directory.join("copy");
    std::fs::create_dir(&copy).unwrap();
    fixture.in_view(|_| {
        mount_bind(fixture.root.path(), &copy).unwrap();
        mount_remount(&copy, MountFlags::BIND, c"").unwrap();
    });
    copy
}

#[test]
fn a_symbolic_link_in_the_target_is_refused() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let copy = writable_copy(&fixture);
    let outside = fixture.directory.join("outside");
    std::fs::create_dir(&outside).unwrap();
    fixture.in_view(|_| {
        std::os::unix::fs::symlink(&outside, copy.join("final")).unwrap();
        std::os::unix::fs::symlink("..", copy.join("up")).unwrap();
        std::fs::create_dir(copy.join("real")).unwrap();
        std::os::unix::fs::symlink("real", copy.join("inner")).unwrap();
    });
    for path in ["final", "final/x", "up/outside", "inner", "inner/x"] {
        let mount = fixture.tmpfs("x");
        let error = fixture
            .root
            .attach(Path::new(path), mount, &tmpfs(), PLAIN)
            .unwrap_err();
        assert_eq!(system_errno(&error), libc::ELOOP, "{path}: {error}");
    }
    let table = fixture.view.mount_table().unwrap();
    assert_eq!(table.below(&outside).count(), 0);
    assert_eq!(fixture.rows("").len(), 1);
}

#[test]
fn twenty_thousand_swaps_of_the_target_and_no_escape() {
    const SWAPS: u32 = 20_000;
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let copy = writable_copy(&fixture);
    let outside = fixture.directory.join("outside");
    std::fs::create_dir_all(outside.join("b")).unwrap();
    fixture.in_view(|_| {
        // Kept from being removed as an empty directory between two attempts.
        std::fs::create_dir_all(copy.join("a/keep")).unwrap();
        std::os::unix::fs::symlink(&outside, copy.join("evil")).unwrap();
    });
    let done = AtomicBool::new(false);
    let swaps = AtomicU32::new(0);
    let (mut attached, mut refused) = (0, 0);
    std::thread::scope(|scope| {
        let attacker = scope.spawn(|| {
            fixture.in_view(|_| {
                while !done.load(Ordering::Relaxed) {
                    let (from, to) = (copy.join("a"), copy.join("evil"));
                    renameat_with(CWD, from, CWD, to, RenameFlags::EXCHANGE).unwrap();
                    swaps.fetch_add(1, Ordering::Relaxed);
                }
            });
        });
        let mount = fixture.tmpfs("hello");
        let clone = |mount: &_| lazarette_linux::mount::DetachedMount::clone_tree(mount).unwrap();
        let start = Instant::now();
        while swaps.load(Ordering::Relaxed) < SWAPS || attached < 100 {
            assert!(
                start.elapsed() < Duration::from_secs(120),
                "too slow: {attached} attached"
            );
            let next = fixture.in_plugin(|_| {
                let source = rustix::fs::open(
                    &fixture.source,
                    rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC,
                    rustix::fs::Mode::empty(),
                );
                clone(&source.unwrap())
            });
            match fixture.root.attach(Path::new("a/b"), next, &tmpfs(), PLAIN) {
                Ok(_) => {
                    attached += 1;
                    // What the attacker moves about is still ours; take it away wherever it is.
                    while fixture
                        .root
                        .detach(Path::new("a/b"), Rungs::default())
                        .is_err()
                    {}
                }
                Err(_) => refused += 1,
            }
            let table = fixture.view.mount_table().unwrap();
            let escaped = table.below(&outside).count();
            assert_eq!(escaped, 0, "a mount escaped to {}", outside.display());
        }
        done.store(true, Ordering::Relaxed);
        attacker.join().unwrap();
        drop(mount);
    });
    let table = fixture.view.mount_table().unwrap();
    assert_eq!(table.below(&fixture.directory.join("staging")).count(), 1);
    println!(
        "{} swaps, {attached} attached, {refused} refused",
        swaps.load(Ordering::Relaxed)
    );
    assert!(refused > 0, "the attack never hit");
}

#[test]
fn a_busy_mount_stays_unless_told_otherwise() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let mount = fixture.tmpfs("hello");
    let target = Path::new("a");
    fixture.root.attach(target, mount, &tmpfs(), PLAIN).unwrap();
    let open = fixture.in_view(|_| std::fs::File::open(fixture.target("a/hello")).unwrap());
    for last in [Rung::Plain, Rung::Force] {
        let error = fixture.root.detach(target, Rungs::up_to(last)).unwrap_err();
        assert!(matches!(error, MountError::Busy(_)), "{error}");
        assert_eq!(fixture.read("a/hello").unwrap(), "hello");
    }
    let detached = fixture
        .root
        .detach(target, Rungs::up_to(Rung::Lazy))
        .unwrap();
    assert_eq!(detached, Detached::Detached(Rung::Lazy));
    assert_eq!(std::io::read_to_string(open).unwrap(), "hello");
    fixture.assert_clean();
}

#[test]
fn detaching_what_is_not_there_is_no_error_and_layers_go_together() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let target = Path::new("a/b");
    let nothing = fixture.root.detach(target, Rungs::default()).unwrap();
    assert_eq!(nothing, Detached::NotMounted);
    fixture.root.prepare(target).unwrap();
    let nothing = fixture.root.detach(target, Rungs::default()).unwrap();
    assert_eq!(nothing, Detached::NotMounted);
    fixture.assert_clean();
    let mount = fixture.tmpfs("hello");
    fixture.root.attach(target, mount, &tmpfs(), PLAIN).unwrap();
    fixture.in_view(|_| {
        for _ in 0..3 {
            crate::fixture::mount_tmpfs(&fixture.target("a/b"));
        }
    });
    assert_eq!(fixture.rows("a/b").len(), 4);
    let gone = fixture.root.detach(target, Rungs::default()).unwrap();
    assert_eq!(gone, Detached::Detached(Rung::Plain));
    fixture.assert_clean();
}
