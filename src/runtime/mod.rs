//! Process plumbing: who owns the tasks, who wakes whom, what time it is, how long a wait may last.
//!
//! Architecture invariant: this room knows nothing of databases beyond the ids of `model`, and no other room. It is
//! the one place that reads clocks and random numbers, so everything else can be driven by a test.

pub mod backoff;
pub mod bell;
pub mod cadence;
pub mod chain;
pub mod clock;
pub mod deadline;
pub mod random;
pub mod supervisor;
pub mod telemetry;

pub use backoff::{Backoff, Schedule};
pub use bell::{Bell, Listener, bell};
pub use chain::chain;
pub use clock::{Clock, FakeClock, SharedClock, SystemClock, TokioClock};
pub use deadline::{Expired, within};
pub use random::Random;
pub use supervisor::{Policy, Supervisor, TaskError};
