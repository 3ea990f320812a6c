//! How often each of many things is looked at: the period grows with their number, and their looks are spread over it.
//!
//! Invariant: between the end of one look and the next lies one period at most.

use std::time::Duration;

/// How many databases a host looks at within the period that is configured. Beyond that the period grows in proportion,
/// so that looking costs no more than for these (a look is a dozen calls and a handful of TLS handshakes).
pub const DATABASES_MAX: usize = 50;

/// The time between two looks at one of `databases`, where a few are looked at every `base`.
#[must_use]
pub fn period(base: Duration, databases: usize) -> Duration {
    let share = u32::try_from(databases.max(DATABASES_MAX)).unwrap_or(u32::MAX);
    // At most 3600 s times a number of databases that fits a store: far from any overflow.
    base.saturating_mul(share) / u32::try_from(DATABASES_MAX).unwrap_or(1)
}

/// Time from `now` (monotonic) to the next look at the thing of this name: each name has its own moment within the
/// period, so that they do not all come at once.
#[must_use]
pub fn until_next(now: Duration, period: Duration, name: &str) -> Duration {
    let period_ms = u64::try_from(period.as_millis()).unwrap_or(u64::MAX).max(1);
    let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX) % period_ms;
    let moment_ms = hash(name) % period_ms;
    let left_ms = match moment_ms > now_ms {
        true => moment_ms - now_ms,
        false => period_ms - now_ms + moment_ms,
    };
    Duration::from_millis(left_ms)
}

/// FNV-1a: the same in every process, and spread well enough for names that differ in a digit.
fn hash(name: &str) -> u64 {
    let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let plain = name.bytes().fold(0xcbf2_9ce4_8422_2325, mix);
    // The low bits of FNV follow the last byte; the high ones have seen all.
    plain ^ (plain >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_period_grows_beyond_fifty() {
        let base = Duration::from_secs(10);
        let seconds = [0, 1, 50, 51, 100, 1000].map(|databases| period(base, databases).as_millis());
        assert_eq!(seconds, [10_000, 10_000, 10_000, 10_200, 20_000, 200_000]);
    }

    #[test]
    fn looks_are_spread_and_never_further_apart_than_the_period() {
        let (period, now) = (Duration::from_secs(10), Duration::from_millis(123_456));
        let mut tenths = [0_u32; 10];
        for number in 0..50 {
            let name = format!("db.shop-{number}");
            let left = until_next(now, period, &name);
            assert!(left > Duration::ZERO && left <= period, "{left:?}");
            let then = now + left;
            assert_eq!(until_next(then, period, &name), period, "{name} keeps its moment");
            tenths[usize::try_from(left.as_millis().saturating_sub(1) / 1000).unwrap()] += 1;
        }
        assert!(tenths.iter().all(|databases| (1..=12).contains(databases)), "{tenths:?}");
    }
}
