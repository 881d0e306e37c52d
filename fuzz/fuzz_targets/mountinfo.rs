//! Mount tables are hostile input: any bytes parse, each line once, and what is mounted on top
//! somewhere is mounted there.
#![no_main]

use lazarette_linux::mountinfo::MountTable;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let table = MountTable::parse(bytes);
    let body = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let lines = match body {
        b"" => 0,
        body => body.split(|byte| *byte == b'\n').count(),
    };
    assert_eq!(table.rows.len() + table.bad.len(), lines);
    for row in &table.rows {
        let top = table.top_at(&row.target);
        assert!(top.is_none_or(|top| top.target == row.target));
        assert!(table.below(&row.target).count() > 0);
    }
});
