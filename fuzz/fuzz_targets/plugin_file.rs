//! Any bytes as a plugin's file are a library or a refusal: the checks before it is loaded.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = lazarette_loader::examine(bytes);
});
