//! The process in a storage container that serves one plugin to core.

fn main() {}
