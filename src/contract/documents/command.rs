//! `commands/{verb}/result`: the answer to a request.

use serde::{Deserialize, Serialize};

use super::{PlanDoc, Time, VerdictResult};
use crate::contract::faults::Fault;
use crate::model::{DatabaseId, Digest, TaskId};

/// Accepted or rejected, as for specs.
pub type CommandOutcome = VerdictResult;

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct CommandResult {
    /// The database that the request was about.
    pub database: DatabaseId,
    /// What was asked.
    pub verb: String,
    /// SHA-256 of the request's payload: how a client without MQTT 5 knows its own request.
    pub request: Digest,
    /// The request's correlation data as text, when it came with MQTT 5 and is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// Accepted or rejected.
    pub result: CommandOutcome,
    /// Why it was rejected.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<Fault>,
    /// The answer to `plan`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanDoc>,
    /// The task that does the work, for requests that take time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskId>,
    /// When it was answered.
    pub at: Time,
}
