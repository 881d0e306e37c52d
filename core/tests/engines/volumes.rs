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
    // Of a name it knows, dockerd asks no driver again, whatever the options: case 16 cannot be
    // had by this way; what does reach us is checked in `wire`.
    let other = [
        "volume",
        "create",
        "-d",
        "stand-in",
        "-o",
        "server=other",
        "media",
    ];
    assert_eq!(docker.ok(&other), "media");
    assert_eq!(memory.calls("create"), ["create media"]);
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
fn docker_cp_mounts_again_with_the_same_id_and_takes_only_that_back() {
    let Some(it) = Fixture::new() else { return };
    let (docker, memory) = (&it.docker, &it.memory);
    let id = docker.ok(&run(&["-d", "--name", "web", "busybox", "sleep", "1000"]));
    let pattern = docker.path("pattern");
    std::fs::write(&pattern, "copied").unwrap();
    docker.ok(&["cp", pattern.to_str().unwrap(), "web:/data/copy"]);
    let mounts = memory.calls("mount media");
    assert!(mounts.len() > 1, "{mounts:?}");
    assert!(mounts.iter().all(|mount| mount == &mounts[0]), "{mounts:?}");
    assert_eq!(memory.calls("unmount").len(), mounts.len() - 1);
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
fn case_10_and_11_a_driver_that_is_there_first_delays_nothing_and_leaves_nothing() {
    let Some(mut it) = Fixture::new() else { return };
    // It ends when dockerd, starting again, asks it to: else dockerd would wait 10 s for it.
    let polite = ["sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait"];
    let always = ["-d", "--name", "web", "--restart", "always", "busybox"];
    it.docker.ok(&run(&[&always[..], &polite].concat()));
    it.docker.kill();
    it.served.stop();
    assert_eq!(std::fs::read_dir(it.docker.plugins()).unwrap().count(), 0);
    let socket = it.docker.plugins().join("stand-in.sock");
    it.served = Served::start("stand-in", &socket, it.memory.clone());
    let started = Instant::now();
    it.docker.run();
    let answers = started.elapsed();
    let state = || {
        it.docker
            .ok(&["inspect", "-f", "{{.State.Running}}", "web"])
    };
    eventually("the container runs again", SHORT, || state() == "true");
    let started = Instant::now();
    assert_eq!(it.docker.ok(&["volume", "ls", "-q"]), "media");
    let listed = started.elapsed();
    println!("dockerd answers after {answers:?}, volume ls after {listed:?}");
    assert!(answers < Duration::from_secs(8), "{answers:?}");
    assert!(listed < Duration::from_secs(3), "{listed:?}");
}
