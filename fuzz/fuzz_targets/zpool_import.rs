//! What `zpool import` prints of pools that could be imported, names of devices and all: any text is
//! read, and no pool comes of nothing.
#![no_main]

use lazarette_zfs::importable;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let pools = importable::parse(text);
    let named = text.lines().filter(|line| line.contains("pool")).count();
    assert!(pools.len() <= named);
    for pool in &pools {
        let _ = (pool.is_foreign(), pool.can_be_imported());
        assert!(pool.devices.iter().all(|leaf| !leaf.name.is_empty()));
    }
});
