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
