//! Random numbers for jitter and tokens: the system's, or a seeded sequence that a test can repeat.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where random numbers come from. Clones of a seeded source continue one sequence.
#[derive(Debug, Clone, Default)]
pub enum Random {
    /// The operating system. Good for secrets.
    #[default]
    System,
    /// A sequence that follows from its seed (SplitMix64). Never for secrets.
    Seeded(Arc<AtomicU64>),
}

impl Random {
    /// A sequence that can be repeated.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self::Seeded(Arc::new(AtomicU64::new(seed)))
    }

    /// The next number.
    #[must_use]
    pub fn next_u64(&self) -> u64 {
        match self {
            // The system's source fails only before it is initialised at boot; a constant then costs us the jitter
            // and nothing else, since secrets are made by `fill`.
            Self::System => getrandom::u64().unwrap_or(u64::MAX / 2),
            Self::Seeded(state) => {
                const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
                let mut mixed = state.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
                mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                mixed ^ (mixed >> 31)
            }
        }
    }

    /// Random bytes, for keys and passwords.
    ///
    /// # Errors
    /// The operating system's source fails; a secret must then not be made at all.
    pub fn fill(&self, bytes: &mut [u8]) -> Result<(), NoRandomness> {
        match self {
            Self::System => getrandom::fill(bytes).map_err(|error| NoRandomness { why: error.to_string() }),
            Self::Seeded(_) => {
                for chunk in bytes.chunks_mut(8) {
                    for (to, from) in chunk.iter_mut().zip(self.next_u64().to_le_bytes()) {
                        *to = from;
                    }
                }
                Ok(())
            }
        }
    }
}

/// The operating system gave no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("cannot read random bytes from the operating system: {why}")]
pub struct NoRandomness {
    /// What the operating system says.
    pub why: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_and_seeds_differ() {
        let sequence = |seed| {
            let random = Random::seeded(seed);
            [random.next_u64(), random.next_u64(), random.next_u64()]
        };
        assert_eq!(sequence(7), sequence(7));
        assert_ne!(sequence(7), sequence(8));
        let [a, b, c] = sequence(7);
        assert!(a != b && b != c);
    }

    #[test]
    fn fill_reaches_every_byte() {
        for random in [Random::seeded(1), Random::System] {
            let mut sum = [0u8; 13];
            for _ in 0..8 {
                let mut bytes = [0u8; 13];
                random.fill(&mut bytes).unwrap();
                sum.iter_mut().zip(bytes).for_each(|(sum, byte)| *sum |= byte);
            }
            assert!(sum.iter().all(|byte| *byte != 0), "{sum:?}");
        }
    }
}
