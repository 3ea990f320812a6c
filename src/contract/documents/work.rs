//! `hosts/{host}/work` and `hosts/{host}/answers`: what the host that leads asks of another, and what became of it.
//!
//! Only the envelope is part of the contract. What is asked and answered is sealed for the host with a key that follows
//! from the fleet's, together with the topic, `id` and `epoch`: nobody else can read it, make it up, or pass one off as
//! another. Its form is that of the version of pgmoor that sends it.

use serde::{Deserialize, Serialize};

use crate::model::{HostId, TaskId};

/// Work for a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct HostWork {
    /// Which work; asked for again it has the same id, and is done once.
    pub id: TaskId,
    /// The epoch of the lead that it comes from. A host refuses an older one than the newest that it has heard of.
    pub epoch: u64,
    /// The host that leads.
    pub from: HostId,
    /// The work, sealed; base64.
    pub sealed: String,
}

/// What became of a host's work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct HostAnswer {
    /// Which work.
    pub id: TaskId,
    /// The epoch of the work.
    pub epoch: u64,
    /// The host that answers.
    pub from: HostId,
    /// The answer, sealed; base64.
    pub sealed: String,
}
