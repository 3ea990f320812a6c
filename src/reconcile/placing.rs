//! Hosts for nodes whose spec leaves them open: what the choice depends on is looked at, and the choice is held until it
//! is accepted.
//!
//! Invariants: the choice itself is `domain::placement`; it is made while nothing else is accepted, and counts for all
//! others from then on ([`Tentative`]), so specs of the same moment do not all go to one host.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use futures_util::future::join_all;
use serde_json::Value;

use super::live::Place;
use super::promises::{Amount, Promises};
use super::service::Shared;
use super::tell;
use crate::contract::documents::Role;
use crate::contract::{Code, Fault};
use crate::domain::database::Placements;
use crate::domain::placement::{self, Choice, Room, Stay, Wanted};
use crate::domain::{HostFacts, Hosts};
use crate::drivers::Result;
use crate::drivers::swarm::ServiceSeen;
use crate::execute::ask;
use crate::model::spec::{NodeSpec, PlacementRequest, PortRequest};
use crate::model::{AcceptedSpec, DatabaseId, HostId, HostPorts, NodeHosts, NodeName, Placement, Record};
use crate::world::work::{Question, Told};

/// What was chosen, by node.
pub(super) type Choices = BTreeMap<NodeName, Choice>;

/// A spec whose open nodes get hosts.
#[derive(Clone, Copy)]
pub(super) struct Placing<'a> {
    pub(super) shared: &'a Shared,
    pub(super) spec: &'a AcceptedSpec,
    pub(super) record: Option<&'a Record>,
    /// The spec that is applied now.
    pub(super) previous: Option<&'a AcceptedSpec>,
    pub(super) stay: Stay,
}

/// A node that is open, what it asks, and what was chosen before.
type Open<'a> = (&'a NodeSpec, &'a PlacementRequest, Option<Placement>);

/// What was seen of the hosts.
pub(super) struct Seen {
    services: Vec<ServiceSeen>,
    /// Those that answered, and on which of the ports in question something listens.
    listened: BTreeMap<HostId, BTreeSet<u16>>,
}

/// What the hosts have given out, at the moment of the choice.
#[derive(Clone, Copy)]
pub(super) struct Given<'a> {
    pub(super) promises: &'a Promises,
    /// The ports of other databases.
    pub(super) ports: &'a HostPorts,
}

impl Shared {
    /// Where the nodes of a database are whose spec leaves their hosts open.
    pub(super) fn placed(&self, record: &Record) -> NodeHosts {
        let known = placement::ever_known(&self.world.record.get(), &self.world.hosts);
        placement::placed(record, &known, &self.hosts().default)
    }
}

impl<'a> Placing<'a> {
    /// Of a spec that is to be accepted.
    pub(super) fn of(
        shared: &'a Shared,
        spec: &'a AcceptedSpec,
        record: Option<&'a Record>,
        previous: Option<&'a AcceptedSpec>,
    ) -> Self {
        // What is in the trash is brought back where it is.
        let buried = record.is_some_and(|record| record.tombstone.is_some());
        Self { shared, spec, record, previous, stay: if buried { Stay::All } else { Stay::Labelled } }
    }

    fn open(&self) -> impl Iterator<Item = Open<'a>> {
        let (record, previous) = (self.record, self.previous);
        self.spec.nodes.iter().filter_map(move |node| {
            Some((node, node.placement.as_ref()?, placement::before(&node.name, record, previous)))
        })
    }

    /// The hosts of the fleet.
    fn hosts(&self) -> Hosts {
        self.shared.world.hosts.of(&self.shared.world.record.get())
    }

    /// Whether something else is asked than was chosen, or a chosen host is to be left or gone.
    pub(super) fn is_due(&self) -> bool {
        let fleet = self.shared.world.record.get();
        self.open()
            .any(|(_, request, before)| before.is_none_or(|before| placement::is_due(request, &before, &fleet.hosts)))
    }

    /// The choice, where it depends on nothing that has to be looked at: what was chosen is what is asked, or there is one
    /// host only.
    pub(super) fn at_once(&self) -> Option<Choices> {
        let (fleet, hosts) = (self.shared.world.record.get(), self.hosts());
        let only = hosts.iter().next().filter(|_| hosts.iter().count() == 1);
        let mut choices = Choices::new();
        for (node, request, before) in self.open() {
            let choice = match (before, only) {
                (Some(before), _) if !placement::is_due(request, &before, &fleet.hosts) => {
                    Choice { placement: before, missing: 0, out: Vec::new(), to_be_left: Vec::new() }
                }
                (before, Some(facts)) => self.chosen((node, request, before), &[free(facts)], &BTreeSet::new()),
                (Some(_) | None, None) => return None,
            };
            choices.insert(node.name.clone(), choice);
        }
        Some(choices)
    }

    /// Looks at what the choice depends on.
    ///
    /// # Errors
    /// Swarm does not answer. A host that does not is left out.
    pub(super) async fn look(&self) -> Result<Seen> {
        let world = &self.shared.world;
        let services = world.drivers.swarm.services(&BTreeMap::new()).await?;
        let there: BTreeSet<HostId> =
            self.open().filter_map(|(_, _, before)| before).flat_map(|before| hosts_of(&before)).collect();
        let ports: BTreeSet<u16> = self.open().filter_map(|(node, ..)| fixed(node)).collect();
        let hosts = self.hosts();
        let asked = hosts.iter().filter(|facts| !there.contains(&facts.host)).map(|facts| {
            let question = Question::Room { ports: ports.clone(), paths: BTreeSet::new(), image: None };
            async move {
                match ask(world, &facts.host, question).await {
                    Ok(Told::Room { listened, .. }) => Some((facts.host.clone(), listened)),
                    Ok(_) | Err(_) => None,
                }
            }
        });
        let listened = join_all(asked).await.into_iter().flatten().collect();
        Ok(Seen { services, listened })
    }

    /// Chooses, node after node. `first` are hosts that were looked at already.
    pub(super) fn choose(&self, seen: &Seen, given: Given<'_>, first: &BTreeSet<HostId>) -> Choices {
        let hosts = self.hosts();
        let mut at = self.spec.placed();
        let before = self.open().map(|(node, _, before)| (node.name.clone(), before.as_ref().map(hosts_of)));
        at.extend(before.map(|(node, hosts)| (node, hosts.unwrap_or_default())));
        let mut choices = Choices::new();
        for (node, request, before) in self.open() {
            let beside = self.beside(node, &at);
            let rooms: Vec<Room<'_>> =
                hosts.iter().map(|facts| self.room(facts, node, &beside, (seen, given))).collect();
            let choice = self.chosen((node, request, before), &rooms, first);
            at.insert(node.name.clone(), hosts_of(&choice.placement));
            choices.insert(node.name.clone(), choice);
        }
        choices
    }

    /// What the other nodes of the database take, where they are: it counts as what other databases take.
    fn beside(&self, node: &NodeSpec, at: &NodeHosts) -> Vec<(HostId, Amount)> {
        let others = self.spec.nodes.iter().filter(|other| other.name != node.name);
        let taken = others.flat_map(|other| {
            let amount = Amount { memory_bytes: other.memory_bytes, cpu_millis: other.cpu_millis.unwrap_or(0) };
            at.get(&other.name).into_iter().flatten().map(move |host| (host.clone(), amount))
        });
        taken.collect()
    }

    fn chosen(&self, (node, request, before): Open<'_>, rooms: &[Room<'_>], first: &BTreeSet<HostId>) -> Choice {
        let fleet = self.shared.world.record.get();
        // It matters only where somebody has to go.
        let shrinks = before.as_ref().is_some_and(|before| before.hosts.len() > request.hosts());
        let primary = if shrinks { primary(self.shared, &self.spec.id) } else { None };
        let (before, primary) = (before.as_ref(), primary.as_ref());
        let wanted = Wanted { node, request, before, stay: self.stay, primary, first, standings: &fleet.hosts };
        placement::choose(&wanted, rooms)
    }

    fn room<'h>(
        &self,
        facts: &'h HostFacts,
        node: &NodeSpec,
        beside: &[(HostId, Amount)],
        (seen, given): (&Seen, Given<'_>),
    ) -> Room<'h> {
        let (id, host) = (&self.spec.id, &facts.host);
        let here = (&self.shared.world, facts);
        let mut promised = given.promises.table(here, &seen.services).to_others(id);
        let beside = beside.iter().filter(|(on, _)| on == host).map(|(_, amount)| *amount);
        let besides: Vec<Amount> = self.shared.tentative.of_others(host, id).into_iter().chain(beside).collect();
        besides.iter().for_each(|amount| promised += *amount);
        let listened = seen.listened.get(host);
        let port_taken = fixed(node).and_then(|port| match given.ports.get(&(host.clone(), port)) {
            Some(other) => Some(format!("port {port} there belongs to database {other}")),
            None if listened.is_some_and(|listened| listened.contains(&port)) => {
                Some(format!("something else listens on port {port} there"))
            }
            None => None,
        });
        Room {
            facts,
            answers: listened.is_some(),
            instances: given.promises.instances(host, id).saturating_add(besides.len()),
            memory_promised_bytes: promised.memory_bytes,
            cpu_promised_millis: promised.cpu_millis,
            port_taken,
        }
    }
}

/// A host on which nothing is.
fn free(facts: &HostFacts) -> Room<'_> {
    let (memory_promised_bytes, cpu_promised_millis) = (0, 0);
    Room { facts, answers: true, instances: 0, memory_promised_bytes, cpu_promised_millis, port_taken: None }
}

fn fixed(node: &NodeSpec) -> Option<u16> {
    match node.port {
        PortRequest::Fixed(port) => Some(port),
        PortRequest::Unpublished | PortRequest::Chosen => None,
    }
}

fn hosts_of(placement: &Placement) -> Vec<HostId> {
    placement::hosts_of(placement).cloned().collect()
}

/// The host of the primary, as it was seen last.
fn primary(shared: &Shared, id: &DatabaseId) -> Option<HostId> {
    let instances = tell::last_status(shared, id)?.instances;
    instances.into_iter().find(|one| one.role == Some(Role::Primary)).map(|one| one.host)
}

/// The spec with the hosts that were chosen.
pub(super) fn with_hosts(mut spec: AcceptedSpec, choices: &Choices) -> AcceptedSpec {
    for node in &mut spec.nodes {
        if let Some(choice) = choices.get(&node.name) {
            node.hosts = hosts_of(&choice.placement);
        }
    }
    spec
}

/// The hosts that were chosen.
pub(super) fn all_hosts(choices: &Choices) -> BTreeSet<HostId> {
    choices.values().flat_map(|choice| hosts_of(&choice.placement)).collect()
}

/// What was chosen, for the record.
pub(super) fn placements(choices: Choices) -> Placements {
    choices.into_iter().map(|(node, choice)| (node, choice.placement)).collect()
}

/// The faults of a spec that needs more hosts than there are for it.
pub(super) fn faults(spec: &AcceptedSpec, document: &Value, choices: &Choices) -> Vec<Fault> {
    let short = spec.nodes.iter().filter_map(|node| {
        let choice = choices.get(&node.name).filter(|choice| choice.missing > 0)?;
        let place = Place::of_node(document, &node.name);
        let pointer = match &node.placement {
            Some(request) if request.replicas > 0 => place.of("/replicas"),
            Some(request) if !request.labels.is_empty() => place.of("/host_labels"),
            Some(_) | None => String::new(),
        };
        Some(Fault::new(Code::NotEnoughHosts, pointer, choice.wanting(&node.name)?))
    });
    short.collect()
}

/// Choices that are not accepted yet: what they take of hosts, by database.
#[derive(Debug, Default)]
pub(super) struct Tentative(Mutex<BTreeMap<DatabaseId, Vec<(HostId, Amount)>>>);

/// A choice that counts until this is dropped.
pub(super) struct Reserved<'a> {
    tentative: &'a Tentative,
    id: DatabaseId,
}

impl Tentative {
    /// Counts what the open nodes of a spec take.
    pub(super) fn reserve(&self, spec: &AcceptedSpec) -> Reserved<'_> {
        let open = spec.nodes.iter().filter(|node| node.placement.is_some());
        let taken = open.flat_map(|node| {
            let amount = Amount { memory_bytes: node.memory_bytes, cpu_millis: node.cpu_millis.unwrap_or(0) };
            node.hosts.iter().map(move |host| (host.clone(), amount))
        });
        self.lock().insert(spec.id.clone(), taken.collect());
        Reserved { tentative: self, id: spec.id.clone() }
    }

    /// What others than this database take of a host.
    fn of_others(&self, host: &HostId, id: &DatabaseId) -> Vec<Amount> {
        let all = self.lock();
        let others = all.iter().filter(|(other, _)| *other != id).flat_map(|(_, taken)| taken);
        others.filter(|(on, _)| on == host).map(|(_, amount)| *amount).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<DatabaseId, Vec<(HostId, Amount)>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.tentative.lock().remove(&self.id);
    }
}
