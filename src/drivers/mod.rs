//! Drivers: one folder per outside system. They read and write and decide nothing.
//!
//! Each system is a trait, so that the real one and the in-memory one (`fake`) are held to one conformance suite.
//! Architecture invariant: a call that gets no answer is [`Error::Unreachable`], which the reconciler turns into
//! `Unknown`, never into `Absent`. Every call has a deadline of its own. No secret is in an error.

pub mod certificates;
pub mod etcd;
pub mod fake;
pub mod handover;
pub mod host;
pub mod join;
pub mod patroni;
pub mod postgres;
pub mod seal;
pub mod swarm;
pub mod tls;

use std::net::IpAddr;
use std::sync::Arc;

use crate::model::Secret;

/// What went wrong with a call to an outside system.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No answer, or an answer that says nothing about the thing: it may or may not be there, the act may or may not
    /// have happened.
    #[error("{act}: no answer: {why}")]
    Unreachable {
        /// What was tried, with ids.
        act: String,
        /// What the system or the network said.
        why: String,
    },
    /// The thing that the call is about is not there.
    #[error("{act}: not found")]
    NotFound {
        /// What was tried, with ids.
        act: String,
    },
    /// Somebody else's change came first, or the name is taken: look again.
    #[error("{act}: conflict: {why}")]
    Conflict {
        /// What was tried, with ids.
        act: String,
        /// What the system said.
        why: String,
    },
    /// The system understood and said no, or the act failed: the same call gives the same answer until something
    /// changes.
    #[error("{act}: {why}")]
    Failed {
        /// What was tried, with ids.
        act: String,
        /// What the system said.
        why: String,
    },
}

/// The result of a driver's call.
pub type Result<T> = std::result::Result<T, Error>;

/// A key pair and the authority that both sides trust.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsIdentity {
    /// The fleet authority's certificate, PEM.
    pub ca_pem: String,
    /// Our certificate, PEM.
    pub certificate_pem: String,
    /// Its key, PEM.
    pub key_pem: Secret,
}

/// Where an instance's Postgres or Patroni answers, and who we are to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The container's address on the `bridge` network.
    pub address: IpAddr,
    /// 5432 or 8008.
    pub port: u16,
    /// The name that its certificate must be for: the instance id.
    pub server_name: String,
    /// The certificate of the system superuser.
    pub identity: Arc<TlsIdentity>,
}

/// All drivers of one daemon.
#[derive(Clone)]
pub struct Drivers {
    /// Docker Swarm and the engine of this host.
    pub swarm: Arc<dyn swarm::Swarm>,
    /// Files, ports and disk of this host.
    pub host: Arc<dyn host::Host>,
    /// Patroni's REST interface.
    pub patroni: Arc<dyn patroni::Patroni>,
    /// Postgres over SQL.
    pub postgres: Arc<dyn postgres::Postgres>,
    /// The etcd that Patroni uses.
    pub etcd: Arc<dyn etcd::Etcd>,
}

impl std::fmt::Debug for Drivers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Drivers")
    }
}
