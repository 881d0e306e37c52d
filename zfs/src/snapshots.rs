//! Snapshots of datasets: their names.

use lazarette_plugin::{SnapshotId, VolumeId};

/// The name in ZFS of a snapshot of `dataset`.
pub(crate) fn name(dataset: &str, snapshot: SnapshotId) -> String {
    format!("{dataset}@{}", part(snapshot))
}

/// Its part after the `@`.
pub(crate) fn part(snapshot: SnapshotId) -> String {
    format!("lz-{snapshot}")
}

/// The name, from its `@` on, of one that is taken for a clone of a volume as it is.
pub(crate) fn for_clone(clone: VolumeId) -> String {
    format!("@lz-clone-{clone}")
}
