//! The process in a storage container that serves one plugin to core.

use std::process::ExitCode;

fn main() -> ExitCode {
    laz_plugin_host::run(std::env::args_os().skip(1))
}
