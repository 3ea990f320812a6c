//! One database: its record, network, instances and what is inside Postgres.
//!
//! The order of the graph: record → network, directories → certificates, files, etcd user, Patroni's configuration →
//! service → instance → script `post_init` → roles → database → extensions → script `post_database_create`. (The
//! reference runs the latter in the creation of the database; here it comes after roles and extensions, so that it can
//! use both.) A deleted database is its record alone: everything else that is there is no longer desired.
//!
//! A node has one instance for each of its hosts. They share a configuration; what is inside Postgres needs any one of
//! them. Several nodes share the network, and each has what is inside for itself: there the resource's name begins with the
//! node's ([`contents::name`]). An instance whose host or node left the spec stays in the record ([`leaving`]) until nothing
//! of it is left ([`released`]): nothing else would remember on which host to clean up.

pub mod contents;
mod instance;
mod leave;
mod mint;
mod service;

pub use leave::{leaving, released};
pub use mint::{Accepted, Choose, PASSWORD_BYTES, PORT_FIRST, PORT_LAST, Placements, bury, mint};

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::describe::{self, Draft, Drafts, file};
use super::{Error, FleetOptions, HostFacts, Hosts, Owner, credentials, is_removed, layout};
use crate::model::resource::OnDelete;
use crate::model::spec::{NodeSpec, NodeUpdates, PortRequest};
use crate::model::{
    AcceptedSpec, Attributes, Catalogue, Executor, FleetRecord, Graph, HostId, InstanceId, Kind, Member, NodeName,
    Record, ResourceId, Scope, Secret,
};

/// The arguments of a graph, as its parts hand them on.
#[derive(Debug, Clone, Copy)]
struct Inputs<'a> {
    spec: &'a AcceptedSpec,
    record: &'a Record,
    fleet: &'a FleetRecord,
    hosts: &'a Hosts,
    catalogue: &'a Catalogue,
    options: &'a FleetOptions,
}

/// One instance of a node.
#[derive(Debug, Clone, Copy)]
struct Place<'a> {
    node: &'a NodeSpec,
    instance: &'a InstanceId,
    /// Of the host that it is on.
    facts: &'a HostFacts,
    /// What becomes of its data when nobody wants it any more.
    on_delete: OnDelete,
}

/// The hosts on which nodes have instances that leave: of a node of the spec some, of one that was removed all.
type Leaving = BTreeMap<NodeName, Vec<HostId>>;

impl<'a> Inputs<'a> {
    fn facts(&self, node: &NodeName, host: &HostId) -> Result<&'a HostFacts, Error> {
        self.hosts.get(host).ok_or_else(|| Error::Host { node: node.clone(), host: host.clone() })
    }
}

/// The resources of a database, as its accepted spec and its record describe them.
///
/// # Errors
/// The record was not minted for this spec, a host is not among `hosts`, or the spec asks for what admission
/// should have refused (a parameter or role of pgmoor's own, roles that are members of each other in a circle).
pub fn graph(
    spec: &AcceptedSpec,
    record: &Record,
    fleet: &FleetRecord,
    hosts: &Hosts,
    catalogue: &Catalogue,
    options: &FleetOptions,
) -> Result<Graph, Error> {
    if spec.deleted || record.tombstone.is_some() {
        return buried(record);
    }
    let spec = remaining(spec, fleet);
    if spec.nodes.is_empty() {
        // Nobody has any of it: what is left in the Swarm and in etcd is of no use.
        return buried(record);
    }
    described(Inputs { spec: &spec, record, fleet, hosts, catalogue, options }, &Leaving::new())
}

/// The spec without the hosts that were removed from the fleet, and without the nodes that had no others.
pub(super) fn remaining<'a>(spec: &'a AcceptedSpec, fleet: &FleetRecord) -> Cow<'a, AcceptedSpec> {
    if !spec.nodes.iter().flat_map(|node| &node.hosts).any(|host| is_removed(fleet, host)) {
        return Cow::Borrowed(spec);
    }
    let mut spec = spec.clone();
    for node in &mut spec.nodes {
        node.hosts.retain(|host| !is_removed(fleet, host));
    }
    spec.nodes.retain(|node| !node.hosts.is_empty());
    Cow::Owned(spec)
}

/// The resources of a database, those of instances that leave among them.
fn described(inputs: Inputs<'_>, leaving: &Leaving) -> Result<Graph, Error> {
    let Inputs { spec, record, .. } = inputs;
    let mut drafts = Drafts::new(scope(record).label(), record.revision, record)?;
    let network = layout::network(&spec.id);
    let attributes = Attributes::Network { name: network.clone(), attachable: true };
    let network = drafts.add(Draft::new(Kind::Network, network, Executor::Manager, attributes));
    for (index, node) in spec.nodes.iter().enumerate() {
        let turn = match spec.node_updates {
            NodeUpdates::OneByOne => index,
            NodeUpdates::Concurrent => 0,
        };
        let leaving = leaving.get(&node.name).map(Vec::as_slice).unwrap_or_default();
        let instances = of_node(&mut drafts, inputs, (node, turn, leaving), &network)?;
        contents::describe(&mut drafts, inputs, node, &instances)?;
    }
    for (name, hosts) in leaving.iter().filter(|(name, _)| spec.nodes.iter().all(|node| node.name != **name)) {
        // What it was is not known any more, and is not needed: it is only looked for and taken away.
        let Some(like) = spec.nodes.first() else { continue };
        let gone = NodeSpec { name: name.clone(), hosts: Vec::new(), port: PortRequest::Unpublished, ..like.clone() };
        of_node(&mut drafts, inputs, (&gone, spec.nodes.len(), hosts.as_slice()), &network)?;
    }
    let hosts = spec.nodes.iter().map(|node| (&node.name, &node.hosts)).chain(leaving);
    let hosts: BTreeMap<&HostId, &NodeName> =
        hosts.flat_map(|(node, hosts)| hosts.iter().map(move |host| (host, node))).collect();
    for (host, node) in hosts {
        credentials_file(&mut drafts, inputs, inputs.facts(node, host)?)?;
    }
    Ok(Graph::new(drafts.done())?)
}

/// The configuration and the instances of a node, those that leave these hosts among them. Gives those that stay.
fn of_node(
    drafts: &mut Drafts,
    inputs: Inputs<'_>,
    (node, turn, leaving): (&NodeSpec, usize, &[HostId]),
    network: &ResourceId,
) -> Result<Vec<ResourceId>, Error> {
    let config = instance::patroni_config(inputs, node)?;
    let marker = config.parameters.get(super::parameters::CONFIG_MARKER).cloned().unwrap_or_default();
    let config = Draft::new(
        Kind::PatroniConfig,
        layout::patroni_scope(&inputs.spec.id, &node.name),
        Executor::Manager,
        Attributes::PatroniConfig(config),
    );
    let config = drafts.add(config);
    let shared = instance::Shared { network: network.clone(), config, marker };
    // What an instance has that leaves its node, the others have too.
    let of_leaving = if node.hosts.is_empty() { OnDelete::Trash } else { OnDelete::Remove };
    let mut instances = Vec::new();
    for (at, host) in node.hosts.iter().chain(leaving).enumerate() {
        let facts = inputs.facts(&node.name, host)?;
        let instance = InstanceId::derive(&inputs.spec.id, &node.name, host);
        let stays = at < node.hosts.len();
        let on_delete = if stays { OnDelete::Trash } else { of_leaving };
        let place = Place { node, instance: &instance, facts, on_delete };
        let drained = inputs.fleet.hosts.contains_key(host);
        let member = Member { node: node.name.clone(), turn, place: at, instance: instance.clone(), drained };
        drafts.part_of(Some(member));
        let ready = instance::describe(drafts, inputs, place, &shared)?;
        if stays {
            instances.push(ready);
        }
    }
    drafts.part_of(None);
    Ok(instances)
}

/// The credentials file, on a host that has an instance.
fn credentials_file(drafts: &mut Drafts, inputs: Inputs<'_>, facts: &HostFacts) -> Result<(), Error> {
    let id = &inputs.spec.id;
    let path = layout::credentials_file(&facts.data_dir, id);
    let content = credentials::render(inputs.spec, inputs.record, inputs.hosts, facts)?;
    let (attributes, payload) = file(path, describe::PRIVATE, Owner::ROOT, content);
    let name = format!("credentials/{}/{id}.json", facts.host);
    drafts.add(Draft::new(Kind::File, name, Executor::Host(facts.host.clone()), attributes).carrying(payload));
    Ok(())
}

/// The graph of a database that is deleted: its record alone. It needs no spec.
///
/// # Errors
/// The record cannot be written.
pub fn buried(record: &Record) -> Result<Graph, Error> {
    let drafts = Drafts::new(scope(record).label(), record.revision, record)?;
    Ok(Graph::new(drafts.done())?)
}

fn scope(record: &Record) -> Scope {
    Scope::Database(record.database.clone())
}

/// A secret that must have been minted.
fn minted(secret: Option<&Secret>, what: impl FnOnce() -> String) -> Result<Secret, Error> {
    secret.cloned().ok_or_else(|| Error::NotMinted(what()))
}
