//! Tests on several Swarm hosts, which `tests/testbed/bed` makes on this machine. They run one at a time, and never beside
//! the live tests.

#![cfg(test)]

mod crash;
#[expect(dead_code, reason = "daemons run on hosts here; the broker beside them and the patience are the same")]
#[path = "../support/daemon.rs"]
mod daemon;
mod down;
mod fleet;
mod join;
mod lease;
mod leave;
mod partition;
mod placing;
mod rows;
mod site;
mod swarm;
#[path = "../support/testbed.rs"]
mod testbed;
mod update;
#[expect(dead_code, reason = "a client of a daemon that runs elsewhere asks for less")]
#[path = "../support/wire.rs"]
mod wire;
