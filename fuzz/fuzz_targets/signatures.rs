//! Signatures and keys as minisign writes them: read or refused, and none counts that nobody made.
#![no_main]

use lazarette_core::Kind;
use lazarette_core::signature::{self, Policy, TrustedKey};
use libfuzzer_sys::fuzz_target;

const KEY: &str = "RWRwV20vixiIyny+7qTubRGSM1lu+YgCXrfTrjcZ52Veurm8HP9Kl7qE";

fuzz_target!(|text: &str| {
    let _ = TrustedKey::parse(text);
    let _ = signature::key_of(text);
    let policy = Policy {
        required: true,
        keys: vec![TrustedKey::parse(KEY).expect("a key")],
    };
    let kind = Kind::new("shelves").expect("a kind");
    let statement = signature::statement(&kind, "1", "sha256:0");
    assert!(policy.verify(&statement, text).is_err());
});
