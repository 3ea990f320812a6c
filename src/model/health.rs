//! Health in four words, as the health topics say it.

use serde::{Deserialize, Serialize};

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// All is as it should be.
    Healthy,
    /// It serves, but something needs a look.
    Degraded,
    /// It does not serve.
    Down,
    /// We cannot see it: nothing follows from that.
    Unknown,
}
