//! Which files are still to be healed, and which never are by themselves, for their copies
//! contradict each other: a split brain.
//!
//! The bricks know, and Gluster's own glfsheal asks them. All that it needs is the volume's
//! description, which the client has: so no right on a server is needed.
//!
//! ```text
//! Brick g1.test:/bricks/gv0
//! /apps/f - Is in split-brain
//! <gfid:c06d1f69-6eff-421d-8a13-f0d67e59f72c> - Possibly undergoing heal
//! /apps/g
//! Status: Connected
//! Number of entries: 3
//! ```

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lazarette_plugin::command::Command;

use crate::config::Config;
use crate::graph;
use crate::programs::Programs;

/// The longest description of a volume, and the longest list, that is read.
const LONGEST: usize = 4 << 20;
/// So many files are told apart.
const MOST: usize = 10_000;

/// Files, by their paths in the volume, or by `<gfid:…>` where a brick does not know the path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Unhealed {
    /// In split brain.
    pub(crate) split: BTreeSet<String>,
    /// The others.
    pub(crate) pending: BTreeSet<String>,
}

impl Unhealed {
    /// Whether all is well.
    pub(crate) fn is_empty(&self) -> bool {
        self.split.is_empty() && self.pending.is_empty()
    }
}

/// Asks the bricks of the volume that is mounted at `place`. What is written meanwhile is named
/// after `key`.
///
/// # Errors
/// Why they could not be asked.
pub(crate) fn ask(
    programs: &Programs,
    config: &Config,
    key: &str,
    place: &Path,
    limit: Duration,
) -> Result<Unhealed, String> {
    let description = Command::new(&programs.cat)
        .arg("--")
        .arg(graph::description(place))
        .deadline(limit)
        .keep(LONGEST)
        .run()
        .map_err(|e| e.to_string())?;
    if description.truncated {
        return Err("the description of the volume is too long".into());
    }
    let file = write(programs, key, &description.stdout)
        .map_err(|e| format!("the description of the volume cannot be written: {e}"))?;
    let volume = config.volume.as_str();
    // It would grow with every question.
    let _ = fs::remove_file(programs.tool_logs.join(format!("glfsheal-{volume}.log")));
    let asked = Command::new(&programs.glfsheal)
        .args([volume, "volfile-path"])
        .arg(&file)
        .deadline(limit)
        .keep(LONGEST)
        .run();
    let _ = fs::remove_file(&file);
    let output = asked.map_err(|e| e.to_string())?;
    if output.truncated {
        return Err("the list of the files to be healed is too long".into());
    }
    Ok(parse(&output.stdout_text()))
}

/// It may hold the volume's password.
fn write(programs: &Programs, key: &str, description: &[u8]) -> std::io::Result<PathBuf> {
    let file = programs.logs.join(format!("{key}.vol"));
    let mut options = fs::OpenOptions::new();
    let options = options.write(true).create(true).truncate(true).mode(0o600);
    options.open(&file)?.write_all(description)?;
    Ok(file)
}

/// What glfsheal writes.
pub(crate) fn parse(text: &str) -> Unhealed {
    let mut found = Unhealed::default();
    let mut torn: Vec<BTreeSet<String>> = Vec::new();
    let mut listing = false;
    for line in text.lines() {
        if line.starts_with("Brick ") {
            listing = true;
            torn.push(BTreeSet::new());
        } else if line.starts_with("Status: ") {
            listing = false;
        } else if listing
            && line.starts_with(['/', '<'])
            && found.split.len() + found.pending.len() < MOST
        {
            match line.strip_suffix(" - Is in split-brain") {
                Some(file) => {
                    found.split.insert(file.to_owned());
                    torn.last_mut()
                        .is_some_and(|all| all.insert(file.to_owned()))
                }
                None => {
                    let line = line
                        .strip_suffix(" - Possibly undergoing heal")
                        .unwrap_or(line);
                    found.pending.insert(line.to_owned())
                }
            };
        }
    }
    // A brick that is not blamed itself does not know that another one is.
    found.pending.retain(|file| !found.split.contains(file));
    for brick in &torn {
        forget_twins(&mut found.split, brick);
    }
    found
}

/// A brick that has just come back may know a file by its gfid only, which another one names by its
/// path: files that the others name, as many as it has nameless ones, are those.
fn forget_twins(split: &mut BTreeSet<String>, brick: &BTreeSet<String>) {
    let nameless: Vec<&String> = brick.iter().filter(|f| f.starts_with('<')).collect();
    let others = split
        .iter()
        .filter(|f| f.starts_with('/') && !brick.contains(*f));
    if nameless.len() <= others.count() {
        split.retain(|file| !nameless.contains(&file));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(files: &BTreeSet<String>) -> Vec<&str> {
        files.iter().map(String::as_str).collect()
    }

    #[test]
    fn files_in_split_brain_and_others_are_told_apart() {
        let found = parse(include_str!("../fixtures/unhealed.txt"));
        assert_eq!(names(&found.split), ["/apps/db/f"]);
        assert_eq!(
            names(&found.pending),
            ["/apps/db/g", "<gfid:f0af7bcc-49ba-4ec3-9222-5fb2576bcedf>"]
        );
        assert!(!found.is_empty());
    }

    #[test]
    fn a_file_that_one_brick_names_and_the_other_does_not_is_one_file() {
        let gfid = "<gfid:f0af7bcc-49ba-4ec3-9222-5fb2576bcedf> - Is in split-brain";
        let torn = "/apps/f - Is in split-brain";
        let found = parse(&format!("Brick a\n{torn}\nStatus: x\nBrick b\n{gfid}\n"));
        assert_eq!(names(&found.split), ["/apps/f"]);
        let found = parse(&format!(
            "Brick a\n{torn}\n{gfid}\nStatus: x\nBrick b\n{torn}\n{gfid}\n"
        ));
        assert_eq!(found.split.len(), 2);
    }

    #[test]
    fn a_brick_that_is_away_lists_nothing() {
        let found = parse(include_str!("../fixtures/unhealed-none.txt"));
        assert!(found.is_empty());
    }

    proptest! {
        #[test]
        fn no_list_is_too_odd(text in "(Brick |Status: |/| - Is in split-brain|\\PC|\n){0,200}") {
            let _ = parse(&text);
        }
    }
}
