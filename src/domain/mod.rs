//! What the fleet and a database are made of: an accepted spec and a record in, the graph of desired resources out,
//! with every text in it (`patroni.yml`, parameters, `pg_hba.conf`, the service descriptions).
//!
//! Architecture invariant: this room is pure. Time, randomness and the facts of a host come in as arguments; the same
//! arguments give the same graph, byte for byte, so a digest of it says whether anything has to be done.

pub mod catalogue;
pub mod credentials;
pub mod database;
pub mod fleet;
pub mod layout;
pub mod members;
pub mod parameters;
pub mod patroni;
pub mod placement;

mod describe;
#[cfg(test)]
mod fixture;
mod hba;
mod hosts;
#[cfg(test)]
mod tests;
mod tuning;

pub use hosts::{HostFacts, Hosts, is_removed};

use crate::model::{GraphError, HostId, NodeName};

/// Numeric user and group id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

impl Owner {
    /// The daemon's own files.
    pub const ROOT: Self = Self { uid: 0, gid: 0 };
    /// The user of the project's images (deploy/images, and the reference's).
    pub const IMAGE: Self = Self { uid: 26, gid: 26 };
}

/// What the daemon's configuration says about the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FleetOptions {
    /// The port on each member's host where etcd serves clients.
    pub etcd_client_port: u16,
    /// The port on each member's host where etcd serves other members.
    pub etcd_peer_port: u16,
}

impl Default for FleetOptions {
    /// etcd's registered ports.
    fn default() -> Self {
        Self { etcd_client_port: layout::ETCD_CLIENT_PORT, etcd_peer_port: layout::ETCD_PEER_PORT }
    }
}

/// Why there is no graph, or no record.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An instance belongs to a host whose facts were not given.
    #[error("describe node {node}: nothing is known about host {host}")]
    Host {
        /// The node.
        node: NodeName,
        /// The host.
        host: HostId,
    },
    /// What must be chosen once is not in the record: it was not minted for this spec.
    #[error("describe the database: the record has no {0}")]
    NotMinted(String),
    /// No port is left.
    #[error("choose a port on host {0}: none of 5432-15432 is free")]
    NoPort(HostId),
    /// The user's parameter cannot be had.
    #[error("describe node {node}: parameter \"{name}\": {why}")]
    Parameter {
        /// The node.
        node: NodeName,
        /// The parameter.
        name: String,
        /// Why, as a sentence for people.
        why: &'static str,
    },
    /// The spec describes a role that is pgmoor's own.
    #[error("describe role \"{0}\": the name is reserved")]
    ReservedRole(String),
    /// The authority's certificate cannot be read.
    #[error("read the certificate of the fleet's authority: {0}")]
    Authority(String),
    /// A host that runs an etcd member has no known facts.
    #[error("describe etcd: nothing is known about its member host {0}")]
    UnknownMember(HostId),
    /// A document cannot be written.
    #[error("write {what}: {why}")]
    Render {
        /// Which document.
        what: &'static str,
        /// What the serializer said.
        why: String,
    },
    /// The resources are no graph.
    #[error("order the resources")]
    Graph(#[from] GraphError),
}
