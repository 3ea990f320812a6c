//! How one daemon reaches the world: drivers, the fleet's secrets, facts of this host, sealed records, and where an
//! instance answers. The reconciler and the monitor share it.
//!
//! Invariants: nothing is decided here; where an instance answers is found anew each time (a container's address
//! changes with the container).

pub mod current;
pub mod images;
pub mod lead;
pub mod lease;
pub mod record;
pub mod roster;
pub mod vitals;
pub mod work;

use std::net::IpAddr;
use std::sync::Arc;

use crate::domain::{HostFacts, Hosts, layout};
use crate::drivers::certificates::Authority;
use crate::drivers::etcd::EtcdTarget;
use crate::drivers::seal::FleetKey;
use crate::drivers::swarm::{ContainerSeen, Labels};
use crate::drivers::{Drivers, Endpoint, Error, Result, TlsIdentity};
use crate::model::{Catalogue, FleetId, HostId, Scope};
use crate::runtime::clock::Clock;
use crate::runtime::random::Random;

/// The label that Swarm itself puts on the containers of a service.
pub(crate) const SERVICE_NAME_LABEL: &str = "com.docker.swarm.service.name";
/// The label with the digest of all that an object was applied with.
pub(crate) const APPLIED_LABEL: &str = "pgmoor.applied";
/// The label of a container with the digest of all that decides about it: another digest is another container.
pub(crate) const TASK_LABEL: &str = "pgmoor.task";
/// The label with the name of the resource that an object is.
pub(crate) const RESOURCE_LABEL: &str = "pgmoor.resource";
/// The label with the fleet that an object belongs to.
pub(crate) const FLEET_LABEL: &str = "pgmoor.fleet";
/// The label with the scope that an object belongs to.
pub(crate) const SCOPE_LABEL: &str = "pgmoor.scope";

/// Postgres's port in the container.
const POSTGRES_PORT: u16 = 5432;
/// Patroni's REST port in the container.
const PATRONI_PORT: u16 = 8008;

/// The world as one daemon reaches it.
#[derive(Clone)]
pub struct World {
    /// The outside systems.
    pub drivers: Drivers,
    /// The fleet.
    pub fleet: FleetId,
    /// What seals records.
    pub key: Arc<FleetKey>,
    /// What the fleet offers.
    pub catalogue: Arc<Catalogue>,
    /// What this host is.
    pub facts: HostFacts,
    /// What all hosts of the fleet are, this one among them.
    pub hosts: Hosts,
    /// The fleet's authority and etcd secrets.
    pub record: current::Current,
    /// etcd's client port on each member's host.
    pub etcd_client_port: u16,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness, for jitter.
    pub random: Random,
    /// The lead under which this host works; none: nobody else can lead.
    pub lease: Option<lease::Lease>,
    /// The other hosts, where this one leads; none: whatever is not here cannot be reached.
    pub remote: Option<Arc<dyn work::Remote>>,
    /// The images of this host and, where it leads, what is known of those of the others.
    pub images: Arc<images::Depot>,
}

impl World {
    /// The labels that every object of a scope carries.
    pub(crate) fn selector(&self, scope: &Scope) -> Labels {
        Labels::from([(FLEET_LABEL.to_owned(), self.fleet.to_string()), (SCOPE_LABEL.to_owned(), scope.label())])
    }

    /// Confirms that this host leads, through Swarm's Raft: before it changes anything as the leader.
    pub(crate) async fn confirm_lead(&self) -> Result<()> {
        match &self.lease {
            Some(lease) => lease.renew(&*self.drivers.swarm).await,
            None => Ok(()),
        }
    }

    /// Another host, to be asked.
    pub(crate) fn other(&self, host: &HostId) -> Result<&dyn work::Remote> {
        let why = || format!("it is another host than {}, and no line leads there now", self.facts.host);
        self.remote.as_deref().ok_or_else(|| Error::Unreachable { act: format!("ask host {host}"), why: why() })
    }

    /// Seconds since 1970.
    pub(crate) fn now_s(&self) -> i64 {
        self.clock.now_ms() / 1000
    }

    /// The fleet's certificate authority.
    pub(crate) fn authority(&self) -> Authority {
        let record = self.record.get();
        Authority { certificate_pem: record.ca_certificate_pem.clone(), key_pem: record.ca_key_pem.clone() }
    }

    /// A certificate and its key from this host's files.
    async fn identity(&self, stem: &str) -> Result<TlsIdentity> {
        let read = async |ending: &str| {
            let path = format!("{stem}.{ending}");
            let file = self.drivers.host.read(&path).await?;
            file.ok_or_else(|| Error::NotFound { act: format!("read {path}") })
        };
        Ok(TlsIdentity {
            ca_pem: self.record.get().ca_certificate_pem.clone(),
            certificate_pem: read("crt").await?.content.expose().to_owned(),
            key_pem: read("key").await?.content,
        })
    }

    /// The fleet's etcd, as its user `root`.
    pub(crate) async fn etcd(&self) -> Result<EtcdTarget> {
        let identity = self.identity(&layout::daemon_etcd_stem(&self.facts.data_dir)).await?;
        let record = self.record.get();
        let endpoints =
            record.etcd_members.values().map(|address| layout::etcd_url(address, self.etcd_client_port)).collect();
        Ok(EtcdTarget { endpoints, identity: Arc::new(identity), root_password: record.etcd_root_password.clone() })
    }

    /// The running container of a service on this host, if there is one. One that Swarm is about to replace, since the
    /// service was updated and it was made from what the service was before, counts as none: it goes on serving for a
    /// while, and whoever comes next would take it for the new one.
    pub(crate) async fn container(&self, service: &str) -> Result<Option<ContainerSeen>> {
        // Names of services are the whole Swarm's: another fleet's of the same name is not ours.
        let selector = Labels::from([
            (SERVICE_NAME_LABEL.to_owned(), service.to_owned()),
            (FLEET_LABEL.to_owned(), self.fleet.to_string()),
        ]);
        let containers = self.drivers.swarm.containers(&selector).await?;
        let newest = containers.into_iter().filter(|c| c.state == "running").max_by_key(|c| c.started_ms);
        let Some(container) = newest else { return Ok(None) };
        let (Some(made_from), Some(scope)) = (container.labels.get(TASK_LABEL), container.labels.get(SCOPE_LABEL))
        else {
            return Ok(Some(container));
        };
        let selector =
            Labels::from([(FLEET_LABEL.to_owned(), self.fleet.to_string()), (SCOPE_LABEL.to_owned(), scope.clone())]);
        let services = self.drivers.swarm.services(&selector).await?;
        let live = services.into_iter().find(|live| live.attributes.name == service);
        let wanted = live.and_then(|live| live.attributes.container_labels.get(TASK_LABEL).cloned());
        let is_replaced = wanted.is_some_and(|wanted| wanted != *made_from);
        Ok((!is_replaced).then_some(container))
    }

    /// Where an instance's Postgres and Patroni answer; none while no container of it runs.
    pub(crate) async fn instance(&self, instance: &str, service: &str) -> Result<Option<InstanceEndpoints>> {
        let Some(container) = self.container(service).await? else { return Ok(None) };
        let Some(address) = container.bridge_address else { return Ok(None) };
        let stem = layout::superuser_stem(&self.facts.data_dir, instance);
        let identity = Arc::new(self.identity(&stem).await?);
        let at = |port: u16, address: IpAddr| Endpoint {
            address,
            port,
            server_name: instance.to_owned(),
            identity: Arc::clone(&identity),
        };
        Ok(Some(InstanceEndpoints {
            patroni: at(PATRONI_PORT, address),
            postgres: at(POSTGRES_PORT, address),
            container,
        }))
    }
}

/// Where one running instance answers.
#[derive(Debug, Clone)]
pub struct InstanceEndpoints {
    /// Its Patroni.
    pub patroni: Endpoint,
    /// Its Postgres.
    pub postgres: Endpoint,
    /// The container that it runs in.
    pub container: ContainerSeen,
}
