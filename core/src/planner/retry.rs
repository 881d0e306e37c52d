//! When to try again.

use super::Millis;
use crate::error::Error;

/// What went wrong last, how often in a row, and when to try again.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Retry {
    /// Failures in a row.
    pub failures: u32,
    /// Not before this time.
    pub not_before: Millis,
    /// The last failure; cleared by a success.
    pub error: Option<Error>,
}

/// The first pause; doubled after each failure.
const FIRST: Millis = 1_000;
/// The longest pause while the cause may pass by itself.
const LONGEST: Millis = 30_000;
/// The pause where somebody has to change something: tried all the same, because that somebody
/// may be on another machine (an export that is added, a permission that is granted).
const PATIENT: Millis = 60_000;

impl Retry {
    /// Takes in a failure at `now`.
    pub fn failed(&mut self, error: Error, now: Millis) {
        let pause = if error.kind.is_transient() {
            LONGEST.min(FIRST << self.failures.min(5))
        } else {
            PATIENT
        };
        self.failures = self.failures.saturating_add(1);
        self.not_before = now.saturating_add(pause);
        self.error = Some(error);
    }

    /// Forgets everything: it works.
    pub fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// There is nothing left to be tried; what went wrong is told on, until something works.
    pub fn given_up(&mut self) {
        (self.failures, self.not_before) = (0, 0);
    }

    /// Tries at the next occasion, without forgetting what went wrong.
    pub fn now(&mut self) {
        self.not_before = 0;
    }

    /// Whether it is time.
    pub fn is_due(&self, now: Millis) -> bool {
        self.not_before <= now
    }

    /// Seconds until the next try, rounded up, if one is waited for.
    pub fn seconds_left(&self, now: Millis) -> Option<u64> {
        self.error.as_ref()?;
        Some(self.not_before.saturating_sub(now).div_ceil(1_000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn pauses_grow_to_a_bound_and_a_success_forgets() {
        let mut retry = Retry::default();
        let mut pauses = Vec::new();
        for _ in 0..8 {
            retry.failed(Error::new(ErrorKind::Unreachable, "away"), 100);
            pauses.push(retry.not_before - 100);
        }
        assert_eq!(
            pauses,
            [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]
        );
        assert!(!retry.is_due(30_099) && retry.is_due(30_100));
        assert_eq!(retry.seconds_left(29_101), Some(1));
        retry.given_up();
        assert!(retry.is_due(0) && retry.failures == 0 && retry.error.is_some());
        retry.succeeded();
        assert!(retry.is_due(0) && retry.seconds_left(0).is_none());
    }
}
