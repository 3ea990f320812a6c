//! From an engine that answers to a world that can be worked on: facts of this host, the fleet's record, the records
//! of its databases.
//!
//! Invariant: a fleet record is made only when Swarm has said that there is none (rule 2: what could not be seen is
//! not absent); of two copies of a record the newer revision holds (rule 8).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::domain::{HostFacts, Owner, fleet};
use crate::drivers::certificates;
use crate::drivers::seal::FleetKey;
use crate::drivers::{self, Drivers};
use crate::model::{Catalogue, FleetId, FleetRecord, HostId};
use crate::monitor::HostReporter;
use crate::runtime::backoff::{Backoff, Schedule};
use crate::runtime::chain::chain;
use crate::runtime::clock::SharedClock;
use crate::runtime::random::Random;
use crate::store::{self, Rows as _, Store};
use crate::world::{World, record};

/// The label of an image with the user and group that its process runs as.
const OWNER_LABEL: &str = "org.pgmoor.uid";

/// What is known before the engine is asked.
#[derive(Clone)]
pub(super) struct Known {
    pub(super) fleet: FleetId,
    pub(super) host: HostId,
    pub(super) data_dir: String,
    pub(super) hostname: String,
    pub(super) advertise: Option<IpAddr>,
    pub(super) etcd_client_port: u16,
    pub(super) catalogue: Arc<Catalogue>,
    pub(super) drivers: Drivers,
    pub(super) key: Arc<FleetKey>,
    pub(super) store: Store,
    pub(super) clock: SharedClock,
    pub(super) random: Random,
}

/// Why there is no world yet.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("ask Docker")]
    Engine(#[from] drivers::Error),
    #[error("this Docker engine is not in a Swarm: run `docker swarm init --advertise-addr ADDRESS`, or join one")]
    NoSwarm,
    #[error("this host is not a manager of its Swarm: run `docker node promote` for it on a manager")]
    NotAManager,
    #[error(
        "the Swarm advertises a loopback address, which no other host and no container can reach: leave it \
             (`docker swarm leave --force`) and make it with another address, or set --advertise-address"
    )]
    Loopback,
    #[error("read or write the store")]
    Store(#[from] store::Error),
    #[error("make the fleet's secrets")]
    Random(#[from] crate::runtime::random::NoRandomness),
}

/// Tries until there is a world. Each reason is logged once, and the host's status says it too.
pub(super) async fn until_there(known: &Known, mut reporter: HostReporter) -> Result<World, store::Error> {
    let mut backoff = Backoff::new(
        Schedule { first: Duration::from_millis(250), max: Duration::from_secs(10) },
        known.random.clone(),
    );
    let mut last = String::new();
    loop {
        match world(known).await {
            Ok(world) => return Ok(world),
            Err(error) => {
                let why = chain(&error);
                if why != last {
                    tracing::warn!(error = why, "waiting for Docker Swarm");
                    reporter.waiting(&why).await?;
                    last = why;
                }
            }
        }
        tokio::time::sleep(backoff.failed()).await;
    }
}

async fn world(known: &Known) -> Result<World, Error> {
    let facts = facts(known).await?;
    let record = fleet_record(known, &facts).await?;
    Ok(World {
        drivers: known.drivers.clone(),
        fleet: known.fleet.clone(),
        key: Arc::clone(&known.key),
        facts,
        record: Arc::new(record),
        etcd_client_port: known.etcd_client_port,
        clock: Arc::clone(&known.clock),
    })
}

async fn facts(known: &Known) -> Result<HostFacts, Error> {
    let engine = known.drivers.swarm.engine().await?;
    let swarm_node = engine.swarm_node.ok_or(Error::NoSwarm)?;
    if !engine.manager {
        return Err(Error::NotAManager);
    }
    let address = known.advertise.or(engine.address).filter(|address| !address.is_loopback()).ok_or(Error::Loopback)?;
    let default = known.catalogue.postgres(&known.catalogue.default).map(|image| image.image.clone());
    Ok(HostFacts {
        host: known.host.clone(),
        hostname: known.hostname.clone(),
        swarm_node,
        data_dir: known.data_dir.clone(),
        advertise_address: address,
        cpus: engine.cpus,
        memory_bytes: engine.memory_bytes,
        postgres_owner: owner(known, default.as_deref()).await?,
        etcd_owner: owner(known, Some(&known.catalogue.etcd.image)).await?,
    })
}

/// Whom an image's process runs as; an image that does not say follows the project's own.
async fn owner(known: &Known, image: Option<&str>) -> Result<Owner, Error> {
    let Some(image) = image else { return Ok(Owner::IMAGE) };
    let label = known.drivers.swarm.image(image).await?.and_then(|seen| seen.labels.get(OWNER_LABEL).cloned());
    Ok(label.as_deref().and_then(parse_owner).unwrap_or(Owner::IMAGE))
}

/// `26:26`, or `26` for both.
fn parse_owner(label: &str) -> Option<Owner> {
    let (uid, gid) = label.split_once(':').unwrap_or((label, label));
    Some(Owner { uid: uid.parse().ok()?, gid: gid.parse().ok()? })
}

/// The newest of what Swarm and the store have; made where neither has one. The databases' records come along.
async fn fleet_record(known: &Known, facts: &HostFacts) -> Result<FleetRecord, Error> {
    let found = record::find(&*known.drivers.swarm, &known.key, &known.fleet).await?;
    let cached = known.store.read(|reader| reader.fleet_record())?;
    let newest = match (found.fleet, cached) {
        (Some(found), Some(cached)) if cached.revision > found.revision => Some(cached),
        (Some(found), _) => Some(found),
        (None, cached) => cached,
    };
    let record = match newest {
        Some(record) => record,
        None => minted(known, facts)?,
    };
    let (kept, databases) = (record.clone(), found.databases);
    known
        .store
        .write(move |writer| {
            writer.put_fleet_record(&kept)?;
            for found in &databases {
                let newer = writer.record(&found.database)?.is_none_or(|cached| cached.revision < found.revision);
                if newer {
                    tracing::info!(database = %found.database, revision = found.revision, "record taken from Swarm");
                    writer.put_record(found)?;
                    super::adopt::row_of_record(writer, found)?;
                }
            }
            Ok(())
        })
        .await?;
    Ok(record)
}

fn minted(known: &Known, facts: &HostFacts) -> Result<FleetRecord, Error> {
    let authority = certificates::make_authority(&known.fleet, known.clock.now_s())?;
    let mut entropy = [0; fleet::ENTROPY_BYTES];
    known.random.fill(&mut entropy)?;
    let member = (&known.host, facts.advertise_address);
    Ok(fleet::mint(&known.fleet, member, authority.certificate_pem, authority.key_pem, &entropy))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_read_from_labels() {
        assert_eq!(parse_owner("26:27"), Some(Owner { uid: 26, gid: 27 }));
        assert_eq!(parse_owner("70"), Some(Owner { uid: 70, gid: 70 }));
        assert_eq!(parse_owner("postgres"), None);
    }
}
