//! Snapshots: `laz volume snapshot`, `snapshots`, `rollback`, and `rm VOLUME@SNAPSHOT`.

use lazarette_core::control::{Request, SnapshotPhase, SnapshotStatus, VolumeStatus};
use lazarette_core::manifest::Capability;
use lazarette_core::{Error, SnapshotName, VolumeName};

use crate::arguments::ListArguments;
use crate::client::Client;
use crate::failure::Failure;
use crate::terminal::{STATE, Table, Terminal};
use crate::volume::{ask, capable};

pub(crate) fn take(
    name: VolumeName,
    snapshot: Option<SnapshotName>,
    json: bool,
    client: &Client,
    terminal: &mut Terminal,
) -> Result<(), Failure> {
    let request = Request::VolumeSnapshot { name, snapshot };
    let taken: SnapshotStatus = capable(Capability::Snapshot, &request, client, terminal)?;
    if json {
        return terminal.json(&taken, true);
    }
    terminal.line(taken.name.as_str())
}

pub(crate) fn ls(
    name: VolumeName,
    arguments: &ListArguments,
    client: &Client,
    terminal: &mut Terminal,
) -> Result<(), Failure> {
    let volume: VolumeStatus = client.get(&Request::VolumeInspect { name })?;
    let snapshots = volume.snapshots;
    if arguments.json {
        return terminal.json(&snapshots, true);
    }
    if arguments.quiet {
        return snapshots
            .iter()
            .try_for_each(|snapshot| terminal.line(snapshot.name.as_str()));
    }
    if snapshots.is_empty() {
        let name = &volume.name;
        terminal.complain(&format!(
            "No snapshots of {name}. Take one: laz volume snapshot {name}"
        ));
        return Ok(());
    }
    let mut table = Table::new(&["SNAPSHOT", STATE, "TAKEN", "REMARK"]);
    for snapshot in snapshots {
        table.row([
            snapshot.name.to_string(),
            state(snapshot.phase).into(),
            snapshot.created_at,
            snapshot.reason.unwrap_or_default(),
        ]);
    }
    terminal.table(&table)
}

fn state(phase: SnapshotPhase) -> &'static str {
    match phase {
        SnapshotPhase::Pending => "pending",
        SnapshotPhase::Taken => "taken",
        SnapshotPhase::RollingBack => "rolling back",
        SnapshotPhase::Leaving => "leaving",
    }
}

pub(crate) fn rollback(
    name: VolumeName,
    snapshot: SnapshotName,
    yes: bool,
    client: &Client,
    terminal: &mut Terminal,
) -> Result<(), Failure> {
    if !yes {
        let found = find(&name, &snapshot, client)?;
        let lost = format!(
            "all that was written to volume {name} since snapshot {snapshot} was taken, {}",
            found.created_at
        );
        terminal.confirm_loss(name.as_str(), &lost)?;
    }
    let request = Request::VolumeRollback { name, snapshot };
    let volume: VolumeStatus = capable(Capability::Rollback, &request, client, terminal)?;
    terminal.line(volume.name.as_str())
}

/// Removes a snapshot; its data is lost as far as the volume has other data by now.
pub(crate) fn remove(
    name: VolumeName,
    snapshot: SnapshotName,
    yes: bool,
    client: &Client,
    terminal: &mut Terminal,
) -> Result<(), Failure> {
    if !yes {
        let found = find(&name, &snapshot, client)?;
        let lost = format!(
            "snapshot {snapshot} of volume {name}, taken {}",
            found.created_at
        );
        terminal.confirm_loss(&format!("{name}@{snapshot}"), &lost)?;
    }
    ask(
        client,
        &Request::SnapshotRemove { name, snapshot },
        terminal,
    )
}

/// What core knows of the snapshot: nobody is asked about one that is not there.
fn find(
    name: &VolumeName,
    snapshot: &SnapshotName,
    client: &Client,
) -> Result<SnapshotStatus, Failure> {
    let volume: VolumeStatus = client.get(&Request::VolumeInspect { name: name.clone() })?;
    let mut snapshots = volume.snapshots.into_iter();
    snapshots
        .find(|found| found.name == *snapshot)
        .ok_or_else(|| {
            let what = format!("volume {name} has no snapshot {snapshot}");
            let remedy = format!("`laz volume snapshots {name}` lists them");
            Failure::Core(Error::not_found(what).remedy(remedy))
        })
}
