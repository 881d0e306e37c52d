//! PID 1 of the Lazarette OS.

fn main() {}
