//! Memory and processors that are promised on each host: what services reserve, and what was accepted and has no service
//! yet.
//!
//! Invariant: changed only under the lock that acceptance holds ([`Shared::accepting`](super::service::Shared)), so two
//! specs of the same moment are never promised the same.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use super::judge;
use super::service::Shared;
use crate::domain::HostFacts;
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

    fn less(self, other: Self) -> Self {
        Self {
            memory_bytes: self.memory_bytes.saturating_sub(other.memory_bytes),
            cpu_millis: self.cpu_millis.saturating_sub(other.cpu_millis),
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

/// What every accepted database of this fleet was promised.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Promises {
    hosts: BTreeMap<HostId, OfHost>,
}

/// What was promised on one host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct OfHost {
    /// By the label of the scope.
    shares: BTreeMap<String, Amount>,
    /// The sum of all of them, kept: a group of ten specs does not count ten thousand.
    total: Amount,
}

impl Promises {
    /// What was accepted before this start, read from the records.
    pub(super) fn read(shared: &Shared) -> Result<Self, store::Error> {
        let records = shared.store.read(|reader| reader.all_records())?;
        let mut promises = Self::default();
        // What this version cannot read counts by its service.
        for record in records.into_values().filter(|record| record.tombstone.is_none()) {
            if let Some(spec) = judge::read_back(shared, &record) {
                promises.accepted(&spec);
            }
        }
        Ok(promises)
    }

    /// A spec was accepted.
    pub(super) fn accepted(&mut self, spec: &AcceptedSpec) {
        let scope = Scope::Database(spec.id.clone()).label();
        for host in spec.nodes.iter().flat_map(|node| &node.hosts) {
            self.hosts.entry(host.clone()).or_default();
        }
        for (host, promised) in &mut self.hosts {
            let amount = Amount::of(spec, host);
            if amount != Amount::default() || promised.shares.contains_key(&scope) {
                promised.set(&scope, amount);
            }
        }
    }

    /// How many other databases have an instance on a host.
    pub(super) fn instances(&self, host: &HostId, except: &DatabaseId) -> usize {
        let except = Scope::Database(except.clone()).label();
        let shares = self.hosts.get(host).into_iter().flat_map(|host| &host.shares);
        shares.filter(|(scope, amount)| **scope != except && **amount != Amount::default()).count()
    }

    /// Who has what on a host. `services` are the services of the Swarm.
    pub(super) fn table<'s>(
        &self,
        (world, facts): (&World, &HostFacts),
        services: impl IntoIterator<Item = &'s ServiceSeen>,
    ) -> Table<'_> {
        let accepted = self.hosts.get(&facts.host);
        let total = accepted.map_or_else(Amount::default, |accepted| accepted.total);
        let mut table = Table { host: facts.host.clone(), accepted, shares: BTreeMap::new(), total };
        let mut reserved: BTreeMap<&str, Amount> = BTreeMap::new();
        for service in services.into_iter().filter(|service| service.attributes.swarm_node == facts.swarm_node) {
            let amount = Amount {
                memory_bytes: service.attributes.memory_reservation_bytes.unwrap_or(0),
                cpu_millis: service.attributes.cpu_reservation_millis.unwrap_or(0),
            };
            let labels = &service.attributes.labels;
            let ours = labels.get(FLEET_LABEL).map(String::as_str) == Some(world.fleet.as_str());
            match labels.get(SCOPE_LABEL).filter(|_| ours) {
                Some(scope) => *reserved.entry(scope.as_str()).or_default() += amount,
                None => table.total += amount,
            }
        }
        for (scope, reserved) in reserved {
            let accepted = table.accepted(scope);
            table.change(scope, |share| *share = Share { reserved, accepted });
        }
        table
    }
}

impl OfHost {
    fn set(&mut self, scope: &str, amount: Amount) {
        let before = self.shares.insert(scope.to_owned(), amount).unwrap_or_default();
        self.total = self.total.less(before);
        self.total += amount;
    }
}

/// What one scope has: what its services reserve, and what was accepted.
#[derive(Debug, Clone, Copy, Default)]
struct Share {
    reserved: Amount,
    accepted: Amount,
}

impl Share {
    fn amount(self) -> Amount {
        self.accepted.or_more(self.reserved)
    }
}

/// What is promised on a host, summed up once for many questions.
#[derive(Debug, Clone)]
pub(super) struct Table<'a> {
    host: HostId,
    /// What was accepted before, as it is kept: nothing of it is copied for a question.
    accepted: Option<&'a OfHost>,
    /// Those that have services, or were promised something since, by the label of the scope.
    shares: BTreeMap<String, Share>,
    total: Amount,
}

impl Table<'_> {
    fn accepted(&self, scope: &str) -> Amount {
        self.accepted.and_then(|accepted| accepted.shares.get(scope)).copied().unwrap_or_default()
    }

    fn share(&self, scope: &str) -> Share {
        let accepted = || self.accepted(scope);
        self.shares.get(scope).copied().unwrap_or_else(|| Share { accepted: accepted(), ..Share::default() })
    }

    fn change(&mut self, scope: &str, change: impl FnOnce(&mut Share)) {
        let mut share = self.share(scope);
        self.total = self.total.less(share.amount());
        change(&mut share);
        self.total += share.amount();
        self.shares.insert(scope.to_owned(), share);
    }

    /// What is promised to all but one database.
    pub(super) fn to_others(&self, except: &DatabaseId) -> Amount {
        let own = self.share(&Scope::Database(except.clone()).label()).amount();
        self.total.less(own)
    }

    /// A spec is going to be accepted.
    pub(super) fn promise(&mut self, spec: &AcceptedSpec) {
        let accepted = Amount::of(spec, &self.host);
        self.change(&Scope::Database(spec.id.clone()).label(), |share| share.accepted = accepted);
    }
}
