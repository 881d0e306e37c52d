use std::sync::mpsc;
use std::time::Instant;

use rustix::mount::MountFlags;

use super::{
    Duration, Inside, MountNamespace, MountTable, NamespaceError, Path, Resident, io, stuck_threads,
};

fn new() -> Option<MountNamespace> {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: needs root");
        return None;
    }
    Some(MountNamespace::create(|_| Ok::<_, NamespaceError>(())).unwrap())
}

#[test]
fn a_new_namespace_is_another_one_and_all_private() {
    let Some(namespace) = new() else {
        return;
    };
    let current = MountNamespace::current().unwrap();
    assert!(!namespace.is_same(&current));
    assert!(namespace.is_same(&namespace.try_clone().unwrap()));
    let entered = namespace
        .enter(|_| MountNamespace::current().unwrap())
        .unwrap();
    assert!(entered.is_same(&namespace));
    let table = namespace.mount_table().unwrap();
    assert!(!table.rows.is_empty());
    assert!(
        table
            .rows
            .iter()
            .all(crate::mountinfo::MountRow::is_private)
    );
    // This thread has not moved.
    assert!(MountNamespace::current().unwrap().is_same(&current));
}

#[test]
fn the_error_of_the_setup_comes_back() {
    if new().is_none() {
        return;
    }
    let fail = |_: &Inside| {
        Err(NamespaceError::new(
            "x",
            "trying",
            io::ErrorKind::Other.into(),
        ))
    };
    let error = MountNamespace::create(fail).unwrap_err();
    assert_eq!(error.to_string(), "mount namespace x: trying failed");
}

#[test]
fn mounts_inside_are_not_seen_outside_even_without_proc() {
    let Some(namespace) = new() else {
        return;
    };
    let before = MountTable::of_self().unwrap();
    let table = namespace
        .enter(|inside| {
            // Over /proc: the table is read through where we come from.
            rustix::mount::mount("x", "/proc", "tmpfs", MountFlags::empty(), None).unwrap();
            inside.mount_table().unwrap()
        })
        .unwrap();
    assert_eq!(table.top_at(Path::new("/proc")).unwrap().fs_type, "tmpfs");
    assert_eq!(namespace.mount_table().unwrap(), table);
    assert_eq!(MountTable::of_self().unwrap(), before);
}

#[test]
fn a_hanging_thread_is_left_behind_counted_and_forgotten_when_it_ends() {
    let Some(namespace) = new() else {
        return;
    };
    let fast = namespace.enter_for(Duration::from_secs(10), |_| 7).unwrap();
    assert_eq!(fast, 7);
    let (release, wait) = mpsc::channel::<()>();
    let start = Instant::now();
    let late = namespace.enter_for(Duration::from_millis(50), move |_| wait.recv().is_ok());
    assert!(late.unwrap_err().is_timeout());
    assert!(start.elapsed() < Duration::from_secs(5));
    assert!(stuck_threads() >= 1);
    release.send(()).unwrap();
    let end = Instant::now() + Duration::from_secs(10);
    while stuck_threads() > 0 && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(stuck_threads(), 0);
}

#[test]
fn a_resident_thread_survives_panics_and_hangs_of_its_jobs() {
    let Some(namespace) = new() else {
        return;
    };
    let limit = Duration::from_secs(10);
    let resident = Resident::new(namespace, |_| std::thread::current().id());
    let first = resident.run(limit, |id| *id).unwrap();
    assert_eq!(resident.run(limit, |id| *id).unwrap(), first);
    let died = resident.run(limit, |_| panic!("a job that panics, as this test wants"));
    let died: Result<(), _> = died;
    assert!(!died.unwrap_err().is_timeout());
    let second = resident.run(limit, |id| *id).unwrap();
    assert_ne!(second, first);
    let (release, wait) = mpsc::channel::<()>();
    let late = resident.run(Duration::from_millis(50), move |_| wait.recv().is_ok());
    assert!(late.unwrap_err().is_timeout());
    let third = resident.run(limit, |id| *id).unwrap();
    assert_ne!(third, second);
    drop(release);
}

#[test]
fn a_program_runs_in_the_namespace() {
    let Some(namespace) = new() else {
        return;
    };
    namespace
        .enter(|_| rustix::mount::mount("x", "/mnt", "tmpfs", MountFlags::empty(), None).unwrap())
        .unwrap();
    let listed = crate::command::Command::new("/bin/grep")
        .args(["-c", " /mnt .* - tmpfs x ", "/proc/self/mountinfo"])
        .in_namespace(&namespace)
        .unwrap()
        .run()
        .unwrap();
    assert_eq!(listed.stdout_text().trim(), "1");
}

#[test]
fn a_watch_sees_a_mount() {
    let Some(namespace) = new() else {
        return;
    };
    let watch = namespace.watch().unwrap();
    let _ = watch.wait(Duration::ZERO).unwrap();
    assert!(!watch.wait(Duration::from_millis(20)).unwrap());
    namespace
        .enter(|_| rustix::mount::mount("y", "/mnt", "tmpfs", MountFlags::empty(), None).unwrap())
        .unwrap();
    assert!(watch.wait(Duration::from_secs(5)).unwrap());
    let table = watch.table().unwrap();
    assert_eq!(table.top_at(Path::new("/mnt")).unwrap().source, "y");
}
