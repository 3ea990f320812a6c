//! Back-off: how long to wait before trying again. It doubles up to a limit, and jitter keeps those who failed
//! together from trying again together.
//!
//! Invariant: a delay is at least half of the undisturbed one and never longer than the limit.

use std::time::Duration;

use super::random::Random;

/// How delays grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// The delay after the first failure.
    pub first: Duration,
    /// No delay is longer.
    pub max: Duration,
}

impl Schedule {
    /// For links to a broker: quick after a blip, gentle to one that is down (mqtt.md).
    pub const LINK: Self = Self { first: Duration::from_millis(50), max: Duration::from_secs(30) };
    /// For steps that failed: what a person or Docker has to mend is not mended in milliseconds.
    pub const STEP: Self = Self { first: Duration::from_secs(1), max: Duration::from_secs(120) };
    /// For a task that the supervisor starts again.
    pub const TASK: Self = Self { first: Duration::from_millis(200), max: Duration::from_secs(30) };

    /// The delay after `failures` failures in a row; `random` spreads it over the upper half.
    #[must_use]
    pub fn delay(&self, failures: u32, random: u64) -> Duration {
        let doublings = failures.saturating_sub(1).min(32);
        let full = self.first.saturating_mul(1u32.checked_shl(doublings).unwrap_or(u32::MAX)).min(self.max);
        let half = full / 2;
        let half_ns = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX);
        half + Duration::from_nanos(random % half_ns.saturating_add(1))
    }
}

/// A count of failures in a row, and the delays that follow from it.
#[derive(Debug, Clone)]
pub struct Backoff {
    schedule: Schedule,
    random: Random,
    failures: u32,
}

impl Backoff {
    /// Nothing has failed yet.
    #[must_use]
    pub fn new(schedule: Schedule, random: Random) -> Self {
        Self { schedule, random, failures: 0 }
    }

    /// It failed once more: how long to wait now.
    #[must_use = "the delay is what the back-off is for"]
    pub fn failed(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        self.schedule.delay(self.failures, self.random.next_u64())
    }

    /// It worked: the next failure is the first again.
    pub fn worked(&mut self) {
        self.failures = 0;
    }

    /// Failures in a row so far.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn delays_double_up_to_the_limit() {
        let schedule = Schedule { first: Duration::from_millis(50), max: Duration::from_secs(30) };
        let longest: Vec<u128> =
            [1, 2, 3, 10, 11, u32::MAX].map(|n| schedule.delay(n, 25_000_000).as_millis()).to_vec();
        // The random part is 25 ms, or less where half of the delay is shorter.
        assert_eq!(longest, [50, 75, 125, 12_825, 15_025, 15_025]);
    }

    proptest! {
        #[test]
        fn a_delay_is_between_half_and_full(failures in 1u32..100, random: u64) {
            let schedule = Schedule::STEP;
            let full = schedule.first.saturating_mul(1 << (failures - 1).min(20)).min(schedule.max);
            let delay = schedule.delay(failures, random);
            prop_assert!(delay >= full / 2 && delay <= full, "{delay:?} of {full:?}");
        }
    }

    #[test]
    fn success_starts_over() {
        let mut backoff = Backoff::new(Schedule::STEP, Random::seeded(1));
        for _ in 0..5 {
            let _delay = backoff.failed();
        }
        backoff.worked();
        assert!(backoff.failed() <= Schedule::STEP.first);
        assert_eq!(backoff.failures(), 1);
    }
}
