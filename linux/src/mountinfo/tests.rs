use std::os::unix::ffi::OsStrExt;

use proptest::prelude::*;

use super::*;

const HOST: &str = include_str!("../../tests/fixtures/mountinfo-debian-docker.txt");

fn one(line: &[u8]) -> MountRow {
    let table = MountTable::parse(line);
    assert_eq!(table.bad, []);
    assert_eq!(table.rows.len(), 1);
    table.rows[0].clone()
}

fn reason(line: &[u8]) -> &'static str {
    let table = MountTable::parse(line);
    assert_eq!(table.rows, [], "{}", line.escape_ascii());
    table.bad[0].reason
}

#[test]
fn a_line_of_the_manual_page() {
    let row =
        one(b"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n");
    assert_eq!((row.id, row.parent), (36, 35));
    assert_eq!(row.device.to_string(), "98:0");
    assert_eq!(row.root, Path::new("/mnt1"));
    assert_eq!(row.target, Path::new("/mnt2"));
    assert!(row.has_option("noatime") && !row.has_option("atime"));
    assert_eq!(row.optional, ["master:1"]);
    assert!(!row.is_private());
    assert_eq!(row.fs_type, "ext3");
    assert_eq!(row.source, "/dev/root");
    assert_eq!(row.super_options, "rw,errors=continue");
}

#[test]
fn a_debian_machine_with_containers() {
    let table = MountTable::parse(HOST.as_bytes());
    assert_eq!(table.bad, []);
    assert_eq!(table.rows.len(), HOST.lines().count());
    let nfs = table.top_at(Path::new("/mnt/nas/media")).unwrap();
    assert_eq!(nfs.fs_type, "nfs4");
    assert_eq!(nfs.source, "nas.test:/srv/media");
    let namespaces: Vec<_> = table.of_type(OsStr::new("nsfs")).collect();
    assert_eq!(namespaces[1].root, Path::new("net:[4026532281]"));
    assert_eq!(table.below(Path::new("/mnt")).count(), 4);
}

#[test]
fn the_top_of_a_stack_wins_whatever_the_order() {
    let table = MountTable::parse(
        b"30 20 0:1 / /m rw - tmpfs a rw\n32 31 0:3 / /m rw - tmpfs c rw\n31 30 0:2 / /m rw - tmpfs b rw\n",
    );
    assert_eq!(table.top_at(Path::new("/m")).unwrap().source, "c");
    assert_eq!(table.top_at(Path::new("/")), None);
}

#[test]
fn escapes_are_decoded_and_odd_bytes_kept() {
    let row = one(b"1 0 0:5 / /a\\040b\\011c\\012d\\134040\xff rw - fuse.x a\\043b rw");
    assert_eq!(row.target.as_os_str().as_bytes(), b"/a b\tc\nd\\040\xff");
    assert_eq!(row.source, "a#b");
}

#[test]
fn an_empty_source_and_no_source_differ() {
    assert_eq!(one(b"1 0 0:5 / /a rw - tmpfs  rw").source, "");
    assert_eq!(reason(b"1 0 0:5 / /a rw - tmpfs"), "no source");
}

#[test]
fn deleted_roots_are_told_from_names_that_look_so() {
    let row = one(b"1 0 0:5 /x//deleted /a rw - tmpfs t rw");
    assert!(row.root_deleted);
    assert_eq!(row.root, Path::new("/x"));
    let row = one(b"1 0 0:5 /x\\040(deleted) /a\\040(deleted) rw - tmpfs t rw");
    assert!(!row.root_deleted);
    assert_eq!(row.root, Path::new("/x (deleted)"));
    assert_eq!(row.target, Path::new("/a (deleted)"));
}

#[test]
fn a_path_of_one_mebibyte_is_one_row() {
    let long = "/x".repeat(512 * 1024);
    let row = one(format!("1 0 0:5 / {long} rw - tmpfs t rw").as_bytes());
    assert_eq!(row.target.as_os_str().len(), 1024 * 1024);
}

#[test]
fn bad_lines_are_reported_with_their_number_and_the_rest_is_read() {
    let table = MountTable::parse(
        b"1 0 0:5 / /a rw - tmpfs t rw\nrubbish\x1b[2J\n\n2 1 0:6 / /b rw - tmpfs t rw\n",
    );
    assert_eq!(table.rows.len(), 2);
    let lines: Vec<_> = table.bad.iter().map(|bad| bad.line).collect();
    assert_eq!(lines, [2, 3]);
    assert_eq!(table.bad[0].excerpt, "rubbish\\x1b[2J");
}

#[test]
fn what_is_wrong_is_named() {
    assert_eq!(
        reason(b"x 0 0:5 / /a rw - t s o"),
        "the mount ID is not a number"
    );
    assert_eq!(
        reason(b"+1 0 0:5 / /a rw - t s o"),
        "the mount ID is not a number"
    );
    assert_eq!(
        reason(b"1 -1 0:5 / /a rw - t s o"),
        "the parent ID is not a number"
    );
    assert_eq!(
        reason(b"1 99999999999999999999999 0:5 / /a rw - t s o"),
        "the parent ID is not a number"
    );
    assert_eq!(
        reason(b"1 0 05 / /a rw - t s o"),
        "the device is not MAJOR:MINOR"
    );
    assert_eq!(
        reason(b"1 0 0:5  /a rw - t s o"),
        "the root is empty or wrongly escaped"
    );
    assert_eq!(
        reason(b"1 0 0:5 / /a\\9 rw - t s o"),
        "the mount point is wrongly escaped"
    );
    assert_eq!(
        reason(b"1 0 0:5 / /a\\777 rw - t s o"),
        "the mount point is wrongly escaped"
    );
    assert_eq!(
        reason(b"1 0 0:5 / a rw - t s o"),
        "the mount point is not an absolute path"
    );
    assert_eq!(
        reason(b"1 0 0:5 / /a rw shared:1 ext4 s o"),
        "no separator between optional fields and file system type"
    );
    assert_eq!(
        reason(b"1 0 0:5 / /a rw -  s o"),
        "the file system type is empty"
    );
    assert_eq!(
        reason(b"1 0 0:5 / /a rw - t s o more"),
        "more fields than expected"
    );
}

#[test]
fn an_empty_table_is_empty() {
    assert_eq!(MountTable::parse(b""), MountTable::default());
}

#[test]
fn our_own_table_has_a_root_and_no_bad_rows() {
    let table = MountTable::of_self().unwrap();
    assert!(table.top_at(Path::new("/")).is_some());
    assert_eq!(table.bad, []);
}

/// Escapes as the kernel's `mangle` does.
fn mangle(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for byte in bytes {
        if b" \t\n\\#".contains(byte) {
            out.extend(format!("\\{byte:03o}").bytes());
        } else {
            out.push(*byte);
        }
    }
    out
}

proptest! {
    #[test]
    fn any_bytes_give_a_row_or_a_bad_row_per_line(bytes: Vec<u8>) {
        let table = MountTable::parse(&bytes);
        let body = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        let lines = if body.is_empty() { 0 } else { body.split(|b| *b == b'\n').count() };
        prop_assert_eq!(table.rows.len() + table.bad.len(), lines);
    }

    #[test]
    fn what_the_kernel_escapes_comes_back(name in proptest::collection::vec(1_u8..=255, 1..200),
                                          source in proptest::collection::vec(1_u8..=255, 0..200)) {
        let mut line = b"7 6 0:5 / /".to_vec();
        line.extend(mangle(&name));
        line.extend(b" rw shared:1 - tmpfs ");
        line.extend(mangle(&source));
        line.extend(b" rw\n");
        let row = one(&line);
        prop_assert_eq!(&row.target.as_os_str().as_bytes()[1..], &name[..]);
        prop_assert_eq!(row.source.as_bytes(), &source[..]);
    }
}
