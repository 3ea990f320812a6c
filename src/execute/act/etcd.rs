//! The fleet's etcd, the instances' users in it, and Patroni's dynamic configuration.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::patroni_config;
use super::{Task, failed};
use crate::drivers::etcd::{EtcdTarget, KeySeen};
use crate::drivers::{Error, Result};
use crate::model::resource::PatroniConfigAttributes;
use crate::model::{Attributes, Payload, Resource};
use crate::world::World;

/// Makes it what is described.
pub(super) async fn establish(task: &Task, resource: &Resource) -> Result<()> {
    let etcd = &task.world.drivers.etcd;
    let target = task.world.etcd().await?;
    match (&resource.attributes, &resource.payload) {
        (Attributes::EtcdMember { peer_url }, _) => etcd.add_member(&target, peer_url).await,
        (Attributes::Etcd { voters, .. }, _) => {
            if !etcd.authentication(&target).await? {
                etcd.enable_authentication(&target).await?;
            }
            votes(task, &target, voters).await
        }
        (Attributes::EtcdUser { name, prefix, .. }, Payload::Password(password)) => {
            etcd.put_user(&target, name, password, prefix).await
        }
        (Attributes::PatroniConfig(wanted), _) => config(task, &target, wanted).await,
        _ => Err(failed(task, "it has no password, or is not in etcd")),
    }
}

/// Gives each member its vote that has none. The only member of a cluster is ours, whatever its address was before.
async fn votes(task: &Task, target: &EtcdTarget, voters: &BTreeSet<String>) -> Result<()> {
    let etcd = &task.world.drivers.etcd;
    let members = etcd.members(target).await?;
    for url in voters {
        match (members.iter().find(|member| member.peer_urls.contains(url)), members.as_slice()) {
            (Some(member), _) if member.votes => {}
            (Some(member), _) => etcd.promote_member(target, &member.id).await?,
            (None, [only]) => etcd.move_member(target, &only.id, url).await?,
            (None, _) => return Err(failed(task, &format!("etcd has no member at {url}"))),
        }
    }
    Ok(())
}

/// Patroni is told over REST, which it acts on at once; where that does not lead all the way (no Patroni runs yet,
/// keys that a patch cannot remove) the document is written to etcd whole, under compare-and-set.
async fn config(task: &Task, target: &EtcdTarget, wanted: &PatroniConfigAttributes) -> Result<()> {
    let etcd = &task.world.drivers.etcd;
    let key = patroni_config::key(&wanted.prefix);
    let document = patroni_config::document(wanted);
    let before = etcd.get(target, &key).await?;
    if let Some(before) = &before {
        let patch = patroni_config::patch(&parsed(before), &document);
        if patched(task, &patch).await {
            let after = etcd.get(target, &key).await?;
            if after.as_ref().map(parsed).as_ref() == Some(&document) {
                return Ok(());
            }
            return write(task, target, &key, &document, after.as_ref()).await;
        }
    }
    write(task, target, &key, &document, before.as_ref()).await
}

fn parsed(key: &KeySeen) -> Value {
    serde_json::from_slice(&key.value).unwrap_or(Value::Null)
}

async fn write(task: &Task, target: &EtcdTarget, key: &str, document: &Value, is: Option<&KeySeen>) -> Result<()> {
    if is.map(parsed).as_ref() == Some(document) {
        return Ok(());
    }
    let expected = is.map_or(0, |is| is.mod_revision);
    task.world.drivers.etcd.put(target, key, document.to_string().as_bytes(), Some(expected)).await
}

/// Whether Patroni of an instance of this node took the patch.
async fn patched(task: &Task, patch: &Value) -> bool {
    let Some(instance) = running_instance(&task.world, task).await else { return false };
    match task.world.drivers.patroni.patch_config(&instance.patroni, patch).await {
        Ok(()) => true,
        Err(error) => {
            tracing::debug!(%error, "Patroni did not take the patch; writing to etcd instead");
            false
        }
    }
}

async fn running_instance(world: &World, task: &Task) -> Option<crate::world::InstanceEndpoints> {
    let services = world.drivers.swarm.services(&world.selector(&task.scope)).await.ok()?;
    for service in services {
        let Some(instance) = crate::world::instance_of(&service) else { continue };
        if let Ok(Some(endpoints)) = world.instance(instance, &service.attributes.name).await {
            return Some(endpoints);
        }
    }
    None
}

/// Removes it: an instance's user, or everything below a node's prefix.
pub(super) async fn remove(task: &Task, seen: &Attributes) -> Result<()> {
    let etcd = &task.world.drivers.etcd;
    let target = task.world.etcd().await?;
    let gone = |result: Result<()>| match result {
        Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
        Err(error) => Err(error),
    };
    if let Attributes::EtcdUser { name, .. } = seen {
        gone(etcd.delete_user(&target, name).await)
    } else if let Attributes::PatroniConfig(config) = seen {
        gone(etcd.delete_prefix(&target, &config.prefix).await)
    } else if let Attributes::EtcdMember { .. } = seen {
        let Some(id) = &task.step.object else { return Err(failed(task, "the plan does not say which member")) };
        etcd.remove_member(&target, id).await
    } else {
        // The fleet's etcd is never deleted by itself: its service is.
        Ok(())
    }
}
