//! Live checks: what only the hosts can say about a spec, asked before the first step. All faults at once.
//!
//! Invariants: what this database already has (its port, its memory, its names) does not count against it; what is
//! promised is compared while nothing else is accepted ([`promises`](super::promises)).

use std::collections::{BTreeMap, BTreeSet};

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use serde_json::Value;

use super::promises::{self, Amount};
use crate::contract::documents::PlanNote;
use crate::contract::{Code, Fault};
use crate::domain::{HostFacts, layout};
use crate::drivers::swarm::{Labels, ServiceSeen};
use crate::drivers::{self, Result};
use crate::execute::{ask, unexpected};
use crate::model::spec::{NodeSpec, PortRequest};
use crate::model::{AcceptedSpec, HostId, InstanceId, NodeName, Scope};
use crate::world::work::{ImageFound, Question, Told};
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

/// Checks an accepted spec against its hosts. `document` is what was published: it tells where a value stands. It may
/// take long (an image is pulled); [`promised`] completes it.
///
/// # Errors
/// A host that the database is new on, or Swarm, does not answer: nothing is known, so nothing is said.
pub(super) async fn look(world: &World, spec: &AcceptedSpec, document: &Value, missing: Missing) -> Result<Looked> {
    let services = world.drivers.swarm.services(&BTreeMap::new()).await?;
    let (own, others): (Vec<ServiceSeen>, Vec<ServiceSeen>) =
        services.into_iter().partition(|service| is_own(world, spec, &service.attributes.labels));
    let (mut faults, mut notes) = (names(world, spec, &others).await?, Vec::new());
    for node in &spec.nodes {
        let place = Place::of_node(document, &node.name);
        faults.extend(networks(world, node, &place).await?);
        for host in &node.hosts {
            let there = OnHost { host, spec, node, own: &own };
            let found = there.look(world, &place, missing).await?;
            faults.extend(found.0);
            notes.extend(found.1);
        }
    }
    Ok(Looked { faults, notes, others })
}

/// On which of these ports of a host something listens.
///
/// # Errors
/// The host does not answer.
pub(super) async fn listened(world: &World, host: &HostId, ports: BTreeSet<u16>) -> Result<BTreeSet<u16>> {
    let told = ask(world, host, Question::Room { ports, paths: BTreeSet::new(), image: None }).await?;
    let Told::Room { listened, .. } = told else { return Err(unexpected(host, &told)) };
    Ok(listened)
}

/// The faults of a spec that asks for what its hosts have promised to others: to those whose services run, and to those
/// who were accepted and have none yet.
pub(super) fn promised(
    world: &World,
    spec: &AcceptedSpec,
    document: &Value,
    looked: &Looked,
    accepted: &promises::Promises,
) -> Vec<Fault> {
    let hosts: BTreeSet<&HostId> = spec.nodes.iter().flat_map(|node| &node.hosts).collect();
    let facts = hosts.into_iter().filter_map(|host| world.hosts.get(host));
    facts
        .flat_map(|facts| {
            let taken = accepted.table((world, facts), &looked.others).to_others(&spec.id);
            overcommitted(facts, spec, document, taken)
        })
        .collect()
}

/// The same of one host, where it is known what others were promised there.
pub(super) fn overcommitted(facts: &HostFacts, spec: &AcceptedSpec, document: &Value, taken: Amount) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut taken = taken;
    for node in spec.nodes.iter().filter(|node| node.hosts.contains(&facts.host)) {
        let place = Place::of_node(document, &node.name);
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
        // The next node of the database has to fit beside this one.
        let before = taken;
        taken.memory_bytes = taken.memory_bytes.saturating_add(node.memory_bytes);
        let Some(wanted) = node.cpu_millis else { continue };
        taken.cpu_millis = taken.cpu_millis.saturating_add(wanted);
        if before.cpu_millis.saturating_add(wanted) > u64::from(facts.cpus) * 1000 {
            let message = format!(
                "host {} has {} processors, of which {} are promised; {} more do not fit",
                facts.host,
                facts.cpus,
                processors(before.cpu_millis),
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

/// Where a field of a node stands in a document.
pub(super) fn place_of(document: &Value, node: &NodeName, field: &str) -> String {
    Place::of_node(document, node).of(field)
}

/// Where a field of a node stands: in the node if the node says it, else in the spec.
pub(super) struct Place<'a> {
    pub(super) document: &'a Value,
    /// Of the node in the document's list; one that it does not list has the values of the spec.
    pub(super) index: usize,
}

impl<'a> Place<'a> {
    pub(super) fn of_node(document: &'a Value, node: &NodeName) -> Self {
        let nodes = document.get("nodes").and_then(Value::as_array).into_iter().flatten();
        let mut names = nodes.map(|entry| entry.get("name").and_then(Value::as_str));
        Self { document, index: names.position(|name| name == Some(node.as_str())).unwrap_or_default() }
    }

    pub(super) fn of(&self, field: &str) -> String {
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

/// One instance of a database, on its host.
struct OnHost<'a> {
    host: &'a HostId,
    spec: &'a AcceptedSpec,
    node: &'a NodeSpec,
    /// The database's own services.
    own: &'a [ServiceSeen],
}

impl OnHost<'_> {
    /// Asks the host for what the instance needs there: its port, its volumes, its image.
    async fn look(&self, world: &World, place: &Place<'_>, missing: Missing) -> Result<(Vec<Fault>, Vec<PlanNote>)> {
        let volumes = &self.node.swarm.extra_volumes;
        let question = Question::Room {
            ports: self.new_port(world).into_iter().collect(),
            paths: volumes.iter().map(|volume| volume.host_path.clone()).collect(),
            image: Some((self.node.image.clone(), false)),
        };
        let told = match ask(world, self.host, question).await {
            // What is there already stays, and waits for its host like all else of it.
            Err(drivers::Error::Unreachable { .. }) if self.is_there() => return Ok((Vec::new(), Vec::new())),
            told => told?,
        };
        let may_pull = missing == Missing::Pull;
        let Told::Room { listened, missing, image } = &told else { return Err(unexpected(self.host, &told)) };
        let mut faults: Vec<Fault> = listened.iter().map(|port| self.listened(*port, place)).collect();
        faults.extend(self.has_another_node(world, place));
        for (index, volume) in volumes.iter().enumerate().filter(|(_, volume)| missing.contains(&volume.host_path)) {
            let pointer = place.of(&format!("/orchestrator_opts/swarm/extra_volumes/{index}/host_path"));
            let message = format!("host {} has no {}", self.host, volume.host_path);
            faults.push(Fault::new(Code::VolumePathMissing, pointer, message).hint("make the directory on the host"));
        }
        let (mut notes, what) = (Vec::new(), format!("image {} is not on host {}", self.node.image, self.host));
        let from = if *image == ImageFound::Missing { self.elsewhere(world).await } else { None };
        let image = match image {
            // It comes from the other host, and the instance waits for it.
            ImageFound::Missing if may_pull => match &from {
                Some(from) => {
                    world.images.note_missing(self.host, &self.node.image, from);
                    ImageFound::There
                }
                None => self.pulled(world).await?,
            },
            found @ (ImageFound::There | ImageFound::Missing | ImageFound::Refused { .. }) => found.clone(),
        };
        match &image {
            ImageFound::There => {}
            ImageFound::Missing => {
                let how = match &from {
                    Some(from) => format!("it would be handed over from host {from}, and the instance waits for it"),
                    None => "it would be pulled, and the spec refused where no registry has it".to_owned(),
                };
                notes.push(PlanNote { pointer: place.of_image(), message: format!("{what}: {how}") });
            }
            ImageFound::Refused { why } => {
                let message = format!("{what} and could not be pulled: {why}");
                let hint = "build it (`make images`), load it with `docker load`, or name one that a registry has";
                faults.push(Fault::new(Code::ImageMissing, place.of_image(), message).hint(hint));
            }
        }
        Ok((faults, notes))
    }

    /// Another host that has the image. One that does not answer is passed over.
    async fn elsewhere(&self, world: &World) -> Option<HostId> {
        let image = &self.node.image;
        let others = world.hosts.iter().map(|facts| &facts.host).filter(|host| *host != self.host);
        let asks = others.map(|host| async move {
            let told = ask(world, host, of_image(image, false)).await;
            matches!(told, Ok(Told::Room { image: ImageFound::There, .. })).then(|| host.clone())
        });
        let mut asks: FuturesUnordered<_> = asks.collect();
        while let Some(found) = asks.next().await {
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// Has the host pull the image, which no other has.
    async fn pulled(&self, world: &World) -> Result<ImageFound> {
        let told = ask(world, self.host, of_image(&self.node.image, true)).await?;
        let Told::Room { image, .. } = told else { return Err(unexpected(self.host, &told)) };
        Ok(image)
    }

    fn is_there(&self) -> bool {
        let name = layout::service(&InstanceId::derive(&self.spec.id, &self.node.name, self.host));
        self.own.iter().any(|service| service.attributes.name == name)
    }

    /// The fault of asking for a port that another node of the database has on this host now: who gives it up and who gets
    /// it are not changed at the same moment.
    fn has_another_node(&self, world: &World, place: &Place<'_>) -> Option<Fault> {
        let PortRequest::Fixed(port) = self.node.port else { return None };
        let swarm_node = world.hosts.get(self.host).map(|facts| facts.swarm_node.as_str());
        let name = layout::service(&InstanceId::derive(&self.spec.id, &self.node.name, self.host));
        let mut others = self.own.iter().map(|service| &service.attributes);
        let other = others.find(|other| {
            Some(other.swarm_node.as_str()) == swarm_node
                && other.name != name
                && other.ports.iter().any(|published| published.published == port)
        })?;
        let message = format!("{} of this database has port {port} of host {} now", other.name, self.host);
        let hint = "give it up in one spec, wait until it is applied, and ask for it in the next";
        Some(Fault::new(Code::PortClash, place.of("/port"), message).hint(hint))
    }

    /// The fixed port that the database does not have yet on this host.
    fn new_port(&self, world: &World) -> Option<u16> {
        let PortRequest::Fixed(port) = self.node.port else { return None };
        let swarm_node = world.hosts.get(self.host).map(|facts| facts.swarm_node.as_str());
        let here = self.own.iter().filter(|service| Some(service.attributes.swarm_node.as_str()) == swarm_node);
        let has = here.flat_map(|service| &service.attributes.ports).any(|published| published.published == port);
        (!has).then_some(port)
    }

    fn listened(&self, port: u16, place: &Place<'_>) -> Fault {
        let message = format!("something else listens on port {port} of host {}", self.host);
        let hint = "choose another port, or 0 to let pgmoor choose one";
        Fault::new(Code::PortInUse, place.of("/port"), message).hint(hint)
    }
}

/// Whether a host has an image, pulled if it may be.
fn of_image(image: &str, pull: bool) -> Question {
    Question::Room { ports: BTreeSet::new(), paths: BTreeSet::new(), image: Some((image.to_owned(), pull)) }
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

fn mebibytes(bytes: u64) -> u64 {
    bytes / (1024 * 1024)
}

fn processors(millis: u64) -> String {
    format!("{}.{:03}", millis / 1000, millis % 1000)
}

#[cfg(test)]
mod tests;
