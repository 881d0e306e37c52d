//! laz, the command that looks at and drives Lazarette.

fn main() {}
