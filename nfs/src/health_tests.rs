use super::*;
use std::os::unix::fs::PermissionsExt;

fn used(path: &Path, volumes: &[(VolumeId, &str)]) -> Used {
    Used {
        path: path.to_owned(),
        volumes: volumes
            .iter()
            .map(|(id, d)| (*id, (*d).to_owned()))
            .collect(),
        needs_lock_daemons: false,
    }
}

/// A stand-in for stat(1).
fn stat(directory: &Path, script: &str) -> Programs {
    let program = directory.join("stat");
    std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    Programs {
        stat: program,
        ..Programs::default()
    }
}

#[test]
fn the_course_of_an_outage() {
    let mut course = Course::default();
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let state = |course: &mut Course, found, seconds| course.health(found, &[], at(seconds)).state;
    let fine = || Found::Answers(Vec::new());
    let gone = Found::Away("not there yet".into());
    assert_eq!(state(&mut course, gone, 0), HealthState::Unreachable);
    assert_eq!(state(&mut course, fine(), 0), HealthState::Healthy);
    assert_eq!(
        state(&mut course, Found::Silent, 5),
        HealthState::Unreachable
    );
    assert_eq!(state(&mut course, fine(), 10), HealthState::Healthy);
    assert_eq!(
        state(&mut course, Found::Away("gone".into()), 20),
        HealthState::Unreachable
    );
    assert_eq!(
        state(&mut course, Found::Silent, 30),
        HealthState::Recovering
    );
    assert_eq!(state(&mut course, fine(), 31), HealthState::Recovering);
    assert_eq!(state(&mut course, fine(), 41), HealthState::Healthy);
    assert_eq!(
        state(&mut course, Found::Away("gone".into()), 50),
        HealthState::Unreachable
    );
    assert_eq!(
        state(&mut course, Found::Silent, 51),
        HealthState::Recovering
    );
    assert_eq!(
        state(&mut course, Found::Silent, 300),
        HealthState::Unreachable
    );
}

#[test]
fn a_look_that_hangs_is_ended_within_its_limit() {
    let directory = tempfile::tempdir().unwrap();
    let programs = stat(directory.path(), "sleep 60");
    let began = Instant::now();
    let found = look_at(&programs, &[used(directory.path(), &[])]);
    assert!(matches!(found, Found::Silent));
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn the_real_program_finds_what_is_there_and_what_is_not() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("there is one")).unwrap();
    let (one, other) = (VolumeId::random(), VolumeId::random());
    let used = [used(
        directory.path(),
        &[(one, "there is one"), (other, "gone")],
    )];
    let Found::Answers(dead) = look_at(&Programs::default(), &used) else {
        panic!("no answer");
    };
    let health = Course::default().health(Found::Answers(dead), &used, Instant::now());
    assert_eq!(health.state, HealthState::Degraded);
    assert_eq!(health.volumes.len(), 1);
    assert_eq!(
        (health.volumes[0].id, health.volumes[0].state),
        (other, HealthState::Stale)
    );
    assert_eq!(
        health.volumes[0].reason.as_deref(),
        Some("No such file or directory")
    );
}

#[test]
fn a_stale_mount_makes_all_its_volumes_stale_and_no_others() {
    let directory = tempfile::tempdir().unwrap();
    let (a, b) = (directory.path().join("a"), directory.path().join("b"));
    let script = format!(
        "echo '{0}'; echo '{0}/x'; echo \"stat: cannot read file system information for '{1}': Stale file handle\" >&2; exit 1",
        b.display(),
        a.display(),
    );
    let programs = stat(directory.path(), &script);
    let ids: Vec<VolumeId> = (0..3).map(|_| VolumeId::random()).collect();
    let used = [
        used(&a, &[(ids[0], ""), (ids[1], "")]),
        used(&b, &[(ids[2], "x")]),
    ];
    let Found::Answers(dead) = look_at(&programs, &used) else {
        panic!("no answer");
    };
    assert_eq!(dead, [(a.clone(), None, "Stale file handle".to_owned())]);
    let mut stale: Vec<VolumeId> = stale_volumes(&dead, &used).iter().map(|v| v.id).collect();
    stale.sort();
    let mut expected = ids[..2].to_vec();
    expected.sort();
    assert_eq!(stale, expected);
}

#[test]
fn a_hitch_or_a_missing_program_is_no_death() {
    let name = "/mnt/a/fs";
    let said =
        |why: &str| format!("stat: cannot read file system information for '{name}': {why}\n");
    assert!(death(&said("Stale file handle"), name).is_some());
    assert!(death(&said("Permission denied"), name).is_none());
    assert!(death(&said("Input/output error"), name).is_none());
    assert!(death("", name).is_none());
    let programs = Programs {
        stat: "/nonexistent/stat".into(),
        ..Programs::default()
    };
    let found = look_at(&programs, &[used(Path::new("/mnt/a/fs"), &[])]);
    assert!(matches!(found, Found::Answers(dead) if dead.is_empty()));
}

#[test]
fn telling_takes_no_time_and_the_thread_ends() {
    let directory = tempfile::tempdir().unwrap();
    let config: Config =
        serde_json::from_value(serde_json::json!({"server": "127.0.0.1", "options": {"port": 1}}))
            .unwrap();
    let host = crate::fakes::host(directory.path());
    let mounts = Arc::new(Mounts::find(host.clone(), Programs::default()));
    let held = Arc::downgrade(&mounts);
    let monitor = watch(host, Arc::new(config), mounts, Programs::default()).unwrap();
    let end = Instant::now() + Duration::from_secs(10);
    while monitor.health().state != HealthState::Unreachable {
        assert!(
            Instant::now() < end,
            "port 1 of this machine is closed, and nobody noticed"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    let reason = monitor.health().reason.unwrap();
    assert!(reason.contains("refused"), "{reason}");
    drop(monitor);
    while held.upgrade().is_some() {
        assert!(Instant::now() < end, "the thread lives on");
        std::thread::sleep(Duration::from_millis(10));
    }
}
