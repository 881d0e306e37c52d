//! Storage containers on a real dockerd, with a stand-in for the plugin host.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use lazarette_core::built_in::BuiltIn;
use lazarette_core::daemon::system_engine::{
    ContainerSpec, Ensured, How, OneShot, SystemEngine, SystemEvent,
};
use lazarette_core::{ContextName, ErrorKind, Privileges, Removed};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::dockerd::Dockerd;
use super::runtime;

/// Says what it was given and what it may do, then waits for its end.
const PLUGIN_HOST: &str = r#"#!/bin/sh
echo "arguments: $*"
grep -q ' /mnt tmpfs ' /proc/mounts && echo "/mnt is a tmpfs"
touch /file 2>/dev/null || echo "the root is read-only"
touch /run/lazarette/seen /run/file /tmp/file && echo "/run and /tmp are writable"
mount -t tmpfs none /mnt 2>/dev/null && echo "mount works" || echo "mount is refused"
echo "/etc/hosts is inode $(stat -c %i /etc/hosts)"
grep NoNewPrivs /proc/self/status
grep CapBnd /proc/self/status
trap 'echo closing; exit 0' TERM
while :; do sleep 1000 & wait $!; done
"#;

struct Fixture {
    docker: Dockerd,
    engine: SystemEngine,
    image_id: String,
}

impl Fixture {
    async fn new() -> Option<Self> {
        let docker = Dockerd::start()?;
        let manifest = json!({"kind": "stand-in", "version": "1", "context_schema": {},
                              "volume_schema": {}, "capabilities": [], "privileges": {}});
        let labels = [
            ("dev.lazarette.plugin", "stand-in"),
            ("dev.lazarette.manifest", &manifest.to_string()),
        ];
        let image_id = docker.import("plugin:1", &labels, Some(PLUGIN_HOST));
        let engine = SystemEngine::connect(docker.socket()).await.unwrap();
        Some(Self {
            docker,
            engine,
            image_id,
        })
    }

    fn spec(&self, context: &str, capabilities: &[&str]) -> ContainerSpec {
        ContainerSpec {
            context: ContextName::new(context).unwrap(),
            image_id: self.image_id.clone(),
            privileges: Privileges {
                capabilities: capabilities.iter().map(|&name| name.to_owned()).collect(),
                host_network: true,
                writable: vec!["/run".into(), "/tmp".into()],
                ..Privileges::default()
            },
            run_directory: self.docker.path(&format!("run/contexts/{context}")),
            grace: Duration::from_secs(5),
        }
    }

    async fn ensure(&self, spec: &ContainerSpec) -> Ensured {
        self.engine.ensure_container(spec).await.unwrap()
    }

    /// The container's log once it holds `text`.
    async fn log(&self, context: &ContextName, text: &str) -> Vec<String> {
        let lines = self.engine.logs(context, None, true).await.unwrap();
        let mut lines = Box::pin(lines);
        let mut read = Vec::new();
        while !read.iter().any(|line: &String| line.contains(text)) {
            let line = timeout(Duration::from_secs(20), lines.next()).await;
            let line = line.unwrap_or_else(|_| panic!("no {text:?} in {read:?}"));
            read.push(
                line.unwrap_or_else(|| panic!("no {text:?} in {read:?}"))
                    .unwrap(),
            );
        }
        read
    }
}

/// Looks, or builds, as it is told; fails for one kernel.
const ONE_THING: &str = r#"#!/bin/sh
if [ "$1" = scan ]; then echo '{"ok":[]}'; exit; fi
[ "$KERNEL" = bad ] && { echo "log line" >&2; echo "error: no headers" >&2; exit 3; }
touch /lib/modules/file 2>/dev/null && { echo "/lib/modules is writable" >&2; exit 1; }
echo spl.ko > /output/order
echo "built for $KERNEL"
"#;

#[test]
fn a_container_for_one_thing_does_it_and_is_gone() {
    runtime().block_on(async {
        let Some(it) = Fixture::new().await else {
            return;
        };
        let image = it.docker.import("one:1", &[], Some(ONE_THING));
        let limit = Duration::from_secs(60);
        let output = it.docker.path("output");
        std::fs::create_dir_all(&output).unwrap();
        let build = |kernel| OneShot::module_builder("one:1", kernel, &output);
        let ended = it.engine.run_once(build("6.1"), limit).await.unwrap();
        assert_eq!((ended.status, ended.output.trim()), (0, "built for 6.1"));
        let order = std::fs::read_to_string(output.join("order")).unwrap();
        assert_eq!(order.trim(), "spl.ko");
        assert_eq!(it.engine.image_id("one:1").await.unwrap(), image);

        let ended = it.engine.run_once(build("bad"), limit).await.unwrap();
        assert_eq!(ended.status, 3);
        assert_eq!(ended.last_lines, "log line\nerror: no headers");

        let mut spec = it.spec("nas", &[]);
        spec.image_id = image;
        spec.make_host_directories().unwrap();
        let scan = OneShot::scan("stand-in", &spec);
        let ended = it.engine.run_once(scan, limit).await.unwrap();
        assert_eq!(ended.output.trim(), r#"{"ok":[]}"#);
        assert!(it.engine.containers().await.unwrap().is_empty());
        let left = it.docker.command(&["ps", "-aq"]).output().unwrap();
        assert!(left.stdout.is_empty(), "{left:?}");

        let none = OneShot::module_builder("none:1", "6.1", &output);
        let error = it.engine.run_once(none, limit).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::NotFound, "{error}");
    });
}

#[test]
fn kinds_are_learnt_from_labels_and_a_bad_image_is_reported() {
    runtime().block_on(async {
        let Some(it) = Fixture::new().await else {
            return;
        };
        it.docker
            .import("bad:1", &[("dev.lazarette.plugin", "other")], None);
        let found = it
            .engine
            .plugins(&BuiltIn::default(), |_| Ok(()))
            .await
            .unwrap();
        assert_eq!(found.images.len(), 1, "{found:?}");
        assert_eq!(found.images[0].kind.as_str(), "stand-in");
        assert_eq!(found.images[0].image_id, it.image_id);
        assert_eq!(found.problems.len(), 1);
        assert!(found.problems[0].contains("bad:1"), "{:?}", found.problems);
    });
}

#[test]
fn a_container_is_made_once_started_again_and_replaced_when_it_is_to_be_another() {
    runtime().block_on(async {
        let Some(it) = Fixture::new().await else {
            return;
        };
        let spec = it.spec("nas", &["SYS_ADMIN"]);
        let started = Instant::now();
        let first = it.ensure(&spec).await;
        println!("created and started in {:?}", started.elapsed());
        assert_eq!(first.how, How::Created);
        assert!(std::fs::exists(format!("/proc/{}", first.pid)).unwrap());
        let started = Instant::now();
        let second = it.ensure(&spec).await;
        println!("found in {:?}", started.elapsed());
        assert_eq!(
            second,
            Ensured {
                how: How::AlreadyRunning,
                ..first.clone()
            }
        );

        it.docker.ok(&["kill", &first.id]);
        let containers = it.engine.containers().await.unwrap();
        assert_eq!(containers.len(), 1);
        assert_eq!(containers[0].name, "laz-context-nas");
        assert_eq!(
            (containers[0].running, containers[0].exit_code),
            (false, Some(137))
        );
        assert_eq!(containers[0].spec_hash, spec.hash());
        let third = it.ensure(&spec).await;
        assert_eq!((third.how, &third.id), (How::Started, &first.id));

        let other = it.spec("nas", &["SYS_ADMIN", "CHOWN"]);
        let fourth = it.ensure(&other).await;
        assert_eq!(fourth.how, How::Replaced);
        assert_ne!(fourth.id, first.id);
        let containers = it.engine.containers().await.unwrap();
        assert_eq!(containers.len(), 1, "{containers:?}");
        assert_eq!(containers[0].spec_hash, other.hash());
        assert!(containers[0].running);

        let context = &spec.context;
        let remove = || it.engine.stop_and_remove(context, Duration::from_secs(5));
        assert_eq!(remove().await, Ok(Removed::Removed));
        assert_eq!(remove().await, Ok(Removed::AlreadyAbsent));
        assert_eq!(it.engine.containers().await.unwrap(), []);
    });
}

#[test]
fn a_container_gets_what_was_granted_and_no_more() {
    runtime().block_on(async {
        let Some(it) = Fixture::new().await else {
            return;
        };
        let granted = it.spec("granted", &["SYS_ADMIN"]);
        let bare = it.spec("bare", &[]);
        it.ensure(&granted).await;
        it.ensure(&bare).await;
        let log = it.log(&granted.context, "CapBnd").await;
        let hosts = std::fs::metadata("/etc/hosts").unwrap().ino();
        for line in [
            &format!("/etc/hosts is inode {hosts}"),
            "arguments: supervise",
            "/mnt is a tmpfs",
            "the root is read-only",
            "/run and /tmp are writable",
            "mount works",
            "NoNewPrivs:\t1",
            "CapBnd:\t0000000000200000",
        ] {
            assert!(
                log.iter().any(|found| found == line),
                "no {line:?} in {log:?}"
            );
        }
        let log = it.log(&bare.context, "CapBnd").await;
        assert!(log.iter().any(|line| line == "mount is refused"), "{log:?}");
        assert!(
            log.iter().any(|line| line == "CapBnd:\t0000000000000000"),
            "{log:?}"
        );
        assert!(it.docker.path("run/contexts/granted/seen").exists());
        let last = it.engine.logs(&bare.context, Some(1), false).await.unwrap();
        assert_eq!(last.collect::<Vec<_>>().await.len(), 1);
    });
}

#[test]
fn what_is_not_ours_is_not_touched() {
    runtime().block_on(async {
        let Some(it) = Fixture::new().await else {
            return;
        };
        let run = [
            "run",
            "-d",
            "--net",
            "none",
            "--name",
            "laz-context-nas",
            "busybox",
        ];
        let foreign = it.docker.ok(&[&run[..], &["sleep", "1000"]].concat());
        let spec = it.spec("nas", &[]);
        let error = it.engine.ensure_container(&spec).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::AlreadyExists);
        assert!(error.to_string().contains("laz-context-nas"), "{error}");
        let removed = it
            .engine
            .stop_and_remove(&spec.context, Duration::ZERO)
            .await;
        assert_eq!(removed, Ok(Removed::AlreadyAbsent));
        assert_eq!(it.engine.containers().await.unwrap(), []);
        let running = it
            .docker
            .ok(&["inspect", "-f", "{{.State.Running}}", &foreign]);
        assert_eq!(running, "true");
        let gone = ContainerSpec {
            image_id: format!("sha256:{}", "0".repeat(64)),
            ..it.spec("other", &[])
        };
        let error = it.engine.ensure_container(&gone).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::NotFound, "{error}");
        let no_log = it.engine.logs(&gone.context, None, false).await;
        assert_eq!(no_log.err().unwrap().kind, ErrorKind::NotFound);
    });
}

async fn event(events: &mut mpsc::Receiver<SystemEvent>, what: &str) -> SystemEvent {
    let event = timeout(Duration::from_secs(60), events.recv()).await;
    event
        .unwrap_or_else(|_| panic!("no event: {what}"))
        .unwrap()
}

#[test]
fn a_death_is_heard_of_and_so_is_the_engines_own() {
    runtime().block_on(async {
        let Some(mut it) = Fixture::new().await else {
            return;
        };
        let mut events = it.engine.watch();
        assert!(matches!(event(&mut events, "up").await, SystemEvent::Up(_)));
        let spec = it.spec("nas", &[]);
        let ensured = it.ensure(&spec).await;
        it.log(&spec.context, "CapBnd").await;
        let started = SystemEvent::Started {
            context: spec.context.clone(),
            id: ensured.id.clone(),
        };
        assert_eq!(event(&mut events, "start").await, started);
        let at = Instant::now();
        it.docker.ok(&["kill", &ensured.id]);
        let died = SystemEvent::Died {
            context: spec.context.clone(),
            id: ensured.id.clone(),
            exit_code: Some(137),
        };
        assert_eq!(event(&mut events, "die").await, died);
        println!("death told in {:?} (with docker kill)", at.elapsed());

        it.docker.kill();
        let SystemEvent::Down(reason) = event(&mut events, "down").await else {
            panic!("no Down")
        };
        assert_eq!(reason.kind, ErrorKind::Unreachable, "{reason}");
        let error = it.engine.containers().await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unreachable, "{error}");
        it.docker.run();
        let seen = loop {
            match event(&mut events, "up again").await {
                SystemEvent::Up(identity) => break identity,
                SystemEvent::Down(_) => {}
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(seen.process.pid, it.docker.pid());
        // The same client goes on.
        assert_eq!(it.ensure(&spec).await.how, How::Started);
        let removed = it
            .engine
            .stop_and_remove(&spec.context, Duration::from_secs(5))
            .await;
        assert_eq!(removed, Ok(Removed::Removed));
        let mut rest = BTreeSet::new();
        while rest.len() < 3 {
            rest.insert(match event(&mut events, "start, die, destroy").await {
                SystemEvent::Started { .. } => "started",
                // By its own `exit 0`: the grace was long enough.
                SystemEvent::Died {
                    exit_code: Some(0), ..
                } => "died",
                SystemEvent::Died { .. } => continue,
                SystemEvent::Removed { .. } => "removed",
                other => panic!("{other:?}"),
            });
        }
    });
}
