//! Which volume was mounted through which client. Core keeps copies of a mount, and they die with
//! their client: so it must be known, also after the container was started anew, which volumes are
//! still on a client that has ended.
//!
//! A file for each volume, in a directory that outlives the container:
//!
//! ```text
//! UUID   KEY GENERATION DIRECTORY
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use lazarette_plugin::{Error, Result, VolumeId, serde_json};

/// One volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    /// Which mount.
    pub(crate) key: String,
    /// Which client of it.
    pub(crate) generation: String,
    /// The directory in the mount; empty: all of it.
    pub(crate) directory: String,
}

/// All volumes.
pub(crate) struct Records {
    directory: PathBuf,
    known: Mutex<BTreeMap<VolumeId, Record>>,
}

impl Records {
    /// Reads what is there.
    pub(crate) fn read(directory: &Path) -> Self {
        let mut known = BTreeMap::new();
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Ok(id) = serde_json::from_value::<VolumeId>(name.into()) else {
                continue;
            };
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            match parse(&text) {
                Some(record) => {
                    known.insert(id, record);
                }
                // Torn by a crash: the volume is mounted anew before it is used.
                None => drop(fs::remove_file(entry.path())),
            }
        }
        Self {
            directory: directory.to_owned(),
            known: Mutex::new(known),
        }
    }

    /// Notes where `volume` is.
    pub(crate) fn set(&self, volume: VolumeId, record: Record) -> Result<()> {
        let failed = |e: std::io::Error| Error::internal("cannot note who uses a mount").cause(e);
        let mut known = self.lock();
        if known.get(&volume) == Some(&record) {
            return Ok(());
        }
        fs::create_dir_all(&self.directory).map_err(failed)?;
        let text = format!(
            "{} {} {}\n",
            record.key, record.generation, record.directory
        );
        fs::write(self.directory.join(volume.to_string()), text).map_err(failed)?;
        known.insert(volume, record);
        Ok(())
    }

    /// Forgets `volume`; where it was.
    pub(crate) fn remove(&self, volume: VolumeId) -> Option<Record> {
        let mut known = self.lock();
        let record = known.remove(&volume)?;
        // If it stays, the next plugin host believes in a volume that core does not ask for.
        let _ = fs::remove_file(self.directory.join(volume.to_string()));
        Some(record)
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<(VolumeId, Record)> {
        let known = self.lock();
        known.iter().map(|(id, r)| (*id, r.clone())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<VolumeId, Record>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn parse(text: &str) -> Option<Record> {
    let line = text.strip_suffix('\n')?;
    let mut words = line.splitn(3, ' ');
    Some(Record {
        key: words.next().filter(|w| !w.is_empty())?.to_owned(),
        generation: words.next().filter(|w| !w.is_empty())?.to_owned(),
        directory: words.next()?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(directory: &str) -> Record {
        Record {
            key: "00ff".into(),
            generation: "12-3456".into(),
            directory: directory.into(),
        }
    }

    #[test]
    fn what_was_noted_is_there_for_the_next_plugin_host() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("records");
        let records = Records::read(&directory);
        let (one, two) = (VolumeId::random(), VolumeId::random());
        records.set(one, record("")).unwrap();
        records.set(two, record("a dir/b")).unwrap();
        let again = Records::read(&directory);
        assert_eq!(again.all(), records.all());
        assert_eq!(again.remove(two), Some(record("a dir/b")));
        assert_eq!(again.remove(two), None);
        assert_eq!(Records::read(&directory).all(), [(one, record(""))]);
    }

    /// As version 0.1 wrote it: what lies in the directory is read by every later one.
    #[test]
    fn what_the_first_version_noted_is_read() {
        let place = tempfile::tempdir().unwrap();
        let files = [
            (
                "0d4e2c3a-7f65-4c1b-9e42-2b7a8c9d0e1f",
                "00ff 12-3456 \n",
                "",
            ),
            (
                "5b6a7988-1c2d-4e3f-a5b6-c7d8e9f0a1b2",
                "00ff 12-3456 a dir/b\n",
                "a dir/b",
            ),
        ];
        for (name, text, _) in files {
            fs::write(place.path().join(name), text).unwrap();
        }
        let all = Records::read(place.path()).all();
        assert_eq!(all.len(), files.len());
        for ((id, noted), (name, _, directory)) in all.into_iter().zip(files) {
            assert_eq!((id.to_string().as_str(), noted), (name, record(directory)));
        }
    }

    #[test]
    fn what_is_torn_is_forgotten() {
        let place = tempfile::tempdir().unwrap();
        for text in ["", "00ff", "00ff 1-2", "00ff 1-2 a", "\n"] {
            let name = VolumeId::random().to_string();
            fs::write(place.path().join(name), text).unwrap();
        }
        fs::write(place.path().join("something"), "else").unwrap();
        assert!(Records::read(place.path()).all().is_empty());
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
    }
}
