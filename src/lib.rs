//! pgmoor keeps PostgreSQL databases moored at the edge: a retained MQTT message says which database is wanted,
//! Docker Swarm underneath is driven until the world matches, and state and health go back out on topics of that
//! database. ARCHITECTURE.md is the map; `tests/tidy.rs` holds the borders between the rooms.

pub mod agent;
pub mod app;
pub mod cli;
pub mod contract;
pub mod domain;
pub mod drivers;
pub mod execute;
pub mod intake;
pub mod model;
pub mod monitor;
pub mod mqtt;
pub mod outbox;
pub mod plan;
pub mod reconcile;
pub mod report;
pub mod runtime;
pub mod store;
pub mod world;
