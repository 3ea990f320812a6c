//! What the hosts of a fleet are, as far as resources depend on them.
//!
//! Architecture invariant: nothing here says which of them leads, or which one asks. A graph is made from [`Hosts`], so
//! it is the same under every leader.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::Owner;
use crate::model::{FleetRecord, HostId, HostLabels, HostStanding};

/// What a host is, as far as its resources depend on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFacts {
    /// Its id.
    pub host: HostId,
    /// Its name in the network: a name in server certificates. May be empty.
    pub hostname: String,
    /// Its Swarm node id.
    pub swarm_node: String,
    /// The absolute path of the daemon's data directory, without a slash at the end.
    pub data_dir: String,
    /// The address at which other hosts and containers reach it. Never loopback (rule 12).
    pub advertise_address: IpAddr,
    /// Processors.
    pub cpus: u32,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// What its operator says of it.
    #[serde(default, skip_serializing_if = "HostLabels::is_empty")]
    pub labels: HostLabels,
    /// Whom Postgres runs as in its image (label `org.pgmoor.uid`).
    pub postgres_owner: Owner,
    /// Whom etcd runs as in its image.
    pub etcd_owner: Owner,
}

/// Whether a host was removed from its fleet.
#[must_use]
pub fn is_removed(fleet: &FleetRecord, host: &HostId) -> bool {
    fleet.hosts.get(host) == Some(&HostStanding::Removed)
}

/// The facts of all hosts of a fleet that are known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hosts(BTreeMap<HostId, HostFacts>);

impl Hosts {
    /// The facts of a host; none while they are not known.
    #[must_use]
    pub fn get(&self, host: &HostId) -> Option<&HostFacts> {
        self.0.get(host)
    }

    /// All of them, by id.
    pub fn iter(&self) -> impl Iterator<Item = &HostFacts> {
        self.0.values()
    }

    /// Those of them that were not removed from the fleet.
    #[must_use]
    pub fn of(&self, fleet: &FleetRecord) -> Self {
        self.iter().filter(|facts| !is_removed(fleet, &facts.host)).cloned().collect()
    }

    /// The address at which each is reached.
    #[must_use]
    pub fn addresses(&self) -> BTreeMap<HostId, IpAddr> {
        self.0.iter().map(|(host, facts)| (host.clone(), facts.advertise_address)).collect()
    }
}

impl FromIterator<HostFacts> for Hosts {
    fn from_iter<I: IntoIterator<Item = HostFacts>>(all: I) -> Self {
        Self(all.into_iter().map(|facts| (facts.host.clone(), facts)).collect())
    }
}

/// A fleet of one host.
impl From<HostFacts> for Hosts {
    fn from(only: HostFacts) -> Self {
        Self::from_iter([only])
    }
}
