use super::*;
use crate::deaf;
use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

/// A call with a minute left.
fn call() -> Call {
    deaf::call(Duration::from_secs(60))
}

fn at(path: &str) -> Subdirectory {
    Subdirectory::new(path).unwrap()
}

#[test]
fn a_tree_goes_and_everything_beside_it_stays() {
    let export = tempfile::tempdir().unwrap();
    let root = export.path();
    fs::create_dir_all(root.join("team/one/a/b/c")).unwrap();
    fs::create_dir_all(root.join("team/two")).unwrap();
    fs::write(root.join("team/one/a/file"), "x").unwrap();
    fs::write(root.join("team/two/kept"), "x").unwrap();
    for i in 0..500 {
        fs::write(root.join(format!("team/one/a/b/{i}")), "x").unwrap();
    }
    assert!(delete(&call(), root, &at("team/one")).unwrap());
    assert!(!root.join("team/one").exists());
    assert!(root.join("team/two/kept").exists());
    assert!(!delete(&call(), root, &at("team/one")).unwrap());
    assert!(!delete(&call(), root, &at("absent/one")).unwrap());
    assert!(root.exists());
}

#[test]
fn links_are_deleted_and_never_followed() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("precious"), "x").unwrap();
    fs::create_dir(outside.path().join("dir")).unwrap();
    let export = tempfile::tempdir().unwrap();
    let root = export.path();
    fs::create_dir(root.join("volume")).unwrap();
    symlink(outside.path(), root.join("volume/link")).unwrap();
    symlink(outside.path().join("precious"), root.join("volume/file")).unwrap();
    assert!(delete(&call(), root, &at("volume")).unwrap());
    assert!(!root.join("volume").exists());
    assert!(outside.path().join("precious").exists());
    // The volume's own name, or a part of the way to it, is a link: refused.
    symlink(outside.path(), root.join("trap")).unwrap();
    let error = delete(&call(), root, &at("trap")).unwrap_err();
    assert!(error.to_string().contains("no directory"), "{error}");
    assert!(delete(&call(), root, &at("trap/dir")).is_err());
    assert!(outside.path().join("dir").exists() && outside.path().join("precious").exists());
}

#[test]
fn a_file_in_its_place_is_not_the_volume() {
    let export = tempfile::tempdir().unwrap();
    fs::write(export.path().join("volume"), "x").unwrap();
    let error = delete(&call(), export.path(), &at("volume")).unwrap_err();
    assert_eq!(error.kind, ErrorKind::AlreadyExists);
    assert!(export.path().join("volume").exists());
}

#[test]
fn an_attacker_who_swaps_a_directory_for_a_link_gains_nothing() {
    let outside = tempfile::tempdir().unwrap();
    for i in 0..50 {
        fs::write(outside.path().join(i.to_string()), "x").unwrap();
    }
    let export = tempfile::tempdir().unwrap();
    let root = export.path().to_owned();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (stopped, swapped) = (stop.clone(), root.clone());
    let link = root.join("link");
    symlink(outside.path(), &link).unwrap();
    let attacker = std::thread::spawn(move || {
        let mut swaps = 0_u32;
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            let flags = rustix::fs::RenameFlags::EXCHANGE;
            let inner = swapped.join("volume/inner");
            if rustix::fs::renameat_with(CWD, &link, CWD, &inner, flags).is_ok() {
                swaps += 1;
            }
        }
        swaps
    });
    for _ in 0..300 {
        let inner = root.join("volume/inner");
        let _ = fs::create_dir_all(&inner);
        for i in 0..5 {
            let _ = fs::write(inner.join(i.to_string()), "x");
        }
        // Written through a swapped link, perhaps: those are the test's own, above 50 they are new.
        let _ = delete(&call(), &root, &at("volume"));
        if !root.join("link").is_symlink() && !root.join("volume/inner").is_symlink() {
            let _ = fs::remove_dir_all(root.join("link"));
            let _ = symlink(outside.path(), root.join("link"));
        }
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let swaps = attacker.join().unwrap();
    println!("{swaps} swaps");
    assert!(swaps > 0, "nobody attacked");
    let left = fs::read_dir(outside.path()).unwrap().count();
    assert!(left >= 50, "{left} of 50 files outside are left");
}
