//! What can be seen of an instance on its own host: the raw facts, which the monitor judges wherever they come from.

use serde::{Deserialize, Serialize};

use crate::model::{DatabaseId, HostId, InstanceId, NodeName};

/// An instance that should be there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Its database.
    pub database: DatabaseId,
    /// Its node.
    pub node: NodeName,
    /// Its id.
    pub instance: InstanceId,
    /// The host that it is on.
    pub host: HostId,
}

/// What was seen of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "seen")]
pub enum Vitals {
    /// It could not be looked at.
    Hidden {
        /// Why.
        why: String,
    },
    /// It is still being made.
    NotThere {
        /// What is missing.
        what: String,
    },
    /// No container of it runs.
    Stopped,
    /// Its container runs, and something in it does not answer.
    Silent {
        /// Why.
        why: String,
    },
    /// Its Patroni answers.
    Answers(Box<Answering>),
}

/// What Patroni said of an instance, and Postgres where it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answering {
    /// The id of its container.
    pub container: String,
    /// Patroni's word for what Postgres does, for example `running`.
    pub state: String,
    /// Patroni's word for its role.
    pub role: String,
    /// Whether commits of its primary wait for it. A host of an older version does not say.
    #[serde(default)]
    pub synchronous: bool,
    /// Its timeline.
    pub timeline: Option<u32>,
    /// Its position in the write-ahead log, in bytes.
    pub lsn: Option<u64>,
    /// Whether Postgres waits for a restart.
    pub pending_restart: bool,
    /// Postgres itself; none where it does not run.
    pub server: Option<ServerVitals>,
}

/// What Postgres said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "server")]
pub enum ServerVitals {
    /// It did not answer.
    Silent {
        /// Why.
        why: String,
    },
    /// It answered.
    Answers {
        /// Its version.
        version: String,
        /// When it was started: milliseconds since 1970.
        started_ms: i64,
        /// Parameters that wait for a restart.
        pending_restart: bool,
        /// What is wrong with its configuration, the first of it.
        configuration_error: Option<String>,
    },
}
