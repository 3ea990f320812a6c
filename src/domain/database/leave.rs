//! Instances that leave: their host is no longer among those of their node, and the node goes on without them.
//!
//! Invariant: who leaves is told by the record alone, so it is the same after a crash and under another leader: it keeps
//! the etcd password of every instance until nothing of the instance is left.

use super::{Inputs, described, pooler, remaining};
use crate::domain::{Error, FleetOptions, Hosts};
use crate::model::{AcceptedSpec, Catalogue, FleetRecord, Graph, HostId, InstanceId, Record};

/// The resources of the database with those of the instances that leave; an empty graph where none does. It is what was
/// desired before, for whoever looks for what is left. A host that is not known any more is left out: nobody can look
/// there, or clean up.
///
/// # Errors
/// As of [`graph`](super::graph).
pub fn leaving(
    spec: &AcceptedSpec,
    record: &Record,
    fleet: &FleetRecord,
    hosts: &Hosts,
    catalogue: &Catalogue,
    options: &FleetOptions,
) -> Result<Graph, Error> {
    let (spec, hosts) = (remaining(spec, fleet), hosts.of(fleet));
    let from = left_hosts(&spec, record, &hosts);
    let known = |instance: &InstanceId| hosts.iter().any(|facts| instance.is_on(&facts.host));
    let goes = !from.is_empty() || pooler::unwanted(&spec, record).any(known);
    if spec.deleted || record.tombstone.is_some() || !goes || spec.nodes.iter().any(|n| n.hosts.is_empty()) {
        return Ok(Graph::default());
    }
    described(Inputs { spec: &spec, record, fleet, hosts: &hosts, catalogue, options }, &from)
}

/// The record without the instances and poolers that have left: nothing of them is there any more. The revision grows by one if
/// there were any.
#[must_use]
pub fn released(spec: &AcceptedSpec, record: Record) -> Record {
    let mut released = record.clone();
    let stays = |instance: &str| wanted(spec).any(|wanted| wanted.as_str() == instance);
    released.etcd_passwords.retain(|instance, _| stays(instance));
    released.ports.retain(|instance, _| stays(instance.as_str()));
    released.poolers.retain(|instance, _| pooler::is_wanted(spec, instance));
    super::mint::next(record, released)
}

fn wanted(spec: &AcceptedSpec) -> impl Iterator<Item = InstanceId> {
    spec.nodes.iter().flat_map(|node| node.hosts.iter().map(|host| InstanceId::derive(&spec.id, &node.name, host)))
}

fn left_hosts(spec: &AcceptedSpec, record: &Record, hosts: &Hosts) -> Vec<HostId> {
    let Some(node) = spec.nodes.first() else { return Vec::new() };
    let known = hosts.iter().map(|facts| &facts.host);
    known
        .filter(|host| !node.hosts.contains(host))
        .filter(|host| record.etcd_passwords.contains_key(InstanceId::derive(&spec.id, &node.name, host).as_str()))
        .cloned()
        .collect()
}
