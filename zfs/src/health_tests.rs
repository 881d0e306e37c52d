use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicUsize, Ordering};

use lazarette_plugin::Sink;

use super::*;

/// Counts how often core was asked to look.
#[derive(Default)]
pub(crate) struct Listener(AtomicUsize);

impl Sink for Listener {
    fn log(&self, _: Level, _: &str) {}
    fn progress(&self, _: u64, _: &str, _: Option<f32>) {}
    fn cancelled(&self, _: u64) -> bool {
        false
    }
    fn changed(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A host that mounts nowhere.
pub(crate) fn host() -> Host {
    Host::new(Arc::new(Listener::default()), "/nonexistent")
}

/// A call that has time.
pub(crate) fn call() -> lazarette_plugin::Call {
    let deadline = Instant::now() + Duration::from_secs(60);
    lazarette_plugin::Call::new(1, deadline, Arc::new(Listener::default()))
}

/// A pool in the state that the kernel's file says, with tools that leave a trace.
struct Stand {
    directory: tempfile::TempDir,
    programs: Programs,
    pool: PoolName,
}

impl Stand {
    fn new(zpool: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let program = |name: &str, script: &str| {
            let path = directory.path().join(name);
            let trace = directory.path().join("trace").display().to_string();
            fs::write(
                &path,
                format!("#!/bin/sh\necho {name} >> {trace}\n{script}\n"),
            )
            .unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            path
        };
        let programs = Programs {
            zpool: program("zpool", zpool),
            zfs: program("zfs", "printf '100\\n900\\n'"),
            kstat: directory.path().join("kstat"),
            ..Programs::default()
        };
        fs::create_dir_all(directory.path().join("kstat/tank")).unwrap();
        Self {
            programs,
            directory,
            pool: PoolName::parse("tank").unwrap(),
        }
    }

    fn state(&self, state: &str) {
        fs::write(self.programs.kstat.join("tank/state"), state).unwrap();
    }

    fn runs(&self) -> usize {
        fs::read_to_string(self.directory.path().join("trace")).map_or(0, |t| t.lines().count())
    }
}

const ONLINE: &str =
    r#"echo '{"pools": {"tank": {"name": "tank", "state": "ONLINE", "error_count": 0}}}'"#;

#[test]
fn a_suspended_or_absent_pool_is_told_without_its_tools() {
    let stand = Stand::new("exec sleep 1000");
    let mut course = Course::default();
    let absent = course.look(&stand.programs, &stand.pool, false).unwrap();
    assert_eq!(absent.state, HealthState::Faulted);
    stand.state("SUSPENDED\n");
    let suspended = course.look(&stand.programs, &stand.pool, true).unwrap();
    assert_eq!(suspended.state, HealthState::Unreachable);
    assert!(suspended.reason.unwrap().contains("laz pool clear"));
    assert_eq!(stand.runs(), 0);
}

#[test]
fn a_healthy_pool_is_looked_at_now_and_then() {
    let stand = Stand::new(ONLINE);
    stand.state("ONLINE\n");
    let mut course = Course::default();
    let health = course.look(&stand.programs, &stand.pool, false).unwrap();
    assert_eq!(health.state, HealthState::Healthy);
    assert_eq!(
        health.capacity.map(|c| (c.used, c.total)),
        Some((100, 1000))
    );
    assert_eq!(stand.runs(), 2);
    assert!(course.look(&stand.programs, &stand.pool, false).is_none());
    assert_eq!(stand.runs(), 2);
    course.look(&stand.programs, &stand.pool, true).unwrap();
    stand.state("DEGRADED\n");
    course.look(&stand.programs, &stand.pool, false).unwrap();
    assert_eq!(stand.runs(), 6);
}

#[test]
fn devices_with_new_errors_are_opened_anew_once() {
    let stand = Stand::new(
        r#"case $1 in
        reopen) exec touch "$0.reopened" ;;
        esac
        echo '{"pools": {"tank": {"name": "tank", "state": "ONLINE", "error_count": 0, "vdevs": {
            "tank": {"vdev_type": "root", "state": "ONLINE", "vdevs": {
                "a": {"vdev_type": "disk", "state": "ONLINE", "write_errors": 7}}}}}}}'"#,
    );
    stand.state("ONLINE\n");
    let reopened = stand.directory.path().join("zpool.reopened");
    let mut course = Course::default();
    course.look(&stand.programs, &stand.pool, false).unwrap();
    fs::remove_file(&reopened).unwrap();
    course.look(&stand.programs, &stand.pool, true).unwrap();
    assert!(!reopened.exists(), "the same errors");
}

/// What is there of a mirror whose first device is `state`, with a spare.
fn lost(state: &str) -> String {
    format!(
        r#"case $1 in
        replace) echo "$*" >> "$0.asked"; test -e "$0.small" || exit 0
            echo "cannot replace 1 with /dev/s: device is too small" >&2; exit 1 ;;
        esac
        echo '{{"pools": {{"tank": {{"name": "tank", "state": "DEGRADED", "error_count": 0,
            "vdevs": {{"tank": {{"vdev_type": "root", "state": "DEGRADED", "vdevs": {{
                "mirror-0": {{"vdev_type": "mirror", "state": "DEGRADED", "vdevs": {{
                    "/dev/a": {{"vdev_type": "disk", "guid": 1, "path": "/dev/a", "state": "{state}"}},
                    "/dev/b": {{"vdev_type": "disk", "guid": 2, "path": "/dev/b", "state": "ONLINE"}}}}}}}}}}}},
            "spares": {{"/dev/s": {{"vdev_type": "disk", "guid": 3, "path": "/dev/s", "state": "AVAIL"}}}}}}}}}}'"#
    )
}

#[test]
fn a_spare_stands_in_for_a_device_that_has_failed_for_a_while() {
    let stand = Stand::new(&lost("UNAVAIL"));
    stand.state("DEGRADED\n");
    let asked = stand.directory.path().join("zpool.asked");
    let mut course = Course::default();
    for _ in 0..3 {
        course.look(&stand.programs, &stand.pool, true).unwrap();
    }
    assert!(!asked.exists(), "it may be back at once");
    course.patience = Duration::ZERO;
    course.look(&stand.programs, &stand.pool, true).unwrap();
    let said = fs::read_to_string(&asked).unwrap();
    assert_eq!(said, "replace -- tank 1 /dev/s\n");
    let (level, note) = &course.notes[0];
    assert_eq!(*level, Level::Warn);
    assert_eq!(
        note,
        "the spare /dev/s stands in for /dev/a, which is UNAVAIL"
    );
}

#[test]
fn a_spare_that_cannot_stand_in_is_told_and_not_tried_all_the_time() {
    let stand = Stand::new(&lost("FAULTED"));
    stand.state("DEGRADED\n");
    fs::write(stand.directory.path().join("zpool.small"), "").unwrap();
    let mut course = Course {
        patience: Duration::ZERO,
        ..Course::default()
    };
    for _ in 0..3 {
        course.look(&stand.programs, &stand.pool, true).unwrap();
    }
    let asked = fs::read_to_string(stand.directory.path().join("zpool.asked")).unwrap();
    assert_eq!(asked.lines().count(), 1);
    let [(Level::Error, note)] = &course.notes[..] else {
        panic!("{:?}", course.notes);
    };
    assert!(note.contains("device is too small"), "{note}");
}

#[test]
fn a_device_that_somebody_took_out_stays_out() {
    let stand = Stand::new(&lost("OFFLINE"));
    stand.state("DEGRADED\n");
    let mut course = Course {
        patience: Duration::ZERO,
        ..Course::default()
    };
    course.look(&stand.programs, &stand.pool, true).unwrap();
    assert!(!stand.directory.path().join("zpool.asked").exists());
}

#[test]
fn what_is_not_understood_is_told() {
    let stand = Stand::new("echo '{}'");
    stand.state("ONLINE\n");
    let health = Course::default()
        .look(&stand.programs, &stand.pool, false)
        .unwrap();
    assert_eq!(health.state, HealthState::Degraded);
}

#[test]
fn the_monitor_tells_core_of_a_change() {
    let stand = Stand::new(ONLINE);
    stand.state("ONLINE\n");
    let listener = Arc::new(Listener::default());
    let host = Host::new(listener.clone(), "/nonexistent");
    let hold = Arc::new(AtomicBool::new(false));
    let monitor = watch(&host, stand.programs.clone(), stand.pool.clone(), hold).unwrap();
    let until = |wanted: HealthState| {
        let deadline = Instant::now() + Duration::from_secs(20);
        while monitor.health().state != wanted {
            assert!(Instant::now() < deadline, "{:?}", monitor.health());
            monitor.look();
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    until(HealthState::Healthy);
    stand.state("SUSPENDED\n");
    until(HealthState::Unreachable);
    assert_eq!(listener.0.load(Ordering::Relaxed), 1);
    drop(monitor);
}
