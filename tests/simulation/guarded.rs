//! What the outward link hears of the topics that are the daemon's own to write on, and the guard over them.

use std::sync::Arc;

use pgmoor::contract::Topic;
use pgmoor::model::FleetId;
use pgmoor::mqtt::{Properties, Received};
use pgmoor::outbox::Guard;
use pgmoor::runtime::SharedClock;
use pgmoor::runtime::supervisor::{Policy, Supervisor};
use pgmoor::store::Store;
use tokio::sync::mpsc;

/// More than two databases have topics.
const WRITES: usize = 256;

/// What the guard of one daemon is told. Clones are the same.
#[derive(Clone)]
pub(crate) struct Guarded {
    fleet: Arc<FleetId>,
    writes: mpsc::Sender<Received>,
}

impl Guarded {
    /// Starts the guard.
    pub(crate) fn start(supervisor: &mut Supervisor, fleet: &FleetId, store: &Store, clock: &SharedClock) -> Self {
        let (writes, written) = mpsc::channel(WRITES);
        let mut guard = Some(Guard::new(fleet.clone(), store.clone(), clock.clone(), written));
        supervisor.start("guard", Policy::Essential, move |stop| {
            let guard = guard.take();
            async move {
                match guard {
                    Some(guard) => guard.run(stop).await.map_err(Into::into),
                    None => Ok(()),
                }
            }
        });
        Self { fleet: Arc::new(fleet.clone()), writes }
    }

    /// A new connection subscribes to them: the broker replays what it retains there, all of it the daemon's own words.
    pub(crate) fn replay<'a>(&self, retained: impl Iterator<Item = &'a String>) {
        let own = retained.filter(|topic| match Topic::parse(&self.fleet, topic) {
            Some(Topic::Spec(_) | Topic::Inventory) | None => false,
            Some(topic) => topic.database().is_some(),
        });
        for topic in own {
            let (topic, properties) = (topic.clone(), Properties::default());
            let _full = self.writes.try_send(Received { topic, payload: Vec::new(), retain: true, properties });
        }
    }
}
