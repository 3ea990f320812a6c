//! `orchestrator_opts` and `scripts`.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What pgmoor does about what differs from the spec, whether somebody changed the world or the spec itself is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReconcileMode {
    /// Looks at it all the time and makes it as the spec asks.
    Repair,
    /// Looks at it all the time and tells what differs (condition `Drifted`, events, the plan), and applies nothing: no
    /// repair, and no change that the spec asks for either. Back at `repair` all of it is done.
    Observe,
    /// Looks at nothing but its health, and applies nothing. Back at `repair` all of it is done.
    Paused,
}

/// What is passed on to the orchestrator.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OrchestratorOpts {
    /// For Docker Swarm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swarm: Option<SwarmOpts>,
}

/// What is passed on to Docker Swarm.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SwarmOpts {
    /// Pins the image instead of the catalogue's for the version.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255), regex(pattern = super::scalars::IMAGE))]
    pub image: Option<String>,
    /// Host directories mounted into the container.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub extra_volumes: Vec<ExtraVolumeSpec>,
    /// Swarm networks that the container joins.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub extra_networks: Vec<ExtraNetworkSpec>,
    /// Labels put on service and container.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub extra_labels: BTreeMap<String, String>,
}

/// A host directory to mount.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExtraVolumeSpec {
    /// Absolute path of a directory or file on the host.
    #[schemars(length(min = 1, max = 256))]
    pub host_path: String,
    /// Absolute path in the container.
    #[schemars(length(min = 1, max = 256))]
    pub destination_path: String,
}

/// A Swarm network to join.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExtraNetworkSpec {
    /// Name or id of an attachable Swarm network.
    #[schemars(length(min = 1, max = 255))]
    pub id: String,
    /// Names of the instance on it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 1, max = 255)))]
    pub aliases: Vec<String>,
    /// Options for the network's driver.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub driver_opts: BTreeMap<String, String>,
}

/// Statements that run once, each list in one transaction, as the superuser `pgmoor`: what they make is its own until they
/// give it away (`ALTER TABLE … OWNER TO …`). A list that ran is not run again when it is changed: the condition
/// `ScriptChanged` says so.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ScriptsSpec {
    /// In the database `postgres`, when the instance first serves.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 1024)))]
    pub post_init: Vec<String>,
    /// In the database itself, after it was created.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 1024)))]
    pub post_database_create: Vec<String>,
}

impl fmt::Debug for ScriptsSpec {
    /// Hidden: a statement may set a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScriptsSpec({} + {} statements)", self.post_init.len(), self.post_database_create.len())
    }
}

/// Whether a commit waits until a replica has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SynchronousReplication {
    /// For none: what was committed last may be lost with the primary's host.
    Off,
    /// For the one that Patroni has chosen; while no replica streams, for none.
    On,
    /// For one of all replicas, whichever is first; while none streams, for none.
    Quorum,
}

/// How the nodes of a database replicate to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NodeReplication {
    /// Not at all: each node is a database of its own, writable apart from the others.
    None,
}

/// In which order the nodes of a database are changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NodeUpdates {
    /// One after another, in the order of `nodes`: no two are interrupted at once, and one that fails holds back those
    /// after it.
    OneByOne,
    /// All at the same time; of each node still one instance at a time.
    Concurrent,
}

/// Who decides that what runs may be interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalMode {
    /// The spec itself: what it asks is done.
    Auto,
    /// A person, each time: before the first restart, the first replaced container and the delete of what runs the plan
    /// waits (condition `ApprovalNeeded`) for `commands/apply` with its digest. Repairs of what does not run go on.
    Manual,
}
