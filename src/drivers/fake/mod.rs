//! An in-memory world that answers like Docker Swarm, a host, etcd, Patroni and Postgres.
//!
//! Tests run against it, and `serve --drivers fake` does, so that a newcomer can watch pgmoor work without Docker. It
//! keeps state instead of replaying answers: a service that is created brings up a container which reads its
//! `patroni.yml` from the host's files, logs in to etcd, makes a data directory and serves, each after a while.
//!
//! Invariants: everything follows from the calls and the clock (no randomness, no task of its own: whatever is due
//! happens at the next look); data lives with its directory, so it survives a new container and moves to the trash;
//! whoever breaks a rule of the design is written down in [`World::violations`].

mod bootstrap;
mod call;
mod certificate;
mod cluster;
mod control;
mod engine;
mod etcd;
mod etcd_members;
mod files;
mod hba;
mod host;
mod images;
mod in_force;
mod instance;
mod interrupted;
mod libraries;
mod look;
mod machine;
mod network;
mod node;
mod options;
mod patroni;
mod patroni_file;
mod postgres;
mod service;
mod shelf;
mod state;
mod swarm;
mod violation;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use call::{CallSeen, Fate, Fates, Mishap, System};
pub use look::{ClusterLook, DatabaseLook, Look, RoleLook, ServiceLook};
pub use options::{Delays, Options};
pub use violation::Violation;

use self::state::State;
use super::Drivers;
use crate::runtime::clock::SharedClock;

/// The world, as one of its hosts sees it. Clones are the same.
#[derive(Clone)]
pub struct World {
    state: Arc<Mutex<State>>,
    clock: SharedClock,
    /// The Swarm node of the host that this one speaks to.
    node: Arc<str>,
}

impl World {
    /// A host with Docker in a Swarm of one node, the catalogue's images, and nothing else.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let (clock, node) = (Arc::clone(&options.clock), options.swarm_node.as_str().into());
        Self { state: Arc::new(Mutex::new(State::new(options))), clock, node }
    }

    /// Drivers that act on this world.
    #[must_use]
    pub fn drivers(&self) -> Drivers {
        let world = Arc::new(self.clone());
        Drivers {
            swarm: Arc::clone(&world) as Arc<dyn super::swarm::Swarm>,
            host: Arc::clone(&world) as Arc<dyn super::host::Host>,
            patroni: Arc::clone(&world) as Arc<dyn super::patroni::Patroni>,
            postgres: Arc::clone(&world) as Arc<dyn super::postgres::Postgres>,
            etcd: world,
        }
    }

    /// The state with everything done that is due by now.
    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.settle(self.clock.now_ms());
        if *state.here != *self.node {
            state.here = self.node.to_string();
        }
        state
    }
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("World")
    }
}
