//! Resources: the smallest things that the planner creates, updates or deletes.
//!
//! Desired and observed attributes have the same shape, so a diff is a comparison of two values. What a resource
//! carries besides (file content, a password) is its [`Payload`]: it is never compared, shown or put in a plan; where
//! content matters, its digest is an attribute.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::ids::{HostId, InstanceId, NodeName};
use super::role::RoleAttributes;
use super::secret::Secret;
use super::service::ServiceAttributes;

/// What kind of thing a resource is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The sealed record in a Swarm config; all others of a scope depend on it.
    Record,
    /// A directory on a host.
    Directory,
    /// A file on a host whose content we write.
    File,
    /// A private key and the certificate that the fleet's authority signed for it.
    Certificate,
    /// An overlay network.
    Network,
    /// A Swarm service.
    Service,
    /// A member in the list of etcd's members.
    EtcdMember,
    /// The fleet's etcd: answering, with authentication on, each of its members with a vote.
    Etcd,
    /// An etcd user that can reach one prefix only.
    EtcdUser,
    /// Patroni's dynamic configuration of a node: parameters, `pg_hba`, `pg_ident`. Deleting it deletes the node's prefix.
    PatroniConfig,
    /// An instance that runs, has loaded its configuration and waits for no restart.
    Instance,
    /// A Postgres role.
    Role,
    /// A Postgres database.
    Database,
    /// An extension of the database.
    Extension,
    /// Statements that run once.
    Script,
}

impl Kind {
    /// The kind's name as it stands in ids and plans.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Record => "record",
            Self::Directory => "directory",
            Self::File => "file",
            Self::Certificate => "certificate",
            Self::Network => "network",
            Self::Service => "service",
            Self::EtcdMember => "etcd-member",
            Self::Etcd => "etcd",
            Self::EtcdUser => "etcd-user",
            Self::PatroniConfig => "patroni-config",
            Self::Instance => "instance",
            Self::Role => "role",
            Self::Database => "database",
            Self::Extension => "extension",
            Self::Script => "script",
        }
    }
}

/// A resource's name, unique in its scope. Printed `kind::name`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ResourceId {
    /// The kind.
    pub kind: Kind,
    /// The name within the kind.
    pub name: String,
}

impl ResourceId {
    /// An id.
    #[must_use]
    pub fn new(kind: Kind, name: impl Into<String>) -> Self {
        Self { kind, name: name.into() }
    }
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}::{}", self.kind.as_str(), self.name)
    }
}

/// Who does the work.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "on", content = "name")]
pub enum Executor {
    /// This host.
    Host(HostId),
    /// The host of the node's current primary, found when the step runs.
    Primary(NodeName),
    /// Any manager of the Swarm: the planner itself.
    Manager,
}

/// Why one resource needs another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dependency {
    /// It must be there first; a change of it concerns us no further.
    Order,
    /// What we are is made from it: when it changes, we are updated (`dependency_updated`).
    Content,
    /// One of all that are named so must be there first: of the instances of a node, the one that is its primary.
    Any,
}

/// The instance that a resource is a part of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Member {
    /// Its node.
    pub node: NodeName,
    /// When the turn of its node is: nodes of a smaller one are changed before, those of the same one at the same time.
    #[serde(default)]
    pub turn: usize,
    /// Its place among the node's instances: the first is the initial primary. One that leaves comes after all others.
    pub place: usize,
    /// It.
    pub instance: InstanceId,
    /// Whether its host is to be left: it is no primary while another can be.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub drained: bool,
}

/// What a resource carries and never shows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Payload {
    /// Nothing.
    #[default]
    None,
    /// The content of a file, or the sealed bytes of a record.
    Content(Secret),
    /// A password.
    Password(Secret),
    /// SQL statements.
    Statements(Vec<String>),
}

/// The attributes of a resource: what is compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum Attributes {
    /// See [`Kind::Record`].
    Record {
        /// The revision in the newest Swarm config of the record.
        revision: u64,
    },
    /// See [`Kind::Directory`].
    Directory {
        /// Absolute path on the host.
        path: String,
        /// Permission bits, for example `0o700`.
        mode: u32,
        /// Owner's numeric user id.
        uid: u32,
        /// Owner's numeric group id.
        gid: u32,
        /// What a delete does with the content.
        on_delete: OnDelete,
    },
    /// See [`Kind::File`].
    File {
        /// Absolute path on the host.
        path: String,
        /// Permission bits, for example `0o600`.
        mode: u32,
        /// Owner's numeric user id.
        uid: u32,
        /// Owner's numeric group id.
        gid: u32,
        /// Digest of the content.
        content: Digest,
    },
    /// See [`Kind::Certificate`].
    Certificate(CertificateAttributes),
    /// See [`Kind::Network`].
    Network {
        /// The network's name.
        name: String,
        /// Whether containers outside services may join.
        attachable: bool,
    },
    /// See [`Kind::Service`].
    Service(Box<ServiceAttributes>),
    /// See [`Kind::EtcdMember`].
    EtcdMember {
        /// The URL at which other members reach it.
        peer_url: String,
    },
    /// See [`Kind::Etcd`].
    Etcd {
        /// Client URLs of the members, `https://address:port`.
        endpoints: BTreeSet<String>,
        /// Peer URLs of the members that have a vote (desired: all). Members that nobody wants are not among them.
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        voters: BTreeSet<String>,
        /// Whether authentication is on (desired: true).
        authentication: bool,
    },
    /// See [`Kind::EtcdUser`].
    EtcdUser {
        /// The user's name.
        name: String,
        /// The prefix that it may read and write.
        prefix: String,
        /// Desired: true. Observed: whether the wanted password logs in.
        password_matches: bool,
    },
    /// See [`Kind::PatroniConfig`].
    PatroniConfig(PatroniConfigAttributes),
    /// See [`Kind::Instance`].
    Instance(InstanceAttributes),
    /// See [`Kind::Role`].
    Role(RoleAttributes),
    /// See [`Kind::Database`].
    Database {
        /// The database's name.
        name: String,
        /// Its owner.
        owner: String,
    },
    /// See [`Kind::Extension`].
    Extension {
        /// The database it is in.
        database: String,
        /// The extension's name.
        name: String,
        /// The wanted version; observed: the installed one. None in the spec: whatever is installed.
        version: Option<String>,
        /// The wanted schema; none: the extension's own.
        schema: Option<String>,
    },
    /// See [`Kind::Script`].
    Script {
        /// The database it runs in.
        database: String,
        /// `post_init` or `post_database_create`.
        name: String,
        /// Whether it has run (desired: true).
        done: bool,
        /// The digest of its statements; observed: of those that ran. It never runs again, so the two may differ.
        statements: Digest,
    },
}

/// What deleting a directory does with its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDelete {
    /// It goes: everything in it can be made again.
    Remove,
    /// It moves to the trash, and creating the directory again brings it back (rule 4).
    Trash,
}

/// A certificate and its key: three files `{stem}.crt`, `{stem}.key`, and `ca.crt` beside them is a file of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateAttributes {
    /// Absolute path without the ending: `…/server` gives `…/server.crt` and `…/server.key`.
    pub stem: String,
    /// Owner's numeric user id; the key is 0600.
    pub uid: u32,
    /// Owner's numeric group id.
    pub gid: u32,
    /// The subject's common name: for system users, the name they log in as.
    pub common_name: String,
    /// DNS names and IP addresses that it is valid for.
    pub subject_alt_names: BTreeSet<String>,
    /// Whether a server may show it.
    pub server: bool,
    /// Whether a client may show it.
    pub client: bool,
    /// Digest of the authority's certificate (DER) that signed it.
    pub issuer: Digest,
    /// Desired: true. Observed: whether it is valid now and for a third of its life to come.
    pub fresh: bool,
}

/// Patroni's dynamic configuration, as it stands under the node's `config` key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PatroniConfigAttributes {
    /// The node's prefix in etcd, for example `/patroni/shop:n1/`.
    pub prefix: String,
    /// Seconds that a leader's lock lasts.
    pub ttl: u32,
    /// Seconds between two rounds of Patroni.
    pub loop_wait: u32,
    /// Seconds that Patroni tries etcd and Postgres again.
    pub retry_timeout: u32,
    /// Whether a primary goes on without etcd while all members answer.
    pub failsafe_mode: bool,
    /// Bytes of lag beyond which a replica is not promoted.
    pub maximum_lag_on_failover: u64,
    /// Whether a commit waits for a replica.
    #[serde(default, skip_serializing_if = "SynchronousMode::is_off")]
    pub synchronous_mode: SynchronousMode,
    /// Whether a diverged former primary is rewound.
    pub use_pg_rewind: bool,
    /// `postgresql.conf`, every value as text. Holds `pgmoor.config`, see [`InstanceAttributes::config`].
    pub parameters: BTreeMap<String, String>,
    /// The lines of `pg_hba.conf`.
    pub pg_hba: Vec<String>,
    /// The lines of `pg_ident.conf`.
    pub pg_ident: Vec<String>,
}

/// Patroni's `synchronous_mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SynchronousMode {
    /// A commit waits for no replica.
    #[default]
    Off,
    /// It waits for the replica that Patroni has chosen for it.
    On,
    /// It waits for as many of the replicas, whichever are the first.
    Quorum,
}

impl SynchronousMode {
    /// Whether a commit waits for no replica.
    #[must_use]
    pub fn is_off(&self) -> bool {
        *self == Self::Off
    }
}

/// An instance that is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceAttributes {
    /// The Swarm service it runs in.
    pub service: String,
    /// Whether Postgres answers as a member of its node.
    pub running: bool,
    /// The value of the parameter `pgmoor.config` that Postgres has loaded: a digest over all parameters, `pg_hba`
    /// and `pg_ident`, so that a reload which never happened is seen without any memory of our own.
    pub config: String,
    /// Whether a parameter waits for a restart (desired: false).
    pub pending_restart: bool,
    /// Whether the certificate it shows is the one on disk (desired: true).
    pub certificate_loaded: bool,
    /// Parameters of ours that `ALTER SYSTEM` sets over what we wrote (desired: none).
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub alter_system: BTreeSet<String>,
}

/// A desired resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// Its name.
    pub id: ResourceId,
    /// Who does the work.
    pub executor: Executor,
    /// The instance that it is a part of; none: no instance's, or that of all.
    pub member: Option<Member>,
    /// What must be there first, and why.
    pub dependencies: BTreeMap<ResourceId, Dependency>,
    /// What it shall be.
    pub attributes: Attributes,
    /// JSON pointers into the attributes that may differ without an update.
    pub may_differ: Vec<String>,
    /// What it carries and never shows.
    pub payload: Payload,
}

impl Attributes {
    /// The digest of these attributes alone.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(self)
    }
}
