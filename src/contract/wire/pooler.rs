//! `pooler`: pgbouncer beside the instances of a node.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::scalars::{IMAGE, MEMORY};

/// A pooler (pgbouncer) on each host of the node: it keeps few connections to whichever instance is primary and lends them to
/// many clients. `{}` is enough.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PoolerSpec {
    /// Port on each host: left out, none is published (clients join the database's network); 0: one is chosen for each host
    /// and kept; else this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 65_535))]
    pub port: Option<u16>,
    /// For how long a client has a connection; left out: `transaction`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<PoolerMode>,
    /// The most clients that one pooler serves at a time, more are refused; left out: 200.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub max_client_connections: Option<u32>,
    /// The most connections to the primary that one pooler keeps for each user of the database; left out: 20. All poolers of
    /// a node together count against the primary's `max_connections`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000))]
    pub pool_size: Option<u32>,
    /// Memory of each pooler, limit and reservation, at least 32 MiB: some 50 KiB for each client are enough; left out:
    /// 64 MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), regex(pattern = MEMORY))]
    pub memory: Option<String>,
    /// Pins the image instead of the catalogue's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255), regex(pattern = IMAGE))]
    pub image: Option<String>,
}

/// For how long a pooler lends a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PoolerMode {
    /// For a transaction: nothing that lasts longer (`SET`, temporary tables, advisory locks, `LISTEN`) can be relied on.
    Transaction,
    /// Until it leaves: everything works, and only as many clients at a time as there are connections.
    Session,
}
