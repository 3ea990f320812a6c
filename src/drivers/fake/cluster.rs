//! What lies in a Postgres data directory: roles, databases, extensions, rows. It outlives every container.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::Secret;
use crate::model::role::RoleFlags;

/// Where the write-ahead log of a new cluster ends.
const LSN: u64 = 0x0300_0000;
/// What a change adds to it.
pub(super) const LSN_OF_CHANGE: u64 = 256;

/// A role.
#[derive(Debug, Clone)]
pub(super) struct Role {
    pub(super) flags: RoleFlags,
    pub(super) member_of: BTreeSet<String>,
    pub(super) password: Option<Secret>,
    pub(super) managed: bool,
    pub(super) connection_limit: Option<i32>,
    pub(super) valid_until: Option<String>,
}

/// An installed extension.
#[derive(Debug, Clone)]
pub(super) struct Extension {
    pub(super) version: String,
    pub(super) schema: String,
    pub(super) managed: bool,
}

/// A database.
#[derive(Debug, Clone)]
pub(super) struct Database {
    pub(super) owner: String,
    pub(super) extensions: BTreeMap<String, Extension>,
    /// Scripts that ran, by name, with what they ran.
    pub(super) scripts: BTreeMap<String, Vec<String>>,
    /// What users wrote.
    pub(super) rows: Vec<String>,
}

impl Database {
    pub(super) fn new(owner: &str) -> Self {
        let plpgsql = Extension { version: "1.0".to_owned(), schema: "pg_catalog".to_owned(), managed: false };
        Self {
            owner: owner.to_owned(),
            extensions: BTreeMap::from([("plpgsql".to_owned(), plpgsql)]),
            scripts: BTreeMap::new(),
            rows: Vec::new(),
        }
    }
}

/// A cluster.
#[derive(Debug, Clone)]
pub(super) struct Cluster {
    /// What `initialize` in etcd must say.
    pub(super) system_id: String,
    /// Grows with each new primary.
    pub(super) timeline: u32,
    /// Bytes of write-ahead log.
    pub(super) lsn: u64,
    /// The instance that was primary last.
    pub(super) written_by: Option<String>,
    /// `PG_VERSION`: a server of another major version does not start on it.
    pub(super) major: String,
    /// Boxed, as databases are: a tree of two takes the room of eleven.
    pub(super) roles: BTreeMap<String, Box<Role>>,
    pub(super) databases: BTreeMap<String, Box<Database>>,
    /// `postgresql.auto.conf`: what `ALTER SYSTEM` set.
    pub(super) auto_conf: BTreeMap<String, String>,
}

impl Cluster {
    /// `initdb` and Patroni's bootstrap.
    pub(super) fn new(system_id: String, major: &str, superuser: &str, replication: &str) -> Self {
        let role = |flags: RoleFlags| {
            Box::new(Role {
                flags,
                member_of: BTreeSet::new(),
                password: None,
                managed: false,
                connection_limit: None,
                valid_until: None,
            })
        };
        let all = RoleFlags {
            superuser: true,
            createdb: true,
            createrole: true,
            inherit: true,
            login: true,
            replication: true,
            bypassrls: true,
        };
        let streams = RoleFlags { login: true, replication: true, ..RoleFlags::default() };
        Self {
            system_id,
            timeline: 1,
            lsn: LSN,
            written_by: None,
            major: major.to_owned(),
            roles: BTreeMap::from([(superuser.to_owned(), role(all)), (replication.to_owned(), role(streams))]),
            databases: BTreeMap::from([("postgres".to_owned(), Box::new(Database::new(superuser)))]),
            auto_conf: BTreeMap::new(),
        }
    }

    /// Whether a role can be named: Postgres's own (`pg_read_all_data`, …) are always there.
    pub(super) fn knows_role(&self, name: &str) -> bool {
        self.roles.contains_key(name) || name.starts_with("pg_")
    }
}
