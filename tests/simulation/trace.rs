//! What happened in a run, line by line: a failing seed is printed with it, and the same seed gives the same lines.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pgmoor::runtime::SharedClock;

/// The lines. Clones write to the same trace.
#[derive(Debug, Clone)]
pub(crate) struct Trace {
    lines: Arc<Mutex<Vec<String>>>,
    clock: SharedClock,
}

impl Trace {
    /// Empty; `clock` counts from the beginning of the run.
    pub(crate) fn new(clock: SharedClock) -> Self {
        Self { lines: Arc::default(), clock }
    }

    /// Writes a line.
    pub(crate) fn say(&self, line: impl AsRef<str>) {
        let ms = self.clock.monotonic().as_millis();
        let line = format!("{:>7}.{:03} {}", ms / 1000, ms % 1000, line.as_ref());
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    /// The time since the run began.
    pub(crate) fn now(&self) -> Duration {
        self.clock.monotonic()
    }

    /// All lines so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
