//! Live tests: what needs a real Docker Swarm, Patroni, Postgres or etcd. They run one at a time.

#![cfg(test)]

mod conformance;
#[path = "../support/daemon.rs"]
mod daemon;
#[path = "../support/docker.rs"]
mod docker;
mod drivers;
mod scenarios;
#[path = "../conformance/suite/mod.rs"]
mod suite;
#[path = "../support/wire.rs"]
mod wire;

/// The default of the catalogue in the program, which is what the daemons of these tests go by: a mirror keeps few versions,
/// and of those that the catalogue names this is the last one that it drops.
fn version() -> String {
    pgmoor::domain::catalogue::embedded().unwrap().default
}

/// The image of that version.
fn image() -> String {
    let catalogue = pgmoor::domain::catalogue::embedded().unwrap();
    catalogue.postgres(&catalogue.default).unwrap().image.clone()
}
