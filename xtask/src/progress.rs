//! Steps with elapsed times: a spinner on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

/// When the program started; the first call sets it.
pub(crate) fn started() -> Instant {
    static STARTED: OnceLock<Instant> = OnceLock::new();
    *STARTED.get_or_init(Instant::now)
}

fn elapsed() -> String {
    format!("[{:7.1} s]", started().elapsed().as_secs_f32())
}

/// Prints a line with the time since the start, on standard error: standard output is for scripts.
pub(crate) fn say(text: &str) {
    eprintln!("{} {text}", elapsed());
}

/// Runs one step, and shows what runs and how long it took.
pub(crate) fn step<T>(what: &str, run: impl FnOnce() -> Result<T>) -> Result<T> {
    let begun = Instant::now();
    let spinner = std::io::stderr().is_terminal().then(|| {
        let spinner = ProgressBar::new_spinner().with_message(what.to_owned());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
            spinner.set_style(style);
        }
        spinner.enable_steady_tick(Duration::from_millis(120));
        spinner
    });
    if spinner.is_none() {
        say(what);
    }
    let result = run();
    if let Some(spinner) = spinner {
        spinner.finish_and_clear();
    }
    let word = if result.is_ok() { "done" } else { "FAILED" };
    say(&format!(
        "{what}: {word} in {:.1} s",
        begun.elapsed().as_secs_f32()
    ));
    result
}
