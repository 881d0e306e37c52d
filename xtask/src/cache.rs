//! Things that are built once and kept, each named by a hash of all that went into it.

use std::fs::{self, File, TryLockError};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

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

/// The entries that this process uses: each is locked, shared, so that no other run drops it.
static HELD: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// The cache's entry `KIND-KEY`, a file or directory; `build` makes it at the path it is given if
/// it is not there. It stays as long as this process lives; older entries of the same kind that
/// nobody uses go.
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
        // So that what was used last goes last.
        File::open(&path)?.set_modified(std::time::SystemTime::now())?;
        hold(&path)?;
        return Ok(path);
    }
    let partial = root.join(format!("{kind}-{key}.partial"));
    remove(&partial)?;
    build(&partial)?;
    fs::rename(&partial, &path).with_context(|| path.display().to_string())?;
    hold(&path)?;
    drop_older(&root, kind, KEPT)?;
    Ok(path)
}

/// Locks an entry for the life of this process. The caller holds the kind's lock: the entry cannot
/// be going meanwhile.
fn hold(path: &Path) -> Result<()> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    file.lock_shared()
        .with_context(|| format!("the lock of {}", path.display()))?;
    HELD.lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .push(file);
    Ok(())
}

/// Whether a process uses the entry.
fn is_held(path: &Path) -> Result<bool> {
    match File::open(path)?.try_lock() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error).with_context(|| path.display().to_string()),
    }
}

/// Keeps the `keep` youngest entries of a kind, and those in use, with their logs; and nothing of
/// interrupted builds: the caller holds the kind's lock, so none is running.
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
    let young = entries.split_off(entries.len().saturating_sub(keep));
    let mut kept: Vec<String> = young.into_iter().map(|(_, name)| name).collect();
    for (_, name) in entries {
        if is_held(&root.join(&name))? {
            kept.push(name);
        } else {
            remove(&root.join(name))?;
        }
    }
    for log in logs {
        if !kept
            .iter()
            .any(|name| log.strip_suffix(".log") == Some(name))
        {
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

    /// A directory of the test's own with these files, the first of them the oldest.
    fn directory(test: &str, names: &[&str]) -> PathBuf {
        let root = std::env::temp_dir().join(format!("lazarette-{test}-{}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        let now = std::time::SystemTime::now();
        for (age, name) in names.iter().enumerate() {
            let file = File::create(root.join(name)).unwrap();
            let before = std::time::Duration::from_secs(100 - age as u64);
            file.set_modified(now - before).unwrap();
        }
        root
    }

    fn names(root: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(root)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn only_young_entries_and_their_logs_stay() {
        let root = directory(
            "young",
            &[
                "disk-0000000000000001",
                "disk-0000000000000001.log",
                "disk-0000000000000002",
                "disk-0000000000000002.log",
                "disk-0000000000000003.partial",
                "disk-more-0000000000000001",
                "disk.lock",
            ],
        );
        drop_older(&root, "disk", 1).unwrap();
        let left = names(&root);
        remove(&root).unwrap();
        let expected = [
            "disk-0000000000000002",
            "disk-0000000000000002.log",
            "disk-more-0000000000000001",
            "disk.lock",
        ];
        assert_eq!(left, expected);
    }

    #[test]
    fn what_another_run_uses_stays_until_it_ends() {
        let all = [
            "disk-0000000000000001",
            "disk-0000000000000002",
            "disk-0000000000000003",
        ];
        let root = directory("used", &all);
        // A lock belongs to the opening of the file: here it is as good as another process.
        let user = File::open(root.join(all[0])).unwrap();
        user.lock_shared().unwrap();
        drop_older(&root, "disk", 1).unwrap();
        let while_used = names(&root);
        drop(user);
        drop_older(&root, "disk", 1).unwrap();
        let after = names(&root);
        remove(&root).unwrap();
        assert_eq!(while_used, [all[0], all[2]]);
        assert_eq!(after, [all[2]]);
    }
}
