//! Memory and processors that are promised on this host: what services reserve, and what was accepted and has no service
//! yet.
//!
//! Invariant: changed only under the lock that acceptance holds ([`Shared::accepting`](super::service::Shared)), so two
//! specs of the same moment are never promised the same.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use super::judge;
use super::service::Shared;
use crate::drivers::swarm::ServiceSeen;
use crate::model::{AcceptedSpec, DatabaseId, HostId, Scope};
use crate::store::{self, Rows as _};
use crate::world::{FLEET_LABEL, SCOPE_LABEL, World};

/// An amount of what a host has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Amount {
    /// Memory in bytes.
    pub(super) memory_bytes: u64,
    /// Thousandths of a processor.
    pub(super) cpu_millis: u64,
}

impl AddAssign for Amount {
    fn add_assign(&mut self, other: Self) {
        self.memory_bytes = self.memory_bytes.saturating_add(other.memory_bytes);
        self.cpu_millis = self.cpu_millis.saturating_add(other.cpu_millis);
    }
}

impl Amount {
    /// The larger of each: a database that changes has what it gives up until it is replaced, and what it gets already.
    fn or_more(self, other: Self) -> Self {
        Self {
            memory_bytes: self.memory_bytes.max(other.memory_bytes),
            cpu_millis: self.cpu_millis.max(other.cpu_millis),
        }
    }

    /// What a spec asks of a host.
    fn of(spec: &AcceptedSpec, host: &HostId) -> Self {
        let mut sum = Self::default();
        for node in spec.nodes.iter().filter(|node| !spec.deleted && node.hosts.contains(host)) {
            sum += Self { memory_bytes: node.memory_bytes, cpu_millis: node.cpu_millis.unwrap_or(0) };
        }
        sum
    }
}

/// What every accepted database of this fleet was promised on this host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Promises(BTreeMap<DatabaseId, Amount>);

impl Promises {
    /// What was accepted before this start, read from the records.
    pub(super) fn read(shared: &Shared) -> Result<Self, store::Error> {
        let records = shared.store.read(|reader| reader.all_records())?;
        let mut promises = Self::default();
        // What this version cannot read counts by its service.
        for (id, record) in records.into_iter().filter(|(_, record)| record.tombstone.is_none()) {
            if let Some(spec) = judge::read_back(shared, &record) {
                promises.0.insert(id, Amount::of(&spec, &shared.world.facts.host));
            }
        }
        Ok(promises)
    }

    /// A spec was accepted.
    pub(super) fn accepted(&mut self, spec: &AcceptedSpec, host: &HostId) {
        self.0.insert(spec.id.clone(), Amount::of(spec, host));
    }

    /// What is promised on this host to all but one database. `services` are all services of others in the Swarm.
    pub(super) fn to_others(&self, world: &World, except: &DatabaseId, services: &[ServiceSeen]) -> Amount {
        let (facts, mut reserved) = (&world.facts, BTreeMap::<&str, Amount>::new());
        let mut sum = Amount::default();
        for service in services.iter().filter(|service| service.attributes.swarm_node == facts.swarm_node) {
            let amount = Amount {
                memory_bytes: service.attributes.memory_reservation_bytes.unwrap_or(0),
                cpu_millis: service.attributes.cpu_reservation_millis.unwrap_or(0),
            };
            let labels = &service.attributes.labels;
            let ours = labels.get(FLEET_LABEL).map(String::as_str) == Some(world.fleet.as_str());
            match labels.get(SCOPE_LABEL).filter(|_| ours) {
                Some(scope) => *reserved.entry(scope).or_default() += amount,
                None => sum += amount,
            }
        }
        for (id, accepted) in self.0.iter().filter(|(id, _)| *id != except) {
            let reserved = reserved.remove(Scope::Database(id.clone()).label().as_str()).unwrap_or_default();
            sum += accepted.or_more(reserved);
        }
        for reserved in reserved.into_values() {
            sum += reserved;
        }
        sum
    }
}
