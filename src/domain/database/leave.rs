//! Instances that leave: their host is no longer among those of their node, and the node goes on without them; or their
//! node was removed, and goes with all of them.
//!
//! Invariant: who leaves is told by the record alone, so it is the same after a crash and under another leader: it keeps
//! the etcd password of every instance until nothing of the instance is left.

use super::mint::{has_instances, instances};
use super::{Inputs, Leaving, described, remaining};
use crate::domain::{Error, FleetOptions, Hosts};
use crate::model::{AcceptedSpec, Catalogue, FleetRecord, Graph, InstanceId, Record};

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
    if spec.deleted || record.tombstone.is_some() || from.is_empty() || spec.nodes.is_empty() {
        return Ok(Graph::default());
    }
    described(Inputs { spec: &spec, record, fleet, hosts: &hosts, catalogue, options }, &from)
}

/// The record without the instances that have left: nothing of them is there any more. The revision grows by one if
/// there were any.
#[must_use]
pub fn released(spec: &AcceptedSpec, record: Record) -> Record {
    let mut released = record.clone();
    let stays = |instance: &str| wanted(spec).any(|wanted| wanted.as_str() == instance);
    released.etcd_passwords.retain(|instance, _| stays(instance));
    released.ports.retain(|instance, _| stays(instance.as_str()));
    released.images.retain(|node, _| has_instances(&released.etcd_passwords, node));
    super::mint::next(record, released)
}

pub(super) fn wanted(spec: &AcceptedSpec) -> impl Iterator<Item = InstanceId> {
    spec.nodes.iter().flat_map(|node| node.hosts.iter().map(|host| InstanceId::derive(&spec.id, &node.name, host)))
}

fn left_hosts(spec: &AcceptedSpec, record: &Record, hosts: &Hosts) -> Leaving {
    let mut left = Leaving::new();
    let stays = |instance: &InstanceId| wanted(spec).any(|wanted| wanted == *instance);
    for instance in instances(&record.etcd_passwords).filter(|instance| !stays(instance)) {
        let known = hosts.iter().map(|facts| &facts.host).find(|host| instance.is_on(host));
        if let (Some(node), Some(host)) = (instance.node(), known) {
            left.entry(node).or_default().push(host.clone());
        }
    }
    left
}
