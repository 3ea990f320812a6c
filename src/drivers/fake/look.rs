//! A look at the whole world from outside: what a test compares before and after.

use std::collections::{BTreeMap, BTreeSet};

use super::World;
use super::cluster::Cluster;
use super::engine::{Container, Process};
use super::files::own;
use super::shelf::Key;
use super::state::State;

/// All that lasts in a world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// Services, by name.
    pub services: BTreeMap<String, ServiceLook>,
    /// Names of the networks that pgmoor made.
    pub networks: BTreeSet<String>,
    /// Names of the configs: the records' revisions.
    pub configs: BTreeSet<String>,
    /// Postgres data directories of all hosts, by path.
    pub clusters: BTreeMap<String, ClusterLook>,
    /// Paths of all files below this host's data directory.
    pub files: BTreeSet<String>,
}

/// A service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceLook {
    /// Swarm's object id.
    pub id: String,
    /// The Swarm node that it is placed on.
    pub node: String,
    /// How its instance stands.
    pub role: RoleLook,
    /// Ids of its containers that have not exited.
    pub containers: Vec<String>,
    /// Host paths that it mounts for itself alone.
    pub exclusive: Vec<String>,
    /// Ports that it publishes.
    pub ports: Vec<u16>,
}

/// How an instance stands in its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoleLook {
    /// It does not serve, or it is no instance.
    None,
    /// It takes writes.
    Primary,
    /// It follows, and streams from nobody.
    Follows,
    /// It streams from its primary.
    Streams,
}

/// A Postgres data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterLook {
    /// Made anew by `initdb` alone.
    pub system_id: String,
    /// Roles with their passwords.
    pub roles: BTreeMap<String, Option<String>>,
    /// Databases.
    pub databases: BTreeMap<String, DatabaseLook>,
}

/// A database in a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseLook {
    /// Its owner.
    pub owner: String,
    /// Names of its extensions.
    pub extensions: BTreeSet<String>,
    /// What users wrote.
    pub rows: Vec<String>,
}

impl World {
    /// Looks at everything.
    #[must_use]
    pub fn look(&self) -> Look {
        let state = self.state();
        let services = state.services.values().map(|service| {
            let live = state.containers.found(&Key::Service(service.id.clone())).filter(|c| c.is_live());
            let live: Vec<&Container> = live.collect();
            let attributes = &service.attributes;
            let role = live.first().map(|container| role_of(container, state.now_ms));
            let exclusive = attributes.mounts.iter().filter(|mount| mount.exclusive);
            let look = ServiceLook {
                id: service.id.clone(),
                node: attributes.swarm_node.clone(),
                role: role.unwrap_or(RoleLook::None),
                containers: live.iter().map(|container| container.id.clone()).collect(),
                exclusive: exclusive.map(|mount| mount.source.clone()).collect(),
                ports: attributes.ports.iter().map(|port| port.published).collect(),
            };
            (attributes.name.clone(), look)
        });
        Look {
            services: services.collect(),
            networks: ours(&state),
            configs: state.configs.values().map(|config| config.name.clone()).collect(),
            clusters: state.files.clusters().map(|(path, cluster)| (own(path).to_owned(), look_at(cluster))).collect(),
            files: state
                .files
                .below(&state.at_path(&state.options.data_dir))
                .map(|path| own(path).to_owned())
                .collect(),
        }
    }
}

fn role_of(container: &Container, now_ms: i64) -> RoleLook {
    match &container.process {
        Process::Postgres(instance) if container.is_running() => instance.role(now_ms),
        Process::Postgres(_) | Process::Plain | Process::Etcd { .. } => RoleLook::None,
    }
}

fn ours(state: &State) -> BTreeSet<String> {
    let ours = state.networks.values().filter(|network| network.labels.contains_key("pgmoor.fleet"));
    ours.map(|network| network.name.clone()).collect()
}

fn look_at(cluster: &Cluster) -> ClusterLook {
    let password = |role: &super::cluster::Role| role.password.as_ref().map(|password| password.expose().to_owned());
    ClusterLook {
        system_id: cluster.system_id.clone(),
        roles: cluster.roles.iter().map(|(name, role)| (name.clone(), password(role))).collect(),
        databases: cluster
            .databases
            .iter()
            .map(|(name, database)| {
                let look = DatabaseLook {
                    owner: database.owner.clone(),
                    extensions: database.extensions.keys().cloned().collect(),
                    rows: database.rows.clone(),
                };
                (name.clone(), look)
            })
            .collect(),
    }
}
