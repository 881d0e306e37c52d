//! Any bytes on the control socket are requests, answers, or an error; what was read can be written
//! and read again.
#![no_main]

use std::io::Cursor;

use lazarette_core::control::{Request, Response};
use lazarette_core::frame;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut stream = Cursor::new(bytes);
    while let Ok(Some(request)) = frame::read::<Request>(&mut stream) {
        let again = frame::encode(&request).expect("a request that was read fits");
        let read = frame::read::<Request>(&mut Cursor::new(again)).expect("what was written");
        assert_eq!(read, Some(request));
    }
    let _ = frame::decode::<Response>(bytes);
    if let Ok(request) = frame::decode::<Request>(bytes) {
        frame::encode(&request).expect("a request that was read fits");
    }
});
