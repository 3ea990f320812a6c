//! `instances/{instance}/state`: one Postgres under Patroni, as it was last seen.

use serde::{Deserialize, Serialize};

use super::Time;
use crate::model::{DatabaseId, HostId, InstanceId, NodeName};

/// One Postgres.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct InstanceState {
    /// The database.
    pub database: DatabaseId,
    /// The instance.
    pub instance: InstanceId,
    /// The node that it belongs to.
    pub node: NodeName,
    /// The host that it runs on.
    pub host: HostId,
    /// What Patroni says it does: `running`, `starting`, `stopped`, `creating replica`, …
    pub state: String,
    /// Primary or replica.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// Whether commits of its primary wait for this replica, so that it may take over without losing one. Only where the
    /// spec asks for synchronous commits; Patroni chooses within ten seconds of a replica's streaming.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub synchronous: bool,
    /// Postgres' timeline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeline: Option<u64>,
    /// Position in the write-ahead log, as Postgres writes it (`0/3000148`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lsn: Option<String>,
    /// Bytes that a replica is behind the primary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_bytes: Option<u64>,
    /// For example `17.11`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postgres_version: Option<String>,
    /// The id of the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// The image that it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Whether a parameter waits for a restart of Postgres.
    pub pending_restart: bool,
    /// When Postgres was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When this was seen.
    pub checked_at: Time,
}

/// What an instance is in its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It takes writes.
    Primary,
    /// It follows the primary.
    Replica,
}
