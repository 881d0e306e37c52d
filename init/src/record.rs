//! The machine-readable record of the boot, `/run/lazarette/boot.json`.
//!
//! Written anew after each phase, whole or not at all. Times are seconds since the kernel started.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// How a phase went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It has begun and not ended.
    Running,
    /// It did its work.
    Done,
    /// There was nothing to do.
    Skipped,
    /// It failed; the boot went on.
    Failed,
}

/// One phase of the boot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhaseRecord {
    /// Its name.
    pub name: String,
    /// How it went.
    pub state: State,
    /// When it began.
    pub start: f64,
    /// How long it took; how long so far, for a running phase.
    pub seconds: f64,
    /// What it said: a note, why it was skipped, or why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// The whole boot.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BootRecord {
    /// When init began.
    pub start: f64,
    /// When the last phase ended; none: not yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<f64>,
    /// The phases, in the order in which they began.
    pub phases: Vec<PhaseRecord>,
    /// Where this is kept.
    #[serde(skip)]
    path: Option<PathBuf>,
}

impl BootRecord {
    /// An empty record that begins now and is kept in `path`.
    pub fn new(start: f64, path: PathBuf) -> Self {
        Self {
            start,
            path: Some(path),
            ..Self::default()
        }
    }

    /// Writes the record to its file, if the directory is there already.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self) -> Result<(), Error> {
        let Some(path) = &self.path else {
            return Ok(());
        };
        if !path.parent().is_some_and(Path::is_dir) {
            return Ok(());
        }
        let failed = |source| Error::file("write", path, source);
        let text = serde_json::to_vec_pretty(self).map_err(|error| failed(error.into()))?;
        let fresh = path.with_extension("json.new");
        fs::write(&fresh, text).map_err(failed)?;
        fs::rename(&fresh, path).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_saved_whole_and_reads_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("boot.json");
        let mut record = BootRecord::new(0.5, path.clone());
        record.phases.push(PhaseRecord {
            name: "network".into(),
            state: State::Failed,
            start: 1.0,
            seconds: 0.25,
            message: Some("no link".into()),
        });
        record.save().unwrap();
        let read: BootRecord = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(read.phases, record.phases);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn without_a_directory_nothing_is_written_and_nothing_fails() {
        let record = BootRecord::new(0.0, "/nonexistent/boot.json".into());
        record.save().unwrap();
    }
}
