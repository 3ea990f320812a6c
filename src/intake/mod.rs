//! Intake: message in → judged by the rules → one transaction with the verdict and its event → bell → acknowledgement.
//!
//! Architecture invariants: the acknowledgement follows the commit (rule 5); a bad spec changes nothing but its
//! verdict (rule 7); an empty payload is confirmed by a fresh look at that very topic before it counts (rule 4); a
//! *replayed* spec that history knows as superseded changes nothing (rule 9); a message over which pgmoor itself fails
//! is answered, remembered and let go. Messages of different databases are taken in beside each other ([`lanes`]).

mod broker;
mod command;
mod deletion;
pub mod lanes;
mod poison;
mod reseed;
mod spec;

use std::sync::Arc;

use crate::contract::Context;
use crate::contract::spec::DEFAULT_MEMORY_BYTES;
use crate::contract::topics::Topic;
use crate::model::ids::ID_RULE;
use crate::model::{AcceptedSpec, Catalogue, FleetHosts, FleetId, HostId, HostPorts, NodeHosts};
use crate::runtime::bell::Bell;
use crate::runtime::clock::SharedClock;
use crate::store::{self, Store};

pub use command::PreviewQueue;
pub use deletion::{Confirm, Retained};
pub use reseed::{Heard, Reseeds};

/// A message that came in.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// The whole topic.
    pub topic: String,
    /// The payload.
    pub payload: Vec<u8>,
    /// Whether the broker replayed it from its memory.
    pub retained: bool,
    /// MQTT 5: where an answer is wanted.
    pub response_topic: Option<String>,
    /// MQTT 5: what the answer must carry.
    pub correlation: Option<Vec<u8>>,
}

/// What intake works with.
#[derive(Clone)]
pub struct Intake {
    /// The fleet whose topics are read.
    pub fleet: FleetId,
    /// This host.
    pub host: HostId,
    /// Where pgmoor keeps its own files on this host.
    pub data_dir: String,
    /// The version catalogue.
    pub catalogue: Arc<Catalogue>,
    /// The store.
    pub store: Store,
    /// Wakes the reconciler.
    pub bell: Bell,
    /// The time.
    pub clock: SharedClock,
    /// Looks at one topic afresh.
    pub confirm: Arc<dyn Confirm>,
    /// Questions for the reconciler.
    pub previews: PreviewQueue,
}

impl std::fmt::Debug for Intake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Intake").field("fleet", &self.fleet).finish_non_exhaustive()
    }
}

/// Why a message could not be taken in. It is not acknowledged then, and the broker brings it again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store does not work.
    #[error("store the verdict")]
    Store(#[from] store::Error),
}

impl Intake {
    /// Takes in one message. When this returns well, all that follows from it is on the disk.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn receive(&self, arrival: &Arrival) -> Result<(), Error> {
        match Topic::parse(&self.fleet, &arrival.topic) {
            Some(Topic::Spec(id)) if arrival.payload.is_empty() => self.emptied(&id).await,
            Some(Topic::Spec(id)) => self.spec(&id, &arrival.payload, arrival.retained).await,
            Some(Topic::Command(id, verb)) => self.command(&id, &verb, arrival).await,
            Some(Topic::FleetCommand(verb)) => self.fleet_command(&verb, arrival).await,
            Some(_) => Ok(()),
            None => {
                // For example a database id that breaks the rule: there is no topic of ours to answer on.
                tracing::warn!(
                    topic = arrival.topic.chars().take(200).collect::<String>(),
                    rule = ID_RULE,
                    "not a topic of ours: an id in it breaks the rule for ids, or it has other levels"
                );
                Ok(())
            }
        }
    }

    /// What a spec is judged against. Which hosts there are is the reconciler's to say: it looks again while a spec waits
    /// for one that is about to join.
    fn context<'a>(
        &'a self,
        (hosts, placed): (Option<&'a FleetHosts>, &'a NodeHosts),
        previous: Option<&'a AcceptedSpec>,
        ports_in_use: &'a HostPorts,
    ) -> Context<'a> {
        Context {
            catalogue: &self.catalogue,
            host: hosts.map_or(Some(&self.host), FleetHosts::only),
            placed,
            known_hosts: None,
            drained_hosts: hosts.map(|hosts| &hosts.drained),
            previous,
            ports_in_use,
            data_dir: &self.data_dir,
            default_memory_bytes: DEFAULT_MEMORY_BYTES,
        }
    }
}
