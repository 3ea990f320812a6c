//! Patroni's REST interface, over TLS with client certificates.

mod rest;

pub use rest::Rest;

use async_trait::async_trait;

use super::{Endpoint, Result};
use crate::model::Digest;

/// What `GET /patroni` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatroniSeen {
    /// Patroni's word: `running`, `starting`, `stopped`, `start failed`, `crashed`, …
    pub state: String,
    /// `primary` (also when Patroni says `master`), `replica`, `uninitialized`, …
    pub role: String,
    /// Whether commits of its primary wait for it, so that it may take over (`sync_standby`, `quorum_standby`).
    pub synchronous: bool,
    /// Whether Patroni says that a parameter waits for a restart.
    pub pending_restart: bool,
    /// The timeline, once Postgres runs.
    pub timeline: Option<u32>,
    /// `server_version`, for example 170011.
    pub server_version: Option<u32>,
    /// Patroni's own version.
    pub patroni_version: Option<String>,
    /// The position in the write-ahead log in bytes: `xlog.location` of a primary, `xlog.replayed_location` of a replica.
    pub lsn: Option<u64>,
    /// Whether Patroni is paused.
    pub paused: bool,
    /// Digest of the certificate (DER) that it showed us.
    pub certificate: Digest,
}

/// Patroni of one instance.
#[async_trait]
pub trait Patroni: Send + Sync {
    /// How the instance is. A Patroni that answers with an error code and a document is still an answer.
    async fn status(&self, at: &Endpoint) -> Result<PatroniSeen>;
    /// Patches the dynamic configuration (`PATCH /config`; null removes a key): Patroni acts on it at once.
    async fn patch_config(&self, at: &Endpoint, patch: &serde_json::Value) -> Result<()>;
    /// Reads its own file and certificates again, and reloads Postgres.
    async fn reload(&self, at: &Endpoint) -> Result<()>;
    /// Restarts Postgres (not the container).
    async fn restart(&self, at: &Endpoint) -> Result<()>;
    /// Asks the primary, of this name, to hand its role to a member of its node. It answers once that one has it.
    async fn switchover(&self, at: &Endpoint, primary: &str, candidate: &str) -> Result<()>;
}
