//! Snapshots, clones and other sizes, where the plugin offers them.

use std::os::fd::OwnedFd;

use lazarette_core::message::{Method, VolumeParams};
use lazarette_core::volume::{CloneSource, SnapshotId};
use serde_json::json;

use super::capabilities::room;
use super::mounts::{read, write};
use super::{Found, Named, failed, needs, skipped};
use crate::kit::Kit;
use crate::report::Verdict;
use crate::subject::Failed;

pub(super) const CHECKS: &[Named] = &[
    Named::open(
        "copies.snapshot",
        "`snapshot` and `remove_snapshot` may be repeated and say so",
        snapshot,
    ),
    Named::open(
        "copies.snapshot-of-nothing",
        "a snapshot of a volume that is not there is refused",
        of_nothing,
    ),
    Named::open(
        "copies.rollback",
        "`rollback` brings back what the snapshot holds, also when repeated",
        rollback,
    ),
    Named::open(
        "copies.rollback-to-nothing",
        "`rollback` to a snapshot that is not there is refused and harms nothing",
        to_nothing,
    ),
    Named::open(
        "copies.clone",
        "a clone holds what its source holds, and is apart from it",
        clone,
    ),
    Named::open(
        "copies.clone-of-snapshot",
        "a clone of a snapshot holds what the snapshot holds",
        clone_of_snapshot,
    ),
    Named::open(
        "copies.resize",
        "`resize` gives more room, keeps the data, and may be repeated",
        resize,
    ),
];

/// Writes into a volume as a container would, and lets it go again.
fn put(kit: &mut Kit, volume: &VolumeParams, bytes: &[u8]) -> Result<(), Failed> {
    let (_, fd) = kit.mount(volume)?;
    write(&fd, "content", bytes)?;
    drop(fd);
    kit.unmount(volume)
}

fn holds(kit: &mut Kit, volume: &VolumeParams, wanted: &[u8], what: &str) -> Result<(), Failed> {
    let (_, fd) = kit.mount(volume)?;
    let found = read(&fd, "content")?;
    drop(fd);
    kit.unmount(volume)?;
    match found {
        Some(bytes) if bytes == wanted => Ok(()),
        Some(bytes) => failed(format!(
            "{what} holds {:?}, not {:?}",
            String::from_utf8_lossy(&bytes),
            String::from_utf8_lossy(wanted)
        )),
        None => failed(format!("{what} is empty")),
    }
}

fn snapshot(kit: &mut Kit) -> Found {
    needs!(kit, Create);
    needs!(kit, Snapshot);
    let volume = kit.made()?;
    let snapshot = SnapshotId::random();
    let take = Method::Snapshot {
        volume: volume.clone(),
        snapshot,
    };
    let remove = Method::RemoveSnapshot { volume, snapshot };
    kit.says(remove.clone(), "already_absent")?;
    kit.says(take.clone(), "created")?;
    kit.says(take, "already_exists")?;
    kit.says(remove.clone(), "removed")?;
    kit.says(remove, "already_absent")?;
    match kit.facts()?.named(&snapshot.to_string()).first() {
        None => Ok(Verdict::Passed),
        Some(left) => failed(format!("after `remove_snapshot`, {left} is left")),
    }
}

fn of_nothing(kit: &mut Kit) -> Found {
    needs!(kit, Snapshot);
    let volume = kit.nobody();
    let snapshot = SnapshotId::random();
    kit.refused(
        Method::Snapshot {
            volume: volume.clone(),
            snapshot,
        },
        "for a volume that is not there",
    )?;
    // It may be asked to clean up after itself.
    kit.try_call(Method::RemoveSnapshot {
        volume: volume.clone(),
        snapshot,
    })?;
    match kit.facts()?.named(&volume.id.to_string()).first() {
        None => Ok(Verdict::Passed),
        Some(left) => failed(format!("the snapshot was refused, but {left} is left")),
    }
}

fn rollback(kit: &mut Kit) -> Found {
    needs!(kit, Create);
    needs!(kit, Snapshot);
    needs!(kit, Rollback);
    let volume = kit.made()?;
    let snapshot = SnapshotId::random();
    put(kit, &volume, b"before")?;
    kit.says(
        Method::Snapshot {
            volume: volume.clone(),
            snapshot,
        },
        "created",
    )?;
    put(kit, &volume, b"after")?;
    let back = Method::Rollback {
        volume: volume.clone(),
        snapshot,
    };
    kit.silent(back.clone())?;
    holds(kit, &volume, b"before", "the volume after `rollback`")?;
    put(kit, &volume, b"once more")?;
    kit.silent(back)?;
    holds(
        kit,
        &volume,
        b"before",
        "the volume after a second `rollback`",
    )?;
    kit.done(Method::RemoveSnapshot {
        volume: volume.clone(),
        snapshot,
    })?;
    holds(kit, &volume, b"before", "the volume without its snapshot")?;
    Ok(Verdict::Passed)
}

fn to_nothing(kit: &mut Kit) -> Found {
    needs!(kit, Create);
    needs!(kit, Rollback);
    let volume = kit.made()?;
    put(kit, &volume, b"mine")?;
    let back = Method::Rollback {
        volume: volume.clone(),
        snapshot: SnapshotId::random(),
    };
    kit.refused(back, "for a snapshot that is not there")?;
    holds(
        kit,
        &volume,
        b"mine",
        "the volume after a refused `rollback`",
    )?;
    Ok(Verdict::Passed)
}

fn cloned(
    kit: &mut Kit,
    volume: &VolumeParams,
    snapshot: Option<SnapshotId>,
) -> Result<VolumeParams, Failed> {
    let copy = kit.fresh();
    let method = Method::Clone {
        volume: copy.clone(),
        source: CloneSource {
            volume: volume.clone(),
            snapshot,
        },
    };
    kit.says(method.clone(), "created")?;
    kit.says(method, "already_exists")?;
    Ok(copy)
}

fn clone(kit: &mut Kit) -> Found {
    needs!(kit, Create);
    needs!(kit, Clone);
    let volume = kit.made()?;
    put(kit, &volume, b"original")?;
    let copy = cloned(kit, &volume, None)?;
    holds(kit, &copy, b"original", "the clone")?;
    put(kit, &copy, b"changed")?;
    holds(
        kit,
        &volume,
        b"original",
        "the source of a clone that was written to",
    )?;
    put(kit, &volume, b"later")?;
    holds(
        kit,
        &copy,
        b"changed",
        "the clone of a source that was written to",
    )?;
    kit.remove(&copy)?;
    holds(
        kit,
        &volume,
        b"later",
        "the source of a clone that was removed",
    )?;
    Ok(Verdict::Passed)
}

fn clone_of_snapshot(kit: &mut Kit) -> Found {
    needs!(kit, Create);
    needs!(kit, Snapshot);
    needs!(kit, Clone);
    let volume = kit.made()?;
    let snapshot = SnapshotId::random();
    put(kit, &volume, b"then")?;
    kit.says(
        Method::Snapshot {
            volume: volume.clone(),
            snapshot,
        },
        "created",
    )?;
    put(kit, &volume, b"now")?;
    let copy = cloned(kit, &volume, Some(snapshot))?;
    holds(kit, &copy, b"then", "the clone of a snapshot")?;
    kit.remove(&copy)?;
    kit.done(Method::RemoveSnapshot {
        volume: volume.clone(),
        snapshot,
    })?;
    holds(kit, &volume, b"now", "the volume after its clone")?;
    Ok(Verdict::Passed)
}

fn resize(kit: &mut Kit) -> Found {
    needs!(kit, Create);
    needs!(kit, Resize);
    let Some(larger) = kit.settings.larger.clone() else {
        return skipped("the settings name no size to grow to (`larger`)");
    };
    let mut volume = kit.made()?;
    put(kit, &volume, b"kept")?;
    let measure = |kit: &mut Kit, volume: &VolumeParams| -> Result<u64, Failed> {
        let (_, fd): (_, OwnedFd) = kit.mount(volume)?;
        let found = room(&fd)?;
        drop(fd);
        kit.unmount(volume)?;
        Ok(found)
    };
    let before = measure(kit, &volume)?;
    volume.options["size"] = json!(larger);
    kit.silent(Method::Resize {
        volume: volume.clone(),
    })?;
    kit.silent(Method::Resize {
        volume: volume.clone(),
    })?;
    let after = measure(kit, &volume)?;
    if after <= before {
        return failed(format!(
            "after `resize` to {larger} it has room for {after} bytes, before it was {before}"
        ));
    }
    holds(kit, &volume, b"kept", "the volume after `resize`")?;
    kit.remove(&volume)?;
    Ok(Verdict::Passed)
}
