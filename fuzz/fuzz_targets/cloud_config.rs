//! Any text is a cloud-config with problems, or one without; loading it again gives the same.
#![no_main]

use std::collections::BTreeMap;

use lazarette_core::cloud_config::{LARGEST_SOURCE, Source, load};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if text.len() > LARGEST_SOURCE {
        return;
    }
    let kinds = BTreeMap::new();
    let sources = [Source::new("fuzz", text)];
    let loaded = load(&sources, &kinds);
    assert_eq!(load(&sources, &kinds), loaded);
    for problem in &loaded.problems {
        assert!(!problem.message.is_empty());
    }
    // What is a volume's place is inside /mnt whatever the text says.
    for volume in loaded.config.lazarette.storage.volumes.values() {
        if let Some(mount) = &volume.mount {
            assert!(
                mount.starts_with("/mnt/") && !mount.contains("/../"),
                "{mount:?}"
            );
        }
    }
});
