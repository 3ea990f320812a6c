//! `hosts/{host}/join` and `hosts/{host}/admission`: a new host asks to be let in, and what it is told.
//!
//! Only the envelope is part of the contract, as for work between hosts. The inside is sealed with the secret of the token,
//! together with topic and `id`.

use serde::{Deserialize, Serialize};

use crate::contract::faults::Fault;
use crate::model::{Digest, HostId, TaskId};

/// A host asks to be let in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct HostJoin {
    /// Which request; asked again it has the same id, and is answered again.
    pub id: TaskId,
    /// The name of the token.
    pub token: TaskId,
    /// When the token ends: seconds since 1970.
    pub expires_at_s: i64,
    /// The digest of the certificate of the authority that the token was made under.
    pub authority: Digest,
    /// The host's id once more, sealed with the token's secret; base64.
    pub sealed: String,
}

/// What a host that asked is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct HostAdmission {
    /// Which request.
    pub id: TaskId,
    /// The host that answers.
    pub from: HostId,
    /// Why it is not let in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<Fault>,
    /// What it needs to be of the fleet, sealed with the token's secret; base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<String>,
}
