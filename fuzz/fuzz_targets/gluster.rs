//! What Gluster writes: descriptions of volumes, states of bricks, clients' logs, lists of files that
//! are to be healed, XML. Servers and whoever names files on them decide what is in it.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| lazarette_gluster::read_as_everything(text));
