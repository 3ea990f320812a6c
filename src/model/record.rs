//! Records: what cannot be derived again. One per database and one for the fleet, sealed with the fleet key, kept as
//! Swarm configs and cached in redb (rule 8: the controller is disposable).
//!
//! Invariant: what is chosen (ports, passwords) is in the record, and the record is in Swarm, before it is first used.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::ids::{DatabaseId, FleetId, HostId, InstanceId};
use super::labels::HostLabels;
use super::secret::{Secret, clear, clear_map};

/// The record of one database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Grows by one with each change; the Swarm config's name carries it, so two writers of one revision collide.
    pub revision: u64,
    /// Whose record it is.
    pub database: DatabaseId,
    /// The last accepted spec, as it was published.
    pub spec: Option<StoredSpec>,
    /// The image each node was given when its spec was accepted, so that a newer catalogue changes no running image.
    pub images: BTreeMap<String, String>,
    /// Instances of nodes that were removed: their data is in the trash, where that of the whole database would be, and
    /// goes with it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub trashed: BTreeSet<InstanceId>,
    /// Ports chosen for instances whose spec says 0.
    pub ports: BTreeMap<InstanceId, u16>,
    /// The hosts chosen for each node whose spec leaves them open, by the node's name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub placement: BTreeMap<String, Placement>,
    /// Passwords of the spec's users: generated ones, and the last given one of each.
    #[serde(with = "clear_map")]
    pub passwords: BTreeMap<String, Secret>,
    /// Passwords of the instances' etcd users.
    #[serde(with = "clear_map")]
    pub etcd_passwords: BTreeMap<String, Secret>,
    /// Set when the database was deleted: its data is in the trash.
    pub tombstone: Option<Tombstone>,
}

/// The hosts that were chosen for the instances of a node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Placement {
    /// The labels that the spec asked for when they were chosen: with the same ones nobody moves.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: HostLabels,
    /// They, in the order in which they were chosen.
    pub hosts: Vec<ChosenHost>,
}

/// A host that was chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChosenHost {
    /// It.
    pub host: HostId,
    /// Why, as it stood then: a clause for people that follows the host's name and a colon.
    pub why: String,
}

/// A spec as it was published.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredSpec {
    /// The document's text. It may hold a password that its author put there.
    #[serde(with = "clear")]
    pub document: Secret,
    /// The digest of its bytes.
    pub digest: Digest,
    /// The user's generation, if the document has one.
    pub generation: Option<u64>,
    /// When it was accepted: seconds since 1970, UTC.
    pub accepted_at_s: i64,
}

impl std::fmt::Debug for StoredSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoredSpec").field("digest", &self.digest).field("generation", &self.generation).finish()
    }
}

/// That a database was deleted, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// Seconds since 1970, UTC.
    pub deleted_at_s: i64,
    /// When the data may be purged if the daemon runs all the time: seconds since 1970, UTC. What counts is
    /// [`Tombstone::grace_ms`].
    pub purge_at_s: i64,
    /// The digest of the spec that was applied last.
    pub last_digest: Option<Digest>,
}

impl Tombstone {
    /// For how long the data stays in the trash, in milliseconds. It is counted in time that the daemon runs: the wall
    /// clock of a host without a battery may jump by years.
    #[must_use]
    pub fn grace_ms(&self) -> u64 {
        u64::try_from(self.purge_at_s.saturating_sub(self.deleted_at_s)).unwrap_or(0).saturating_mul(1000)
    }
}

impl Record {
    /// The first record of a database.
    #[must_use]
    pub fn new(database: DatabaseId) -> Self {
        Self {
            revision: 1,
            database,
            spec: None,
            images: BTreeMap::new(),
            trashed: BTreeSet::new(),
            ports: BTreeMap::new(),
            placement: BTreeMap::new(),
            passwords: BTreeMap::new(),
            etcd_passwords: BTreeMap::new(),
            tombstone: None,
        }
    }
}

/// The record of the fleet: its certificate authority and the secrets of its etcd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetRecord {
    /// Grows by one with each change.
    pub revision: u64,
    /// Whose record it is.
    pub fleet: FleetId,
    /// The authority's certificate, PEM.
    pub ca_certificate_pem: String,
    /// The authority's key, PEM.
    #[serde(with = "clear")]
    pub ca_key_pem: Secret,
    /// Password of etcd's user `root`.
    #[serde(with = "clear")]
    pub etcd_root_password: Secret,
    /// The hosts that run an etcd member, with the address each advertises.
    pub etcd_members: BTreeMap<HostId, String>,
    /// How each member joined the cluster. One without an entry founded it, alone.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub etcd_joined: BTreeMap<HostId, EtcdJoined>,
    /// The member that is coming or going: one at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etcd_change: Option<EtcdChange>,
    /// The token that keeps this etcd cluster apart from others.
    pub etcd_cluster_token: String,
    /// The hosts that are not to be used as any other.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hosts: BTreeMap<HostId, HostStanding>,
    /// Instances of databases that were purged while their host did not answer: whatever of them is on its disk goes when
    /// it does. Until then nothing with such an id is made there again.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub leftovers: BTreeMap<HostId, BTreeSet<InstanceId>>,
}

/// How a host stands that is not to be used as any other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostStanding {
    /// It gets nothing new, and what can go elsewhere goes.
    Drained,
    /// It is no host of the fleet any more, whether it is there or not.
    Removed,
}

/// How a member joined the fleet's etcd. It never changes, so the member is not started again when others come or go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EtcdJoined {
    /// The revision of the fleet's record with which it came: its data directory has this number, since the data of an
    /// earlier membership would keep it from starting.
    pub revision: u64,
    /// The members of then, itself among them, with the address that each advertised.
    pub members: BTreeMap<HostId, String>,
}

/// A change of the members of the fleet's etcd that is under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "change")]
pub enum EtcdChange {
    /// A host gets a member. It is among the members already.
    Joins {
        /// The host.
        host: HostId,
        /// It is in etcd's own list of members and has started, without a vote. Before that it gets none: a member with a
        /// vote must be startable while etcd has no quorum and nobody can read the list.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        started: bool,
    },
    /// A host has a member no more. It is not among the members any more; what is left of it goes.
    Leaves {
        /// The host.
        host: HostId,
        /// The address that the member advertised.
        address: String,
        /// How it had joined.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        joined: Option<EtcdJoined>,
    },
}
