//! Snapshots of datasets: their names, and what keeps one from being cloned.

use lazarette_plugin::{Error, ErrorKind, SnapshotId, VolumeId};

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

/// What to do about a clone that could not be made. ZFS says of one whose quota is too small for what
/// it is to hold what it says of a full pool; `bounded`: it was to have one.
pub(crate) fn not_cloned(error: Error, bounded: bool) -> Error {
    if error.kind != ErrorKind::NoSpace || !bounded {
        return error;
    }
    error.remedy(
        "its size must hold all that is cloned: give the clone a larger one (-o size=20G), or make \
         room in the pool",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_with_too_small_a_size_says_so() {
        let full = || Error::new(ErrorKind::NoSpace, "cannot clone it").remedy("make room");
        assert!(not_cloned(full(), true).to_string().contains("-o size="));
        assert!(!not_cloned(full(), false).to_string().contains("-o size="));
        let other = not_cloned(Error::invalid("cannot clone it"), true);
        assert!(!other.to_string().contains("-o size="));
    }
}
