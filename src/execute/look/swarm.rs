//! Looking at Swarm: services, networks and the configs that hold records.

use std::collections::BTreeMap;

use super::{Seen, unknown};
use crate::drivers::Result;
use crate::drivers::swarm::{Labels, NetworkSeen, ServiceSeen};
use crate::model::{Attributes, Digest, Kind, Observation, Present, Resource, ResourceId, Scope};
use crate::world::record;
use crate::world::{APPLIED_LABEL, RESOURCE_LABEL, TASK_LABEL, World};

/// Looks at everything of this scope that lives in Swarm.
pub(super) async fn look(world: &World, scope: &Scope, resources: &[&Resource]) -> Seen {
    let selector = world.selector(scope);
    let swarm = &world.drivers.swarm;
    let (services, networks, revision) =
        tokio::join!(swarm.services(&selector), swarm.networks(&selector), record::newest_revision(world, scope));
    let mut seen = Seen::new();
    seen.extend(by_label(Kind::Service, resources, services, service));
    seen.extend(by_label(Kind::Network, resources, networks, network));
    for resource in resources.iter().filter(|resource| resource.id.kind == Kind::Record) {
        let observation = match &revision {
            Ok(Some(revision)) => Observation::Present(Present::new(Attributes::Record { revision: *revision })),
            Ok(None) => Observation::Absent,
            Err(error) => unknown(error),
        };
        seen.insert(resource.id.clone(), observation);
    }
    seen
}

/// One kind: what is desired and not in the list is absent; a list that could not be had leaves all of it unknown.
fn by_label<T>(
    kind: Kind,
    resources: &[&Resource],
    list: Result<Vec<T>>,
    read: fn(T) -> (Option<String>, Present),
) -> Seen {
    let wanted = resources.iter().filter(|resource| resource.id.kind == kind).map(|resource| resource.id.clone());
    match list {
        Err(error) => wanted.map(|id| (id, unknown(&error))).collect(),
        Ok(list) => {
            let mut seen: Seen = wanted.map(|id| (id, Observation::Absent)).collect();
            for (name, present) in list.into_iter().map(read) {
                if let Some(name) = name {
                    seen.insert(ResourceId::new(kind, name), Observation::Present(present));
                }
            }
            seen
        }
    }
}

fn service(live: ServiceSeen) -> (Option<String>, Present) {
    let mut attributes = live.attributes;
    let (name, applied) = take_marks(&mut attributes.labels);
    attributes.container_labels.remove(TASK_LABEL);
    let mut present = Present::new(Attributes::Service(Box::new(attributes)));
    present.applied = applied;
    present.object = Some(live.id);
    (name, present)
}

fn network(live: NetworkSeen) -> (Option<String>, Present) {
    let mut labels = live.labels;
    let (name, applied) = take_marks(&mut labels);
    let mut present = Present::new(Attributes::Network { name: live.name, attachable: live.attachable });
    present.applied = applied;
    present.object = Some(live.id);
    (name, present)
}

/// The resource's name, and the digest that the object was applied with; the latter is ours, not the description's.
fn take_marks(labels: &mut Labels) -> (Option<String>, Option<Digest>) {
    let applied = labels.remove(APPLIED_LABEL).map(|text| Digest::from_text(&text));
    (labels.get(RESOURCE_LABEL).cloned(), applied)
}

/// The labels to put on an object: the scope's, the resource's name, and what it is applied with.
pub(in crate::execute) fn marks(
    world: &World,
    scope: &Scope,
    resource: &ResourceId,
    applied: Option<&Digest>,
) -> Labels {
    let mut labels: BTreeMap<String, String> = world.selector(scope);
    labels.insert(RESOURCE_LABEL.to_owned(), resource.name.clone());
    if let Some(applied) = applied {
        labels.insert(APPLIED_LABEL.to_owned(), applied.to_string());
    }
    labels
}
