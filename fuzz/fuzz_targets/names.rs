//! Names and option texts: what is let in can do no harm as a part of a path, of a list of options
//! or of a command line.
#![no_main]

use lazarette_core::{ContextName, Kind, OptionText, SnapshotName, VolumeName};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let names = [
        ContextName::new(text).is_ok(),
        Kind::new(text).is_ok(),
        VolumeName::new(text).is_ok(),
        SnapshotName::new(text).is_ok(),
    ];
    if names.contains(&true) {
        assert!(
            text.chars()
                .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        );
        assert!(!text.is_empty() && text.len() <= 128);
        assert!(!text.starts_with(['.', '-']));
    }
    if OptionText::new(text).is_ok() {
        assert!(!text.contains(|c: char| c == ',' || c.is_control()));
        assert!(!text.is_empty() && !text.starts_with('-'));
    }
});
