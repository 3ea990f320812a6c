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

use crate::planted::Plant;

/// What somebody else writes on a topic of the daemon's.
pub(crate) const FOREIGN: &[u8] = b"{\"said\": \"by somebody else\"}";
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
    pub(crate) fn start(
        supervisor: &mut Supervisor,
        plant: Plant,
        (fleet, store, clock): (&FleetId, &Store, &SharedClock),
    ) -> Self {
        let (writes, written) = mpsc::channel(WRITES);
        if plant == Plant::NoGuard {
            return Self { fleet: Arc::new(fleet.clone()), writes };
        }
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

    /// A new connection subscribes to them: the broker replays what it retains there. The daemon's own words are told.
    pub(crate) fn replay<'a>(&self, retained: impl Iterator<Item = (&'a String, &'a Vec<u8>)>) {
        let own = retained.filter(|(topic, payload)| match Topic::parse(&self.fleet, topic) {
            Some(Topic::Spec(_) | Topic::Inventory) | None => false,
            Some(topic) => topic.database().is_some() && *payload != FOREIGN,
        });
        own.for_each(|(topic, _)| self.tell(topic, &[], true));
    }

    /// Somebody else writes there.
    pub(crate) fn written(&self, topic: &str) {
        self.tell(topic, FOREIGN, false);
    }

    fn tell(&self, topic: &str, payload: &[u8], retain: bool) {
        let (topic, payload, properties) = (topic.to_owned(), payload.to_vec(), Properties::default());
        let _full = self.writes.try_send(Received { topic, payload, retain, properties });
    }
}
