//! One budget for the whole way down.

use std::time::{Duration, Instant};

/// How much time a step may take, and how much it is always given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// At most this much.
    pub most: Duration,
    /// Earlier steps leave at least this much.
    pub least: Duration,
}

impl Share {
    /// A share in seconds.
    pub const fn seconds(least: u64, most: u64) -> Self {
        Self {
            most: Duration::from_secs(most),
            least: Duration::from_secs(least),
        }
    }
}

/// What is left of the time for everything.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    end: Instant,
}

impl Budget {
    /// A budget that begins now.
    pub fn new(total: Duration) -> Self {
        Self {
            end: Instant::now() + total,
        }
    }

    /// How long the next step may take when `later` steps follow it.
    pub fn allot(&self, share: Share, later: &[Share]) -> Duration {
        self.allot_at(Instant::now(), share, later)
    }

    fn allot_at(&self, now: Instant, share: Share, later: &[Share]) -> Duration {
        let reserved: Duration = later.iter().map(|share| share.least).sum();
        self.end
            .saturating_duration_since(now)
            .saturating_sub(reserved)
            .clamp(share.least.min(share.most), share.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn early_steps_leave_the_later_ones_their_least() {
        let shares = [
            Share::seconds(2, 20),
            Share::seconds(1, 20),
            Share::seconds(3, 20),
        ];
        let budget = Budget::new(Duration::from_secs(30));
        let mut now = budget.end - Duration::from_secs(30);
        let mut given = Vec::new();
        for (index, share) in shares.iter().enumerate() {
            let time = budget.allot_at(now, *share, &shares[index + 1..]);
            given.push(time.as_secs());
            now += time;
        }
        assert_eq!(given, [20, 7, 3]);
        assert_eq!(now, budget.end);
    }

    #[test]
    fn a_step_gets_its_least_even_when_the_budget_is_spent() {
        let budget = Budget::new(Duration::ZERO);
        let time = budget.allot_at(budget.end, Share::seconds(2, 5), &[]);
        assert_eq!(time, Duration::from_secs(2));
    }
}
