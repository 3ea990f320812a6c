//! Live checks: what only the host can say about a spec, asked before the first step. All faults at once.
//!
//! Invariants: what this database already has (its port, its memory, its names) does not count against it; what is
//! promised is compared while nothing else is accepted ([`promises`](super::promises)).

use std::collections::BTreeMap;

use serde_json::Value;

use super::promises::{self, Amount};
use crate::contract::documents::PlanNote;
use crate::contract::{Code, Fault};
use crate::domain::layout;
use crate::drivers::Result;
use crate::drivers::swarm::{Labels, ServiceSeen};
use crate::model::spec::{NodeSpec, PortRequest};
use crate::model::{AcceptedSpec, InstanceId, Scope};
use crate::world::{FLEET_LABEL, SCOPE_LABEL, World};

/// What is done about an image that the host does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// It is pulled; where that fails, the spec is refused.
    Pull,
    /// Nothing: a question changes nothing. It is told.
    Tell,
}

/// What was seen of the host for one spec.
pub(super) struct Looked {
    /// What is wrong, except with what is promised to others.
    pub(super) faults: Vec<Fault>,
    /// What only shows when it is applied.
    pub(super) notes: Vec<PlanNote>,
    /// The services of everybody else in the Swarm.
    others: Vec<ServiceSeen>,
}

/// Checks an accepted spec against this host. `document` is what was published: it tells where a value stands. It may
/// take long (an image is pulled); [`promised`] completes it.
///
/// # Errors
/// The host or Swarm does not answer: nothing is known, so nothing is said.
pub(super) async fn look(world: &World, spec: &AcceptedSpec, document: &Value, missing: Missing) -> Result<Looked> {
    let services = world.drivers.swarm.services(&BTreeMap::new()).await?;
    let (own, others): (Vec<ServiceSeen>, Vec<ServiceSeen>) =
        services.into_iter().partition(|service| is_own(world, spec, &service.attributes.labels));
    let (mut faults, mut notes) = (names(world, spec, &others).await?, Vec::new());
    for (index, node) in spec.nodes.iter().enumerate() {
        let place = Place { document, index };
        faults.extend(port(world, node, &own, &place).await?);
        faults.extend(volumes(world, node, &place).await?);
        faults.extend(networks(world, node, &place).await?);
        match missing {
            Missing::Pull => faults.extend(image(world, node, &place).await?),
            Missing::Tell => notes.extend(image_to_pull(world, node, &place).await?),
        }
    }
    Ok(Looked { faults, notes, others })
}

/// The faults of a spec that asks for what this host has promised to others: to those whose services run, and to those
/// who were accepted and have none yet.
pub(super) fn promised(
    world: &World,
    spec: &AcceptedSpec,
    document: &Value,
    looked: &Looked,
    accepted: &promises::Promises,
) -> Vec<Fault> {
    overcommitted(world, spec, document, accepted.table(world, &looked.others).to_others(&spec.id))
}

/// The same where it is known what others were promised.
pub(super) fn overcommitted(world: &World, spec: &AcceptedSpec, document: &Value, taken: Amount) -> Vec<Fault> {
    let facts = &world.facts;
    let mut faults = Vec::new();
    for (index, node) in spec.nodes.iter().enumerate().filter(|(_, node)| node.hosts.contains(&facts.host)) {
        let place = Place { document, index };
        if taken.memory_bytes.saturating_add(node.memory_bytes) > facts.memory_bytes {
            let message = format!(
                "host {} has {} MiB of memory, of which {} MiB are promised; {} MiB more do not fit",
                facts.host,
                mebibytes(facts.memory_bytes),
                mebibytes(taken.memory_bytes),
                mebibytes(node.memory_bytes),
            );
            let fault = Fault::new(Code::MemoryOvercommitted, place.of("/memory"), message);
            faults.push(fault.hint("ask for less memory, or give less to other databases"));
        }
        let Some(wanted) = node.cpu_millis else { continue };
        if taken.cpu_millis.saturating_add(wanted) > u64::from(facts.cpus) * 1000 {
            let message = format!(
                "host {} has {} processors, of which {} are promised; {} more do not fit",
                facts.host,
                facts.cpus,
                processors(taken.cpu_millis),
                processors(wanted),
            );
            let fault = Fault::new(Code::CpuOvercommitted, place.of("/cpus"), message);
            faults.push(fault.hint("ask for fewer processors"));
        }
    }
    faults
}

/// Whether an object of these labels is the database's own.
pub(super) fn is_own(world: &World, spec: &AcceptedSpec, labels: &Labels) -> bool {
    labels.get(SCOPE_LABEL) == Some(&Scope::Database(spec.id.clone()).label())
        && labels.get(FLEET_LABEL).map(String::as_str) == Some(world.fleet.as_str())
}

/// Names of services and networks are the whole Swarm's: whose they are they stay (rule 13).
async fn names(world: &World, spec: &AcceptedSpec, others: &[ServiceSeen]) -> Result<Vec<Fault>> {
    let fault = |what: &str, name: &str, labels: &Labels| {
        let owner = labels.get(FLEET_LABEL).map_or("nobody of pgmoor's".to_owned(), |fleet| format!("fleet {fleet}"));
        let message = format!("the Swarm has a {what} \"{name}\" already, and it belongs to {owner}");
        Fault::new(Code::NameTaken, "", message)
            .hint("publish the database under another id, or remove what has the name")
    };
    let mut faults = Vec::new();
    for node in &spec.nodes {
        let wanted = node.hosts.iter().map(|host| layout::service(&InstanceId::derive(&spec.id, &node.name, host)));
        let wanted: Vec<String> = wanted.collect();
        let taken = others.iter().filter(|other| wanted.contains(&other.attributes.name));
        faults.extend(taken.map(|other| fault("service", &other.attributes.name, &other.attributes.labels)));
    }
    let name = layout::network(&spec.id);
    match world.drivers.swarm.find_network(&name).await? {
        Some(network) if is_own(world, spec, &network.labels) => {}
        Some(network) => faults.push(fault("network", &name, &network.labels)),
        None if world.drivers.swarm.free_subnets().await? == Some(0) => {
            let message = "Swarm's address pool has no subnet left for the database's network";
            let hint = "remove networks that nobody uses, or make the Swarm with a larger pool \
                        (docker swarm init --default-addr-pool, --default-addr-pool-mask-length)";
            faults.push(Fault::new(Code::SubnetsExhausted, "", message).hint(hint));
        }
        None => {}
    }
    Ok(faults)
}

/// Where a field of a node stands: in the node if the node says it, else in the spec.
struct Place<'a> {
    document: &'a Value,
    index: usize,
}

impl Place<'_> {
    fn of(&self, field: &str) -> String {
        let own = format!("/nodes/{}{field}", self.index);
        // An override of a whole object (orchestrator_opts) replaces the spec's, so its first level decides.
        let first = field.split('/').nth(1).unwrap_or_default();
        let replaced = self.document.pointer(&format!("/nodes/{}/{first}", self.index)).is_some();
        if replaced { own } else { field.to_owned() }
    }

    /// Where the image is named: pinned, or by the version.
    fn of_image(&self) -> String {
        let pinned = "/orchestrator_opts/swarm/image";
        let is_pinned = self.document.pointer(&self.of(pinned)).is_some();
        self.of(if is_pinned { pinned } else { "/postgres_version" })
    }
}

async fn port(world: &World, node: &NodeSpec, own: &[ServiceSeen], place: &Place<'_>) -> Result<Option<Fault>> {
    let PortRequest::Fixed(port) = node.port else { return Ok(None) };
    let ours = own.iter().any(|service| service.attributes.ports.iter().any(|published| published.published == port));
    if ours || world.drivers.host.port_is_free(port).await? {
        return Ok(None);
    }
    let message = format!("something else listens on port {port} of host {}", world.facts.host);
    let hint = "choose another port, or 0 to let pgmoor choose one";
    Ok(Some(Fault::new(Code::PortInUse, place.of("/port"), message).hint(hint)))
}

async fn volumes(world: &World, node: &NodeSpec, place: &Place<'_>) -> Result<Vec<Fault>> {
    let mut faults = Vec::new();
    for (index, volume) in node.swarm.extra_volumes.iter().enumerate() {
        if !world.drivers.host.exists(&volume.host_path).await? {
            let pointer = place.of(&format!("/orchestrator_opts/swarm/extra_volumes/{index}/host_path"));
            let message = format!("host {} has no {}", world.facts.host, volume.host_path);
            faults.push(Fault::new(Code::VolumePathMissing, pointer, message).hint("make the directory on the host"));
        }
    }
    Ok(faults)
}

async fn networks(world: &World, node: &NodeSpec, place: &Place<'_>) -> Result<Vec<Fault>> {
    let mut faults = Vec::new();
    for (index, wanted) in node.swarm.extra_networks.iter().enumerate() {
        let pointer = place.of(&format!("/orchestrator_opts/swarm/extra_networks/{index}/id"));
        match world.drivers.swarm.find_network(&wanted.id).await? {
            None => faults.push(
                Fault::new(Code::NetworkMissing, pointer, format!("the Swarm has no network \"{}\"", wanted.id))
                    .hint("make it with `docker network create -d overlay --attachable`"),
            ),
            Some(network) if network.scope != "swarm" || !network.attachable => faults.push(
                Fault::new(
                    Code::NetworkNotAttachable,
                    pointer,
                    format!("network \"{}\" is not an attachable network of the Swarm", wanted.id),
                )
                .hint("make it with `docker network create -d overlay --attachable`"),
            ),
            Some(_) => {}
        }
    }
    Ok(faults)
}

async fn image(world: &World, node: &NodeSpec, place: &Place<'_>) -> Result<Option<Fault>> {
    if world.drivers.swarm.image(&node.image).await?.is_some() {
        return Ok(None);
    }
    match world.drivers.swarm.pull(&node.image).await {
        Ok(()) => Ok(None),
        Err(error) => {
            let pointer = place.of_image();
            let message =
                format!("image {} is not on host {} and could not be pulled: {error}", node.image, world.facts.host);
            let hint = "build it (`make images`), load it with `docker load`, or name one that a registry has";
            Ok(Some(Fault::new(Code::ImageMissing, pointer, message).hint(hint)))
        }
    }
}

/// What a pull would do, without one.
async fn image_to_pull(world: &World, node: &NodeSpec, place: &Place<'_>) -> Result<Option<PlanNote>> {
    if world.drivers.swarm.image(&node.image).await?.is_some() {
        return Ok(None);
    }
    let message = format!(
        "image {} is not on host {}: it would be pulled, and the spec refused where no registry has it",
        node.image, world.facts.host
    );
    Ok(Some(PlanNote { pointer: place.of_image(), message }))
}

fn mebibytes(bytes: u64) -> u64 {
    bytes / (1024 * 1024)
}

fn processors(millis: u64) -> String {
    format!("{}.{:03}", millis / 1000, millis % 1000)
}

#[cfg(test)]
mod tests;
