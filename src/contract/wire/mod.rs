//! The spec as it stands on the topic, field for field as in the reference (section 1), and pgmoor's own fields.
//!
//! The JSON Schema comes from these types: a doc comment is the field's description, the `schemars` attributes are
//! its limits. Invariants: unknown keys are refused everywhere; what may be secret is a [`SecretText`] or hides itself
//! in `Debug`; nothing outside `contract` uses these types.

mod backup;
mod labels;
mod options;
mod scalars;
mod service;
mod user;

pub use backup::{
    BackupConfigSpec, BackupKind, BackupRepositorySpec, BackupScheduleSpec, RepositoryType, RestoreConfigSpec,
    RestoreRepositorySpec, RetentionType,
};
pub use labels::HostLabelsSpec;
pub use options::{
    ApprovalMode, ExtraNetworkSpec, ExtraVolumeSpec, NodeReplication, NodeUpdates, OrchestratorOpts, ReconcileMode,
    ScriptsSpec, SwarmOpts, SynchronousReplication,
};
pub use scalars::{ParameterValue, Parameters, SecretText};
pub use service::{DatabaseConnectionSpec, ServiceConfig, ServiceSpec, ServiceType, TargetSessionAttrs};
pub use user::{DatabaseUserSpec, ExtensionEntry, ExtensionObject};

pub(super) mod patterns {
    //! The patterns that the schema's faults are told by.

    pub(in crate::contract) use super::labels::VALUE as HOST_LABEL;
    pub(in crate::contract) use super::scalars::{CPUS, IMAGE, MEMORY, POSTGRES_VERSION};
}

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use scalars::{ID, MEMORY, POSTGRES_VERSION};

/// A database as it shall be. Everything may be left out: `{"template": "postgres"}` alone is a database.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DatabaseSpec {
    /// A template of the catalogue: it fixes what the spec leaves out (image, visibility, users).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub template: Option<String>,
    /// The author's own counter. A spec with a lower one than the accepted spec's is refused, and so is one with the
    /// same one and another content.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 9_007_199_254_740_991_u64))]
    pub generation: Option<u64>,
    /// A text that `status.observed.client_token` echoes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub client_token: Option<String>,
    /// Deletes the database: everything that runs goes, the data moves to the trash.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deleted: Option<bool>,
    /// Refuses to delete the database. To delete it, publish the spec with `false` first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_protection: Option<bool>,
    /// Who decides that what runs may be interrupted; left out: `auto`; of a delete: as it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalMode>,
    /// What pgmoor does about what differs from the spec; left out: `repair`. A delete is acted on in any case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reconcile: Option<ReconcileMode>,
    /// The name of the Postgres database; left out: the database's id. It cannot be changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 31))]
    pub database_name: Option<String>,
    /// PostgreSQL version, major and minor; left out: what it already runs, else the template's, else the
    /// catalogue's default. The major version cannot be changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = POSTGRES_VERSION))]
    pub postgres_version: Option<String>,
    /// Major version of the spock extension.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^[0-9]$"))]
    pub spock_version: Option<String>,
    /// Port on the host: left out, none is published; 0: one is chosen and kept; else this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 65_535))]
    pub port: Option<u16>,
    /// Port of Patroni's REST interface; for systemd, which this build does not drive.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 65_535))]
    pub patroni_port: Option<u16>,
    /// Processors that each instance may use: a number with up to three decimals (`0.5`) or thousandths (`500m`).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = scalars::CPUS))]
    pub cpus: Option<String>,
    /// Memory of each instance, limit and reservation, from which the tuning is derived: a number of bytes with a
    /// unit (`512MiB`, `2GB`); left out: 512 MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), regex(pattern = MEMORY))]
    pub memory: Option<String>,
    /// The nodes; left out: `n1`, on hosts that pgmoor chooses.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 9))]
    pub nodes: Option<Vec<DatabaseNodeSpec>>,
    /// How many replicas a node has beside its primary, on as many hosts more, for each node that names no `host_ids`:
    /// pgmoor chooses hosts with the fewest instances, then with the most free memory, keeps them, and says why in
    /// `status.placement`; left out: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 8))]
    pub replicas: Option<u8>,
    /// Labels that a host must have to be chosen, each with this value. Hosts have theirs from their configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_labels: Option<HostLabelsSpec>,
    /// How several nodes replicate to each other; this build knows `none` only, and a spec with several nodes has to say
    /// it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_replication: Option<NodeReplication>,
    /// In which order several nodes are changed; left out: `one-by-one`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_updates: Option<NodeUpdates>,
    /// Whether a commit waits for a replica; left out: `off`. Needs a node with more than one host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub synchronous: Option<SynchronousReplication>,
    /// Roles of the database; left out: the template's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub database_users: Option<Vec<DatabaseUserSpec>>,
    /// Extensions of the database, each a name or an object with name, version and schema.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub extensions: Vec<ExtensionEntry>,
    /// Containers beside the database.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<ServiceSpec>,
    /// Where and when backups are made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup_config: Option<BackupConfigSpec>,
    /// The backup that the database is made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restore_config: Option<RestoreConfigSpec>,
    /// Parameters of `postgresql.conf`; they win over the derived ones.
    #[serde(skip_serializing_if = "Parameters::is_empty")]
    pub postgresql_conf: Parameters,
    /// Lines of `pg_hba.conf`, put before the catch-all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(max = 1024)))]
    pub pg_hba_conf: Vec<String>,
    /// Lines of `pg_ident.conf`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(max = 1024)))]
    pub pg_ident_conf: Vec<String>,
    /// What is passed on to the orchestrator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub orchestrator_opts: Option<OrchestratorOpts>,
    /// Statements that run once in the life of the database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scripts: Option<ScriptsSpec>,
}

/// One writable primary with its replicas. What it says wins over the database's.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DatabaseNodeSpec {
    /// `n1`, `n2`, …
    #[schemars(regex(pattern = crate::model::ids::NODE_NAME_PATTERN))]
    pub name: String,
    /// Removes the node: what runs of it goes, its data moves to the trash. A node that is only left out of the list is not
    /// removed: such a spec is refused. Once it is gone, its entry can go too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted: Option<bool>,
    /// The hosts of its instances; the first is the initial primary's. Left out: pgmoor chooses them, by `replicas` and
    /// `host_labels`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1), inner(length(min = 1, max = 36), regex(pattern = ID)))]
    pub host_ids: Vec<String>,
    /// As in the database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 8))]
    pub replicas: Option<u8>,
    /// Replaces the database's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_labels: Option<HostLabelsSpec>,
    /// As in the database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = POSTGRES_VERSION))]
    pub postgres_version: Option<String>,
    /// As in the database; 0 asks for a chosen port whatever the database says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 65_535))]
    pub port: Option<u16>,
    /// As in the database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 65_535))]
    pub patroni_port: Option<u16>,
    /// As in the database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = scalars::CPUS))]
    pub cpus: Option<String>,
    /// As in the database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), regex(pattern = MEMORY))]
    pub memory: Option<String>,
    /// Merged over the database's, key by key.
    #[serde(default, skip_serializing_if = "Parameters::is_empty")]
    pub postgresql_conf: Parameters,
    /// Put before the database's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(max = 1024)))]
    pub pg_hba_conf: Vec<String>,
    /// Put before the database's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(max = 1024)))]
    pub pg_ident_conf: Vec<String>,
    /// Replaces the database's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_config: Option<BackupConfigSpec>,
    /// Replaces the database's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_config: Option<RestoreConfigSpec>,
    /// Replaces the database's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orchestrator_opts: Option<OrchestratorOpts>,
    /// The node that a new node copies its data from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = crate::model::ids::NODE_NAME_PATTERN))]
    pub source_node: Option<String>,
}
