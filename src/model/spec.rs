//! The accepted spec: what a database shall be, after every rule was checked and every default and override resolved.
//!
//! `contract` makes it out of a spec document, the only way to get one from outside. It is a value: nothing in the
//! system modifies it, and what people ask for besides (stopped, paused) or what was chosen for them (ports, generated
//! passwords) lives in the record.

use std::collections::{BTreeMap, BTreeSet};

use super::digest::Digest;
use super::ids::{DatabaseId, HostId, NodeHosts, NodeName};
use super::labels::HostLabels;
use super::resource::SynchronousMode;
use super::role::RoleFlags;
use super::secret::Secret;

/// One database as it shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptedSpec {
    /// The database that the topic names.
    pub id: DatabaseId,
    /// The digest of the document's bytes as published: what `status.observed.digest` echoes.
    pub digest: Digest,
    /// The user's own generation, when the document has one.
    pub generation: Option<u64>,
    /// A text that `status` echoes, so that a client knows its own message.
    pub client_token: Option<String>,
    /// The database goes away; everything below is then as it was or at its defaults.
    pub deleted: bool,
    /// A delete is refused while this is set.
    pub deletion_protection: bool,
    /// Whether a person must approve of what interrupts the database.
    pub approval: Approval,
    /// What is done about what differs from the spec.
    pub reconcile: Reconcile,
    /// The name of the Postgres database.
    pub database_name: String,
    /// The template it was made from, when the document names one.
    pub template: Option<String>,
    /// The nodes, overrides resolved, in the order of the document; those that it removes are not among them. Several do
    /// not replicate to each other in this build: each is a database of its own.
    pub nodes: Vec<NodeSpec>,
    /// In which order several nodes are changed.
    pub node_updates: NodeUpdates,
    /// The roles, in the order of the document.
    pub users: Vec<UserSpec>,
    /// Extensions of the database, by name.
    pub extensions: BTreeMap<String, ExtensionSpec>,
    /// Statements that run once.
    pub scripts: Scripts,
    /// Whether the document holds a password: the condition `SecretInSpec`.
    pub holds_secret: bool,
}

/// Who decides that what runs may be interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Approval {
    /// The spec itself: what it asks is done.
    #[default]
    Auto,
    /// A person, each time: nothing restarts, is replaced or ends before the plan's digest was approved.
    Manual,
}

/// What is done about what differs from the spec, whether somebody changed the world or the spec itself is new. A delete
/// is acted on in any case, and the record is kept in Swarm in any case: it holds this very word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reconcile {
    /// It is looked at, and made as the spec asks.
    #[default]
    Repair,
    /// It is looked at and told, and nothing is applied.
    Observe,
    /// Nothing is looked at but health, and nothing is applied.
    Paused,
}

/// In which order the nodes of a database are changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NodeUpdates {
    /// One after another, as the spec lists them.
    #[default]
    OneByOne,
    /// All at the same time; of each node still one instance at a time.
    Concurrent,
}

/// One node, with the spec's values and the node's overrides merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSpec {
    /// `n1`, …
    pub name: NodeName,
    /// The hosts of its instances; the first is the initial primary's. Of a node whose hosts are left open: those that were
    /// chosen; none, while nothing was.
    pub hosts: Vec<HostId>,
    /// What the document asks of hosts that it leaves open; none: it names them.
    pub placement: Option<PlacementRequest>,
    /// Postgres version, for example `17.11`.
    pub postgres_version: String,
    /// The image it runs: the catalogue's for the version, or the pinned one.
    pub image: String,
    /// Which port to publish.
    pub port: PortRequest,
    /// Limit in thousandths of a processor; none when the spec does not say.
    pub cpu_millis: Option<u64>,
    /// Limit, reservation and base of the tuning, in bytes.
    pub memory_bytes: u64,
    /// The user's parameters; they win over the derived ones.
    pub postgresql_conf: BTreeMap<String, String>,
    /// Whether a commit waits for a replica.
    pub synchronous: SynchronousMode,
    /// Lines put before the catch-all of `pg_hba.conf`; the node's own come first.
    pub pg_hba: Vec<String>,
    /// Lines of `pg_ident.conf`; the node's own come first.
    pub pg_ident: Vec<String>,
    /// What is passed on to the Swarm service.
    pub swarm: SwarmOptions,
}

/// What a document asks of the hosts that it leaves open.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PlacementRequest {
    /// Instances beside the primary.
    pub replicas: u8,
    /// Labels that each host must have.
    pub labels: HostLabels,
}

impl PlacementRequest {
    /// How many hosts that is.
    #[must_use]
    pub fn hosts(&self) -> usize {
        usize::from(self.replicas) + 1
    }
}

/// The port on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortRequest {
    /// Not published: reachable on the database's network only.
    Unpublished,
    /// Chosen once and kept (the document says 0).
    Chosen,
    /// This one.
    Fixed(u16),
}

/// A role that pgmoor keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserSpec {
    /// The role's name.
    pub username: String,
    /// The password, when the document gives one; else it is generated and kept in the record.
    pub password: Option<Secret>,
    /// Whether it owns the database.
    pub db_owner: bool,
    /// Its attributes.
    pub flags: RoleFlags,
    /// The roles it is a member of.
    pub roles: BTreeSet<String>,
}

/// An extension of the database.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExtensionSpec {
    /// The version; none takes the image's default and leaves it.
    pub version: Option<String>,
    /// The schema it is created in; none takes the extension's own.
    pub schema: Option<String>,
    /// The library it needs in `shared_preload_libraries`, from the catalogue.
    pub preload: Option<String>,
}

/// Statements that run once in the life of the database.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scripts {
    /// In the database `postgres`, when the instance first serves, before roles.
    pub post_init: Vec<String>,
    /// In the database itself, after it was created.
    pub post_database_create: Vec<String>,
}

/// `orchestrator_opts.swarm` without the image, which is resolved into the node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SwarmOptions {
    /// Host directories mounted besides our own: host path and path in the container.
    pub extra_volumes: Vec<ExtraVolume>,
    /// Networks joined besides our own.
    pub extra_networks: Vec<ExtraNetwork>,
    /// Labels put on service and container.
    pub extra_labels: BTreeMap<String, String>,
}

/// A host directory to mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtraVolume {
    /// Absolute path on the host; it must exist.
    pub host_path: String,
    /// Absolute path in the container.
    pub destination_path: String,
}

/// A network to join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtraNetwork {
    /// Name or id of a Swarm-scoped, attachable network.
    pub id: String,
    /// Names of the instance on it.
    pub aliases: Vec<String>,
    /// Options for the network's driver.
    pub driver_opts: BTreeMap<String, String>,
}

impl AcceptedSpec {
    /// Where its nodes are.
    #[must_use]
    pub fn placed(&self) -> NodeHosts {
        self.nodes.iter().map(|node| (node.name.clone(), node.hosts.clone())).collect()
    }

    /// The user who owns the database, if the spec names one.
    #[must_use]
    pub fn owner(&self) -> Option<&UserSpec> {
        self.users.iter().find(|user| user.db_owner)
    }
}
