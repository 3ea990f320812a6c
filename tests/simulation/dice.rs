//! Chance: everything that a seed decides comes from here.

use std::time::Duration;

use pgmoor::runtime::Random;

/// A seeded sequence of decisions. Clones continue one sequence.
#[derive(Debug, Clone)]
pub(crate) struct Dice(Random);

impl Dice {
    /// Another `purpose` is another sequence of the same seed.
    pub(crate) fn new(seed: u64, purpose: u64) -> Self {
        Self(Random::seeded(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ purpose.wrapping_mul(0xd1b5_4a32_d192_ed03)))
    }

    /// A number below `bound`.
    pub(crate) fn below(&self, bound: u64) -> u64 {
        self.0.next_u64() % bound.max(1)
    }

    /// True in so many of a hundred cases.
    pub(crate) fn percent(&self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// A time between two bounds, in milliseconds.
    pub(crate) fn time(&self, from_ms: u64, to_ms: u64) -> Duration {
        Duration::from_millis(from_ms + self.below(to_ms.saturating_sub(from_ms) + 1))
    }

    /// One of several.
    pub(crate) fn one_of<'a, T>(&self, several: &'a [T]) -> Option<&'a T> {
        several.get(usize::try_from(self.below(several.len() as u64)).unwrap_or(0))
    }
}
