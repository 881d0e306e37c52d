//! Copying what lies in one file system in memory into another.

use std::fs;
use std::io;
use std::path::Path;

use lazarette_plugin::{Call, Error, ErrorKind, Result};

/// The directory in a copy's file system that holds it, once it is complete.
const COMPLETE: &str = "data";
/// The same before that.
const PART: &str = "part";

/// Copies what is in `from` to `to`, the root of a file system of its own; a copy that was begun
/// is begun anew, one that is complete stays. Whether this call has completed it.
pub(crate) fn take(call: &Call, from: &Path, to: &Path) -> Result<bool> {
    if to.join(COMPLETE).exists() {
        return Ok(false);
    }
    let part = to.join(PART);
    clear(&part)?;
    named(&part, fs::create_dir_all(&part))?;
    copy(call, from, &part)?;
    named(to, fs::rename(&part, to.join(COMPLETE)))?;
    Ok(true)
}

/// Puts the complete copy in `from` in the place of what is in `to`.
pub(crate) fn bring_back(call: &Call, from: &Path, to: &Path) -> Result<()> {
    let data = from.join(COMPLETE);
    if !data.exists() {
        return Err(Error::not_found("the snapshot is not there")
            .remedy("take the volume as it is, or choose another snapshot"));
    }
    replace(call, &data, to)
}

/// Puts what is in `from` in the place of what is in `to`.
pub(crate) fn replace(call: &Call, from: &Path, to: &Path) -> Result<()> {
    call.progress("copying", None);
    empty(to)?;
    copy(call, from, to)
}

/// Removes everything in `directory`.
pub(crate) fn empty(directory: &Path) -> Result<()> {
    for entry in named(directory, fs::read_dir(directory))? {
        clear(&named(directory, entry)?.path())?;
    }
    Ok(())
}

/// Where the files of a complete copy lie.
pub(crate) fn content(copy: &Path) -> std::path::PathBuf {
    copy.join(COMPLETE)
}

/// Copies files, directories and links; what else there is is passed over.
fn copy(call: &Call, from: &Path, to: &Path) -> Result<()> {
    call.check()?;
    for entry in named(from, fs::read_dir(from))? {
        let entry = named(from, entry)?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = named(&source, entry.file_type())?;
        if kind.is_dir() {
            named(&target, fs::create_dir_all(&target))?;
            let mode = named(&source, fs::metadata(&source))?.permissions();
            named(&target, fs::set_permissions(&target, mode))?;
            copy(call, &source, &target)?;
        } else if kind.is_symlink() {
            let link = named(&source, fs::read_link(&source))?;
            named(&target, std::os::unix::fs::symlink(link, &target))?;
        } else if kind.is_file() {
            named(&target, fs::copy(&source, &target))?;
        }
    }
    Ok(())
}

fn clear(path: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => Ok(()),
    };
    named(path, removed)
}

fn named<T>(path: &Path, result: io::Result<T>) -> Result<T> {
    result.map_err(|e| {
        let kind = match e.kind() {
            io::ErrorKind::StorageFull => ErrorKind::NoSpace,
            _ => ErrorKind::Internal,
        };
        Error::new(kind, format!("cannot copy {}", path.display())).cause(e)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use lazarette_plugin::{Level, Sink};

    struct Silent;

    impl Sink for Silent {
        fn log(&self, _: Level, _: &str) {}
        fn progress(&self, _: u64, _: &str, _: Option<f32>) {}
        fn cancelled(&self, _: u64) -> bool {
            false
        }
        fn changed(&self) {}
    }

    #[test]
    fn a_copy_is_complete_or_begun_anew_and_can_be_brought_back() {
        let call = Call::new(
            1,
            Instant::now() + Duration::from_secs(60),
            Arc::new(Silent),
        );
        let base = std::env::temp_dir().join(format!("hello-copies-{}", std::process::id()));
        let (volume, copy) = (base.join("v"), base.join("c"));
        fs::create_dir_all(volume.join("d")).unwrap();
        fs::create_dir_all(copy.join(PART)).unwrap();
        fs::write(copy.join(PART).join("half"), "?").unwrap();
        fs::write(volume.join("d/f"), "one").unwrap();
        std::os::unix::fs::symlink("d/f", volume.join("l")).unwrap();

        assert!(
            bring_back(&call, &copy, &volume).is_err(),
            "it is not complete"
        );
        assert!(take(&call, &volume, &copy).unwrap());
        fs::write(volume.join("d/f"), "two").unwrap();
        fs::write(volume.join("more"), "two").unwrap();
        assert!(!take(&call, &volume, &copy).unwrap(), "it stays as it was");
        bring_back(&call, &copy, &volume).unwrap();
        assert_eq!(fs::read_to_string(volume.join("l")).unwrap(), "one");
        assert!(!volume.join("more").exists() && !volume.join("half").exists());
        fs::remove_dir_all(base).unwrap();
    }
}
