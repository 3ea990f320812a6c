//! What `history` and `diff` answer: what was accepted and done, and what differs between two specs.
//!
//! Invariant: neither shows a value that may be secret; see [`crate::contract::spec::diff`].

use serde::{Deserialize, Serialize};

use super::{Action, Change, Disruption, Time};
use crate::model::Digest;

/// The history of a database, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
pub struct HistoryDoc {
    /// The accepted specs that are kept.
    pub specs: Vec<PastSpec>,
    /// The finished plans that are kept, and the one that runs.
    pub plans: Vec<PastPlan>,
    /// Where its data is, when it is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trash: Option<Trash>,
}

/// A spec that was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PastSpec {
    /// Its number in this history, from 1. A store that was lost begins anew.
    pub number: u64,
    /// Its own generation, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// SHA-256 of the payload as it was published.
    pub digest: Digest,
    /// Whether it deleted the database.
    pub deleted: bool,
    /// How it came.
    pub by: AcceptedBy,
    /// When it was accepted.
    pub at: Time,
}

/// How a spec came to be accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AcceptedBy {
    /// It was published on the spec topic.
    #[default]
    Publish,
    /// The spec topic was cleared, which deletes.
    ClearedTopic,
    /// The command `undelete`.
    Undelete,
    /// The command `rollback`.
    Rollback,
    /// It was found in the record after the store was lost; what was accepted before is not known any more.
    Record,
}

/// A plan and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PastPlan {
    /// The digest of the spec that it led to, when there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<Digest>,
    /// When its first step had ended.
    pub started_at: Time,
    /// When nothing was left to do; none: it runs, or waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// The worst disruption of its steps.
    pub disruption: Disruption,
    /// The steps, in the order in which they ended.
    pub steps: Vec<PastStep>,
    /// How many more steps there were than are kept.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub steps_left_out: u32,
}

/// A step that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PastStep {
    /// What was done.
    pub action: Action,
    /// To what: `kind::name`.
    pub resource: String,
    /// What clients of the database felt.
    pub disruption: Disruption,
    /// How long the last attempt took, in milliseconds.
    pub took_ms: u64,
    /// How often it was tried.
    pub attempts: u32,
    /// Why the last attempt failed; none: it worked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Data in the trash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Trash {
    /// When it was deleted.
    pub deleted_at: Time,
    /// For how long it stays, in seconds in which the daemon runs.
    pub keeps_for_s: u64,
}

/// What differs between two accepted specs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct SpecDiff {
    /// The older one.
    pub from: PastSpec,
    /// The newer one.
    pub to: PastSpec,
    /// The fields that differ. A value that may be secret shows as `(hidden)`.
    pub changes: Vec<Change>,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}
