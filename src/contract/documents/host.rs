//! `hosts/{host}/status`: what a host has, and whether it can work.

use serde::{Deserialize, Serialize};

use super::{HealthDoc, Time};
use crate::model::HostId;

/// Inventory and health of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct HostStatus {
    /// The host.
    pub host: HostId,
    /// The epoch of the controller that says it, as in its availability.
    pub epoch: u64,
    /// What it has.
    pub inventory: HostInventory,
    /// Whether it can work. Past its `valid_for_s`, or with its controller `lost`, it is not known.
    pub health: HealthDoc,
    /// When this was published.
    pub updated_at: Time,
}

/// What a host has.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
pub struct HostInventory {
    /// Processors.
    pub cpus: u32,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Memory promised to databases, in bytes.
    pub memory_promised_bytes: u64,
    /// Bytes on the file system of the data directory.
    pub disk_bytes: u64,
    /// Of these, free for pgmoor.
    pub disk_free_bytes: u64,
    /// The operating system, for example `Debian GNU/Linux 12 (bookworm)`.
    pub operating_system: String,
    /// The processor architecture, for example `x86_64`.
    pub architecture: String,
    /// The address that services on the host are reached at.
    pub address: String,
    /// The version of pgmoor.
    pub pgmoor_version: String,
    /// Docker on the host, when it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub docker: Option<DockerState>,
    /// How many instances run on it.
    pub instances: u32,
}

/// Docker on a host.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
pub struct DockerState {
    /// The engine's version.
    pub version: String,
    /// The host's id in the Swarm.
    pub swarm_node: String,
    /// Whether it is a manager of the Swarm.
    pub manager: bool,
}
