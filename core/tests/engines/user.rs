//! The user Docker, watched.

use std::time::{Duration, Instant};

use lazarette_core::daemon::user_engine::{ContainerUse, UserEngine, UserEvent};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::dockerd::Dockerd;
use super::runtime;

/// Events until `wanted` finds one.
async fn wait<T>(
    events: &mut mpsc::Receiver<UserEvent>,
    what: &str,
    mut wanted: impl FnMut(UserEvent) -> Option<T>,
) -> T {
    let search = async {
        loop {
            if let Some(found) = wanted(events.recv().await.expect("the watcher lives")) {
                return found;
            }
        }
    };
    let found = timeout(Duration::from_secs(20), search).await;
    found.unwrap_or_else(|_| panic!("never saw: {what}"))
}

fn named(event: UserEvent, name: &str) -> Option<ContainerUse> {
    match event {
        UserEvent::Containers(all) => all.into_iter().find(|container| container.name == name),
        _ => None,
    }
}

#[test]
fn containers_come_and_go_and_so_does_the_engine() {
    let Some(mut docker) = Dockerd::start() else {
        return;
    };
    runtime().block_on(async {
        let engine = UserEngine::new(docker.socket());
        let mut events = engine.watch();
        let up = wait(&mut events, "up", |event| match event {
            UserEvent::Up(identity) => Some(identity),
            _ => None,
        });
        let up = up.await;
        assert!(
            up.version.starts_with(|c: char| c.is_ascii_digit()),
            "{up:?}"
        );
        assert_eq!(up.process.pid, docker.pid());
        assert!(up.process.start_time > 0);
        let empty = wait(&mut events, "the first listing", |event| match event {
            UserEvent::Containers(all) => Some(all),
            _ => None,
        });
        assert_eq!(empty.await, []);

        let run = [
            "run",
            "-d",
            "--net",
            "none",
            "--name",
            "web",
            "-v",
            "vol:/data",
            "-v",
            "/tmp:/t",
        ];
        let at = Instant::now();
        let id = docker.ok(&[&run[..], &["busybox", "sleep", "1000"]].concat());
        let started = at.elapsed();
        let web = wait(&mut events, "web runs", |event| {
            named(event, "web").filter(ContainerUse::is_live)
        });
        let web = web.await;
        println!("a start of {started:?} seen after {:?}", at.elapsed());
        assert_eq!(web.id, id);
        let volume = web
            .mounts
            .iter()
            .find(|mount| mount.destination == "/data")
            .unwrap();
        assert_eq!(volume.volume.as_deref(), Some("vol"));
        assert_eq!(volume.driver.as_deref(), Some("local"));
        let bind = web
            .mounts
            .iter()
            .find(|mount| mount.destination == "/t")
            .unwrap();
        assert_eq!(
            (bind.volume.as_deref(), bind.source.as_str()),
            (None, "/tmp")
        );
        let pids = engine
            .pids(&[id.clone(), "0123456789ab".into()])
            .await
            .unwrap();
        assert_eq!(pids.len(), 1);
        let command = std::fs::read_to_string(format!("/proc/{}/cmdline", pids[&id])).unwrap();
        assert!(command.starts_with("sleep"), "{command:?}");

        docker.ok(&["kill", "web"]);
        wait(&mut events, "web ended", |event| {
            named(event, "web").filter(|web| web.state == "exited")
        })
        .await;
        assert!(engine.pids(&[id]).await.unwrap().is_empty());
        docker.ok(&["rm", "web"]);
        wait(&mut events, "web gone", |event| match event {
            UserEvent::Containers(all) if all.is_empty() => Some(()),
            _ => None,
        })
        .await;

        docker.kill();
        let at = Instant::now();
        let reason = wait(&mut events, "down", |event| match event {
            UserEvent::Down(reason) => Some(reason),
            _ => None,
        });
        println!("down told after {:?}: {}", at.elapsed(), reason.await);
        docker.run();
        let at = Instant::now();
        let again = wait(&mut events, "up again", |event| match event {
            UserEvent::Up(identity) => Some(identity),
            _ => None,
        });
        let again = again.await;
        println!("up told {:?} after it answered", at.elapsed());
        assert_ne!(again.process, up.process);
    });
}

#[test]
fn an_engine_that_is_not_there_yet_is_told_once_and_blocks_nobody() {
    runtime().block_on(async {
        let engine = UserEngine::new("/nonexistent/docker.sock");
        let mut events = engine.watch();
        let UserEvent::Down(reason) = events.recv().await.unwrap() else {
            panic!("no Down")
        };
        assert!(
            reason.to_string().contains("/nonexistent/docker.sock"),
            "{reason}"
        );
        let second = timeout(Duration::from_secs(3), events.recv()).await;
        assert!(second.is_err(), "told again: {second:?}");
    });
}
