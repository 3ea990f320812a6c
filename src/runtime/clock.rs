//! The only clock. Everything that needs the time is handed a [`Clock`], so that a test decides what time it is.
//!
//! Invariant: wall time is for what people and records see and may jump; whatever is measured uses monotonic time.

#![expect(clippy::disallowed_methods, reason = "this is the clock: the one place that may ask for the time")]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Tells the time.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Wall time: milliseconds since 1970, UTC. It may jump when somebody sets the machine's clock.
    fn now_ms(&self) -> i64;

    /// Time since some moment in the past that stays the same; it never goes back.
    fn monotonic(&self) -> Duration;

    /// Wall time in whole seconds since 1970, UTC.
    fn now_s(&self) -> i64 {
        self.now_ms().div_euclid(1000)
    }
}

/// A clock that rooms share.
pub type SharedClock = Arc<dyn Clock>;

/// The machine's own clock.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// The machine's clock; monotonic time counts from here.
    #[must_use]
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }

    /// The same, ready to be shared.
    #[must_use]
    pub fn shared() -> SharedClock {
        Arc::new(Self::new())
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            // A machine without a battery may believe that it is before 1970.
            Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
        }
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}

/// A clock that follows tokio's time: in a test with paused time, sleeping moves it.
#[derive(Debug, Clone, Copy)]
pub struct TokioClock {
    start: tokio::time::Instant,
    start_ms: i64,
}

impl TokioClock {
    /// A clock that says `start_ms` (milliseconds since 1970) now. Needs a tokio runtime.
    #[must_use]
    pub fn starting_at(start_ms: i64) -> Self {
        Self { start: tokio::time::Instant::now(), start_ms }
    }
}

impl Clock for TokioClock {
    fn now_ms(&self) -> i64 {
        self.start_ms.saturating_add(i64::try_from(self.start.elapsed().as_millis()).unwrap_or(i64::MAX))
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}

/// A clock that stands still until it is moved.
#[derive(Debug, Default)]
pub struct FakeClock {
    now_ms: AtomicI64,
    monotonic_ms: AtomicU64,
}

impl FakeClock {
    /// A clock that says `now_ms`, milliseconds since 1970.
    #[must_use]
    pub fn at(now_ms: i64) -> Arc<Self> {
        Arc::new(Self { now_ms: AtomicI64::new(now_ms), monotonic_ms: AtomicU64::new(0) })
    }

    /// Time passes: both clocks move on.
    pub fn advance(&self, by: Duration) {
        let ms = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.monotonic_ms.fetch_add(ms, Ordering::SeqCst);
        self.now_ms.fetch_add(i64::try_from(ms).unwrap_or(i64::MAX), Ordering::SeqCst);
    }

    /// Somebody sets the wall clock; monotonic time does not notice.
    pub fn set_ms(&self, now_ms: i64) {
        self.now_ms.store(now_ms, Ordering::SeqCst);
    }
}

impl Clock for FakeClock {
    fn now_ms(&self) -> i64 {
        self.now_ms.load(Ordering::SeqCst)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.monotonic_ms.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fake_stands_still_and_a_set_clock_does_not_move_monotonic_time() {
        let clock = FakeClock::at(-1500);
        assert_eq!((clock.now_ms(), clock.now_s(), clock.monotonic()), (-1500, -2, Duration::ZERO));
        clock.advance(Duration::from_secs(2));
        clock.set_ms(5);
        assert_eq!((clock.now_ms(), clock.monotonic()), (5, Duration::from_secs(2)));
    }

    #[test]
    fn the_system_clock_is_later_than_this_program() {
        // 2025-01-01: an answer before that would mean that the unit is wrong.
        assert!(SystemClock::new().now_ms() > 1_735_689_600_000);
    }

    #[tokio::test(start_paused = true)]
    async fn the_tokio_clock_follows_paused_time() {
        let clock = TokioClock::starting_at(1000);
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!((clock.now_ms(), clock.monotonic()), (4000, Duration::from_secs(3)));
    }
}
