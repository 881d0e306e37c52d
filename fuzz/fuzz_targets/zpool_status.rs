//! What `zpool status -j` prints: any text is read, and all that is made of it can be made.
#![no_main]

use lazarette_zfs::status;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Some(found) = status::parse(text, "tank") else {
        return;
    };
    let (_, why) = found.health();
    assert!(why.is_none_or(|why| !why.is_empty()));
    assert!(
        found
            .activities()
            .iter()
            .filter_map(|activity| activity.share)
            .all(|share| (0.0..=1.0).contains(&share))
    );
    let rows = found.describe("tank");
    assert_eq!(rows.as_array().map(Vec::len), Some(found.devices.len() + 1));
    let _ = found.failures();
});
