//! Looking at the world: every desired resource, and what is ours and not desired, as `Observed`.
//!
//! Invariant: what could not be looked at is `Unknown` with the reason, never `Absent` (rule 2).

mod etcd;
mod host;
mod postgres;
mod swarm;

use std::collections::BTreeMap;

use futures_util::future::join_all;

use crate::domain::database::contents;
use crate::drivers::{Error, Result};
use crate::model::observed::Stray;
use crate::model::{
    Attributes, Executor, Graph, HostId, Kind, Observation, Observed, Present, Resource, ResourceId, Scope,
};
use crate::world::World;
use crate::world::work::{HostSeen, Inside, Look, Seen};

pub(super) use postgres::{not_running, serving};
pub(super) use swarm::marks;

/// Looks at all that `desired` names, at what `previous` named (a spec that no longer holds), and at what carries this
/// scope's marks without being in either. What is on another host is looked at by that host, all at the same time.
pub async fn refresh(world: &World, scope: &Scope, desired: &Graph, previous: &Graph) -> Observed {
    let mut resources: Vec<&Resource> = desired.in_order().collect();
    resources.extend(previous.in_order().filter(|resource| !desired.contains(&resource.id)));
    let here: Vec<&Resource> =
        resources.iter().copied().filter(|resource| other_host(world, resource).is_none()).collect();

    let (swarm, host) = tokio::join!(swarm::look(world, scope, &resources), host::look(world, &here));
    let services: Seen =
        swarm.iter().filter(|(id, _)| id.kind == Kind::Service).map(|(id, o)| (id.clone(), o.clone())).collect();
    let mut seen: Seen = swarm;
    seen.extend(host);
    let local = async {
        seen.extend(etcd::look(world, scope, &resources, &seen).await);
        let own: Vec<&Resource> = here.iter().copied().filter(|resource| counts(desired, resource)).collect();
        let (instances, inside) = postgres::look(world, &own, &seen).await;
        seen.extend(instances);
        (seen, inside)
    };
    let ((mut seen, mut inside), others) = tokio::join!(local, elsewhere(world, (desired, &resources), &services));
    for other in others {
        seen.extend(other.seen);
        for (node, found) in other.inside {
            let before = inside.remove(&node).unwrap_or(Inside::NotThere);
            inside.insert(node, before.or(found));
        }
    }
    for node in postgres::nodes(desired.in_order()) {
        let wanted = desired.in_order().filter(|resource| postgres::is_inside(resource, node));
        match inside.remove(node).unwrap_or(Inside::NotThere) {
            Inside::Seen { contents } => seen.extend(contents),
            Inside::NotThere => seen.extend(wanted.map(|resource| (resource.id.clone(), Observation::Absent))),
            Inside::Hidden { why } => {
                seen.extend(wanted.map(|resource| (resource.id.clone(), Observation::Unknown { why: why.clone() })));
            }
        }
    }

    seen.retain(|id, observation| {
        desired.contains(id) || matches!(observation, Observation::Present(_) | Observation::Unknown { .. })
    });
    let strays = strays(world, desired, previous, &seen);
    Observed { resources: seen, strays }
}

/// Looks at what is on this host, for the one that leads.
pub async fn look(world: &World, look: &Look) -> HostSeen {
    let resources: Vec<&Resource> = look.resources.iter().collect();
    let seen = host::look(world, &resources).await;
    let mut known = look.services.clone();
    known.extend(seen.clone());
    let (instances, inside) = postgres::look(world, &resources, &known).await;
    HostSeen { seen: seen.into_iter().chain(instances).collect(), inside }
}

/// Whether a resource is looked at. An instance that leaves counts while its node goes on. Of a database that goes itself no
/// instance is looked at, and what is inside and not desired never: it goes with its data.
fn counts(desired: &Graph, resource: &Resource) -> bool {
    let goes_on = || desired.in_order().any(|resource| resource.id.kind == Kind::Instance);
    let of_one_that_leaves = || resource.id.kind != Kind::Instance || goes_on();
    desired.contains(&resource.id) || (!postgres::is_content(resource.id.kind) && of_one_that_leaves())
}

/// The host that a resource is on, if it is another than this.
fn other_host<'a>(world: &World, resource: &'a Resource) -> Option<&'a HostId> {
    match &resource.executor {
        Executor::Host(host) if *host != world.facts.host => Some(host),
        Executor::Host(_) | Executor::Primary(_) | Executor::Manager => None,
    }
}

/// What the other hosts see of what is on them.
async fn elsewhere(world: &World, (desired, resources): (&Graph, &[&Resource]), services: &Seen) -> Vec<HostSeen> {
    let mut by_host: BTreeMap<&HostId, Vec<&Resource>> = BTreeMap::new();
    for resource in resources {
        if let Some(host) = other_host(world, resource) {
            by_host.entry(host).or_default().push(resource);
        }
    }
    let looks = by_host.into_iter().map(async |(host, own)| {
        let own: Vec<&Resource> = own.into_iter().filter(|resource| counts(desired, resource)).collect();
        let nodes = postgres::nodes_with_instances(&own);
        let inside = desired.in_order().filter(|one| nodes.iter().any(|node| postgres::is_inside(one, node)));
        let asked: Vec<Resource> = own.iter().copied().chain(inside).cloned().collect();
        let look = Look { resources: asked, services: services.clone() };
        let answer = async { world.other(host)?.look(host, look).await };
        answer.await.unwrap_or_else(|error| hidden(&own, &error))
    });
    join_all(looks).await
}

/// What is seen of a host that does not answer.
fn hidden(own: &[&Resource], error: &Error) -> HostSeen {
    let seen = own.iter().map(|resource| (resource.id.clone(), unknown(error))).collect();
    let nodes = postgres::nodes_with_instances(own).into_iter();
    let inside = nodes.map(|node| (node, Inside::Hidden { why: error.to_string() })).collect();
    HostSeen { seen, inside }
}

/// What is ours and not desired. It depended on what the previous graph says, and, where no graph knows it, on all
/// strays of an earlier kind: kinds are declared in the order in which they are built.
fn strays(world: &World, desired: &Graph, previous: &Graph, seen: &Seen) -> BTreeMap<ResourceId, Stray> {
    let ids: Vec<&ResourceId> = seen.keys().filter(|id| !desired.contains(id)).collect();
    let earlier =
        |id: &ResourceId| ids.iter().filter(|other| other.kind < id.kind).map(|other| (*other).clone()).collect();
    ids.iter()
        .map(|id| {
            let stray = match previous.get(id) {
                Some(resource) => Stray {
                    executor: resource.executor.clone(),
                    dependencies: resource.dependencies.keys().cloned().collect(),
                    member: resource.member.clone(),
                },
                None => Stray { executor: executor(world, desired, id), dependencies: earlier(id), member: None },
            };
            ((*id).clone(), stray)
        })
        .collect()
}

/// Who deletes a stray of a kind: this host what is on it, a primary what is inside Postgres, the manager the rest.
fn executor(world: &World, desired: &Graph, id: &ResourceId) -> Executor {
    match id.kind {
        Kind::Directory | Kind::File | Kind::Certificate | Kind::Instance => Executor::Host(world.facts.host.clone()),
        Kind::Role | Kind::Database | Kind::Extension | Kind::Script => {
            let nodes = postgres::nodes(desired.in_order());
            // Where there are several, the name says which it is.
            let own = nodes.iter().find(|node| nodes.len() == 1 || contents::node(&id.name) == Some((**node).clone()));
            own.map_or(Executor::Manager, |node| Executor::Primary((*node).clone()))
        }
        Kind::Record
        | Kind::Network
        | Kind::Service
        | Kind::EtcdMember
        | Kind::Etcd
        | Kind::EtcdUser
        | Kind::PatroniConfig => Executor::Manager,
    }
}

/// Turns the result of looking into an observation.
fn observation(result: Result<Option<Present>>) -> Observation {
    match result {
        Ok(Some(present)) => Observation::Present(present),
        Ok(None) | Err(Error::NotFound { .. }) => Observation::Absent,
        Err(error) => unknown(&error),
    }
}

/// An observation that says that nothing was seen.
fn unknown(error: &Error) -> Observation {
    Observation::Unknown { why: error.to_string() }
}

/// A thing that is there with just these attributes.
fn present(attributes: Attributes) -> Observation {
    Observation::Present(Present::new(attributes))
}
