//! From what was seen to what is said: documents for the topics, made of values only.
//!
//! Architecture invariant: this room is pure.

mod connection;
pub mod health;
mod plan;

pub use connection::{connection, instance_summaries};
pub use plan::{plan_document, proposed_plan_document};
