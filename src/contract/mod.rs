//! The MQTT contract: topics, documents, embedded schemas, and the way from bytes to a value or to *all* faults.
//!
//! Architecture invariants: this room is pure (no clock, no network, no disk, no async) and the only one that knows
//! the JSON of the topics. What comes in is either a value of `model` or a list of [`Fault`]s, never something
//! half-checked. Wire types stay inside: nothing else in pgmoor sees a spec before [`spec::accept`] has.

pub mod access;
pub mod asyncapi;
pub mod commands;
pub mod documents;
pub mod faults;
pub mod generated;
pub mod schema;
pub mod spec;
pub mod topics;
pub mod wire;

pub use faults::{Code, Fault};
pub use schema::schema;
pub use spec::{Context, accept};
pub use topics::Topic;
