//! What LVM's tools report as JSON: understood or refused, whatever it says, and what is understood
//! has no more rows than it was given.
#![no_main]

use lazarette_lvm::report::{groups, logicals, physicals};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    // A row is an object.
    let most = text.matches('{').count();
    if let Ok(groups) = groups(text) {
        assert!(groups.len() <= most);
    }
    if let Ok(physicals) = physicals(text) {
        assert!(physicals.len() <= most);
    }
    if let Ok(logicals) = logicals(text) {
        assert!(logicals.len() <= most);
    }
});
