//! Snapshots, clones, sizes, scans and the kinds' own actions, against a stand-in core.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod support;

use std::collections::BTreeSet;

use lazarette_core::control::{
    ActTarget, Attached, ContextPhase, Origin, Progress, Request, Response, Scanned, SnapshotPhase,
    SnapshotStatus, VolumePhase, VolumeStatus,
};
use lazarette_core::manifest::{Action, ActionOn, Capability};
use lazarette_core::volume::{Activity, Capacity, Found, SnapshotId};
use lazarette_core::{Error, HealthState, Kind, Manifest, Privileges, SnapshotName, frame};
use serde_json::{Value, json};
use support::{StandIn, context, golden, laz, status, volume};

fn done(value: impl serde::Serialize) -> Response {
    Response::Done(serde_json::to_value(value).unwrap())
}

fn manifest(kind: &str, capabilities: &[Capability], actions: Vec<Action>) -> Manifest {
    Manifest {
        kind: Kind::new(kind).unwrap(),
        version: "0.1.0".into(),
        context_schema: json!({"type": "object"}),
        volume_schema: json!({"type": "object"}),
        capabilities: capabilities.iter().copied().collect(),
        privileges: Privileges::default(),
        url: None,
        actions,
        exclusive: None,
    }
}

fn action(on: ActionOn, name: &str, summary: &str, loses: Option<&str>) -> Action {
    Action {
        name: name.into(),
        summary: summary.into(),
        on,
        parameters: json!({"type": "object", "required": ["device"], "properties": {
            "device": {"type": "string", "description": "The device, by its stable path."},
        }}),
        loses: loses.map(Into::into),
    }
}

fn kinds() -> Vec<Manifest> {
    use ActionOn::{Context, Volume};
    vec![
        manifest("nfs", &[Capability::Create], Vec::new()),
        manifest(
            "pools",
            &[Capability::Create, Capability::Snapshot, Capability::Scan],
            vec![
                action(Context, "scrub", "Read and check everything.", None),
                action(
                    Context,
                    "add",
                    "Add a device.",
                    Some("what is on the new device"),
                ),
                action(Volume, "send", "Copy it into a file.", None),
            ],
        ),
    ]
}

fn snapshot(name: &str) -> SnapshotStatus {
    SnapshotStatus {
        name: SnapshotName::new(name).unwrap(),
        id: SnapshotId(uuid::Uuid::nil()),
        created_at: "2026-01-02T03:04:05Z".into(),
        phase: SnapshotPhase::Taken,
        reason: None,
    }
}

fn database() -> VolumeStatus {
    let mut db = volume("db", VolumePhase::Mounted);
    db.kind = Kind::new("pools").unwrap();
    db.size = Some("20G".into());
    let mut second = snapshot("noon");
    second.phase = SnapshotPhase::Leaving;
    second.reason = Some("volume test is a clone of it".into());
    db.snapshots = vec![snapshot("nightly"), second];
    db
}

/// A core with a volume `db` of a kind that can much, and `nas` of one that can little.
fn core() -> StandIn {
    StandIn::answering(|request| match request {
        Request::Kinds => done(kinds()),
        Request::Status => {
            let mut status = status();
            status.contexts[1].kind = Kind::new("pools").unwrap();
            done(status)
        }
        Request::VolumeInspect { name } if name.as_str() == "db" => {
            // What was declared is not lost with the volume.
            let mut db = database();
            db.origin = Origin::Created;
            done(db)
        }
        Request::VolumeInspect { name } => done(volume(name.as_str(), VolumePhase::Idle)),
        Request::VolumeSnapshot { name, .. } | Request::VolumeRollback { name, .. }
            if name.as_str() != "db" =>
        {
            Response::Failed(Error::unsupported("take snapshots", "nfs"))
        }
        Request::VolumeSnapshot { snapshot: name, .. } => {
            done(snapshot(name.as_ref().map_or("made", |name| name.as_str())))
        }
        Request::VolumeRollback { .. }
        | Request::VolumeClone { .. }
        | Request::VolumeRename { .. } => done(database()),
        Request::VolumeResize { size, .. } => {
            let mut db = database();
            db.new_size = (size != "20G").then(|| size.clone());
            done(db)
        }
        _ => done(()),
    })
}

fn changes(core: &StandIn) -> Vec<Request> {
    let requests = core.requests.lock().unwrap();
    let looking = |request: &Request| {
        matches!(
            request,
            Request::Kinds | Request::Status | Request::VolumeInspect { .. }
        )
    };
    requests.iter().filter(|r| !looking(r)).cloned().collect()
}

#[test]
fn snapshots_are_taken_listed_and_named() {
    let core = core();
    let ran = core.laz(&["volume", "snapshot", "db"]);
    assert_eq!((ran.status, ran.output.as_str()), (0, "made\n"));
    let ran = core.laz(&["volume", "snapshot", "db", "before"]);
    assert_eq!(ran.output, "before\n");
    let ran = core.laz(&["volume", "snapshots", "-q", "db"]);
    assert_eq!(ran.output, "nightly\nnoon\n");
    let ran = core.laz(&["volume", "snapshots", "db"]);
    golden("snapshots.txt", &ran.output);
    let ran = core.laz(&["volume", "snapshots", "media"]);
    assert!(
        ran.errors.contains("laz volume snapshot media"),
        "{}",
        ran.errors
    );
    assert_eq!(core.laz(&["volume", "snapshot", "db", "a/b"]).status, 5);
}

#[test]
fn what_a_kind_cannot_do_names_those_that_can() {
    let ran = core().laz(&["volume", "snapshot", "media"]);
    assert_eq!(ran.status, 5);
    assert!(
        ran.errors.trim_end().ends_with("kinds that can: pools"),
        "{}",
        ran.errors
    );
}

#[test]
fn rolling_back_and_removing_snapshots_says_what_is_lost() {
    for (arguments, typed, lost) in [
        (
            &["volume", "rollback", "db", "nightly"] as &[&str],
            "db",
            "all that was written to volume db since snapshot nightly was taken, 2026-01-02",
        ),
        (
            &["volume", "rm", "db@nightly"],
            "db@nightly",
            "snapshot nightly of volume db, taken 2026-01-02",
        ),
        (
            &["volume", "rm", "--snapshots", "db"],
            "db",
            "volume db of context nas with its data, and the snapshots nightly, noon of db",
        ),
    ] {
        let core = core();
        let socket = core.socket();
        let mut all = vec!["--socket", socket.to_str().unwrap()];
        all.extend(arguments);
        let nobody = laz(&all, None, None);
        assert_eq!(nobody.status, 1);
        assert!(
            nobody.errors.contains(lost) && nobody.errors.contains("--yes"),
            "{}",
            nobody.errors
        );
        assert_eq!(laz(&all, None, Some("yes\n")).status, 1);
        assert_eq!(changes(&core), [], "{arguments:?}");
        let ran = laz(&all, None, Some(&format!("{typed}\n")));
        assert_eq!(ran.status, 0, "{}", ran.errors);
        assert_eq!(changes(&core).len(), 1);
        all.push("--yes");
        assert_eq!(laz(&all, None, None).status, 0);
    }
    let ran = core().laz(&["volume", "rollback", "db", "never"]);
    assert_eq!(ran.status, 4, "{}", ran.errors);
}

#[test]
fn volumes_are_cloned_resized_and_renamed() {
    let core = core();
    core.laz(&["volume", "clone", "db@nightly", "test", "-o", "size=30G"]);
    let Request::VolumeClone {
        source,
        snapshot,
        name,
        options,
    } = core.last_request()
    else {
        panic!("{:?}", core.last_request())
    };
    let snapshot = snapshot.unwrap();
    assert_eq!(
        (source.as_str(), snapshot.as_str(), name.as_str()),
        ("db", "nightly", "test")
    );
    assert_eq!(options["size"], "30G");
    let ran = core.laz(&["volume", "resize", "db", "30G"]);
    assert_eq!(ran.output, "db is being given 30G\n");
    let ran = core.laz(&["volume", "resize", "db", "20G"]);
    assert_eq!(ran.output, "db has 20G now\n");
    assert_eq!(core.laz(&["volume", "rename", "db", "base"]).status, 0);
    assert!(
        matches!(core.last_request(), Request::VolumeRename { to, .. } if to.as_str() == "base")
    );
}

#[test]
fn a_kinds_own_actions_are_found_described_and_run() {
    let core = StandIn::new(|request, stream| {
        let answer = match request {
            Request::Kinds => done(kinds()),
            Request::Status => {
                let mut status = status();
                status.contexts[1].kind = Kind::new("pools").unwrap();
                done(status)
            }
            Request::Act { .. } => {
                let progress = Progress {
                    message: "reading".into(),
                    share: Some(0.43),
                };
                let item = Response::Item(serde_json::to_value(progress).unwrap());
                frame::write(stream, &item).unwrap();
                done(json!([
                    {"state": "online", "name": "disk1", "errors": 0},
                    {"state": "gone", "name": "disk2"},
                ]))
            }
            _ => done(database()),
        };
        frame::write(stream, &answer).unwrap();
    });
    let ran = core.laz(&["pool", "scrub", "office", "device=/dev/a=b"]);
    assert_eq!((ran.status, ran.errors.as_str()), (0, "reading: 43 %\n"));
    golden("act.txt", &ran.output);
    let Request::Act {
        on,
        action,
        parameters,
    } = core.last_request()
    else {
        panic!("{:?}", core.last_request())
    };
    assert!(matches!(on, ActTarget::Context(name) if name.as_str() == "office"));
    assert_eq!(
        (action.as_str(), parameters["device"].as_str()),
        ("scrub", "/dev/a=b")
    );

    let json = core.laz(&["volume", "send", "db", "--json"]);
    let answer: Vec<Value> = serde_json::from_str(&json.output).unwrap();
    assert_eq!(answer.len(), 2);

    golden("pool-help.txt", &core.laz(&["pool", "--help"]).output);
    let volume = core.laz(&["volume", "-h"]).output;
    assert!(
        volume.contains("snapshot") && volume.contains("Copy it into a file."),
        "{volume}"
    );
    golden(
        "pool-add-help.txt",
        &core.laz(&["pool", "add", "--help"]).output,
    );
    assert!(
        core.laz(&["pool", "ls", "--help"])
            .output
            .contains("--json")
    );
}

#[test]
fn actions_that_lose_something_ask_and_unknown_ones_name_what_there_is() {
    let core = core();
    let ran = core.laz(&["pool", "add", "office", "device=/dev/x"]);
    assert_eq!(ran.status, 1);
    assert!(
        ran.errors
            .contains("this loses what is on the new device (add of context office)"),
        "{}",
        ran.errors
    );
    assert_eq!(changes(&core), []);
    assert_eq!(
        core.laz(&["pool", "add", "-y", "office", "device=/dev/x"])
            .status,
        0
    );
    assert_eq!(changes(&core).len(), 1);

    let ran = core.laz(&["pool", "scrub", "nas"]);
    assert_eq!(ran.status, 5);
    assert!(
        ran.errors
            .contains("nas is of kind nfs, which has no scrub; kinds that have it: pools"),
        "{}",
        ran.errors
    );
    let ran = core.laz(&["pool", "scrabble", "office"]);
    assert!(
        ran.status == 5 && ran.errors.contains("add, scrub"),
        "{}",
        ran.errors
    );
    let ran = core.laz(&["pool", "scrub", "nowhere"]);
    assert!(
        ran.status == 4 && ran.errors.contains("laz pool ls"),
        "{}",
        ran.errors
    );
    let ran = core.laz(&["pool", "scrub", "office", "device=a", "device=b"]);
    assert!(
        ran.status == 5 && ran.errors.contains("twice"),
        "{}",
        ran.errors
    );
    let ran = core.laz(&["pool", "scrub", "--loud", "office"]);
    assert_eq!(ran.status, 2, "{}", ran.errors);
    assert_eq!(changes(&core).len(), 1, "nothing of these reached core");
}

#[test]
fn scanning_shows_what_could_be_attached_and_who_could_not_look() {
    let core = StandIn::answering(|request| {
        let Request::Scan { kinds } = request else {
            panic!("{request:?}")
        };
        let found = vec![
            Found {
                what: "pool".into(),
                name: "tank".into(),
                size: Some(2 << 40),
                detail: Some("exported".into()),
                devices: vec!["/dev/disk/by-id/a".into(), "/dev/disk/by-id/b".into()],
                url: Some("pools:tank".into()),
            },
            Found {
                what: "blank disk".into(),
                name: "/dev/disk/by-id/c".into(),
                size: Some(4_000_000_000),
                detail: None,
                devices: vec!["/dev/disk/by-id/c".into()],
                url: None,
            },
        ];
        let pools = Scanned {
            kind: Kind::new("pools").unwrap(),
            found: if kinds.is_empty() { found } else { vec![] },
            error: None,
        };
        let groups = Scanned {
            kind: Kind::new("groups").unwrap(),
            found: vec![],
            error: Some(Error::internal("no device mapper")),
        };
        done(if kinds.is_empty() {
            vec![pools, groups]
        } else {
            vec![pools]
        })
    });
    let ran = core.laz(&["scan"]);
    assert_eq!(ran.status, 1);
    assert!(
        ran.errors
            .starts_with("laz: groups could not look: no device mapper"),
        "{}",
        ran.errors
    );
    golden("scan.txt", &ran.output);
    let ran = core.laz(&["scan", "pools"]);
    assert_eq!(ran.status, 0, "{}", ran.errors);
    assert!(ran.output.contains("pools looked"), "{}", ran.output);
    let json: Vec<Scanned> = serde_json::from_str(&core.laz(&["scan", "--json"]).output).unwrap();
    assert_eq!(json.len(), 2);
}

#[test]
fn a_whole_context_can_be_attached() {
    let core = StandIn::answering(|_| {
        let mut tank = context("tank", ContextPhase::Ready, HealthState::Healthy);
        tank.attached = true;
        done(Attached::Context(Box::new(tank)))
    });
    let ran = core.laz(&["attach", "zfs:tank"]);
    assert_eq!(
        (ran.status, ran.output.as_str()),
        (0, "context tank: what it has is below /mnt/tank\n")
    );
}

#[test]
fn status_shows_how_full_and_how_busy_contexts_are() {
    let core = StandIn::answering(|_| {
        let mut status = status();
        let nas = &mut status.contexts[0];
        nas.declared = false;
        nas.attached = true;
        nas.capacity = Some(Capacity {
            total: 2 << 40,
            used: (2 << 40) / 100 * 61,
        });
        nas.activities = vec![Activity {
            name: "scrub".into(),
            share: Some(0.438),
            detail: Some("2 h left".into()),
        }];
        status.volumes[0] = database();
        status.volumes[0].new_size = Some("30G".into());
        done(status)
    });
    golden("status-pools.txt", &core.laz(&["status"]).output);
    golden("pool-ls.txt", &core.laz(&["pool", "ls"]).output);
    let names: BTreeSet<String> =
        serde_json::from_str::<Vec<Value>>(&core.laz(&["pool", "ls", "--json"]).output)
            .unwrap()
            .iter()
            .map(|context| context["name"].to_string())
            .collect();
    assert_eq!(names.len(), 2);
}
