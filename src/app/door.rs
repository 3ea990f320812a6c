//! The door of the fleet: a line of its own on which new hosts knock.

use std::sync::Arc;

use super::once;
use super::services::Base;
use crate::agent::{Door, Laid, Wire};
use crate::contract::topics::filters;
use crate::mqtt;
use crate::runtime::supervisor::Supervisor;

/// Lets hosts in for as long as the daemon runs, also while it has no world yet: then it says what it waits for.
pub(super) fn run(supervisor: &mut Supervisor, options: mqtt::Options, base: &Base) {
    let Laid { line, arriving, run } = Wire::lay(options, vec![filters::joins(&base.fleet)], base.random.clone());
    let door = Door {
        fleet: base.fleet.clone(),
        here: base.host.clone(),
        key: Arc::clone(&base.key),
        line,
        swarm: Arc::clone(&base.drivers.swarm),
        store: base.store.clone(),
        clock: Arc::clone(&base.clock),
    };
    once(supervisor, "door", (run, door, arriving), |(run, door, arriving), stop| async move {
        tokio::join!(run(stop.clone()), door.run(arriving, stop));
        Ok(())
    });
}
