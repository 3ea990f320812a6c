//! Looking at etcd: whether it answers, the instances' users, and Patroni's dynamic configuration.

use std::collections::BTreeSet;

use super::super::patroni_config;
use super::{Seen, observation, present, unknown};
use crate::domain::layout;
use crate::drivers::etcd::EtcdTarget;
use crate::drivers::{Error, Result};
use crate::model::{Attributes, Kind, Observation, Payload, Present, Resource, ResourceId, Scope};
use crate::world::World;

/// Looks at everything of this scope that lives in etcd.
pub(super) async fn look(world: &World, scope: &Scope, resources: &[&Resource], swarm: &Seen) -> Seen {
    let kinds = [Kind::Etcd, Kind::EtcdUser, Kind::PatroniConfig];
    let wanted: Vec<&&Resource> = resources.iter().filter(|resource| kinds.contains(&resource.id.kind)).collect();
    if wanted.is_empty() {
        return Seen::new();
    }
    if etcd_was_never_there(resources, swarm) {
        return wanted.iter().map(|resource| (resource.id.clone(), Observation::Absent)).collect();
    }
    let target = match world.etcd().await {
        Ok(target) => target,
        Err(error) => return wanted.iter().map(|resource| (resource.id.clone(), unknown(&error))).collect(),
    };
    let authentication = world.drivers.etcd.authentication(&target).await;
    let mut seen = Seen::new();
    for resource in wanted {
        let observed = match (&authentication, &resource.attributes) {
            (Err(error), _) => unknown(error),
            (Ok(on), Attributes::Etcd { endpoints, .. }) => {
                present(Attributes::Etcd { endpoints: endpoints.clone(), authentication: *on })
            }
            (Ok(false), _) => Observation::Unknown { why: "etcd's authentication is not on yet".to_owned() },
            (Ok(true), _) => observation(one(world, &target, resource).await),
        };
        seen.insert(resource.id.clone(), observed);
    }
    if let (Ok(true), Scope::Database(_)) = (&authentication, scope) {
        extras(world, &target, scope, &mut seen).await;
    }
    seen
}

/// In the fleet's own scope: the service of etcd is not there, so there is nothing to ask.
fn etcd_was_never_there(resources: &[&Resource], swarm: &Seen) -> bool {
    resources.iter().any(|resource| resource.id.kind == Kind::Etcd)
        && resources
            .iter()
            .filter(|resource| resource.id.kind == Kind::Service)
            .all(|resource| matches!(swarm.get(&resource.id), Some(Observation::Absent)))
}

async fn one(world: &World, target: &EtcdTarget, resource: &Resource) -> Result<Option<Present>> {
    match (&resource.attributes, &resource.payload) {
        (Attributes::EtcdUser { name, prefix, .. }, Payload::Password(password)) => {
            let user = world.drivers.etcd.user(target, name, password).await?;
            Ok(user.map(|user| {
                let only: Vec<String> = vec![prefix.clone()];
                let seen_prefix = if user.prefixes == only { prefix.clone() } else { user.prefixes.join(" ") };
                Present::new(Attributes::EtcdUser {
                    name: name.clone(),
                    prefix: seen_prefix,
                    password_matches: user.password_matches,
                })
            }))
        }
        (Attributes::PatroniConfig(wanted), _) => {
            let key = patroni_config::key(&wanted.prefix);
            let Some(found) = world.drivers.etcd.get(target, &key).await? else { return Ok(None) };
            Ok(Some(patroni_config::read(&wanted.prefix, &found.value)))
        }
        _ => Err(Error::Failed { act: format!("look at {}", resource.id), why: "it is not in etcd".to_owned() }),
    }
}

/// Users of this database's instances that nobody wants any more.
async fn extras(world: &World, target: &EtcdTarget, scope: &Scope, seen: &mut Seen) {
    let Scope::Database(database) = scope else { return };
    let Ok(users) = world.drivers.etcd.users(target).await else { return };
    let known: BTreeSet<String> = seen.keys().map(|id| id.name.clone()).collect();
    // Of the users of ten thousand databases few are looked at closely.
    for user in users.into_iter().filter(|user| user.contains(database.as_str())) {
        let Some(instance) = layout::instance_of_etcd_user(&user) else { continue };
        if known.contains(&instance) || layout::database_of_instance(&instance).as_deref() != Some(database.as_str()) {
            continue;
        }
        let attributes = Attributes::EtcdUser { name: user, prefix: String::new(), password_matches: false };
        seen.insert(ResourceId::new(Kind::EtcdUser, instance), present(attributes));
    }
}
