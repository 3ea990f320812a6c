//! A Swarm service as pgmoor describes it: exactly the part of Docker's service spec that we set and read back.
//!
//! Invariant: the driver can read a live service back into this shape, so a service edited by hand shows as a diff.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// The whole description. Everything except `labels` is part of the task: a change of it replaces the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceAttributes {
    /// The service's name, a DNS label of at most 63 characters.
    pub name: String,
    /// The image reference.
    pub image: String,
    /// The program, when it is not the image's own.
    pub command: Vec<String>,
    /// Its arguments, when they are not the image's own.
    pub args: Vec<String>,
    /// Environment. Never a secret: `docker inspect` shows it.
    pub env: BTreeMap<String, String>,
    /// Hostname inside the container.
    pub hostname: String,
    /// Bind mounts. Their order means nothing, and `docker service update` sorts them, whatever it is told to change.
    pub mounts: BTreeSet<Mount>,
    /// Networks in the order of attachment.
    pub networks: Vec<Attachment>,
    /// Ports published on the host (mode host).
    pub ports: Vec<PublishedPort>,
    /// How Docker finds out that the container is alive.
    pub healthcheck: Option<Healthcheck>,
    /// The Swarm node it must run on.
    pub swarm_node: String,
    /// CPU limit in thousandths of a processor.
    pub cpu_limit_millis: Option<u64>,
    /// CPU reservation in thousandths of a processor.
    pub cpu_reservation_millis: Option<u64>,
    /// Memory limit in bytes.
    pub memory_limit_bytes: Option<u64>,
    /// Memory reservation in bytes.
    pub memory_reservation_bytes: Option<u64>,
    /// Size of `/dev/shm` in bytes (a tmpfs mount).
    pub shm_bytes: Option<u64>,
    /// How long Docker waits between SIGTERM and SIGKILL, in seconds.
    pub stop_grace_s: u32,
    /// How long Swarm waits before it starts a failed task again, in seconds.
    pub restart_delay_s: u32,
    /// 1, or 0 for a service that is stopped on purpose.
    pub replicas: u64,
    /// Labels of the container (a change replaces it).
    pub container_labels: BTreeMap<String, String>,
    /// Labels of the service alone (a change disturbs nothing).
    pub labels: BTreeMap<String, String>,
}

/// A bind mount.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Mount {
    /// Path on the host.
    pub source: String,
    /// Path in the container.
    pub target: String,
    /// Whether the container may only read it.
    pub read_only: bool,
    /// Whether no other container, running or stopping, may have it mounted when this service is created
    /// (rule 3: one data directory, one Postgres).
    pub exclusive: bool,
}

/// A network that the service joins.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Attachment {
    /// The network's name (the driver translates names and ids).
    pub network: String,
    /// Names besides the service's own.
    pub aliases: Vec<String>,
    /// Options for the network's driver.
    pub driver_opts: BTreeMap<String, String>,
}

/// A port published in host mode.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PublishedPort {
    /// `postgres`, `client`, `peer`: what the port is for.
    pub name: String,
    /// Port in the container.
    pub target: u16,
    /// Port on the host.
    pub published: u16,
}

/// A health check; durations in seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Healthcheck {
    /// The command, run by the container's shell.
    pub shell: String,
    /// Time between two checks. A task's name is not in DNS until the first success, so it is short.
    pub interval_s: u32,
    /// How long one check may take.
    pub timeout_s: u32,
    /// Failures within this time after the start do not count.
    pub start_period_s: u32,
    /// Failures in a row before the container is unhealthy.
    pub retries: u32,
}
