//! The volume API as a real dockerd uses it.

use std::time::{Duration, Instant};

use lazarette_core::daemon::volume_api::Caller;

use super::dockerd::{Dockerd, eventually};
use super::memory::{Memory, Served};

const SHORT: Duration = Duration::from_secs(15);

struct Fixture {
    memory: Memory,
    served: Served,
    docker: Dockerd,
}

impl Fixture {
    /// A dockerd with the driver `stand-in`, and one volume `media`.
    fn new() -> Option<Self> {
        let docker = Dockerd::start()?;
        let memory = Memory::new(docker.path("volumes"));
        let socket = docker.plugins().join("stand-in.sock");
        let served = Served::start("stand-in", &socket, memory.clone());
        let create = ["volume", "create", "-d", "stand-in", "--label", "mine=yes"];
        docker.ok(&[&create[..], &["-o", "server=nas", "media"]].concat());
        Some(Self {
            memory,
            served,
            docker,
        })
    }

    fn label(&self) -> String {
        self.docker
            .ok(&["volume", "inspect", "-f", "{{.Labels.mine}}", "media"])
    }
}

fn run(arguments: &[&'static str]) -> Vec<&'static str> {
    let begin = ["run", "--net", "none", "-v", "media:/data"];
    [&begin[..], arguments].concat()
}

#[test]
fn volumes_are_made_shown_used_and_removed() {
    let Some(it) = Fixture::new() else { return };
    let (docker, memory) = (&it.docker, &it.memory);
    assert_eq!(memory.calls("create"), ["create media"]);
    let listed = docker.ok(&[
        "volume",
        "ls",
        "--format",
        "{{.Driver}} {{.Name}} {{.Scope}}",
    ]);
    assert_eq!(listed, "stand-in media global");
    let format = "{{.CreatedAt}} {{.Options.server}} {{.Status.options.server}}";
    let shown = docker.ok(&["volume", "inspect", "-f", format, "media"]);
    assert_eq!(shown, "2026-11-23T13:10:29Z nas nas");
    let bad = docker.fails(&["volume", "create", "-d", "stand-in", "a,b"]);
    assert!(
        bad.contains("must not contain ','") && bad.contains("use 1 to 128"),
        "{bad}"
    );
    let unknown = docker.fails(&["volume", "inspect", "nothing"]);
    assert!(
        unknown.to_lowercase().contains("no such volume"),
        "{unknown}"
    );

    let write = ["--rm", "busybox", "sh", "-c", "echo hello > /data/file"];
    docker.ok(&run(&write));
    let written = std::fs::read_to_string(docker.path("volumes/media/file")).unwrap();
    assert_eq!(written, "hello\n");
    eventually("the unmount", SHORT, || memory.uses("media") == 0);
    assert_eq!(memory.state().callers, [Caller::of_pid(docker.pid())]);

    docker.ok(&["volume", "rm", "media"]);
    assert_eq!(memory.calls("remove"), ["remove media"]);
    assert_eq!(docker.ok(&["volume", "ls", "-q"]), "");
}

#[test]
fn docker_cp_mounts_twice_with_one_id_and_unmounts_once() {
    let Some(it) = Fixture::new() else { return };
    let (docker, memory) = (&it.docker, &it.memory);
    let id = docker.ok(&run(&["-d", "--name", "web", "busybox", "sleep", "1000"]));
    let pattern = docker.path("pattern");
    std::fs::write(&pattern, "copied").unwrap();
    docker.ok(&["cp", pattern.to_str().unwrap(), "web:/data/copy"]);
    let mounts = memory.calls("mount media");
    assert_eq!(mounts.len(), 2, "{mounts:?}");
    assert_eq!(mounts[0], mounts[1], "the same mount ID");
    assert_eq!(memory.calls("unmount").len(), 1);
    assert_eq!(memory.uses("media"), 1, "the running container's");
    assert_eq!(docker.ok(&["exec", &id, "cat", "/data/copy"]), "copied");
    docker.ok(&["rm", "-f", "web"]);
    eventually("the unmount", SHORT, || memory.uses("media") == 0);
}

#[test]
fn case_8_a_killed_dockerd_comes_back_with_the_same_ids_and_another_identity() {
    let Some(mut it) = Fixture::new() else { return };
    it.docker.ok(&run(&[
        "-d",
        "--name",
        "web",
        "--restart",
        "always",
        "busybox",
        "sleep",
        "1000",
    ]));
    let first = it.memory.calls("mount media");
    it.docker.kill();
    it.docker.run();
    let state = |it: &Fixture| {
        it.docker
            .ok(&["inspect", "-f", "{{.State.Running}}", "web"])
    };
    eventually("the container runs again", SHORT, || state(&it) == "true");
    assert_eq!(it.label(), "yes", "dockerd has kept its own record");
    let again = it.memory.calls("mount media");
    assert!(again.len() > first.len(), "mounted again");
    assert!(again.iter().all(|mount| mount == &first[0]), "{again:?}");
    let callers = it.memory.state().callers.clone();
    assert_ne!(
        callers.first(),
        callers.last(),
        "told apart by process and start time"
    );
    it.docker.ok(&["rm", "-f", "web"]);
    it.docker.ok(&["volume", "rm", "media"]);
    assert_eq!(it.memory.calls("remove"), ["remove media"]);
}

#[test]
fn a_failure_of_ours_does_not_make_dockerd_forget_the_volume() {
    let Some(mut it) = Fixture::new() else { return };
    it.memory.state().broken = true;
    let said = it.docker.fails(&["volume", "inspect", "media"]);
    assert!(!said.contains("no such volume"), "{said}");
    it.docker.kill();
    it.docker.run();
    it.memory.state().broken = false;
    assert_eq!(it.label(), "yes");
}

#[test]
fn case_10_and_11_the_socket_is_found_at_once_and_gone_with_its_server() {
    let Some(it) = Fixture::new() else { return };
    let ls = || {
        let started = Instant::now();
        let names = it.docker.ok(&["volume", "ls", "-q"]);
        (names, started.elapsed())
    };
    let (names, served) = ls();
    assert_eq!(names, "media");
    it.served.stop();
    assert!(!it.docker.plugins().join("stand-in.sock").exists());
    assert_eq!(std::fs::read_dir(it.docker.plugins()).unwrap().count(), 0);
    let (names, gone) = ls();
    println!("volume ls: {served:?} with the driver, {gone:?} just after it has gone");
    // The record of a stopped driver stays in dockerd.
    assert_eq!(names, "media");
    let again = Served::start(
        "stand-in",
        &it.docker.plugins().join("stand-in.sock"),
        it.memory.clone(),
    );
    let (names, back) = ls();
    assert_eq!(names, "media");
    assert!(back < Duration::from_secs(3), "{back:?}");
    again.stop();
}
