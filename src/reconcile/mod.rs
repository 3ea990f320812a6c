//! The reconciler: bell or tick → load, look, plan, apply the next stage, report; and it answers what a spec would change.
//!
//! Architecture invariants: what was accepted is in the store before it is acted upon; a pass that is cut off at any
//! point is done again from what is seen, never from what is remembered; nothing is decided while a step runs.

mod agenda;
mod apply;
mod approval;
mod chooser;
mod deadlines;
mod decisions;
mod docket;
mod drift;
mod fleet;
mod gate;
mod halt;
mod hold;
mod hosts;
mod images;
mod judge;
mod ledger;
mod leftovers;
mod limits;
mod live;
mod lost;
mod members;
mod pass;
mod place;
mod placing;
mod preview;
mod promises;
mod replacing;
mod service;
mod tell;
#[cfg(test)]
mod tests;
mod together;
mod trash;
mod waiting;

pub use deadlines::Deadlines;
pub use images::Images;
pub use limits::Limits;
pub use service::{Error, Inputs, Options, Reconciler};
pub use tell::retained_topics;
pub use waiting::Waiting;
