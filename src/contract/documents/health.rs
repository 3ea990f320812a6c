//! `health`: one small document for a database and for each instance.

use serde::{Deserialize, Serialize};

use super::Time;
use crate::model::Health;

/// How something is, since when, and until when that counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct HealthDoc {
    /// How it is.
    pub health: Health,
    /// Since when it has been so.
    pub since: Time,
    /// When it was last looked at.
    pub checked_at: Time,
    /// Seconds after `checked_at` for which this counts. Later it is `unknown`: the publisher may be gone.
    pub valid_for_s: u32,
    /// Why, as a sentence for people; there is none when it is healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
