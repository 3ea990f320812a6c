//! Services and networks.

use std::time::Duration;

use super::super::look::marks;
use super::super::place;
use super::{Task, failed};
use crate::drivers::swarm::{Labels, UpdateSeen};
use crate::drivers::{Error, Result};
use crate::model::service::ServiceAttributes;
use crate::model::{Attributes, Digest, Resource};
use crate::plan::Action;
use crate::world::{APPLIED_LABEL, TASK_LABEL};

/// The pause between two looks at a container that Swarm is about to replace.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Looks at the container between two questions how the update goes: one a second.
const LOOKS_BETWEEN_UPDATES: u32 = 10;

/// Makes it what is described.
pub(super) async fn establish(task: &Task, resource: &Resource) -> Result<()> {
    if let Attributes::Service(wanted) = &resource.attributes {
        service(task, wanted).await
    } else if let Attributes::Network { name, attachable } = &resource.attributes {
        network(task, name, *attachable).await
    } else {
        Err(failed(task, "it is not in Swarm"))
    }
}

async fn service(task: &Task, wanted: &ServiceAttributes) -> Result<()> {
    let swarm = &task.world.drivers.swarm;
    let mut marked = wanted.clone();
    let task_digest = Digest::of(&ServiceAttributes { labels: Labels::new(), ..wanted.clone() });
    marked.container_labels.insert(TASK_LABEL.to_owned(), task_digest.to_string());
    if let Some(applied) = &task.applied {
        marked.labels.insert(APPLIED_LABEL.to_owned(), applied.to_string());
    }
    // A lost answer to an earlier create looks like a taken name: what is there now decides.
    let live = swarm.services(&task.world.selector(&task.scope)).await?;
    if let Some(live) = live.into_iter().find(|live| live.attributes.name == wanted.name) {
        let old = task.world.container(&wanted.name).await?;
        swarm.update_service(&live.id, &marked).await?;
        return match old {
            Some(old) if replaces(&live.attributes, &marked) => stopped(task, wanted, &old.id).await,
            Some(_) | None => Ok(()),
        };
    }
    if task.step.action == Action::Update {
        return Err(failed(task, "the service is gone"));
    }
    unmounted(task, wanted).await?;
    swarm.create_service(&marked).await.map(|_id| ())
}

/// Whether an update from one to the other gives another container: all but the service's own labels does.
fn replaces(live: &ServiceAttributes, wanted: &ServiceAttributes) -> bool {
    let unlabelled = |service: &ServiceAttributes| ServiceAttributes { labels: Labels::new(), ..service.clone() };
    unlabelled(live) != unlabelled(wanted)
}

/// Waits until Swarm has acted on an update: it answers before, and for that while the old container goes on serving,
/// which whoever comes next would take for the new one. It ends when Swarm says that the update is over, too: then the
/// container is what Swarm thinks it should be. The deadline of the phase `stop` ends it in any case.
async fn stopped(task: &Task, service: &ServiceAttributes, old: &str) -> Result<()> {
    let mut looks: u32 = 0;
    while task.world.container(&service.name).await?.is_some_and(|container| container.id == old) {
        looks += 1;
        if looks.is_multiple_of(LOOKS_BETWEEN_UPDATES) {
            match updated(task, service).await? {
                Some(UpdateSeen::Completed) => return Ok(()),
                Some(UpdateSeen::Failed(why)) => {
                    return Err(Error::Failed { act: format!("update service {}", service.name), why });
                }
                Some(UpdateSeen::Updating) | None => {}
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// How far Swarm is with the update; it says nothing of an older one, which the new one has wiped out.
async fn updated(task: &Task, service: &ServiceAttributes) -> Result<Option<UpdateSeen>> {
    let services = task.world.drivers.swarm.services(&task.world.selector(&task.scope)).await?;
    Ok(services.into_iter().find(|live| live.attributes.name == service.name).and_then(|live| live.update))
}

/// Rule 3: one data directory, one Postgres. A service that is made while a container of its predecessor is still
/// stopping would start a second one on the same files. The host that it is placed on knows.
async fn unmounted(task: &Task, service: &ServiceAttributes) -> Result<()> {
    for mount in service.mounts.iter().filter(|mount| mount.exclusive) {
        let holders = place::mounting(&task.world, &service.swarm_node, &mount.source).await?;
        if let Some((id, state)) = holders.first_key_value() {
            return Err(Error::Conflict {
                act: format!("wait for {} to be free", mount.source),
                why: format!("container {} ({state}) still has it mounted", short(id)),
            });
        }
    }
    Ok(())
}

fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

async fn network(task: &Task, name: &str, attachable: bool) -> Result<()> {
    let swarm = &task.world.drivers.swarm;
    let labels = marks(&task.world, &task.scope, &task.step.resource, task.applied.as_ref());
    let ours = swarm.networks(&task.world.selector(&task.scope)).await?;
    match ours.into_iter().find(|network| network.name == name) {
        Some(live) if live.attachable == attachable => Ok(()),
        Some(live) => {
            swarm.remove_network(&live.id).await?;
            swarm.create_network(name, attachable, &labels).await.map(|_id| ())
        }
        None => swarm.create_network(name, attachable, &labels).await.map(|_id| ()),
    }
}

/// Removes it by its object id.
pub(super) async fn remove(task: &Task, seen: &Attributes) -> Result<()> {
    let Some(object) = &task.step.object else { return Err(failed(task, "its object id is not known")) };
    let swarm = &task.world.drivers.swarm;
    let gone = |result: Result<()>| match result {
        Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
        Err(error) => Err(error),
    };
    if let Attributes::Service(service) = seen {
        gone(swarm.remove_service(object).await)?;
        match unmounted(task, service).await {
            // Swarm has forgotten it. A host that does not answer keeps nobody waiting: what of it is deleted there, is
            // deleted by that host, which looks for containers first.
            Err(Error::Unreachable { act, why }) if place::is_elsewhere(&task.world, &service.swarm_node) => {
                tracing::info!(service = service.name, act, why, "whether its container is gone cannot be seen");
                Ok(())
            }
            seen => seen,
        }
    } else {
        gone(swarm.remove_network(object).await)
    }
}
