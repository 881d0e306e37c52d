//! A dataset and what hangs on it: its snapshots, and what was cloned from them. One start of the
//! tool tells all of it.

use std::time::Duration;

use lazarette_plugin::Result;

use crate::programs::Programs;
use crate::properties::{Current, ID};
use crate::report;

/// What is told of each, in this order; the name comes first.
const COLUMNS: [&str; 3] = ["type", "origin", ID];

/// A dataset with its snapshots.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Family {
    /// Some of its properties: its type, its origin and whose it is.
    pub(crate) head: Current,
    /// Its snapshots with their clones, oldest first.
    pub(crate) snapshots: Vec<(String, Vec<String>)>,
}

impl Family {
    /// The family of the dataset `name`; none if it is not there.
    ///
    /// # Errors
    /// What zfs(8) says.
    pub(crate) fn of(programs: &Programs, limit: Duration, name: &str) -> Result<Option<Self>> {
        let listed = programs
            .zfs(limit)
            .args(["list", "-H", "-p", "-d", "1", "-s", "createtxg"])
            .args(["-t", "filesystem,volume,snapshot", "-o"])
            .arg(format!("name,clones,{}", COLUMNS.join(",")))
            .args(["--", name])
            .run();
        match listed {
            Ok(output) => Ok(Some(parse(name, &output.stdout_text()))),
            Err(failed) if report::is_absent(&failed.stderr) => Ok(None),
            Err(failed) => Err(report::explain(&failed, &format!("cannot look at {name}"))),
        }
    }

    /// A clone of its youngest snapshot that has any.
    pub(crate) fn youngest_clone(&self) -> Option<&str> {
        let clones = self.snapshots.iter().rev().map(|(_, clones)| clones);
        clones.flatten().map(String::as_str).next()
    }
}

/// Reads lines of a name, a list of clones and the other columns. Datasets below are not counted.
fn parse(name: &str, text: &str) -> Family {
    let mut family = Family::default();
    let is_snapshot = |found: &str| {
        let rest = found.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with('@'))
    };
    for line in text.lines() {
        let mut fields = line.split('\t');
        let (Some(found), Some(clones)) = (fields.next(), fields.next()) else {
            continue;
        };
        if found == name {
            let named = COLUMNS.iter().zip(fields);
            family.head = named
                .map(|(column, value)| ((*column).to_owned(), value.to_owned()))
                .collect();
        } else if is_snapshot(found) {
            let clones = clones.split(',').filter(|c| !c.is_empty() && *c != "-");
            let clones = clones.map(str::to_owned).collect();
            family.snapshots.push((found.to_owned(), clones));
        }
    }
    family
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_list_tells_a_dataset_from_its_snapshots_and_from_what_is_below() {
        let text = "tank/a\t-\tfilesystem\ttank/o@lz-1\t17\n\
                    tank/a@x\t\tsnapshot\t-\t-\n\
                    tank/a/b\t-\tfilesystem\t-\t18\n\
                    tank/a@y\ttank/c,tank/d\tsnapshot\t-\t-\n\
                    tank/a@z\t-\tsnapshot\t-\t-\n";
        let family = parse("tank/a", text);
        assert_eq!(family.head["type"], "filesystem");
        assert_eq!(family.head["origin"], "tank/o@lz-1");
        assert_eq!(family.head[ID], "17");
        let names: Vec<&str> = family.snapshots.iter().map(|(n, _)| n.as_str()).collect();
        assert_eq!(names, ["tank/a@x", "tank/a@y", "tank/a@z"]);
        assert_eq!(family.snapshots[1].1, ["tank/c", "tank/d"]);
        assert_eq!(family.youngest_clone(), Some("tank/c"));
        assert_eq!(parse("tank/a", "").youngest_clone(), None);
    }
}
