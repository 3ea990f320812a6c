//! Looking at the world: every desired resource, and what is ours and not desired, as `Observed`.
//!
//! Invariant: what could not be looked at is `Unknown` with the reason, never `Absent` (rule 2).

mod etcd;
mod host;
mod postgres;
mod swarm;

use std::collections::BTreeMap;

use crate::drivers::{Error, Result};
use crate::model::observed::Stray;
use crate::model::{Attributes, Executor, Graph, Kind, Observation, Observed, Present, Resource, ResourceId, Scope};
use crate::world::World;

pub(super) use postgres::{not_running, serving};
pub(super) use swarm::marks;

/// Observations by resource.
type Seen = BTreeMap<ResourceId, Observation>;

/// Looks at all that `desired` names, at what `previous` named (a spec that no longer holds), and at what carries this
/// scope's marks without being in either.
pub(super) async fn refresh(world: &World, scope: &Scope, desired: &Graph, previous: &Graph) -> Observed {
    let mut resources: Vec<&Resource> = desired.in_order().collect();
    resources.extend(previous.in_order().filter(|resource| !desired.contains(&resource.id)));

    let (swarm, host) = tokio::join!(swarm::look(world, scope, &resources), host::look(world, &resources));
    let mut seen: Seen = swarm;
    seen.extend(host);
    let etcd = etcd::look(world, scope, &resources, &seen).await;
    seen.extend(etcd);
    let inside = postgres::look(world, desired, previous, &seen).await;
    seen.extend(inside);

    seen.retain(|id, observation| {
        desired.contains(id) || matches!(observation, Observation::Present(_) | Observation::Unknown { .. })
    });
    let strays = strays(world, desired, previous, &seen);
    Observed { resources: seen, strays }
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
                None => Stray { executor: executor(world, desired, id.kind), dependencies: earlier(id), member: None },
            };
            ((*id).clone(), stray)
        })
        .collect()
}

/// Who deletes a stray of a kind: this host what is on it, a primary what is inside Postgres, the manager the rest.
fn executor(world: &World, desired: &Graph, kind: Kind) -> Executor {
    match kind {
        Kind::Directory | Kind::File | Kind::Certificate | Kind::Instance => Executor::Host(world.facts.host.clone()),
        Kind::Role | Kind::Database | Kind::Extension | Kind::Script => desired
            .in_order()
            .map(|resource| &resource.executor)
            .find(|executor| matches!(executor, Executor::Primary(_)))
            .cloned()
            .unwrap_or(Executor::Manager),
        Kind::Record | Kind::Network | Kind::Service | Kind::Etcd | Kind::EtcdUser | Kind::PatroniConfig => {
            Executor::Manager
        }
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
