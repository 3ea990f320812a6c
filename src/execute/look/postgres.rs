//! Looking at instances and inside them: readiness, roles, databases, extensions, scripts.

use std::collections::{BTreeMap, BTreeSet};

use super::super::swarm_words::why_not;
use super::{Seen, present, unknown};
use crate::drivers::certificates;
use crate::drivers::postgres::ServerSeen;
use crate::drivers::{Endpoint, Error, Result};
use crate::model::resource::InstanceAttributes;
use crate::model::{
    Attributes, Executor, InstanceId, Kind, NodeName, Observation, Payload, Present, Resource, ResourceId, Secret,
    Standing,
};
use crate::world::work::Inside;
use crate::world::{InstanceEndpoints, World};

/// A task that failed within this time tells why its service does not run, although another is on its way already: Swarm
/// waits a few seconds between two of them.
const RECENT_MS: i64 = 60_000;

/// Looks at the instances among these resources, and for each of their nodes, through the first that serves as primary, at
/// what is inside its database.
pub(super) async fn look(world: &World, resources: &[&Resource], seen: &Seen) -> (Seen, BTreeMap<NodeName, Inside>) {
    let mut found = Seen::new();
    let mut reached: BTreeMap<NodeName, Reach> = BTreeMap::new();
    for resource in resources {
        let Attributes::Instance(wanted) = &resource.attributes else { continue };
        let looked = instance(world, &resource.id.name, wanted, seen, resources).await;
        if let Some(node) = node_of(resource) {
            let before = reached.remove(&node).unwrap_or(Reach::NotThere);
            reached.insert(node, before.or(looked.inside));
        }
        found.insert(resource.id.clone(), looked.observation);
    }
    let mut inside = BTreeMap::new();
    for (node, reach) in reached {
        let wanted: Vec<&Resource> = resources.iter().copied().filter(|one| is_inside(one, &node)).collect();
        let within = match reach {
            Reach::Serves(_) if wanted.is_empty() => Inside::Seen { contents: Seen::new() },
            Reach::Serves(endpoint) => {
                let contents = contents(world, &endpoint, &wanted).await;
                let hidden =
                    |error: &Error| wanted.iter().map(|resource| (resource.id.clone(), unknown(error))).collect();
                Inside::Seen { contents: contents.unwrap_or_else(|error| hidden(&error)) }
            }
            Reach::NotThere => Inside::NotThere,
            Reach::Hidden(why) => Inside::Hidden { why },
        };
        inside.insert(node, within);
    }
    (found, inside)
}

/// The node of an instance.
fn node_of(instance: &Resource) -> Option<NodeName> {
    match &instance.member {
        Some(member) => Some(member.node.clone()),
        None => InstanceId::parse(&instance.id.name).ok()?.node(),
    }
}

/// The nodes of which instances are among these.
pub(super) fn nodes_with_instances(resources: &[&Resource]) -> BTreeSet<NodeName> {
    resources.iter().filter(|resource| resource.id.kind == Kind::Instance).filter_map(|one| node_of(one)).collect()
}

/// The nodes that something of these is inside of.
pub(super) fn nodes<'a>(resources: impl Iterator<Item = &'a Resource>) -> BTreeSet<&'a NodeName> {
    let inside = resources.filter(|resource| is_content(resource.id.kind));
    inside.filter_map(|one| if let Executor::Primary(node) = &one.executor { Some(node) } else { None }).collect()
}

/// Whether it is inside the database of this node.
pub(super) fn is_inside(resource: &Resource, node: &NodeName) -> bool {
    is_content(resource.id.kind) && matches!(&resource.executor, Executor::Primary(of) if of == node)
}

/// Whether things of this kind are inside a database.
pub(super) fn is_content(kind: Kind) -> bool {
    match kind {
        Kind::Role | Kind::Database | Kind::Extension | Kind::Script => true,
        Kind::Record
        | Kind::Directory
        | Kind::File
        | Kind::Certificate
        | Kind::Network
        | Kind::Service
        | Kind::EtcdMember
        | Kind::Etcd
        | Kind::EtcdUser
        | Kind::PatroniConfig
        | Kind::Instance => false,
    }
}

/// How the inside of a database can be reached from here.
enum Reach {
    /// A primary serves here.
    Serves(Endpoint),
    /// There is no data yet, so nothing is inside.
    NotThere,
    /// There is data, or may be, and no primary to ask.
    Hidden(String),
}

impl Reach {
    /// One instance that serves is enough; one that may hide something outweighs one that is not there.
    fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Serves(endpoint), _) | (_, Self::Serves(endpoint)) => Self::Serves(endpoint),
            (Self::Hidden(why), _) | (_, Self::Hidden(why)) => Self::Hidden(why),
            (Self::NotThere, Self::NotThere) => Self::NotThere,
        }
    }
}

struct Looked {
    observation: Observation,
    inside: Reach,
}

async fn instance(
    world: &World,
    name: &str,
    wanted: &InstanceAttributes,
    seen: &Seen,
    resources: &[&Resource],
) -> Looked {
    let service = ResourceId::new(Kind::Service, name);
    let hidden = |why: &str| Reach::Hidden(why.to_owned());
    match seen.get(&service) {
        Some(Observation::Present(_)) => {}
        Some(Observation::Absent) | None => {
            let inside =
                if has_data(name, seen, resources) { hidden("the instance is not running") } else { Reach::NotThere };
            return Looked { observation: Observation::Absent, inside };
        }
        Some(Observation::Unknown { why }) => {
            return Looked { observation: Observation::Unknown { why: why.clone() }, inside: hidden(why) };
        }
    }
    match world.instance(name, &wanted.service).await {
        Ok(Some(endpoints)) => match serving(world, name, wanted, &endpoints).await {
            Ok((attributes, standing)) => {
                let inside = match standing {
                    Some(Standing::Primary { .. }) => Reach::Serves(endpoints.postgres),
                    Some(Standing::Replica) | None => hidden("no primary serves yet"),
                };
                let present =
                    Present { standing: standing.map(Box::new), ..Present::new(Attributes::Instance(attributes)) };
                Looked { observation: Observation::Present(present), inside }
            }
            Err(error) => Looked { observation: unknown(&error), inside: hidden(&error.to_string()) },
        },
        Ok(None) => {
            let since_ms = world.clock.now_ms().saturating_sub(RECENT_MS);
            let told = why_not(world, &wanted.service, since_ms).await.map(|(_, words)| words);
            let why = told.unwrap_or_else(|| "its container is not running".to_owned());
            Looked { observation: Observation::Unknown { why: why.clone() }, inside: hidden(&why) }
        }
        Err(error) => Looked { observation: unknown(&error), inside: hidden(&error.to_string()) },
    }
}

/// Whether a data directory of the instance is there, or may be: then what is inside is hidden, not absent.
fn has_data(instance: &str, seen: &Seen, resources: &[&Resource]) -> bool {
    let data = resources.iter().find(|resource| {
        matches!(&resource.attributes, Attributes::Directory { on_delete: crate::model::resource::OnDelete::Trash, .. })
            && resource.id.name.contains(instance)
    });
    data.is_none_or(|resource| !matches!(seen.get(&resource.id), Some(Observation::Absent)))
}

/// The attributes of an instance that answers, and, while it runs, how it stands in its node.
pub(in crate::execute) async fn serving(
    world: &World,
    name: &str,
    wanted: &InstanceAttributes,
    endpoints: &InstanceEndpoints,
) -> Result<(InstanceAttributes, Option<Standing>)> {
    let status = world.drivers.patroni.status(&endpoints.patroni).await?;
    let running = status.state == "running";
    let server = if running { Some(world.drivers.postgres.server(&endpoints.postgres).await?) } else { None };
    let path = format!("{}.crt", crate::domain::layout::server_stem(&world.facts.data_dir, name));
    let on_disk = world.drivers.host.read(&path).await?;
    let certificate_loaded = match on_disk {
        Some(file) => certificates::certificate_digest(file.content.expose())? == status.certificate,
        None => false,
    };
    let attributes = InstanceAttributes {
        service: wanted.service.clone(),
        running,
        config: server.as_ref().and_then(|server| server.config.clone()).unwrap_or_default(),
        pending_restart: server.as_ref().is_some_and(|server| !server.pending_restart.is_empty()),
        certificate_loaded,
        alter_system: server.as_ref().map(|server| server.alter_system.clone()).unwrap_or_default(),
    };
    Ok((attributes, server.map(standing)))
}

fn standing(server: ServerSeen) -> Standing {
    if server.in_recovery {
        return Standing::Replica;
    }
    // A copy that is being made streams too, under a name that is no instance's.
    let named = |(name, lag): (String, u64)| Some((InstanceId::parse(&name).ok()?, lag));
    let streaming = server.streaming.into_iter().filter_map(named).collect();
    Standing::Primary { streaming, runs_with: server.runs_with }
}

async fn contents(world: &World, at: &Endpoint, wanted: &[&Resource]) -> Result<Seen> {
    let mut seen: Seen = wanted.iter().map(|resource| (resource.id.clone(), Observation::Absent)).collect();
    roles(world, at, wanted, &mut seen).await?;
    let databases = world.drivers.postgres.databases(at).await?;
    for resource in wanted {
        if let Attributes::Database { name, .. } = &resource.attributes
            && let Some(database) = databases.iter().find(|database| database.name == *name)
        {
            let attributes = Attributes::Database { name: name.clone(), owner: database.owner.clone() };
            seen.insert(resource.id.clone(), present(attributes));
        }
    }
    let exists = |name: &str| databases.iter().any(|database| database.name == name);
    extensions(world, at, wanted, &exists, &mut seen).await?;
    scripts(world, at, wanted, &exists, &mut seen).await?;
    Ok(seen)
}

/// What a thing of a node is called: as the node's others are, whose names begin with the node where there are several.
fn called(wanted: &[&Resource], thing: &str) -> String {
    let node = wanted.iter().find_map(|resource| {
        let Attributes::Database { name, .. } = &resource.attributes else { return None };
        // The name itself may have a slash in it.
        resource.id.name.strip_suffix(name.as_str())
    });
    format!("{}{thing}", node.unwrap_or_default())
}

async fn roles(world: &World, at: &Endpoint, wanted: &[&Resource], seen: &mut Seen) -> Result<()> {
    let passwords: BTreeMap<String, Secret> = wanted
        .iter()
        .filter_map(|resource| match (&resource.attributes, &resource.payload) {
            (Attributes::Role(role), Payload::Password(password)) => Some((role.name.clone(), password.clone())),
            _ => None,
        })
        .collect();
    for role in world.drivers.postgres.roles(at, &passwords).await? {
        let id = ResourceId::new(Kind::Role, called(wanted, &role.attributes.name));
        if seen.contains_key(&id) || role.managed {
            seen.insert(id, present(Attributes::Role(role.attributes)));
        }
    }
    Ok(())
}

async fn extensions(
    world: &World,
    at: &Endpoint,
    wanted: &[&Resource],
    exists: &impl Fn(&str) -> bool,
    seen: &mut Seen,
) -> Result<()> {
    let database = wanted.iter().find_map(|resource| {
        if let Attributes::Database { name, .. } = &resource.attributes { Some(name.as_str()) } else { None }
    });
    let Some(database) = database.filter(|name| exists(name)) else { return Ok(()) };
    for extension in world.drivers.postgres.extensions(at, database).await? {
        let id = ResourceId::new(Kind::Extension, called(wanted, &extension.name));
        if seen.contains_key(&id) || extension.managed {
            let attributes = Attributes::Extension {
                database: database.to_owned(),
                name: extension.name,
                version: Some(extension.version),
                schema: Some(extension.schema),
            };
            seen.insert(id, present(attributes));
        }
    }
    Ok(())
}

async fn scripts(
    world: &World,
    at: &Endpoint,
    wanted: &[&Resource],
    exists: &impl Fn(&str) -> bool,
    seen: &mut Seen,
) -> Result<()> {
    for resource in wanted {
        let Attributes::Script { database, name, .. } = &resource.attributes else { continue };
        if !exists(database) {
            continue;
        }
        if let Some(statements) = world.drivers.postgres.scripts_done(at, database).await?.remove(name) {
            let (database, name) = (database.clone(), name.clone());
            let attributes = Attributes::Script { database, name, done: true, statements };
            seen.insert(resource.id.clone(), present(attributes));
        }
    }
    Ok(())
}

/// The error of an instance that does not answer, for those who wait for it.
pub(in crate::execute) fn not_running(name: &str) -> Error {
    Error::Unreachable { act: format!("reach instance {name}"), why: "its container is not running".to_owned() }
}
