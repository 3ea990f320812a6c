//! From what was seen to what is said: documents for the topics, made of values only.
//!
//! Architecture invariant: this room is pure.

pub mod apart;
pub mod approval;
mod cause;
pub mod conditions;
mod connection;
mod events;
pub mod explain;
pub mod failover;
pub mod halt;
mod hands_off;
pub mod health;
mod hold;
mod left;
mod plan;
pub mod removed;
pub mod scripts;
pub mod status;
#[cfg(test)]
mod tests;
pub mod trouble;
pub mod work;

pub use cause::found;
pub use connection::{connection, instance_summaries};
pub use events::events;
pub use plan::{changes, past_step, plan_document, proposed_plan_document, with_guesses, with_interruptions};
