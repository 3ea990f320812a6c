//! Desired × observed → plan: what differs, in which order it is mended, why, and what that does to what runs now.
//!
//! Architecture invariants: this room is pure (no clock, no disk, no network, no async); a plan is a value, and equal
//! inputs give equal bytes; Unknown is inert (rule 2): nothing is created, changed or deleted because of something
//! that could not be seen; what holds data is never recreated.

mod changes;
pub mod check;
mod deletes;
pub mod disruption;
mod input;
mod kinds;
mod parameters;
mod planner;
pub mod simulate;
pub mod text;
mod value;

pub use input::{Input, Outcome, nothing_there};
pub use parameters::restart_required;
pub use planner::plan;
pub use value::{Action, Change, Disruption, Plan, Purpose, Reason, Stage, Step, Waiting, WaitsFor};

#[cfg(test)]
mod tests;
