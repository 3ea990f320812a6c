//! Desired × observed → plan: what differs, in which order it is mended, why, and what that does to what runs now.
//!
//! Architecture invariants: this room is pure (no clock, no disk, no network, no async); a plan is a value, and equal
//! inputs give equal bytes; Unknown is inert (rule 2): nothing is created, changed or deleted because of something
//! that could not be seen; what holds data is never recreated.

pub mod approval;
mod changes;
pub mod check;
pub mod decision;
mod deletes;
pub mod disruption;
pub mod downtime;
pub mod drift;
pub mod halt;
mod held;
mod input;
mod kinds;
mod left;
mod nodes;
mod phase;
mod planner;
pub mod simulate;
mod stages;
pub mod text;
mod value;

pub use approval::{Beyond, Disrupted, Disruptions};
pub use downtime::Downtimes;
pub use held::{CapOf, Held, Hold};
pub use input::{Input, Outcome, nothing_there};
pub use left::behind;
pub use nodes::LAG_BYTES_MAX;
pub use phase::{Overdue, Phase};
pub use planner::plan;
pub use value::{Action, Change, Disruption, Plan, Purpose, Reason, Stage, Step, Waiting, WaitsFor};

#[cfg(test)]
mod tests;
