//! Who leads, and what is done to the Swarm by whom: after another host has taken the lease, nothing is done for the lead
//! before it, but for what was begun and cannot have been told yet.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pgmoor::domain::layout;
use pgmoor::drivers::fake::CallSeen;
use pgmoor::model::FleetId;
use pgmoor::store::Journal as _;

use crate::invariants::Invariant;
use crate::site::{FLEET, Site};

/// Changes of the Swarm that only who leads makes.
const OF_LEADER: [&str; 7] = [
    "swarm.create_service",
    "swarm.update_service",
    "swarm.remove_service",
    "swarm.create_network",
    "swarm.remove_network",
    "swarm.create_config",
    "swarm.remove_config",
];
/// An entry that each host makes itself.
const ROSTER: &str = "pgmoor.host.";
/// Within this a host that is up knows that it leads no more: it looks every two seconds, and in a storm a look may be lost
/// several times.
const KNOWN_WITHIN: Duration = Duration::from_secs(60);

/// A change of the Swarm.
#[derive(Debug, Clone)]
pub(crate) struct Deed {
    /// Since the run began.
    at: Duration,
    node: String,
    what: String,
}

/// Changes that nobody has looked at yet. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Deeds(Arc<Mutex<Vec<Deed>>>);

impl Deeds {
    /// A call is made.
    pub(crate) fn note(&self, call: &CallSeen, at: Duration) {
        if OF_LEADER.contains(&call.name) && !call.act.contains(ROSTER) {
            let what = format!("{}: {}", call.name, call.act);
            let deed = Deed { at, node: call.node.clone(), what };
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(deed);
        }
    }

    /// All of them, which are then forgotten.
    pub(crate) fn take(&self) -> Vec<Deed> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Who has the lease, and since when at most.
#[derive(Debug, Default)]
pub(crate) struct Leads(Option<(String, Duration)>);

impl Leads {
    /// Looks at who leads, and at what was done since the last look.
    pub(crate) fn look(&mut self, site: &Site) {
        for deed in site.weather.deeds() {
            let Some((holder, since)) = &self.0 else { continue };
            let host = site.hosts.iter().find(|host| host.id.as_str() == holder);
            let is_holder = host.is_none_or(|host| host.world.node() == deed.node);
            if !is_holder && deed.at > *since + KNOWN_WITHIN {
                let how =
                    format!("{} does {}, {:?} after {holder} began to lead", deed.node, deed.what, deed.at - *since);
                site.breaches.found(Invariant::NewestLead, how);
            }
        }
        let Ok(fleet) = FleetId::parse(FLEET) else { return };
        let labels = site.world.labels_of_config(&layout::lease_config(&fleet)).unwrap_or_default();
        let holder = labels.get("pgmoor.holder").cloned();
        if let Some(holder) = holder.filter(|holder| self.0.as_ref().is_none_or(|(before, _)| before != holder)) {
            site.trace.say(format!("{holder} has the lease, epoch {:?}", labels.get("pgmoor.epoch")));
            self.0 = Some((holder, site.trace.now()));
        }
        for host in &site.hosts {
            let (stale, Some(store)) = (site.stale.of(&host.id), host.store()) else { continue };
            for id in stale {
                // A store whose process is dead cannot be read; its journal is read when the next one runs.
                if let Ok(Some(row)) = store.read(|reader| reader.work(&id)) {
                    let how = format!("{} did {id} of epoch {} after it heard of a newer lead", host.id, row.epoch);
                    site.breaches.found(Invariant::NewestLead, how);
                }
            }
        }
    }
}
