//! What a plugin may say without being asked: so much, so long, and nothing that a terminal obeys.
//!
//! A plugin is somebody else's program. One that writes megabytes a second must cost core neither
//! its memory nor its time, and must not hide what other contexts have to say.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::Error;

/// Bytes of a line; what is beyond is cut.
pub(super) const LINE_BYTES: usize = 8 << 10;
/// What a line that was cut ends in.
const CUT: &str = " […]";
/// Lines at once.
const BURST: u32 = 200;
/// Lines a second in the long run.
const LINES_A_SECOND: u32 = 20;
/// Words of progress and changes of health, at once and a second: each makes the one before it old.
const NEWS: u32 = 20;
/// How often it is said how many lines were dropped.
const TOLD_EVERY: Duration = Duration::from_secs(5);
/// How long a plugin is not listened to for each message that is dropped: it waits, core does not
/// work for nothing.
const PAUSE: Duration = Duration::from_millis(1);
/// The same for so many bytes of it.
const PAUSE_BYTES: usize = 16 << 10;

/// Tokens that come back with time.
#[derive(Debug)]
struct Bucket {
    size: u32,
    a_second: u32,
    left: f64,
    filled: Instant,
}

impl Bucket {
    fn new(size: u32, a_second: u32, now: Instant) -> Self {
        Self {
            size,
            a_second,
            left: f64::from(size),
            filled: now,
        }
    }

    fn take(&mut self, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.filled).as_secs_f64();
        self.filled = now;
        self.left = (self.left + since * f64::from(self.a_second)).min(f64::from(self.size));
        let enough = self.left >= 1.0;
        if enough {
            self.left -= 1.0;
        }
        enough
    }
}

/// What one connection has said of late.
#[derive(Debug)]
pub(super) struct Flood {
    lines: Bucket,
    progress: Bucket,
    changes: Bucket,
    dropped: u64,
    told: Option<Instant>,
    pause: Duration,
}

impl Flood {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            lines: Bucket::new(BURST, LINES_A_SECOND, now),
            progress: Bucket::new(NEWS, NEWS, now),
            changes: Bucket::new(NEWS, NEWS, now),
            dropped: 0,
            told: None,
            pause: Duration::ZERO,
        }
    }

    /// Whether a line of so many bytes may go into the log. Says through `tell` now and then how
    /// many may not.
    pub(super) fn line(&mut self, bytes: usize, now: Instant, tell: impl FnMut(String)) -> bool {
        let may = self.lines.take(now);
        if !may {
            self.dropped += 1;
            self.drop(bytes);
        }
        if self.told.is_none_or(|told| now >= told + TOLD_EVERY) {
            self.tell(now, tell);
        }
        may
    }

    /// Says through `tell` how many lines were dropped since that was last said, if any were.
    pub(super) fn tell(&mut self, now: Instant, mut tell: impl FnMut(String)) {
        let dropped = match std::mem::take(&mut self.dropped) {
            0 => return,
            1 => "1 line was dropped".into(),
            dropped => format!("{dropped} lines were dropped"),
        };
        self.told = Some(now);
        tell(format!(
            "{dropped}: it says more than {LINES_A_SECOND} a second"
        ));
    }

    /// Whether a word of progress may go on. There will be another one.
    pub(super) fn progress(&mut self, bytes: usize, now: Instant) -> bool {
        let may = self.progress.take(now);
        if !may {
            self.drop(bytes);
        }
        may
    }

    /// Whether a change of health is worth a question now. It is asked for regularly in any case.
    pub(super) fn change(&mut self, now: Instant) -> bool {
        let may = self.changes.take(now);
        if !may {
            self.drop(0);
        }
        may
    }

    /// How long not to listen, since this was last asked.
    pub(super) fn pause(&mut self) -> Duration {
        std::mem::take(&mut self.pause)
    }

    fn drop(&mut self, bytes: usize) {
        let pages = u32::try_from(bytes / PAUSE_BYTES).unwrap_or(u32::MAX);
        self.pause = PAUSE.saturating_mul(1 + pages);
    }
}

/// `text` as one line that can be shown: cut to [`LINE_BYTES`], and without the characters that a
/// terminal takes for orders.
pub(super) fn shown(text: &str) -> String {
    let end = text.floor_char_boundary(LINE_BYTES);
    let mut shown: String = text[..end]
        .trim_end()
        .chars()
        .map(|c| match c {
            '\t' => '\t',
            '\n' | '\r' => ' ',
            c if c.is_control() => '\u{fffd}',
            c => c,
        })
        .collect();
    if end < text.len() {
        shown.push_str(CUT);
    }
    shown
}

/// A plugin's error, each part [`shown`].
pub(super) fn shown_error(error: &Error) -> Error {
    Error {
        kind: error.kind,
        message: shown(&error.message),
        cause: error.cause.as_deref().map(shown),
        remedy: error.remedy.as_deref().map(shown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_to_a_rate_and_counted() {
        let start = Instant::now();
        let mut flood = Flood::new(start);
        let mut said = Vec::new();
        let mut passed = 0;
        for _ in 0..10_000 {
            passed += u32::from(flood.line(10, start, |word| said.push(word)));
        }
        assert_eq!(passed, BURST);
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(flood.pause() >= PAUSE, "who floods is slowed down");
        assert_eq!(flood.pause(), Duration::ZERO);
        let later = start + TOLD_EVERY;
        for _ in 0..1000 {
            passed += u32::from(flood.line(10, later, |word| said.push(word)));
        }
        assert_eq!(passed, BURST + 5 * LINES_A_SECOND);
        assert!(said[1].starts_with("9799 lines were dropped"), "{said:?}");
        flood.tell(later, |word| said.push(word));
        assert!(said[2].starts_with("900 lines"), "{said:?}");
        let mut changes = 0;
        for _ in 0..1000 {
            changes += u32::from(flood.change(later));
        }
        assert_eq!(changes, NEWS);
    }

    #[test]
    fn a_line_is_cut_and_a_terminal_obeys_nothing_in_it() {
        let line = shown("\x1b]0;gotcha\x07tab\there\nnext\u{9b}2J\n");
        assert_eq!(line, "\u{fffd}]0;gotcha\u{fffd}tab\there next\u{fffd}2J");
        let long = shown(&"ä".repeat(LINE_BYTES));
        assert_eq!(long.len(), LINE_BYTES + CUT.len());
        let error = shown_error(&Error::invalid("a\0b").cause("x".repeat(1 << 20)));
        assert_eq!(error.message, "a\u{fffd}b");
        assert!(
            error
                .cause
                .is_some_and(|cause| cause.len() < LINE_BYTES * 2)
        );
    }
}
