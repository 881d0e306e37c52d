//! The parser: bytes in, rows out, no I/O.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use super::{BadRow, Device, MountRow, MountTable};

/// What the kernel appends to the root of a mount whose directory was deleted. No path contains two
/// slashes in a row, so this cannot be part of a name.
const DELETED: &[u8] = b"//deleted";
/// How many bytes of a bad line are shown.
const EXCERPT: usize = 120;

pub(super) fn table(bytes: &[u8]) -> MountTable {
    let mut table = MountTable::default();
    let body = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    if body.is_empty() {
        return table;
    }
    for (index, line) in body.split(|byte| *byte == b'\n').enumerate() {
        match row(line) {
            Ok(row) => table.rows.push(row),
            Err(reason) => table.bad.push(BadRow {
                line: index + 1,
                reason,
                excerpt: excerpt(line),
            }),
        }
    }
    table
}

fn excerpt(line: &[u8]) -> String {
    line[..line.len().min(EXCERPT)].escape_ascii().to_string()
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
fn row(line: &[u8]) -> Result<MountRow, &'static str> {
    let mut fields = line.split(|byte| *byte == b' ');
    let mut next = |missing| fields.next().ok_or(missing);
    let id = number(next("no mount ID")?).ok_or("the mount ID is not a number")?;
    let parent = number(next("no parent ID")?).ok_or("the parent ID is not a number")?;
    let device = device(next("no device")?).ok_or("the device is not MAJOR:MINOR")?;
    let raw_root = next("no root")?;
    let (raw_root, root_deleted) = match raw_root.strip_suffix(DELETED) {
        Some(root) => (root, true),
        None => (raw_root, false),
    };
    let root = path(raw_root).ok_or("the root is empty or wrongly escaped")?;
    let target = path(next("no mount point")?).ok_or("the mount point is wrongly escaped")?;
    if !target.is_absolute() {
        return Err("the mount point is not an absolute path");
    }
    let options = text(next("no mount options")?);
    let mut optional = Vec::new();
    loop {
        match next("no separator between optional fields and file system type")? {
            b"-" => break,
            field => optional.push(text(field)),
        }
    }
    let fs_type = text(next("no file system type")?);
    if fs_type.is_empty() {
        return Err("the file system type is empty");
    }
    let source = text(next("no source")?);
    let super_options = text(next("no file system options")?);
    if fields.next().is_some() {
        return Err("more fields than expected");
    }
    Ok(MountRow {
        id,
        parent,
        device,
        root,
        root_deleted,
        target,
        options,
        optional,
        fs_type,
        source,
        super_options,
    })
}

/// Digits only: `parse` alone would accept a sign.
fn number<N: std::str::FromStr>(field: &[u8]) -> Option<N> {
    if !field.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(field).ok()?.parse().ok()
}

fn device(field: &[u8]) -> Option<Device> {
    let colon = field.iter().position(|byte| *byte == b':')?;
    Some(Device {
        major: number(&field[..colon])?,
        minor: number(&field[colon + 1..])?,
    })
}

/// Decodes a path; the kernel escapes every backslash in paths, so a stray one is an error.
fn path(field: &[u8]) -> Option<PathBuf> {
    let (bytes, clean) = unescape(field);
    (clean && !bytes.is_empty()).then(|| PathBuf::from(OsString::from_vec(bytes)))
}

/// Decodes text that file systems print themselves, where a stray backslash stands for itself.
fn text(field: &[u8]) -> OsString {
    OsString::from_vec(unescape(field).0)
}

/// Replaces `\ooo` by its byte. The flag tells whether every backslash began such an escape.
fn unescape(field: &[u8]) -> (Vec<u8>, bool) {
    let mut bytes = Vec::with_capacity(field.len());
    let mut clean = true;
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first != b'\\' {
            bytes.push(*first);
        } else if let Some(byte) = tail.first_chunk().and_then(octal) {
            bytes.push(byte);
            rest = &tail[3..];
        } else {
            bytes.push(b'\\');
            clean = false;
        }
    }
    (bytes, clean)
}

fn octal(digits: &[u8; 3]) -> Option<u8> {
    let value = digits.iter().try_fold(0_u32, |value, digit| {
        (b'0'..=b'7')
            .contains(digit)
            .then(|| value * 8 + u32::from(digit - b'0'))
    })?;
    u8::try_from(value).ok()
}
