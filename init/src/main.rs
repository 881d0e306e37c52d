//! `laz-init`: PID 1 of the Lazarette OS, and the client that asks it to stop the machine.

use std::process::ExitCode;

fn main() -> ExitCode {
    laz_init::run(std::env::args_os().collect())
}
