//! The project's own tasks: demo, test, vm, bench, images, tidy.

fn main() {}
