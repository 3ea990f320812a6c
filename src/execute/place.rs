//! Where a step is done, and what hosts are asked besides: the executor in the plan names a host, or a node whose primary
//! is found when the step runs.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt as _, stream};

use super::act::{is_of, primary};
use crate::domain::layout;
use crate::drivers::{Error, Result};
use crate::model::{Executor, HostId, NodeName, Scope};
use crate::world::World;
use crate::world::work::{ImageFound, Question, Told};

/// Looks at instances at one time.
const LOOKS_MAX: usize = 16;

/// Where a step is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// On this host.
    Here,
    /// On another.
    There(HostId),
}

/// Where a step of this executor is done now.
pub(super) async fn of(world: &World, scope: &Scope, executor: &Executor) -> Result<Place> {
    match executor {
        Executor::Manager => Ok(Place::Here),
        Executor::Host(host) if *host == world.facts.host => Ok(Place::Here),
        Executor::Host(host) => Ok(Place::There(host.clone())),
        // Who cannot ask others does what it is asked, or says that no primary is here.
        Executor::Primary(_) if world.remote.is_none() => Ok(Place::Here),
        Executor::Primary(node) => of_primary(world, scope, node).await,
    }
}

/// The host whose instance is primary. While none says so, this one: it knows why there is none here.
async fn of_primary(world: &World, scope: &Scope, node: &NodeName) -> Result<Place> {
    let others: BTreeSet<HostId> =
        hosts_of(world, scope, node).await?.into_iter().filter(|h| *h != world.facts.host).collect();
    if others.is_empty() || primary(world, scope, node).await.is_ok() {
        return Ok(Place::Here);
    }
    let mut silent = None;
    for host in others {
        let question = Question::Primary { scope: scope.clone(), node: node.clone() };
        match world.other(&host)?.ask(&host, question).await {
            Ok(Told::Primary { serves: true }) => return Ok(Place::There(host)),
            Ok(_) => {}
            // It may be the one; and another may be it by now.
            Err(error) => silent = Some(error),
        }
    }
    silent.map_or(Ok(Place::Here), Err)
}

/// The hosts on which services of a node are placed.
async fn hosts_of(world: &World, scope: &Scope, node: &NodeName) -> Result<BTreeSet<HostId>> {
    let services = world.drivers.swarm.services(&world.selector(scope)).await?;
    let own = services.iter().filter(|service| is_of(service, node));
    Ok(own.filter_map(|service| host_of(world, &service.attributes.swarm_node)).cloned().collect())
}

/// The host that a Swarm node is, if it is one of ours.
fn host_of<'a>(world: &'a World, swarm_node: &str) -> Option<&'a HostId> {
    world.hosts.iter().find(|facts| facts.swarm_node == swarm_node).map(|facts| &facts.host)
}

/// Whether this Swarm node is another host.
pub(super) fn is_elsewhere(world: &World, swarm_node: &str) -> bool {
    world.facts.swarm_node != swarm_node
}

/// The containers of the host that is this Swarm node, running or stopping, that have a path mounted: id and state.
pub(super) async fn mounting(world: &World, swarm_node: &str, path: &str) -> Result<BTreeMap<String, String>> {
    let question = Question::Mounting { path: path.to_owned() };
    let Some(host) = host_of(world, swarm_node) else { return mounting_here(world, path).await };
    let told = ask(world, host, question).await?;
    let Told::Mounting { containers } = told else { return Err(unexpected(host, &told)) };
    Ok(containers)
}

async fn mounting_here(world: &World, path: &str) -> Result<BTreeMap<String, String>> {
    let containers = world.drivers.swarm.containers_mounting(path).await?;
    Ok(containers.into_iter().map(|container| (container.id, container.state)).collect())
}

/// Asks a host, this one or another.
///
/// # Errors
/// The host does not answer, or what it needs for the answer cannot be reached.
pub async fn ask(world: &World, host: &HostId, question: Question) -> Result<Told> {
    if *host == world.facts.host {
        answer(world, &question).await
    } else {
        world.other(host)?.ask(host, question).await
    }
}

/// A host gave another answer than to what it was asked, as one of another version may.
pub fn unexpected(host: &HostId, told: &Told) -> Error {
    let told = serde_json::to_string(told).unwrap_or_default();
    Error::Failed { act: format!("ask host {host}"), why: format!("it answered something else than was asked: {told}") }
}

/// Answers another host's question.
///
/// # Errors
/// What is needed for the answer cannot be reached.
pub async fn answer(world: &World, question: &Question) -> Result<Told> {
    match question {
        Question::Mounting { path } => Ok(Told::Mounting { containers: mounting_here(world, path).await? }),
        Question::Primary { scope, node } => Ok(Told::Primary { serves: primary(world, scope, node).await.is_ok() }),
        Question::Room { ports, paths, image } => room(world, (ports, paths), image.as_ref()).await,
        Question::Vitals { targets } => {
            let looks: Vec<_> = targets.iter().map(|target| super::vitals(world, target)).collect();
            Ok(Told::Vitals { vitals: stream::iter(looks).buffered(LOOKS_MAX).collect().await })
        }
        Question::Purge { instances } => {
            for instance in instances {
                let trash = layout::trash(&world.facts.data_dir, instance.as_str());
                world.drivers.host.remove_directory(&trash).await?;
            }
            Ok(Told::Purged)
        }
        Question::Clear => Ok(Told::Cleared { instances: super::leftovers::clear(world).await? }),
        Question::Images { images } => Ok(Told::Images { at: world.images.look(world, images).await? }),
        Question::GiveImage { image, id, ticket } => {
            let (port, bytes) = world.images.offer(world, image, id, ticket).await?;
            Ok(Told::Gives { port, bytes })
        }
        Question::TakeImage { order } => world.images.order(order.clone()).map(|()| Told::Takes),
    }
}

async fn room(
    world: &World,
    (ports, paths): (&BTreeSet<u16>, &BTreeSet<String>),
    image: Option<&(String, bool)>,
) -> Result<Told> {
    let (host, swarm) = (&world.drivers.host, &world.drivers.swarm);
    let (mut listened, mut missing) = (BTreeSet::new(), BTreeSet::new());
    for port in ports {
        if !host.port_is_free(*port).await? {
            listened.insert(*port);
        }
    }
    for path in paths {
        if !host.exists(path).await? {
            missing.insert(path.clone());
        }
    }
    let image = match image {
        None => ImageFound::There,
        Some((image, _)) if swarm.image(image).await?.is_some() => ImageFound::There,
        Some((_, false)) => ImageFound::Missing,
        Some((image, true)) => match world.images.pull(world, image).await {
            Ok(()) => ImageFound::There,
            Err(error) => ImageFound::Refused { why: error.to_string() },
        },
    };
    Ok(Told::Room { listened, missing, image })
}
