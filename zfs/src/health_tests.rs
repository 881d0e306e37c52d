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
    let monitor = Monitor::start(host, stand.programs.clone(), stand.pool.clone()).unwrap();
    let until = |wanted: HealthState| {
        let deadline = Instant::now() + Duration::from_secs(20);
        while monitor.health().state != wanted {
            assert!(Instant::now() < deadline, "{:?}", monitor.health());
            monitor.look();
            thread::sleep(Duration::from_millis(20));
        }
    };
    until(HealthState::Healthy);
    stand.state("SUSPENDED\n");
    until(HealthState::Unreachable);
    assert_eq!(listener.0.load(Ordering::Relaxed), 1);
    drop(monitor);
}
