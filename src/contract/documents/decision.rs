//! What `decision` answers: how the controller came to a plan, for `pgmoor replay`.
//!
//! Invariant: it holds no secret; what may be one stands under a name that tells nothing.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Time;
use crate::model::DatabaseId;

/// A decision of the controller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct DecisionDoc {
    /// The database that it is about; none: the fleet's own services, on which all databases stand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<DatabaseId>,
    /// Its number since the controller was started; none: it was made to answer, and nothing was done about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
    /// The version of pgmoor that decided.
    pub pgmoor: String,
    /// When it was decided so first.
    pub at: Time,
    /// When it was decided so last, without another decision between.
    pub last_at: Time,
    /// How often in a row.
    pub times: u64,
    /// The steps that began at once: `kind::name`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub begun: Vec<String>,
    /// The steps that were held.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<HeldStep>,
    /// What was desired and seen, and the plan that was made of it, in this version's own form.
    pub decision: Value,
}

/// A step that might not begin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct HeldStep {
    /// Of what: `kind::name`.
    pub resource: String,
    /// Why, as a part of a sentence for people.
    pub why: String,
}
