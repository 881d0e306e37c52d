use super::*;
use crate::fakes::{Container, call, host};
use serde_json::json;

fn source(options: serde_json::Value, read_only: bool) -> Source {
    Source {
        server: ServerName::new("nas").unwrap(),
        export: ExportPath::new("/srv/media").unwrap(),
        options: serde_json::from_value(options).unwrap(),
        read_only,
    }
}

#[test]
fn the_same_mount_has_the_same_name_and_another_has_another() {
    let plain = source(json!({}), false);
    assert_eq!(plain.key(), source(json!({}), false).key());
    assert_eq!(plain.key().len(), 16);
    let six = Source {
        server: ServerName::new("fe80::1%eth0").unwrap(),
        ..plain.clone()
    };
    let elsewhere = Source {
        export: ExportPath::new("/srv").unwrap(),
        ..plain.clone()
    };
    let others = [
        source(json!({"soft": true}), false),
        source(json!({}), true),
        six,
        elsewhere,
    ];
    for other in &others {
        assert_ne!(plain.key(), other.key(), "{other:?}");
    }
    assert_eq!(others[2].name(), "[fe80::1%eth0]:/srv/media");
    // A change would make a new plugin host lose the mounts of its predecessor.
    assert_eq!(plain.key(), "070b00c829ee4896");
}

#[test]
fn somebody_else_s_work_on_a_mount_is_waited_for_until_the_deadline() {
    let slot = Mutex::new(Slot::default());
    let held = slot.lock().unwrap();
    let began = Instant::now();
    let brief = crate::fakes::call_of(Duration::from_millis(100));
    let error = lock_within(&slot, &brief).err().unwrap();
    assert_eq!(error.kind, lazarette_plugin::ErrorKind::Timeout);
    assert!(began.elapsed() < Duration::from_secs(20));
    drop(held);
    assert!(lock_within(&slot, &call()).is_ok());
}

#[test]
fn letting_go_of_nothing_is_done() {
    let directory = tempfile::tempdir().unwrap();
    assert!(let_go(directory.path(), false));
    assert!(let_go(&directory.path().join("absent"), false));
}

#[test]
fn what_is_busy_in_this_container_is_let_go_all_the_same() {
    crate::fakes::in_namespace(|| {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().canonicalize().unwrap();
        let flags = rustix::mount::MountFlags::empty();
        for _ in 0..2 {
            rustix::mount::mount("t", &place, "tmpfs", flags, None).unwrap();
        }
        let file = std::fs::File::create(place.join("open")).unwrap();
        assert!(let_go(&place, false));
        assert!(MountTable::of_thread().unwrap().top_at(&place).is_none());
        drop(file);
    });
}

#[test]
fn only_directories_of_ours_are_taken_for_mounts() {
    let container = Container::new();
    for name in ["lost+found", "0123456789abcdef", "0123456789abcdeg", "x"] {
        std::fs::create_dir(container.mounts().join(name)).unwrap();
    }
    let mounts = Mounts::find(host(&container.mounts()), Programs::default());
    assert_eq!(mounts.all().len(), 1);
    assert!(mounts.used().is_empty(), "nothing is mounted there");
}

#[test]
fn a_mount_that_a_call_works_on_goes_after_it() {
    let container = Container::new();
    let (key, volume) = ("0123456789abcdef", VolumeId::random());
    let users = container.mounts().join(key).join("volumes");
    std::fs::create_dir_all(&users).unwrap();
    std::fs::write(users.join(volume.to_string()), "").unwrap();
    let mounts = Mounts::find(host(&container.mounts()), Programs::default());
    let slot = mounts.all().remove(0).1;
    let mut working = slot.lock().unwrap();
    mounts.release(volume);
    assert!(users.is_dir(), "it was taken from under the call");
    working.touched = None;
    drop(working);
    mounts.tidy();
    assert!(!container.mounts().join(key).exists());
}

#[test]
fn which_mounts_need_the_lock_daemons_is_seen_in_the_mount_table() {
    let needs = |fs_type: &str, options: &str| {
        let line = format!(
            "31 23 0:45 / /mnt/a/fs rw,nosuid - {fs_type} nas:/a rw,vers=3,{options},addr=10.0.0.1\n"
        );
        let table = MountTable::parse(line.as_bytes());
        needs_lock_daemons(table.top_at(Path::new("/mnt/a/fs")).unwrap())
    };
    assert!(needs("nfs", "local_lock=none"));
    assert!(needs("nfs", "local_lock=flock"));
    assert!(!needs("nfs", "local_lock=all"));
    assert!(!needs("nfs4", "local_lock=none"));
}
