//! What purged databases have left on hosts that did not answer then: kept in the fleet's record, deleted when the host
//! answers again (decision 0034).
//!
//! Invariants: what a host owes is in the fleet's record, and that in Swarm, before the database's own record goes; it is
//! taken out once the host says that it is gone; nothing of the same name is accepted there before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use super::pass::{Error, Next, Pass};
use crate::domain::is_removed;
use crate::execute::ask;
use crate::model::{AcceptedSpec, FleetRecord, HostId, InstanceId};
use crate::runtime::chain::chain;
use crate::world::work::{Question, Told};

/// Instances by the host that has something left of them.
pub(super) type Leftovers = BTreeMap<HostId, BTreeSet<InstanceId>>;

/// What is to go into the fleet's record. It may be lost: whoever wants it there looks whether it is, and asks again.
#[derive(Debug, Default)]
pub(super) struct Owed(Mutex<Leftovers>);

impl Owed {
    /// Asks for it to be kept, unless it is.
    pub(super) fn is_kept(&self, owed: &Leftovers, record: &FleetRecord) -> bool {
        let has = |host, instances| record.leftovers.get(host).is_some_and(|kept| kept.is_superset(instances));
        if owed.iter().all(|(host, instances)| has(host, instances)) {
            return true;
        }
        let mut wanted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (host, instances) in owed {
            wanted.entry(host.clone()).or_default().extend(instances.iter().cloned());
        }
        false
    }

    fn take(&self) -> Leftovers {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A host of the spec on which something of a purged database of this name is left.
pub(super) fn of(record: &FleetRecord, spec: &AcceptedSpec) -> Option<HostId> {
    let places = spec.nodes.iter().flat_map(|node| node.hosts.iter().map(move |host| (node, host)));
    let left = |host, instance| record.leftovers.get(host).is_some_and(|left| left.contains(&instance));
    places
        .filter(|(node, host)| left(*host, InstanceId::derive(&spec.id, &node.name, host)))
        .map(|(_, host)| host.clone())
        .next()
}

impl Pass {
    /// Has hosts delete what they owe, and takes what is owed anew into the record; none: nothing has changed.
    pub(super) async fn leftovers(&self, held: &FleetRecord) -> Result<Option<Next>, Error> {
        let mut record = held.clone();
        for (host, instances) in self.shared.owed.take() {
            record.leftovers.entry(host).or_default().extend(instances);
        }
        for host in held.leftovers.keys() {
            if is_removed(held, host) {
                // Nobody can look there, and what is on its disk stays.
                record.leftovers.remove(host);
                continue;
            }
            match ask(&self.shared.world, host, Question::Clear).await {
                Ok(Told::Cleared { instances }) => {
                    let left = record.leftovers.entry(host.clone()).or_default();
                    left.retain(|instance| !instances.contains(instance));
                }
                Ok(other) => tracing::warn!(%host, ?other, "it was asked for something else"),
                Err(error) => {
                    tracing::info!(%host, error = chain(&error), "what is left of purged databases stays for now");
                }
            }
        }
        record.leftovers.retain(|_, instances| !instances.is_empty());
        if record.leftovers == held.leftovers {
            return Ok(None);
        }
        record.revision += 1;
        tracing::info!(leftovers = ?record.leftovers, "what is left of purged databases");
        self.keep(record).await.map(Some)
    }
}
