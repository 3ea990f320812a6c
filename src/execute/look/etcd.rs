//! Looking at etcd: whether it answers, the instances' users, and Patroni's dynamic configuration.

use std::collections::BTreeSet;

use super::super::patroni_config;
use super::{Seen, observation, present, unknown};
use crate::domain::layout;
use crate::drivers::etcd::{EtcdTarget, MemberSeen};
use crate::drivers::{Error, Result};
use crate::model::{Attributes, Kind, Observation, Payload, Present, Resource, ResourceId, Scope};
use crate::world::World;

/// Looks at everything of this scope that lives in etcd.
pub(super) async fn look(world: &World, scope: &Scope, resources: &[&Resource], swarm: &Seen) -> Seen {
    let kinds = [Kind::EtcdMember, Kind::Etcd, Kind::EtcdUser, Kind::PatroniConfig];
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
    if *scope == Scope::Fleet {
        let members = world.drivers.etcd.members(&target).await;
        for resource in wanted {
            seen.insert(resource.id.clone(), of_the_fleet(&authentication, &members, resource));
        }
        unwanted(resources, &members.unwrap_or_default(), &mut seen);
        return seen;
    }
    for resource in wanted {
        let observed = match &authentication {
            Err(error) => unknown(error),
            Ok(false) => Observation::Unknown { why: "etcd's authentication is not on yet".to_owned() },
            Ok(true) => observation(one(world, &target, resource).await),
        };
        seen.insert(resource.id.clone(), observed);
    }
    if let (Ok(true), Scope::Database(_)) = (&authentication, scope) {
        extras(world, &target, scope, &mut seen).await;
    }
    seen
}

/// The cluster as a whole, or one member of it.
fn of_the_fleet(authentication: &Result<bool>, members: &Result<Vec<MemberSeen>>, resource: &Resource) -> Observation {
    let (authentication, members) = match (authentication, members) {
        (Err(error), _) | (_, Err(error)) => return unknown(error),
        (Ok(authentication), Ok(members)) => (*authentication, members),
    };
    match &resource.attributes {
        Attributes::Etcd { endpoints, voters, .. } => {
            let voting = members.iter().filter(|member| member.votes).flat_map(|member| &member.peer_urls);
            let voters = voting.filter(|url| voters.contains(*url)).cloned().collect();
            present(Attributes::Etcd { endpoints: endpoints.clone(), voters, authentication })
        }
        Attributes::EtcdMember { peer_url } => {
            match members.iter().find(|member| member.peer_urls.contains(peer_url)) {
                Some(member) => in_list(member, peer_url),
                None => Observation::Absent,
            }
        }
        Attributes::Record { .. }
        | Attributes::Directory { .. }
        | Attributes::File { .. }
        | Attributes::Certificate(_)
        | Attributes::Network { .. }
        | Attributes::Service(_)
        | Attributes::EtcdUser { .. }
        | Attributes::PatroniConfig(_)
        | Attributes::Instance(_)
        | Attributes::Role(_)
        | Attributes::Database { .. }
        | Attributes::Extension { .. }
        | Attributes::Script { .. } => Observation::Unknown { why: "it is not the fleet's etcd".to_owned() },
    }
}

fn in_list(member: &MemberSeen, peer_url: &str) -> Observation {
    let mut present = Present::new(Attributes::EtcdMember { peer_url: peer_url.to_owned() });
    present.object = Some(member.id.clone());
    Observation::Present(present)
}

/// Members that nobody wants. Where the cluster has only one it is ours, whatever its address was before.
fn unwanted(resources: &[&Resource], members: &[MemberSeen], seen: &mut Seen) {
    let mut known = BTreeSet::new();
    for resource in resources {
        if let Attributes::Etcd { voters, .. } = &resource.attributes {
            known.extend(voters);
        } else if let Attributes::EtcdMember { peer_url } = &resource.attributes {
            known.insert(peer_url);
        }
    }
    for member in members.iter().filter(|_| members.len() > 1) {
        if member.peer_urls.iter().any(|url| known.contains(url)) {
            continue;
        }
        let peer_url = member.peer_urls.first().cloned().unwrap_or_default();
        seen.insert(ResourceId::new(Kind::EtcdMember, member.id.clone()), in_list(member, &peer_url));
    }
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
