use std::fs::File;
use std::io::{Read, Write};
use std::time::Instant;

use super::*;

fn sh(script: &str) -> Command {
    Command::new("/bin/sh").args(["-c", script])
}

#[test]
fn output_and_environment_are_what_was_asked_for() {
    let output = Command::new("/usr/bin/env")
        .env("STORES", "dry")
        .run()
        .unwrap();
    let text = output.stdout_text();
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["LC_ALL=C", &format!("PATH={PATH}"), "STORES=dry"]);
    assert_eq!(sh("pwd").run().unwrap().stdout, b"/\n");
    assert_eq!(sh("pwd").directory("/usr").run().unwrap().stdout, b"/usr\n");
}

#[test]
fn a_failure_names_program_arguments_status_and_reason() {
    let error = sh("echo no such export >&2; exit 32").run().unwrap_err();
    assert_eq!(
        error.to_string(),
        "/bin/sh -c echo no such export >&2; exit 32: exit status 32: no such export"
    );
    let error = sh("kill -9 $$").run().unwrap_err();
    assert!(
        matches!(error.failure, Failure::Exit(Exit::Signal(9))),
        "{error}"
    );
    assert_eq!(sh("exit 3").output().unwrap().exit, Exit::Code(3));
}

#[test]
fn control_characters_do_not_reach_the_message() {
    let error = sh("printf 'a\\033[2Jb' >&2; exit 1").run().unwrap_err();
    assert_eq!(error.stderr, "a [2Jb");
    let error = Command::new("/bin/false")
        .arg("x\ny\x1b")
        .run()
        .unwrap_err();
    assert!(
        error.to_string().starts_with("/bin/false x\\ny\\u{1b}: "),
        "{error}"
    );
}

#[test]
fn what_cannot_run_says_so() {
    let error = Command::new("/no/such/program").run().unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("/no/such/program: cannot be started"),
        "{error}"
    );
    assert!(std::error::Error::source(&error).is_some());
    for bad in [
        Command::new("sh"),
        Command::new("/bin/sh").arg("a\0b"),
        Command::new("/bin/s\0h"),
        Command::new("/bin/sh").env("A=B", "c"),
        Command::new("/bin/sh").env("", "c"),
        Command::new("/bin/sh").env("A", "c\0"),
    ] {
        let error = bad.run().unwrap_err();
        assert!(matches!(error.failure, Failure::Invalid(_)), "{error}");
    }
}

#[test]
fn both_streams_are_drained_while_it_runs_and_only_the_end_is_kept() {
    let script = "i=0; while [ $i -lt 4000 ]; do \
                  echo 0123456789012345678901234567890123456789; \
                  echo 0123456789012345678901234567890123456789 >&2; i=$((i+1)); done; \
                  echo end; echo end >&2";
    let output = sh(script).keep(1000).run().unwrap();
    assert_eq!(output.stdout.len(), 1000);
    assert_eq!(output.stderr.len(), 1000);
    assert!(output.stdout.ends_with(b"\nend\n") && output.stderr.ends_with(b"\nend\n"));
    assert!(output.truncated);
    let output = sh(script).keep(1_000_000).run().unwrap();
    assert_eq!(output.stdout.len(), 4000 * 41 + 4);
    assert!(!output.truncated);
}

#[test]
fn input_larger_than_a_pipe_goes_through_while_output_comes_back() {
    let bytes: Vec<u8> = (0..1_000_000_u32).map(|i| (i % 251) as u8).collect();
    let output = Command::new("/bin/cat")
        .stdin(bytes.clone())
        .keep(2_000_000)
        .run()
        .unwrap();
    assert!(output.stdout == bytes);
    // A program that does not read its input is no error of ours.
    Command::new("/bin/true").stdin(bytes).run().unwrap();
}

#[test]
fn the_deadline_kills_the_whole_group() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let script = format!(
        "echo before >&2; sleep 1000 & echo $! > {}; wait",
        file.path().display()
    );
    let start = Instant::now();
    let error = sh(&script)
        .deadline(Duration::from_millis(300))
        .run()
        .unwrap_err();
    assert!(
        start.elapsed() < Duration::from_secs(20),
        "{:?}",
        start.elapsed()
    );
    assert!(matches!(error.failure, Failure::Deadline(_)), "{error}");
    assert_eq!(error.stderr, "before");
    let grandchild: i32 = std::fs::read_to_string(file.path())
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    // A signal is sent before it is acted on, and the orphan is reaped by someone else.
    let patience = Instant::now() + Duration::from_secs(10);
    loop {
        let stat = std::fs::read_to_string(format!("/proc/{grandchild}/stat")).unwrap_or_default();
        if stat.is_empty() || stat.contains(") Z ") || stat.contains(") X ") {
            break;
        }
        assert!(Instant::now() < patience, "{stat}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_daemon_left_behind_does_not_hold_up_the_result() {
    let start = Instant::now();
    let output = sh("sleep 60 & echo started").run().unwrap();
    assert_eq!(output.stdout, b"started\n");
    assert!(
        start.elapsed() < Duration::from_secs(20),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn no_descriptor_leaks_into_the_program() {
    let file = std::fs::File::open("/dev/null").unwrap();
    let inheritable = rustix::io::fcntl_dupfd_cloexec(&file, 100).unwrap();
    rustix::io::fcntl_setfd(&inheritable, rustix::io::FdFlags::empty()).unwrap();
    let output = Command::new("/bin/ls")
        .args(["-1", "/proc/self/fd"])
        .run()
        .unwrap();
    // 3 is the directory that ls itself reads.
    assert_eq!(output.stdout_text(), "0\n1\n2\n3\n");
}

#[test]
fn a_spawned_child_is_watched_stopped_and_its_output_read() {
    let mut child = sh("echo ready; trap 'echo bye; exit 7' TERM; while :; do sleep 0.05; done")
        .spawn(ChildOutput::Pipe)
        .unwrap();
    let mut pipe = std::fs::File::from(child.take_output().unwrap());
    let mut ready = [0; 6];
    pipe.read_exact(&mut ready).unwrap();
    assert_eq!(&ready, b"ready\n");
    assert_eq!(child.try_wait().unwrap(), None);
    assert_eq!(child.wait(Some(Duration::from_millis(20))).unwrap(), None);
    assert_eq!(
        child.stop(Duration::from_secs(10)).unwrap(),
        Some(Exit::Code(7))
    );
    assert_eq!(child.try_wait().unwrap(), Some(Exit::Code(7)));
    child.kill().unwrap();
    let mut rest = String::new();
    pipe.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "bye\n");
}

#[test]
fn a_child_that_ignores_sigterm_is_killed_after_the_grace() {
    let mut child = sh("trap '' TERM; echo ready; while :; do sleep 0.05; done")
        .spawn(ChildOutput::Pipe)
        .unwrap();
    let mut pipe = std::fs::File::from(child.take_output().unwrap());
    pipe.read_exact(&mut [0; 6]).unwrap();
    let exit = child.stop(Duration::from_millis(100)).unwrap();
    assert_eq!(exit, Some(Exit::Signal(9)));
}

#[test]
fn a_session_leader_is_its_own_session() {
    let mut child = Command::new("/bin/sleep")
        .arg("1000")
        .session()
        .spawn(ChildOutput::Null)
        .unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.pid())).unwrap();
    let session = stat
        .rsplit(") ")
        .next()
        .unwrap()
        .split(' ')
        .nth(3)
        .unwrap()
        .to_owned();
    assert_eq!(session, child.pid().to_string());
    child.kill().unwrap();
    assert_eq!(child.wait(None).unwrap(), Some(Exit::Signal(9)));
    assert!(child.take_output().is_none());
}

#[test]
fn a_log_file_gets_both_streams() {
    let mut log = tempfile::tempfile().unwrap();
    let child = sh("echo out; echo err >&2")
        .spawn(ChildOutput::File(log.try_clone().unwrap()))
        .unwrap();
    assert_eq!(child.wait(None).unwrap(), Some(Exit::Code(0)));
    log.flush().unwrap();
    std::io::Seek::rewind(&mut log).unwrap();
    let mut text = String::new();
    log.read_to_string(&mut text).unwrap();
    assert_eq!(text, "out\nerr\n");
}

/// A frozen process (cgroup v1) does not die from SIGKILL until it is thawed, as one that waits for a
/// dead server.
#[test]
fn what_does_not_die_is_abandoned_counted_and_reaped_later() {
    let cgroup = format!(
        "/sys/fs/cgroup/freezer/lazarette-test-{}",
        std::process::id()
    );
    if std::fs::create_dir(&cgroup).is_err() {
        println!("skipped: needs root and the freezer of cgroup v1");
        return;
    }
    let script =
        format!("echo $$ > {cgroup}/cgroup.procs; echo FROZEN > {cgroup}/freezer.state; sleep 9");
    let before = abandoned();
    let error = sh(&script)
        .deadline(Duration::from_millis(200))
        .run()
        .unwrap_err();
    assert!(
        matches!(error.failure, Failure::Abandoned { .. }),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .contains("hangs in the kernel and is abandoned"),
        "{error}"
    );
    assert_eq!(abandoned(), before + 1);
    std::fs::write(format!("{cgroup}/freezer.state"), "THAWED").unwrap();
    let end = Instant::now() + Duration::from_secs(10);
    while abandoned() > before && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(abandoned(), before);
    while std::fs::remove_dir(&cgroup).is_err() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(!Path::new(&cgroup).exists());
}

#[test]
fn two_programs_are_joined_by_a_pipe() {
    let (read, write) = std::io::pipe().unwrap();
    let writing = Command::new("/bin/sh").args(["-c", "echo joined; echo said >&2"]);
    let writing = writing.stdout_file(File::from(std::os::fd::OwnedFd::from(write)));
    let reading = Command::new("/bin/cat");
    let reading = reading.stdin_file(File::from(std::os::fd::OwnedFd::from(read)));
    let (written, read) = std::thread::scope(|scope| {
        let written = scope.spawn(|| writing.run().unwrap());
        let read = reading.run().unwrap();
        (written.join().unwrap(), read)
    });
    assert_eq!(read.stdout_text(), "joined\n");
    assert_eq!(written.stdout, b"");
    assert_eq!(written.stderr, b"said\n");
}

#[test]
fn a_program_that_is_still_open_for_writing_is_waited_for() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("program");
    let mut file = File::create(&path).unwrap();
    file.write_all(b"#!/bin/sh\necho written\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let busy = std::process::Command::new(&path).spawn().unwrap_err();
    assert_eq!(busy.kind(), std::io::ErrorKind::ExecutableFileBusy);
    let writer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        drop(file);
    });
    assert_eq!(
        Command::new(&path).run().unwrap().stdout_text(),
        "written\n"
    );
    writer.join().unwrap();
}

#[test]
fn a_program_dies_with_who_waits_for_it_unless_it_must_not_be_cut_off() {
    // A thread cannot be killed, but a process between can: it runs this very test again.
    const INSIDE: &str = "LAZARETTE_TEST_RUNS_A_PROGRAM";
    if let Ok(way) = std::env::var(INSIDE) {
        let sleep =
            sh("echo $$ > $PLACE; exec sleep 4").env("PLACE", std::env::var("PLACE").unwrap());
        drop(
            if way == "whole" {
                sleep.to_the_end()
            } else {
                sleep
            }
            .run(),
        );
        return;
    }
    for (way, lives) in [("cut", false), ("whole", true)] {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut between = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "command::tests::a_program_dies_with_who_waits_for_it_unless_it_must_not_be_cut_off"])
            .env(INSIDE, way)
            .env("PLACE", file.path())
            .stdout(process::Stdio::null())
            .spawn()
            .unwrap();
        let patience = Instant::now() + Duration::from_secs(10);
        let pid: i32 = loop {
            if let Ok(pid) = std::fs::read_to_string(file.path()).unwrap().trim().parse() {
                break pid;
            }
            assert!(Instant::now() < patience, "it does not begin");
            std::thread::sleep(Duration::from_millis(10));
        };
        let program = crate::process::Process::open(pid).unwrap();
        between.kill().unwrap();
        between.wait().unwrap();
        // The signal is sent by then, but not acted on for sure.
        let until = Instant::now() + Duration::from_secs(2);
        while program.is_alive() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(program.is_alive(), lives, "{way}");
    }
}
