//! From what was seen to what is said: documents for the topics, made of values only.
//!
//! Architecture invariant: this room is pure.

pub mod conditions;
mod connection;
mod events;
pub mod health;
mod plan;
pub mod status;
#[cfg(test)]
mod tests;

pub use connection::{connection, instance_summaries};
pub use events::events;
pub use plan::{plan_document, proposed_plan_document};
