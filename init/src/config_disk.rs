//! The config disk: a block device whose content begins with `#cloud-config`, or whose serial
//! number or name says `cloud-config`.
//!
//! The document ends at the first NUL byte. At most [`LIMIT`] bytes of a device are read, by a
//! thread of its own: a broken disk may keep a read waiting for minutes.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::layout::Layout;

/// How much of a device is read, in bytes.
pub const LIMIT: usize = 1 << 20;
/// What a document begins with.
const MAGIC: &[u8] = b"#cloud-config";
/// The serial number or partition name that marks a config disk.
const MARK: &str = "cloud-config";
/// How long all devices together are waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// The set of devices counts as complete after this long without a new one.
const QUIET: Duration = Duration::from_millis(200);
/// Upper bound of waiting for that.
const SETTLE: Duration = Duration::from_secs(2);
/// Devices that are never a config disk.
const IGNORED: [&str; 6] = ["ram", "zram", "loop", "dm-", "md", "fd"];

/// A document found on a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The device's kernel name (`vdb`).
    pub device: String,
    /// What is on it, up to the first NUL byte.
    pub document: Vec<u8>,
}

/// What the search found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Search {
    /// Documents, in the order of the devices' names.
    pub found: Vec<Found>,
    /// Devices that could not be read.
    pub problems: Vec<String>,
}

/// Looks at every block device of the machine.
pub fn search(layout: &Layout) -> Search {
    let class = layout.at("/sys/class/block");
    settle(&class);
    let (sender, receiver) = mpsc::channel();
    let mut waiting = Vec::new();
    for device in devices(&class) {
        let marked = is_marked(&class.join(&device));
        let path = layout.at("/dev").join(device.replace('!', "/"));
        let sender = sender.clone();
        let name = device.clone();
        let started = thread::Builder::new()
            .name(format!("read {device}"))
            .spawn(move || {
                // The receiver is gone only after it has given up on us.
                let _ = sender.send((name, read(&path, marked)));
            });
        if started.is_ok() {
            waiting.push(device);
        }
    }
    drop(sender);
    collect(&receiver, waiting)
}

type Answer = (String, std::io::Result<Option<Vec<u8>>>);

fn collect(receiver: &mpsc::Receiver<Answer>, mut waiting: Vec<String>) -> Search {
    let end = Instant::now() + PATIENCE;
    let mut search = Search::default();
    while !waiting.is_empty() {
        let left = end.saturating_duration_since(Instant::now());
        let Ok((device, result)) = receiver.recv_timeout(left) else {
            break;
        };
        waiting.retain(|name| *name != device);
        match result {
            Ok(Some(document)) => search.found.push(Found { device, document }),
            Ok(None) => {}
            Err(error) => search.problems.push(format!("/dev/{device}: {error}")),
        }
    }
    for device in waiting {
        search.problems.push(format!(
            "/dev/{device}: no answer within {} s; not looked at",
            PATIENCE.as_secs()
        ));
    }
    search.found.sort_by(|a, b| a.device.cmp(&b.device));
    search
}

/// Waits until no new block device appears.
fn settle(class: &Path) {
    let begin = Instant::now();
    let mut known = devices(class);
    let mut changed = begin;
    while changed.elapsed() < QUIET && begin.elapsed() < SETTLE {
        thread::sleep(Duration::from_millis(20));
        let now = devices(class);
        if now != known {
            known = now;
            changed = Instant::now();
        }
    }
}

fn devices(class: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(class)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| !is_ignored(name))
        .collect();
    names.sort();
    names
}

fn is_ignored(name: &str) -> bool {
    IGNORED.iter().any(|prefix| {
        name.strip_prefix(prefix)
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    })
}

/// Whether the serial number of the disk, or the name of the partition, is [`MARK`].
fn is_marked(device: &Path) -> bool {
    let serial = ["serial", "device/serial"].iter().any(|file| {
        fs::read_to_string(device.join(file)).is_ok_and(|serial| serial.trim() == MARK)
    });
    let name = format!("PARTNAME={MARK}");
    serial
        || fs::read_to_string(device.join("uevent"))
            .is_ok_and(|text| text.lines().any(|line| line == name))
}

/// The document on a device; `None` if it holds none. A marked device needs no `#cloud-config`.
fn read(path: &PathBuf, marked: bool) -> std::io::Result<Option<Vec<u8>>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        // A drive without a medium, or a node that is already gone.
        Err(error) if matches!(error.raw_os_error(), Some(6 | 2 | 123)) => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut head = vec![0; 4096];
    let got = fill(&mut file, &mut head)?;
    head.truncate(got);
    let has_text = head.first().is_some_and(|byte| *byte != 0);
    let is_document = head.starts_with(MAGIC) || (marked && has_text);
    if !is_document {
        return Ok(None);
    }
    let mut document = head;
    file.take((LIMIT - document.len()) as u64)
        .read_to_end(&mut document)?;
    if let Some(end) = document.iter().position(|byte| *byte == 0) {
        document.truncate(end);
    }
    Ok(Some(document))
}

/// Reads until `buffer` is full or the file ends.
fn fill(file: &mut File, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut got = 0;
    while let Some(rest) = buffer.get_mut(got..).filter(|rest| !rest.is_empty()) {
        match file.read(rest)? {
            0 => break,
            count => got += count,
        }
    }
    Ok(got)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(disks: &[(&str, &[u8], &str)]) -> (tempfile::TempDir, Layout) {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::below(root.path());
        fs::create_dir_all(layout.at("/dev")).unwrap();
        for (name, content, serial) in disks {
            let class = layout.at("/sys/class/block").join(name);
            fs::create_dir_all(&class).unwrap();
            fs::write(class.join("serial"), serial).unwrap();
            fs::write(layout.at("/dev").join(name), content).unwrap();
        }
        (root, layout)
    }

    #[test]
    fn a_document_ends_at_the_first_nul_and_other_disks_are_left_alone() {
        let (_root, layout) = machine(&[
            ("vda", b"\x7fnothing", ""),
            ("vdb", b"#cloud-config\nhostname: a\n\0\0\0", "disk1"),
            ("vdc", b"hostname: b\n\0", "cloud-config\n"),
            ("vdd", b"", "cloud-config"),
            ("loop0", b"#cloud-config\n", ""),
            ("fd0", b"#cloud-config\n", ""),
        ]);
        let search = search(&layout);
        assert_eq!(search.problems, Vec::<String>::new());
        let found: Vec<(&str, &[u8])> = search
            .found
            .iter()
            .map(|found| (found.device.as_str(), found.document.as_slice()))
            .collect();
        assert_eq!(
            found,
            [
                ("vdb", b"#cloud-config\nhostname: a\n".as_slice()),
                ("vdc", b"hostname: b\n".as_slice())
            ]
        );
    }

    #[test]
    fn no_more_than_the_limit_is_read() {
        let mut content = b"#cloud-config\n".to_vec();
        content.resize(3 * LIMIT, b'x');
        let (_root, layout) = machine(&[("vdb", &content, "")]);
        assert_eq!(search(&layout).found[0].document.len(), LIMIT);
    }

    #[test]
    fn a_device_that_cannot_be_read_is_a_problem() {
        let (_root, layout) = machine(&[]);
        fs::create_dir_all(layout.at("/sys/class/block/sda")).unwrap();
        fs::create_dir_all(layout.at("/dev/sda")).unwrap();
        let search = search(&layout);
        assert!(search.found.is_empty());
        assert!(
            search.problems[0].starts_with("/dev/sda: "),
            "{:?}",
            search.problems
        );
    }
}
