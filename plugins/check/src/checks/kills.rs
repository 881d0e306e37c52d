//! The plugin killed (`SIGKILL`) at points of each step: after it, the repeated call succeeds, and
//! what is removed leaves nothing.

use std::time::{Duration, Instant};

use lazarette_core::manifest::Capability;
use lazarette_core::message::{Method, VolumeParams};
use lazarette_core::volume::{CloneSource, SnapshotId};
use serde_json::json;

use super::mounts::{read, write};
use super::{Found, Named, failed, needs, skipped};
use crate::kit::Kit;
use crate::report::Verdict;
use crate::subject::Failed;

pub(super) const CHECKS: &[Named] = &[
    Named::open(
        "kills.create",
        "killed in `create`: the repeated call makes it",
        |kit| step(kit, Step::Create),
    ),
    Named::open(
        "kills.mount",
        "killed in `mount`: the repeated call mounts it",
        |kit| step(kit, Step::Mount),
    ),
    Named::open(
        "kills.unmount",
        "killed in `unmount`: the repeated call unmounts it",
        |kit| step(kit, Step::Unmount),
    ),
    Named::open(
        "kills.remove",
        "killed in `remove`: the repeated call removes it",
        |kit| step(kit, Step::Remove),
    ),
    Named::open(
        "kills.snapshot",
        "killed in `snapshot`: the repeated call takes it",
        |kit| step(kit, Step::Snapshot),
    ),
    Named::open(
        "kills.remove-snapshot",
        "killed in `remove_snapshot`: the repeated call removes it",
        |kit| step(kit, Step::RemoveSnapshot),
    ),
    Named::open(
        "kills.rollback",
        "killed in `rollback`: the repeated call brings it back",
        |kit| step(kit, Step::Rollback),
    ),
    Named::open(
        "kills.clone",
        "killed in `clone`: the repeated call makes a whole clone",
        |kit| step(kit, Step::Clone),
    ),
    Named::open(
        "kills.resize",
        "killed in `resize`: the repeated call resizes it",
        |kit| step(kit, Step::Resize),
    ),
    Named::open("kills.open", "killed in `open`: it opens again", in_open),
    Named::open(
        "kills.mounted",
        "what was handed out works on after a kill, and can be mounted and removed",
        mounted,
    ),
];

/// What it is killed in.
#[derive(Clone, Copy, PartialEq)]
enum Step {
    Create,
    Mount,
    Unmount,
    Remove,
    Snapshot,
    RemoveSnapshot,
    Rollback,
    Clone,
    Resize,
}

impl Step {
    fn needs(self) -> &'static [Capability] {
        match self {
            Self::Mount | Self::Unmount | Self::Create | Self::Remove => &[Capability::Create],
            Self::Snapshot | Self::RemoveSnapshot => &[Capability::Create, Capability::Snapshot],
            Self::Rollback => &[
                Capability::Create,
                Capability::Snapshot,
                Capability::Rollback,
            ],
            Self::Clone => &[Capability::Create, Capability::Clone],
            Self::Resize => &[Capability::Create, Capability::Resize],
        }
    }
}

/// What a step works on.
struct Stage {
    volume: VolumeParams,
    copy: VolumeParams,
    snapshot: SnapshotId,
    call: Method,
}

/// Prepares what comes before the step.
fn stage(kit: &mut Kit, step: Step) -> Result<Stage, Failed> {
    let snapshot = SnapshotId::random();
    let mut volume = if step == Step::Create {
        kit.fresh()
    } else {
        kit.made()?
    };
    let copy = if step == Step::Clone {
        kit.fresh()
    } else {
        volume.clone()
    };
    let content = matches!(
        step,
        Step::Clone | Step::Rollback | Step::Snapshot | Step::Resize
    );
    if content {
        put(kit, &volume, b"kept")?;
    }
    let take = Method::Snapshot {
        volume: volume.clone(),
        snapshot,
    };
    match step {
        Step::Unmount => drop(kit.mount(&volume)?),
        Step::Rollback => {
            kit.done(take.clone())?;
            put(kit, &volume, b"lost")?;
        }
        Step::RemoveSnapshot => drop(kit.done(take.clone())?),
        Step::Resize => volume.options["size"] = json!(kit.settings.larger),
        _ => {}
    }
    let call = match step {
        Step::Create => Method::Create {
            volume: volume.clone(),
        },
        Step::Mount => Method::Mount {
            volume: volume.clone(),
            read_only: false,
        },
        Step::Unmount => Method::Unmount { id: volume.id },
        Step::Remove => Method::Remove {
            volume: volume.clone(),
        },
        Step::Snapshot => take,
        Step::RemoveSnapshot => Method::RemoveSnapshot {
            volume: volume.clone(),
            snapshot,
        },
        Step::Rollback => Method::Rollback {
            volume: volume.clone(),
            snapshot,
        },
        Step::Clone => Method::Clone {
            volume: copy.clone(),
            source: CloneSource {
                volume: volume.clone(),
                snapshot: None,
            },
        },
        Step::Resize => Method::Resize {
            volume: volume.clone(),
        },
    };
    Ok(Stage {
        volume,
        copy,
        snapshot,
        call,
    })
}

fn put(kit: &mut Kit, volume: &VolumeParams, bytes: &[u8]) -> Result<(), Failed> {
    let (_, fd) = kit.mount(volume)?;
    write(&fd, "content", bytes)?;
    drop(fd);
    kit.unmount(volume)
}

/// What must hold once the repeated call has succeeded; then everything is taken away.
fn settle(kit: &mut Kit, step: Step, stage: Stage) -> Result<(), Failed> {
    if matches!(step, Step::Rollback | Step::Clone | Step::Resize) {
        let (_, fd) = kit.mount(&stage.copy)?;
        if step != Step::Resize || kit.settings.keeps_data {
            let found = read(&fd, "content")?;
            if found.as_deref() != Some(b"kept".as_slice()) {
                return failed("it does not hold what it should");
            }
        }
        drop(fd);
    } else if matches!(step, Step::Create | Step::Mount | Step::Unmount) {
        drop(kit.mount(&stage.volume)?);
    }
    if step == Step::Clone {
        kit.remove(&stage.copy)?;
    }
    if matches!(step, Step::Snapshot | Step::Rollback) {
        kit.done(Method::RemoveSnapshot {
            volume: stage.volume.clone(),
            snapshot: stage.snapshot,
        })?;
    }
    kit.remove(&stage.volume)?;
    let facts = kit.facts()?;
    let ids = [
        stage.volume.id.to_string(),
        stage.copy.id.to_string(),
        stage.snapshot.to_string(),
    ];
    match ids.iter().find_map(|id| facts.named(id).into_iter().next()) {
        None => Ok(()),
        Some(left) => failed(format!("after everything was removed, {left} is left")),
    }
}

fn step(kit: &mut Kit, step: Step) -> Found {
    if let Some(capability) = step.needs().iter().find(|one| !kit.offers(**one)) {
        return skipped(format!("the manifest does not offer `{capability:?}`"));
    }
    if step == Step::Resize && kit.settings.larger.is_none() {
        return skipped("the settings name no size to grow to (`larger`)");
    }
    let first = stage(kit, step)?;
    let began = Instant::now();
    let reply = kit.try_call(first.call.clone())?;
    reply
        .result
        .map_err(|e| Failed::new(format!("undisturbed: {e}")))?;
    let takes = began.elapsed();
    // What is held keeps a volume of a real file system in use.
    drop(reply.fd);
    settle(kit, step, first)?;
    for point in kit.settings.kill_points.clone() {
        killed_at(kit, step, takes * point.min(100) / 100).map_err(|failed| {
            Failed::new(format!("killed after {point} % of its time: {failed}"))
        })?;
    }
    Ok(Verdict::Passed)
}

fn killed_at(kit: &mut Kit, step: Step, after: Duration) -> Result<(), Failed> {
    let stage = stage(kit, step)?;
    kit.begin(stage.call.clone())?;
    std::thread::sleep(after);
    kit.kill()?;
    let again = kit.try_call(stage.call.clone())?;
    if let Err(error) = again.result {
        return failed(format!("the repeated call fails: {error}"));
    }
    drop(again.fd);
    settle(kit, step, stage)
}

fn in_open(kit: &mut Kit) -> Found {
    for wait in [0, 2, 20] {
        kit.subject.kill()?;
        kit.disconnect();
        kit.settle(false)?;
        let config = kit.settings.context.clone();
        kit.begin(Method::Open { config })?;
        std::thread::sleep(Duration::from_millis(wait));
        kit.kill()?;
        kit.done(Method::Health)?;
    }
    Ok(Verdict::Passed)
}

fn mounted(kit: &mut Kit) -> Found {
    needs!(kit, Create);
    let volume = kit.made()?;
    let (_, fd) = kit.mount(&volume)?;
    write(&fd, "held", b"on")?;
    kit.kill()?;
    if read(&fd, "held")?.as_deref() != Some(b"on".as_slice()) {
        return failed("what was handed out is empty after a kill");
    }
    write(&fd, "more", b"still")?;
    let (again, second) = kit.mount(&volume)?;
    if read(&second, "more")?.as_deref() != Some(b"still".as_slice()) {
        return failed("after a kill, `mount` hands out something else");
    }
    let stacked = kit.facts()?.at(&again.path).len();
    if stacked != 1 {
        return failed(format!(
            "{stacked} mounts lie on {} after a kill",
            again.path.display()
        ));
    }
    drop((fd, second));
    kit.remove(&volume)?;
    match kit.facts()?.named(&volume.id.to_string()).first() {
        None => Ok(Verdict::Passed),
        Some(left) => failed(format!("after a kill and a removal, {left} is left")),
    }
}
