//! Any bytes on the plugin wire, either way, are messages or an error.
#![no_main]

use std::io::Cursor;

use lazarette_core::frame;
use lazarette_core::message::{FromPlugin, ToPlugin};
use lazarette_core::{Health, ListedVolume, Manifest, Mounted};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut stream = Cursor::new(bytes);
    while let Ok(Some(message)) = frame::read::<FromPlugin>(&mut stream) {
        frame::encode(&message).expect("a message that was read fits");
    }
    let _ = frame::decode::<ToPlugin>(bytes);
    let _ = frame::decode::<FromPlugin>(bytes);
    let _ = frame::decode::<Manifest>(bytes);
    let _ = frame::decode::<Mounted>(bytes);
    let _ = frame::decode::<Health>(bytes);
    let _ = frame::decode::<Vec<ListedVolume>>(bytes);
});
