//! `hosts/{host}/status`: what a host has, and whether it can work.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Condition, HealthDoc, Time, Trash};
use crate::model::{DatabaseId, HostId};

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
    /// What keeps the fleet's own services (etcd, the authority) from running here; empty when nothing does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
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
    /// Its name in the network.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hostname: String,
    /// The address that services on the host are reached at.
    pub address: String,
    /// The version of pgmoor.
    pub pgmoor_version: String,
    /// The PostgreSQL versions that it can run now: their image is there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub postgres_versions: Vec<String>,
    /// The images of the catalogue, and whether the host has them; empty until Docker has told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<ImageState>,
    /// Docker on the host, when it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub docker: Option<DockerState>,
    /// Seconds between two looks at a database that nothing is heard of: after so long, and the time that a look and a
    /// repair take, a change behind our back is found and mended. It grows in proportion beyond 50 databases; what Docker
    /// tells is looked at at once. None: not known yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub look_every_s: Option<u32>,
    /// How many instances run on it.
    pub instances: u32,
    /// Deleted databases whose data is in its trash.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub trash: BTreeMap<DatabaseId, Trash>,
}

/// An image of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ImageState {
    /// What runs in it: `postgres` or `etcd`.
    pub component: String,
    /// Its version.
    pub version: String,
    /// The image.
    pub image: String,
    /// Whether the host has it. One that is missing is pulled when it is needed, where a registry answers.
    pub present: bool,
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
