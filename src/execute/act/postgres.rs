//! Roles, databases, extensions and scripts, through the node's current primary.

use super::super::look;
use super::{Task, failed};
use crate::domain::layout;
use crate::drivers::swarm::ServiceSeen;
use crate::drivers::{Endpoint, Result};
use crate::model::{Attributes, Executor, InstanceId, NodeName, Payload, Resource, Scope};
use crate::world::World;

/// Makes it what is described.
pub(super) async fn establish(task: &Task, resource: &Resource) -> Result<()> {
    let at = primary(&task.world, &task.scope, node(task)?).await?;
    let postgres = &task.world.drivers.postgres;
    match (&resource.attributes, &resource.payload) {
        (Attributes::Role(role), Payload::Password(password)) => postgres.put_role(&at, role, Some(password)).await,
        (Attributes::Role(role), Payload::None) => postgres.put_role(&at, role, None).await,
        (Attributes::Database { name, owner }, _) => postgres.put_database(&at, name, owner).await,
        (Attributes::Extension { database, name, version, schema }, _) => {
            postgres.put_extension(&at, database, name, version.as_deref(), schema.as_deref()).await
        }
        (Attributes::Script { database, name, .. }, Payload::Statements(statements)) => {
            postgres.run_script(&at, database, name, statements).await
        }
        _ => Err(failed(task, "it carries nothing to apply, or is not in Postgres")),
    }
}

/// Removes it. Databases and what ran once are never removed by themselves.
pub(super) async fn remove(task: &Task, seen: &Attributes) -> Result<()> {
    let at = primary(&task.world, &task.scope, node(task)?).await?;
    let postgres = &task.world.drivers.postgres;
    if let Attributes::Role(role) = seen {
        postgres.drop_role(&at, &role.name, layout::SUPERUSER).await
    } else if let Attributes::Extension { database, name, .. } = seen {
        postgres.drop_extension(&at, database, name).await
    } else {
        Ok(())
    }
}

/// The node that the step is done in.
pub(super) fn node(task: &Task) -> Result<&NodeName> {
    match &task.step.executor {
        Executor::Primary(node) => Ok(node),
        Executor::Host(_) | Executor::Manager => Err(failed(task, "the plan does not say in which node it is")),
    }
}

/// Where the primary of a node answers now, if it is on this host: found when the step runs, not when it was planned.
pub(in crate::execute) async fn primary(world: &World, scope: &Scope, node: &NodeName) -> Result<Endpoint> {
    let services = world.drivers.swarm.services(&world.selector(scope)).await?;
    let mut last = look::not_running(&format!("{node} of {scope}"));
    for service in services.into_iter().filter(|service| is_of(service, node)) {
        let Some(name) = service.attributes.labels.get(crate::world::RESOURCE_LABEL) else { continue };
        match world.instance(name, &service.attributes.name).await {
            Ok(Some(endpoints)) => match world.drivers.postgres.server(&endpoints.postgres).await {
                Ok(server) if !server.in_recovery => return Ok(endpoints.postgres),
                Ok(_) => {}
                Err(error) => last = error,
            },
            Ok(None) => {}
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Whether a service is an instance of a node.
pub(in crate::execute) fn is_of(service: &ServiceSeen, node: &NodeName) -> bool {
    let instance = service.attributes.labels.get(crate::world::RESOURCE_LABEL);
    instance.and_then(|name| InstanceId::parse(name).ok()?.node()).as_ref() == Some(node)
}
