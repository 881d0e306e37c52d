//! zvols: their device nodes and their file systems.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use lazarette_plugin::command::Command;
use lazarette_plugin::{Call, Error, ErrorKind, Result};

use crate::config::FileSystem;
use crate::mounts::Source;
use crate::programs::{Programs, time_for};
use crate::report;

/// Between two looks for a device that is to appear.
const PAUSE: Duration = Duration::from_millis(100);

/// The device of a zvol; waits until it appears.
///
/// # Errors
/// `Timeout` if it does not.
pub(crate) fn device(programs: &Programs, call: &Call, name: &str) -> Result<PathBuf> {
    loop {
        if let Some(device) = find(programs, name) {
            return Ok(device);
        }
        if call.remaining() < PAUSE * 2 {
            return Err(Error::new(
                ErrorKind::Timeout,
                format!("the device of {name} does not appear"),
            )
            .remedy("look at the kernel's log; it is tried again by itself"));
        }
        thread::sleep(PAUSE);
    }
}

/// udev may not be there to name it: each device is asked for the zvol that it is.
fn find(programs: &Programs, name: &str) -> Option<PathBuf> {
    for entry in fs::read_dir("/sys/class/block").ok()?.flatten() {
        let file = entry.file_name().to_string_lossy().into_owned();
        let Some(number) = file.strip_prefix("zd") else {
            continue;
        };
        if !number.bytes().all(|b| b.is_ascii_digit()) {
            continue;
        }
        let device = Path::new("/dev").join(&file);
        let said = Command::new(&programs.zvol_id)
            .deadline(Duration::from_secs(5))
            .arg(&device)
            .run();
        if said.is_ok_and(|said| said.stdout_text().trim() == name) {
            return Some(device);
        }
    }
    None
}

/// What to mount of a zvol.
///
/// # Errors
/// `InvalidArgument` if it has no file system that we know.
pub(crate) fn source(programs: &Programs, device: &Path) -> Result<Source> {
    let output = Command::new(&programs.blkid)
        .deadline(Duration::from_secs(20))
        .args(["--probe", "--match-tag", "TYPE", "--output", "value"])
        .arg(device)
        .output()
        .map_err(|e| report::explain(&e, &format!("cannot look at {}", device.display())))?;
    let (fs_type, data) = match output.stdout_text().trim() {
        "ext4" => ("ext4", None),
        // A clone has its origin's UUID.
        "xfs" => ("xfs", Some("nouuid")),
        other => {
            return Err(Error::invalid(format!(
                "the zvol at {} cannot be mounted",
                device.display()
            ))
            .cause(if other.is_empty() {
                "no file system is on it".to_owned()
            } else {
                format!("{other} is on it")
            })
            .remedy("only ext4 and xfs are mounted"));
        }
    };
    Ok(Source {
        what: device.display().to_string(),
        fs_type,
        data,
    })
}

/// Makes a file system over whatever an earlier attempt has left.
///
/// # Errors
/// What mkfs(8) says.
pub(crate) fn make_file_system(call: &Call, device: &Path, fs: FileSystem) -> Result<()> {
    let (program, arguments): (_, &[&str]) = match fs {
        FileSystem::Ext4 => ("/usr/sbin/mkfs.ext4", &["-q", "-F"]),
        FileSystem::Xfs => ("/usr/sbin/mkfs.xfs", &["-q", "-f"]),
    };
    Command::new(program)
        .deadline(time_for(call))
        .args(arguments)
        .arg(device)
        .run()
        .map(drop)
        .map_err(|e| {
            let what = format!("cannot make {} on {}", fs.name(), device.display());
            report::explain(&e, &what)
        })
}

/// Makes a mounted file system as large as its device.
///
/// # Errors
/// What the file system's tool says.
pub(crate) fn grow(call: &Call, path: &Path, source: &Source) -> Result<()> {
    let command = match source.fs_type {
        "ext4" => Command::new("/usr/sbin/resize2fs").arg(&source.what),
        _ => Command::new("/usr/sbin/xfs_growfs").arg(path),
    };
    command
        .deadline(time_for(call))
        .run()
        .map(drop)
        .map_err(|e| report::explain(&e, &format!("cannot make {} larger", source.what)))
}
