//! Live checks: what only the host can say about a spec, asked before the first step. All faults at once.
//!
//! Invariant: what this database already has (its port, its memory) does not count against it.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::contract::{Code, Fault};
use crate::drivers::Result;
use crate::drivers::swarm::ServiceSeen;
use crate::model::spec::{NodeSpec, PortRequest};
use crate::model::{AcceptedSpec, Scope};
use crate::world::World;

/// Checks an accepted spec against this host. `document` is what was published: it tells where a value stands.
///
/// # Errors
/// The host or Swarm does not answer: nothing is known, so nothing is said.
pub(super) async fn check(world: &World, spec: &AcceptedSpec, document: &Value) -> Result<Vec<Fault>> {
    let services = world.drivers.swarm.services(&BTreeMap::new()).await?;
    let scope = Scope::Database(spec.id.clone()).label();
    let (own, others): (Vec<ServiceSeen>, Vec<ServiceSeen>) = services.into_iter().partition(|service| {
        let labels = &service.attributes.labels;
        labels.get(crate::world::SCOPE_LABEL) == Some(&scope)
            && labels.get(crate::world::FLEET_LABEL).map(String::as_str) == Some(world.fleet.as_str())
    });
    let mut faults = Vec::new();
    for (index, node) in spec.nodes.iter().enumerate() {
        let place = Place { document, index };
        faults.extend(port(world, node, &own, &place).await?);
        faults.extend(volumes(world, node, &place).await?);
        faults.extend(networks(world, node, &place).await?);
        faults.extend(image(world, node, &place).await?);
        faults.extend(promised(world, node, &others, &place));
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
            let pinned = "/orchestrator_opts/swarm/image";
            let is_pinned = place.document.pointer(&place.of(pinned)).is_some();
            let pointer = place.of(if is_pinned { pinned } else { "/postgres_version" });
            let message =
                format!("image {} is not on host {} and could not be pulled: {error}", node.image, world.facts.host);
            let hint = "build it (`make images`), load it with `docker load`, or name one that a registry has";
            Ok(Some(Fault::new(Code::ImageMissing, pointer, message).hint(hint)))
        }
    }
}

/// What Swarm has promised to others on this host is not there for this one.
fn promised(world: &World, node: &NodeSpec, others: &[ServiceSeen], place: &Place<'_>) -> Vec<Fault> {
    let here = |service: &&ServiceSeen| service.attributes.swarm_node == world.facts.swarm_node;
    let taken = |reservation: fn(&ServiceSeen) -> Option<u64>| -> u64 {
        others.iter().filter(here).filter_map(reservation).sum()
    };
    let mut faults = Vec::new();
    let memory = taken(|service| service.attributes.memory_reservation_bytes);
    if memory.saturating_add(node.memory_bytes) > world.facts.memory_bytes {
        let message = format!(
            "host {} has {} MiB of memory, of which {} MiB are promised; {} MiB more do not fit",
            world.facts.host,
            mebibytes(world.facts.memory_bytes),
            mebibytes(memory),
            mebibytes(node.memory_bytes),
        );
        let fault = Fault::new(Code::MemoryOvercommitted, place.of("/memory"), message);
        faults.push(fault.hint("ask for less memory, or give less to other databases"));
    }
    if let Some(wanted) = node.cpu_millis {
        let cpus = taken(|service| service.attributes.cpu_reservation_millis);
        if cpus.saturating_add(wanted) > u64::from(world.facts.cpus) * 1000 {
            let message = format!(
                "host {} has {} processors, of which {} are promised; {} more do not fit",
                world.facts.host,
                world.facts.cpus,
                processors(cpus),
                processors(wanted),
            );
            let fault = Fault::new(Code::CpuOvercommitted, place.of("/cpus"), message);
            faults.push(fault.hint("ask for fewer processors"));
        }
    }
    faults
}

fn mebibytes(bytes: u64) -> u64 {
    bytes / (1024 * 1024)
}

fn processors(millis: u64) -> String {
    format!("{}.{:03}", millis / 1000, millis % 1000)
}
