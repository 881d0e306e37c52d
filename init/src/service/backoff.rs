//! How long a program that ended is left alone before it is started again.

use std::time::Duration;

/// The first pause.
const FIRST: Duration = Duration::from_millis(100);
/// The longest pause; there is no last try.
const LONGEST: Duration = Duration::from_secs(30);
/// Whoever lived this long was well: the next pause is the first again.
const WELL: Duration = Duration::from_secs(30);

/// The pauses between one start and the next.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The pause after a program that ran for `lived` has ended. At once after a good life.
    pub fn pause(&mut self, lived: Duration) -> Duration {
        if lived >= WELL {
            self.failures = 0;
        }
        let failures = self.failures;
        self.failures = failures.saturating_add(1);
        if failures == 0 {
            return Duration::ZERO;
        }
        FIRST
            .saturating_mul(2_u32.saturating_pow(failures - 1))
            .min(LONGEST)
    }

    /// Ends in a row, each soon after the start.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_start_anew_after_a_good_life() {
        let mut backoff = Backoff::default();
        let mut pauses = Vec::new();
        for _ in 0..12 {
            pauses.push(backoff.pause(Duration::from_secs(1)));
        }
        assert_eq!(pauses[..3], [Duration::ZERO, FIRST, FIRST * 2]);
        assert_eq!(pauses[11], LONGEST);
        assert_eq!(backoff.pause(WELL), Duration::ZERO);
        assert_eq!(backoff.pause(Duration::ZERO), FIRST);
    }
}
