//! `services`: containers beside the database. Checked, not yet acted on.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::options::OrchestratorOpts;
use super::scalars::{CPUS, ID, MEMORY};

/// A container beside the database.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceSpec {
    /// Its id, unique in the database.
    #[schemars(length(min = 1, max = 36), regex(pattern = ID))]
    pub service_id: String,
    /// What runs in it.
    pub service_type: ServiceType,
    /// Its version, or `latest`.
    #[schemars(regex(pattern = r"^([0-9]+\.[0-9]+(\.[0-9]+)?|latest)$"))]
    pub version: String,
    /// The hosts that it runs on.
    #[schemars(length(min = 1), inner(length(min = 1, max = 36), regex(pattern = ID)))]
    pub host_ids: Vec<String>,
    /// The user of `database_users` that it logs in as.
    #[schemars(length(min = 1, max = 63))]
    pub connect_as: String,
    /// Port on the host: left out, none is published; 0: one is chosen and kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 65_535))]
    pub port: Option<u16>,
    /// Settings of the service; which ones there are depends on its type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<ServiceConfig>,
    /// Processors that it may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = CPUS))]
    pub cpus: Option<String>,
    /// Memory that it may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), regex(pattern = MEMORY))]
    pub memory: Option<String>,
    /// What is passed on to the orchestrator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orchestrator_opts: Option<OrchestratorOpts>,
    /// Which instances it connects to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database_connection: Option<DatabaseConnectionSpec>,
}

/// The kinds of services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum ServiceType {
    /// A Model Context Protocol server.
    Mcp,
    /// A REST interface.
    Postgrest,
    /// Retrieval-augmented generation.
    Rag,
}

/// Which instances a service connects to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DatabaseConnectionSpec {
    /// Names of nodes; left out: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(inner(regex(pattern = crate::model::ids::NODE_NAME_PATTERN)))]
    pub target_nodes: Vec<String>,
    /// libpq's `target_session_attrs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_session_attrs: Option<TargetSessionAttrs>,
}

/// libpq's `target_session_attrs`, those that the reference allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum TargetSessionAttrs {
    /// The primary.
    Primary,
    /// A replica while there is one.
    PreferStandby,
    /// A replica.
    Standby,
    /// Whoever takes writes.
    ReadWrite,
    /// Whoever answers.
    Any,
}

/// Settings of a service. They may hold keys, so they hide themselves.
#[derive(Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
pub struct ServiceConfig(pub serde_json::Map<String, serde_json::Value>);

impl fmt::Debug for ServiceConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
