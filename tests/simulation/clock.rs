//! The daemon's clock: it follows tokio's paused time, and somebody may set it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use pgmoor::runtime::clock::{Clock, TokioClock};

/// A moment in 2026, milliseconds since 1970.
pub(crate) const START_MS: i64 = 1_780_000_000_000;

/// Wall time that jumps; monotonic time that does not.
#[derive(Debug)]
pub(crate) struct JumpingClock {
    steady: TokioClock,
    off_ms: AtomicI64,
}

impl JumpingClock {
    /// Right, until somebody sets it.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { steady: TokioClock::starting_at(START_MS), off_ms: AtomicI64::new(0) })
    }

    /// Somebody sets it forward or back.
    pub(crate) fn jump(&self, by_ms: i64) {
        self.off_ms.fetch_add(by_ms, Ordering::SeqCst);
    }
}

impl Clock for JumpingClock {
    fn now_ms(&self) -> i64 {
        self.steady.now_ms() + self.off_ms.load(Ordering::SeqCst)
    }

    fn monotonic(&self) -> Duration {
        self.steady.monotonic()
    }
}
