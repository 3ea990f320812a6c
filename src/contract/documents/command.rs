//! `commands/{verb}/result`: the answer to a request.

use serde::{Deserialize, Serialize};

use super::{DecisionDoc, HistoryDoc, ObservedSpec, PlanDoc, SpecDiff, Time, VerdictResult};
use crate::contract::commands::Question;
use crate::contract::faults::Fault;
use crate::model::{DatabaseId, Digest, TaskId};

/// Accepted or rejected, as for specs.
pub type CommandOutcome = VerdictResult;

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct CommandResult {
    /// The database that the request was about; none: the fleet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<DatabaseId>,
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
    /// What follows, as a sentence for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The spec that was published for `undelete` and `rollback`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<ObservedSpec>,
    /// The answer to `history`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<HistoryDoc>,
    /// The answer to `diff`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diff: Option<SpecDiff>,
    /// The answer to `decision`; none: there is no older one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<DecisionDoc>,
    /// The task that does the work, for requests that take time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskId>,
    /// When it was answered.
    pub at: Time,
}

impl CommandResult {
    /// The plain answer that a request was accepted.
    #[must_use]
    pub fn accepted(question: &Question, at: Time) -> Self {
        Self {
            database: Some(question.database.clone()),
            verb: question.verb.as_str().to_owned(),
            request: Digest::of_bytes(&question.payload),
            correlation_id: question.correlation_id(),
            result: CommandOutcome::Accepted,
            faults: Vec::new(),
            plan: None,
            message: None,
            spec: None,
            history: None,
            diff: None,
            decision: None,
            task: None,
            at,
        }
    }

    /// The same, but rejected for these reasons.
    #[must_use]
    pub fn rejected(self, faults: Vec<Fault>) -> Self {
        Self { result: CommandOutcome::Rejected, faults, ..self }
    }
}

/// The payload of `apply`: a person approves of what the plan on `databases/{db}/plan` interrupts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Approve {
    /// `approval.digest` of the plan that waits, or its first twelve or more digits.
    #[schemars(regex(pattern = "^[0-9a-f]{12,64}$"))]
    pub digest: String,
}
