//! What a host still has of databases that were purged while it did not answer.
//!
//! Invariants: a host deletes what the newest record in Swarm says it owes, and nothing that it was merely told: a question
//! that comes twice, or late, does no harm to an instance that was made since; nothing goes while a container has it
//! mounted (rule 3).

use std::collections::BTreeSet;

use crate::domain::layout;
use crate::drivers::{Error, Result};
use crate::model::{DatabaseId, InstanceId};
use crate::world::{World, record};

/// Deletes all that is owed here; gives the instances of which nothing is left.
///
/// # Errors
/// Swarm or the disk does not answer, or a container still has something of it mounted.
pub(super) async fn clear(world: &World) -> Result<BTreeSet<InstanceId>> {
    let newest = record::fleet(&*world.drivers.swarm, &world.key, &world.fleet).await?;
    let owed = newest.and_then(|mut record| record.leftovers.remove(&world.facts.host)).unwrap_or_default();
    for instance in &owed {
        remove(world, instance).await?;
    }
    Ok(owed)
}

async fn remove(world: &World, instance: &InstanceId) -> Result<()> {
    let (host, data_dir) = (&world.drivers.host, &world.facts.data_dir);
    let directory = layout::instance_directory(data_dir, instance.as_str());
    if !world.drivers.swarm.containers_mounting(&directory).await?.is_empty() {
        let why = "a container still has it mounted".to_owned();
        return Err(Error::Conflict { act: format!("remove {directory}"), why });
    }
    host.remove_directory(&directory).await?;
    host.remove_directory(&layout::trash(data_dir, instance.as_str())).await?;
    let database = layout::database_of_instance(instance.as_str()).and_then(|id| DatabaseId::parse(&id).ok());
    if let Some(database) = database {
        host.remove_file(&layout::credentials_file(data_dir, &database)).await?;
    }
    tracing::info!(%instance, "what was left of an instance of a purged database is gone");
    Ok(())
}
