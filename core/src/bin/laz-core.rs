//! `laz-core`: hands storage to Docker. See `laz-core --help` and [`lazarette_core::daemon`].

use std::process::ExitCode;

use clap::Parser;
use lazarette_core::daemon::{self, settings::Settings};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let settings = Settings::parse();
    let filter =
        EnvFilter::try_from_env("LAZARETTE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("laz-core: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(daemon::run(settings));
    // Workers given up on must not hold up the end.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("laz-core: {error}");
            ExitCode::FAILURE
        }
    }
}
