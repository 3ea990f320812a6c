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
    /// What its operator says of it, for specs that ask for it (`host_labels` of its configuration).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The address that services on the host are reached at.
    pub address: String,
    /// The version of pgmoor.
    pub pgmoor_version: String,
    /// The PostgreSQL versions that it can run now: their image is there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub postgres_versions: Vec<String>,
    /// The images of the catalogue, and others that a spec pins for this host, and whether the host has them; empty until
    /// Docker has told.
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

/// An image that the host needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ImageState {
    /// What runs in it: `postgres` or `etcd`.
    pub component: String,
    /// Its version; empty for one that only a spec names.
    pub version: String,
    /// The image.
    pub image: String,
    /// Whether the host has it. One that is missing is pulled, where a registry is configured and answers, or handed over
    /// by another host that has it.
    pub present: bool,
    /// Docker's id of it; on another host that has the same image it is the same. None: it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// It is on its way here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arrives: Option<ImageArrival>,
    /// Why it did not get here, when it was tried last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// An image on its way to a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ImageArrival {
    /// The host that hands it over; none: it is pulled from a registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<HostId>,
    /// Bytes that came.
    pub bytes: u64,
    /// Of so many, about; 0: not known.
    pub of_bytes: u64,
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
