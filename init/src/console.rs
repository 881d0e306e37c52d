//! Lines on the console, with the time since the kernel started: `[  3.2 s] network: done`.

use std::fmt::Display;
use std::fs::File;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// How long the kernel has been running, sleep included.
pub fn uptime() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    let nanoseconds = u32::try_from(now.tv_nsec).unwrap_or_default();
    Duration::new(seconds, nanoseconds)
}

/// The console and the copy of it in a log file. Clones write to the same place.
#[derive(Clone)]
pub struct Console {
    sinks: Arc<Mutex<Sinks>>,
}

struct Sinks {
    screen: Box<dyn Write + Send>,
    log: Option<File>,
}

impl Console {
    /// Writes to standard output, which the kernel opened on the console for us.
    pub fn stdout() -> Self {
        Self::to(Box::new(std::io::stdout()))
    }

    /// Writes to `screen`.
    pub fn to(screen: Box<dyn Write + Send>) -> Self {
        Self {
            sinks: Arc::new(Mutex::new(Sinks { screen, log: None })),
        }
    }

    /// Writes every further line to `log` too.
    pub fn keep_in(&self, log: File) {
        self.lock().log = Some(log);
    }

    /// Lets go of the log, so that its file system can be unmounted.
    pub fn keep_nowhere(&self) {
        self.lock().log = None;
    }

    /// Writes one line. A console that cannot be written to is no reason to stop.
    pub fn line(&self, text: impl Display) {
        let line = format!("[{:5.1} s] {}\n", uptime().as_secs_f64(), printable(&text));
        let mut sinks = self.lock();
        let _ = sinks.screen.write_all(line.as_bytes());
        let _ = sinks.screen.flush();
        if let Some(log) = &mut sinks.log {
            let _ = log.write_all(line.as_bytes());
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Sinks> {
        self.sinks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One line without control characters: what we print may come from a server or a disk.
fn printable(text: &impl Display) -> String {
    text.to_string()
        .trim_end()
        .chars()
        .map(|c| match c {
            '\n' | '\t' => ' ',
            c if c.is_control() => '\u{fffd}',
            c => c,
        })
        .collect()
}

/// A console that tests can read.
#[cfg(test)]
pub(crate) mod fake {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use super::Console;

    /// What was written so far.
    #[derive(Clone, Default)]
    pub(crate) struct Screen(Arc<Mutex<Vec<u8>>>);

    impl Screen {
        pub(crate) fn console(&self) -> Console {
            Console::to(Box::new(self.clone()))
        }

        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Screen {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fake::Screen;

    #[test]
    fn a_line_carries_the_time_and_no_control_characters() {
        let screen = Screen::default();
        screen.console().line("net: \u{1b}[31mred\nnext");
        let text = screen.text();
        assert!(text.starts_with('['), "{text:?}");
        assert!(text.contains(" s] net: \u{fffd}[31mred next\n"), "{text:?}");
        assert_eq!(text.lines().count(), 1);
    }
}
