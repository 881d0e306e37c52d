//! Things that are built once and kept, each named by a hash of all that went into it.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// Where built things are kept: `LAZARETTE_CACHE`, else `lazarette` in the user's cache directory.
pub(crate) fn root() -> Result<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let path = if let Some(path) = variable("LAZARETTE_CACHE") {
        PathBuf::from(path)
    } else if let Some(path) = variable("XDG_CACHE_HOME") {
        PathBuf::from(path).join("lazarette")
    } else {
        PathBuf::from(variable("HOME").unwrap_or_else(|| "/root".into())).join(".cache/lazarette")
    };
    fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
    Ok(path)
}

/// A hash of parts; the order counts, and no two lists of parts give the same input.
#[derive(Default)]
pub(crate) struct Key(Sha256);

impl Key {
    /// Adds bytes.
    pub(crate) fn add(mut self, part: impl AsRef<[u8]>) -> Self {
        let part = part.as_ref();
        self.0.update((part.len() as u64).to_le_bytes());
        self.0.update(part);
        self
    }

    /// Adds a file's content and mode.
    pub(crate) fn add_file(mut self, path: &Path) -> Result<Self> {
        use std::os::unix::fs::PermissionsExt;
        let mut file = File::open(path).with_context(|| path.display().to_string())?;
        let mode = file.metadata()?.permissions().mode() & 0o777;
        self = self.add(mode.to_le_bytes());
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(self.add(bytes))
    }

    /// Adds all files below a directory, with their names.
    pub(crate) fn add_tree(mut self, directory: &Path) -> Result<Self> {
        let mut entries: Vec<_> = fs::read_dir(directory)
            .with_context(|| directory.display().to_string())?
            .collect::<std::io::Result<_>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            self = self.add(entry.file_name().as_encoded_bytes());
            let kind = entry.file_type()?;
            self = if kind.is_dir() {
                self.add_tree(&entry.path())?
            } else if kind.is_symlink() {
                self.add(fs::read_link(entry.path())?.as_os_str().as_encoded_bytes())
            } else {
                self.add_file(&entry.path())?
            };
        }
        Ok(self)
    }

    /// The hash, short enough for a file's name.
    pub(crate) fn finish(self) -> String {
        let digest = self.0.finalize();
        digest[..8]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

/// How many entries of a kind are kept: several checkouts may share the cache.
const KEPT: usize = 4;

/// The cache's entry `KIND-KEY`, a file or directory; `build` makes it at the path it is given if
/// it is not there. Older entries of the same kind go.
pub(crate) fn entry(
    kind: &str,
    key: &str,
    build: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let root = root()?;
    let path = root.join(format!("{kind}-{key}"));
    let lock = File::create(root.join(format!("{kind}.lock")))?;
    lock.lock().with_context(|| format!("the lock of {kind}"))?;
    if path.exists() {
        // So that what is in use is never the oldest.
        File::open(&path)?.set_modified(std::time::SystemTime::now())?;
        return Ok(path);
    }
    let partial = root.join(format!("{kind}-{key}.partial"));
    remove(&partial)?;
    build(&partial)?;
    fs::rename(&partial, &path).with_context(|| path.display().to_string())?;
    drop_older(&root, kind, KEPT)?;
    Ok(path)
}

/// Keeps the `keep` youngest entries of a kind with their logs, and nothing of interrupted builds:
/// the caller holds the kind's lock, so none is running.
fn drop_older(root: &Path, kind: &str, keep: usize) -> Result<()> {
    let (mut entries, mut logs) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(root)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        match key_and_extension(&name, kind) {
            Some((_, "")) => entries.push((entry.metadata()?.modified()?, name)),
            Some((_, "log")) => logs.push(name),
            Some(_) => remove(&entry.path())?,
            None => {}
        }
    }
    entries.sort();
    let old = entries.len().saturating_sub(keep);
    for (_, name) in entries.drain(..old) {
        remove(&root.join(name))?;
    }
    for log in logs {
        let kept = |(_, name): &(_, String)| log.strip_suffix(".log") == Some(name);
        if !entries.iter().any(kept) {
            remove(&root.join(log))?;
        }
    }
    Ok(())
}

/// `KIND-0123456789abcdef.EXTENSION` taken apart; the extension may be absent, then it is empty.
fn key_and_extension<'a>(name: &'a str, kind: &str) -> Option<(&'a str, &'a str)> {
    let rest = name.strip_prefix(kind)?.strip_prefix('-')?;
    let (key, extension) = rest.split_once('.').unwrap_or((rest, ""));
    let is_key = key.len() == 16 && key.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_key.then_some((key, extension))
}

/// Removes a file or a directory, if it is there.
pub(crate) fn remove(path: &Path) -> Result<()> {
    let result = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => return Ok(()),
    };
    result.with_context(|| format!("removing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_together() {
        let one = Key::default().add("ab").add("c").finish();
        let other = Key::default().add("a").add("bc").finish();
        assert_ne!(one, other);
        assert_eq!(one.len(), 16);
    }

    #[test]
    fn only_young_entries_and_their_logs_stay() {
        let root = std::env::temp_dir().join(format!("lazarette-cache-{}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        let names = [
            "disk-0000000000000001",
            "disk-0000000000000001.log",
            "disk-0000000000000002",
            "disk-0000000000000002.log",
            "disk-0000000000000003.partial",
            "disk-more-0000000000000001",
            "disk.lock",
        ];
        for (age, name) in names.iter().enumerate() {
            let file = File::create(root.join(name)).unwrap();
            let time =
                std::time::SystemTime::now() - std::time::Duration::from_secs(100 - age as u64);
            file.set_modified(time).unwrap();
        }
        drop_older(&root, "disk", 1).unwrap();
        let mut left: Vec<_> = fs::read_dir(&root)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        remove(&root).unwrap();
        let expected = [
            "disk-0000000000000002",
            "disk-0000000000000002.log",
            "disk-more-0000000000000001",
            "disk.lock",
        ];
        assert_eq!(left, expected);
    }
}
