//! The machine's host ID: four bytes in `/etc/hostid` by which ZFS tells a machine's pools from
//! another's.
//!
//! It is made once. Where `/etc` does not outlive a reboot, the copy in core's state directory does.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::rand::{GetRandomFlags, getrandom};

use crate::early::make_directory;
use crate::error::Error;
use crate::layout::Layout;
use crate::phase::Outcome;

/// Where hostid(5) says it is, and where ZFS looks.
const FILE: &str = "/etc/hostid";

/// Sees to it that the machine has a host ID. One that is there stays as it is.
///
/// # Errors
/// When it can be neither made nor written.
pub fn ensure(layout: &Layout) -> Result<Outcome, Error> {
    let file = layout.at(FILE);
    if let Some(there) = read(&file) {
        return Ok(told(there));
    }
    let kept = layout.state().join("hostid");
    let id = match read(&kept) {
        Some(id) => id,
        None => {
            let id = random().map_err(|e| Error::file("make up the content of", &file, e))?;
            make_directory(&layout.state(), 0o700)?;
            write(&kept, id)?;
            id
        }
    };
    if let Some(directory) = file.parent() {
        make_directory(directory, 0o755)?;
    }
    write(&file, id)?;
    Ok(told(id))
}

fn told(id: u32) -> Outcome {
    Outcome::Noted(format!("{id:08x}"))
}

/// The ID in a file: none if it is not there, too short (a power cut) or 0, which stands for none.
fn read(path: &Path) -> Option<u32> {
    let bytes = fs::read(path).ok()?;
    let first: [u8; 4] = bytes.get(..4)?.try_into().ok()?;
    Some(u32::from_le_bytes(first)).filter(|id| *id != 0)
}

fn random() -> io::Result<u32> {
    loop {
        let mut bytes = [0; 4];
        let count = getrandom(&mut bytes, GetRandomFlags::empty())?;
        let id = u32::from_le_bytes(bytes);
        if count == bytes.len() && id != 0 {
            return Ok(id);
        }
    }
}

/// Writes the file whole or not at all: a pool that was made under half an ID would look like
/// another machine's.
fn write(path: &Path, id: u32) -> Result<(), Error> {
    let fresh = path.with_extension("new");
    let written = || {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o644)
            .open(&fresh)?;
        file.write_all(&id.to_le_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, path)
    };
    written().map_err(|e: io::Error| Error::file("write", path, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(layout: &Layout) -> Vec<u8> {
        fs::read(layout.at(FILE)).unwrap()
    }

    #[test]
    fn it_is_made_once_and_never_0() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::below(root.path());
        let first = ensure(&layout).unwrap();
        let made = id(&layout);
        assert_eq!(made.len(), 4);
        assert_ne!(made, [0; 4]);
        assert_eq!(ensure(&layout).unwrap(), first);
        assert_eq!(id(&layout), made);
        let number = u32::from_le_bytes(made.try_into().unwrap());
        assert_eq!(first, Outcome::Noted(format!("{number:08x}")));
    }

    #[test]
    fn machines_have_different_ones() {
        let make = || {
            let root = tempfile::tempdir().unwrap();
            let layout = Layout::below(root.path());
            ensure(&layout).unwrap();
            id(&layout)
        };
        assert_ne!(make(), make());
    }

    #[test]
    fn one_that_is_there_is_left() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::below(root.path());
        fs::create_dir_all(layout.at("/etc")).unwrap();
        fs::write(layout.at(FILE), [1, 2, 3, 4]).unwrap();
        assert_eq!(ensure(&layout).unwrap(), Outcome::Noted("04030201".into()));
        assert_eq!(id(&layout), [1, 2, 3, 4]);
        assert!(!layout.state().exists());
    }

    #[test]
    fn it_outlives_an_etc_that_does_not_and_a_file_cut_short() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::below(root.path());
        ensure(&layout).unwrap();
        let made = id(&layout);
        fs::remove_dir_all(layout.at("/etc")).unwrap();
        ensure(&layout).unwrap();
        assert_eq!(id(&layout), made);
        for useless in [&[][..], &[1, 2], &[0; 4]] {
            fs::write(layout.at(FILE), useless).unwrap();
            ensure(&layout).unwrap();
            assert_eq!(id(&layout), made);
        }
    }
}
