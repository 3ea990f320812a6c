//! The reconciler: bell or tick → load, look, plan, apply the next stage, report; and it answers what a spec would change.
//!
//! Architecture invariants: what was accepted is in the store before it is acted upon; a pass that is cut off at any
//! point is done again from what is seen, never from what is remembered; nothing is decided while a step runs.

mod apply;
mod judge;
mod ledger;
mod live;
mod pass;
mod patroni_config;
mod preview;
mod refresh;
mod service;
mod tell;

pub use service::{Error, Inputs, Options, Reconciler};
