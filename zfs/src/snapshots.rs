//! Snapshots of datasets: their names, and what the tools list of them.

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

/// Snapshots with their clones, from lines of a name and a list of names.
pub(crate) fn parse(text: &str) -> Vec<(String, Vec<String>)> {
    let clones = |list: &str| {
        list.split(',')
            .filter(|clone| !clone.is_empty() && *clone != "-")
            .map(str::to_owned)
            .collect()
    };
    text.lines()
        .map(|line| match line.split_once('\t') {
            Some((name, list)) => (name.to_owned(), clones(list)),
            None => (line.to_owned(), Vec::new()),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_are_listed_with_their_clones() {
        let text = "tank/a@x\t\ntank/a@y\ttank/b,tank/c\ntank/a@z\t-\n";
        let all = parse(text);
        assert_eq!(all[0], ("tank/a@x".to_owned(), vec![]));
        assert_eq!(all[1].1, ["tank/b", "tank/c"]);
        assert_eq!(all[2].1, Vec::<String>::new());
    }
}
