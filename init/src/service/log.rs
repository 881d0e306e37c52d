//! Logs of bounded size.
//!
//! A program writes straight into its file (opened for appending), so it does not depend on us. A
//! file that has grown too large is copied to `NAME.log.1` and emptied; what is written between the
//! two is lost.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::error::Error;

/// How large a log becomes before it is rotated, in bytes.
const LARGEST: u64 = 8 << 20;

/// Opens a log for appending.
///
/// # Errors
/// When it cannot be opened.
pub fn open(path: &Path) -> Result<File, Error> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path)
        .map_err(|source| Error::file("open", path, source))
}

/// Rotates every log in `directory` that has become too large.
///
/// # Errors
/// When one cannot be copied or emptied; the others are rotated all the same.
pub fn rotate(directory: &Path) -> Result<(), Error> {
    let entries =
        fs::read_dir(directory).map_err(|source| Error::file("read", directory, source))?;
    let mut result = Ok(());
    for entry in entries.flatten() {
        let path = entry.path();
        let large = entry
            .metadata()
            .is_ok_and(|metadata| metadata.is_file() && metadata.len() > LARGEST);
        if large && path.extension().is_some_and(|extension| extension == "log") {
            result = rotate_one(&path).and(result);
        }
    }
    result
}

fn rotate_one(path: &Path) -> Result<(), Error> {
    let failed = |source| Error::file("rotate", path, source);
    let copied = fs::copy(path, path.with_extension("log.1"));
    // Emptied even if the copy failed: a full disk is the likely reason.
    OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(path)
        .map_err(failed)?;
    copied.map(|_| ()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_large_log_is_rotated_while_it_is_open_and_a_small_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let large = directory.path().join("large.log");
        let small = directory.path().join("small.log");
        let mut writer = open(&large).unwrap();
        writer.write_all(&vec![b'x'; LARGEST as usize + 1]).unwrap();
        fs::write(&small, "few").unwrap();
        rotate(directory.path()).unwrap();
        writer.write_all(b"after").unwrap();
        assert_eq!(fs::read(&large).unwrap(), b"after");
        assert_eq!(fs::read(&small).unwrap(), b"few");
        let old = fs::metadata(directory.path().join("large.log.1")).unwrap();
        assert_eq!(old.len(), LARGEST + 1);
    }
}
