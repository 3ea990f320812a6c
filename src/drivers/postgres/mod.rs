//! Postgres over SQL, as the system superuser with its certificate.
//!
//! What pgmoor made is remembered in Postgres itself: roles by a comment, scripts and extensions in the schema
//! `pgmoor` of the database they belong to.

mod extensions;
mod own;
mod quote;
mod roles;
mod scram;
mod scripts;
mod server;
mod session;
mod sql;

pub use sql::Sql;

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;

use super::{Endpoint, Result};
use crate::model::role::RoleAttributes;
use crate::model::{Digest, Secret};

/// What a running server says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerSeen {
    /// `current_setting('pgmoor.config', true)`: the configuration that is loaded.
    pub config: Option<String>,
    /// Whether it is a replica, or still recovering.
    pub in_recovery: bool,
    /// Parameters that wait for a restart. What `ALTER SYSTEM` set is not among them: who set it says when it begins.
    pub pending_restart: Vec<String>,
    /// Parameters that `ALTER SYSTEM` sets over what Patroni wrote. Those that Patroni does not write are not among them.
    pub alter_system: BTreeSet<String>,
    /// The replicas that stream from it, by the names that they give, with the bytes of write-ahead log that each has yet
    /// to replay.
    pub streaming: BTreeMap<String, u64>,
    /// What it runs with of the parameters of which a replica must have at least as much as its primary, by name.
    pub runs_with: BTreeMap<String, u64>,
    /// `pg_postmaster_start_time()`: milliseconds since 1970.
    pub started_ms: i64,
    /// `server_version`, for example `17.11`.
    pub version: String,
    /// Lines of `pg_hba.conf` or files that could not be loaded, in Postgres's words.
    pub configuration_errors: Vec<String>,
}

/// A role that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleSeen {
    /// Its attributes; `password_matches` is true for roles whose password was not asked about.
    pub attributes: RoleAttributes,
    /// Whether pgmoor made it (so pgmoor may drop it).
    pub managed: bool,
}

/// A database that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseSeen {
    /// Its name.
    pub name: String,
    /// Its owner.
    pub owner: String,
}

/// An extension that is installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtensionSeen {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its schema.
    pub schema: String,
    /// Whether pgmoor made it (so pgmoor may drop it).
    pub managed: bool,
}

/// Postgres of one instance.
#[async_trait]
pub trait Postgres: Send + Sync {
    /// What the server says about itself.
    async fn server(&self, at: &Endpoint) -> Result<ServerSeen>;

    /// Takes back what `ALTER SYSTEM` set for these parameters, and has Postgres load what is written for them.
    async fn reset_parameters(&self, at: &Endpoint, names: &BTreeSet<String>) -> Result<()>;

    /// All roles except Postgres's own (`pg_…`). The passwords asked about are by role name.
    async fn roles(&self, at: &Endpoint, passwords: &BTreeMap<String, Secret>) -> Result<Vec<RoleSeen>>;
    /// Makes the role what is described, in one transaction; one made here is marked as ours. No password: none is set.
    async fn put_role(&self, at: &Endpoint, role: &RoleAttributes, password: Option<&Secret>) -> Result<()>;
    /// Drops a role; what it owns in any database goes to `heir` first.
    async fn drop_role(&self, at: &Endpoint, name: &str, heir: &str) -> Result<()>;

    /// All databases except templates.
    async fn databases(&self, at: &Endpoint) -> Result<Vec<DatabaseSeen>>;
    /// Makes the database, or gives it this owner.
    async fn put_database(&self, at: &Endpoint, name: &str, owner: &str) -> Result<()>;

    /// The extensions in a database.
    async fn extensions(&self, at: &Endpoint, database: &str) -> Result<Vec<ExtensionSeen>>;
    /// Installs the extension, or brings it to this version and schema.
    async fn put_extension(
        &self,
        at: &Endpoint,
        database: &str,
        name: &str,
        version: Option<&str>,
        schema: Option<&str>,
    ) -> Result<()>;
    /// Drops an extension, never with what depends on it.
    async fn drop_extension(&self, at: &Endpoint, database: &str, name: &str) -> Result<()>;

    /// The scripts that have run in a database, each with the digest of the statements that ran.
    async fn scripts_done(&self, at: &Endpoint, database: &str) -> Result<BTreeMap<String, Digest>>;
    /// Runs the statements and remembers it, in one transaction. Does nothing when they have run.
    async fn run_script(&self, at: &Endpoint, database: &str, name: &str, statements: &[String]) -> Result<()>;
}
