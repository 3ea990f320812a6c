//! etcd, through its JSON gateway, over TLS with a client certificate.
//!
//! Invariant of the gateway (etcd 3.5): once authentication is on, it refuses every client whose certificate has a
//! common name, so the certificates that are shown to etcd have none.

mod gateway;
mod json;
mod members;
mod users;

pub use gateway::Gateway;

use std::collections::BTreeSet;

use async_trait::async_trait;

use super::{Result, TlsIdentity};
use crate::model::Secret;

/// Where etcd answers, and who we are to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdTarget {
    /// Client URLs, tried one after another: `https://192.0.2.1:2379`.
    pub endpoints: Vec<String>,
    /// Our client certificate.
    pub identity: std::sync::Arc<TlsIdentity>,
    /// Password of etcd's user `root`. Calls log in with it when authentication is on, and go without where it is off.
    pub root_password: Secret,
}

/// A key's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySeen {
    /// The value.
    pub value: Vec<u8>,
    /// The revision of its last change, for compare-and-set.
    pub mod_revision: i64,
}

/// A user that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserSeen {
    /// The prefixes that its role of the same name may read and write.
    pub prefixes: Vec<String>,
    /// Whether the asked password logs in.
    pub password_matches: bool,
}

/// A member of the cluster, as its list has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberSeen {
    /// Its id in etcd.
    pub id: String,
    /// The URLs at which other members reach it.
    pub peer_urls: BTreeSet<String>,
    /// Whether it has a vote; one that is still catching up has none.
    pub votes: bool,
}

/// The fleet's etcd.
#[async_trait]
pub trait Etcd: Send + Sync {
    /// Whether authentication is on. `Unreachable` when no member answers with a quorum.
    async fn authentication(&self, target: &EtcdTarget) -> Result<bool>;
    /// Makes the user and role `root` and switches authentication on. It may be half done already.
    async fn enable_authentication(&self, target: &EtcdTarget) -> Result<()>;
    /// The members, as a quorum knows them.
    async fn members(&self, target: &EtcdTarget) -> Result<Vec<MemberSeen>>;
    /// Adds a member without a vote, which is reached at this URL. It may be there already.
    async fn add_member(&self, target: &EtcdTarget, peer_url: &str) -> Result<()>;
    /// Gives a member its vote. `Unreachable` while it has not caught up. It may have it already.
    async fn promote_member(&self, target: &EtcdTarget, id: &str) -> Result<()>;
    /// Says at which URL a member is reached from now on.
    async fn move_member(&self, target: &EtcdTarget, id: &str, peer_url: &str) -> Result<()>;
    /// Takes a member out of the cluster. It may be gone already. `Unreachable` while those that stay would have no quorum.
    async fn remove_member(&self, target: &EtcdTarget, id: &str) -> Result<()>;
    /// The names of all users except `root`.
    async fn users(&self, target: &EtcdTarget) -> Result<Vec<String>>;
    /// A user, if it is there.
    async fn user(&self, target: &EtcdTarget, name: &str, password: &Secret) -> Result<Option<UserSeen>>;
    /// Makes the user and a role of the same name what is described: this password, this prefix only.
    async fn put_user(&self, target: &EtcdTarget, name: &str, password: &Secret, prefix: &str) -> Result<()>;
    /// Deletes the user and its role. They may be gone already.
    async fn delete_user(&self, target: &EtcdTarget, name: &str) -> Result<()>;
    /// A key's value, if it is there.
    async fn get(&self, target: &EtcdTarget, key: &str) -> Result<Option<KeySeen>>;
    /// The keys below a prefix.
    async fn keys(&self, target: &EtcdTarget, prefix: &str) -> Result<Vec<String>>;
    /// Writes a key if its revision is still `expected` (0: it must not exist; none: in any case).
    /// `Conflict` when it is not.
    async fn put(&self, target: &EtcdTarget, key: &str, value: &[u8], expected: Option<i64>) -> Result<()>;
    /// Deletes all keys below a prefix.
    async fn delete_prefix(&self, target: &EtcdTarget, prefix: &str) -> Result<()>;
}
