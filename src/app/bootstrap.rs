//! From an engine that answers to a world that can be worked on: facts of this host, the fleet's record, the records
//! of its databases.
//!
//! Invariant: a fleet record is made only when Swarm has said that there is none (rule 2: what could not be seen is
//! not absent); of two copies of a record the newer revision holds (rule 8).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::domain::{HostFacts, Hosts, Owner, fleet};
use crate::drivers::certificates;
use crate::drivers::seal::FleetKey;
use crate::drivers::swarm::EngineSeen;
use crate::drivers::{self, Drivers};
use crate::model::{Catalogue, FleetId, FleetRecord, HostId, Scope};
use crate::monitor::HostReporter;
use crate::reconcile::Waiting;
use crate::runtime::backoff::{Backoff, Schedule};
use crate::runtime::bell::Listener;
use crate::runtime::chain::chain;
use crate::runtime::clock::SharedClock;
use crate::runtime::random::Random;
use crate::store::{self, Rows as _, Store};
use crate::world::current::Current;
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
    /// Told when records were taken from Swarm.
    pub(super) adopted: watch::Sender<u64>,
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

/// Tries until there is a world. Each reason is logged once; the host's status says it too, and so does every database,
/// one whose spec comes meanwhile at once.
pub(super) async fn until_there(
    known: &Known,
    mut reporter: HostReporter,
    (waiting, listener): (&Waiting, &mut Listener),
) -> Result<World, store::Error> {
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
                waiting.for_world(&last, None).await?;
            }
        }
        let again = tokio::time::sleep(backoff.failed());
        tokio::pin!(again);
        loop {
            // Who is rung for here is known to the reconciler when it starts: it begins with all of them.
            let rung = tokio::select! {
                biased;
                () = &mut again => break,
                rung = listener.wait() => rung,
            };
            let databases = rung.into_iter().filter_map(|scope| match scope {
                Scope::Database(id) => Some(id),
                Scope::Fleet => None,
            });
            waiting.for_world(&last, Some(&databases.collect())).await?;
        }
    }
}

/// How often the facts of this host are looked at again.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Returns once what the world was made from holds no more, and says what changed. What cannot be seen changes nothing
/// (rule 2).
pub(super) async fn until_changed(known: &Known, facts: &HostFacts) -> String {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if let Ok(engine) = known.drivers.swarm.engine().await
            && let Some(what) = changed(facts, &engine, known.advertise)
        {
            return what;
        }
    }
}

/// What differs between the facts and the engine, if anything that objects are made from does.
fn changed(facts: &HostFacts, engine: &EngineSeen, advertise: Option<IpAddr>) -> Option<String> {
    let Some(node) = &engine.swarm_node else { return Some("this host has left its Swarm".to_owned()) };
    if *node != facts.swarm_node {
        return Some(format!("this host is node {node} of a Swarm, it was {}", facts.swarm_node));
    }
    if !engine.manager {
        return Some("this host is no manager of its Swarm any more".to_owned());
    }
    let address = advertise.or(engine.address)?;
    let was = facts.advertise_address;
    (address != was).then(|| format!("this host is reached at {address}, it was {was}"))
}

async fn world(known: &Known) -> Result<World, Error> {
    let facts = facts(known).await?;
    let record = fleet_record(known, &facts).await?;
    Ok(World {
        drivers: known.drivers.clone(),
        fleet: known.fleet.clone(),
        key: Arc::clone(&known.key),
        hosts: Hosts::from(facts.clone()),
        facts,
        record: Current::new(record),
        etcd_client_port: known.etcd_client_port,
        clock: Arc::clone(&known.clock),
        random: known.random.clone(),
        lease: None,
        remote: None,
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
        Some(record) => moved(record, facts),
        None => minted(known, facts)?,
    };
    let (kept, databases) = (record.clone(), found.databases);
    let (fleet, now_ms) = (known.fleet.clone(), known.clock.now_ms());
    let adopted = known
        .store
        .write(move |writer| {
            let mut adopted = 0;
            writer.put_fleet_record(&kept)?;
            for found in &databases {
                let newer = writer.record(&found.database)?.is_none_or(|cached| cached.revision < found.revision);
                if newer {
                    tracing::info!(database = %found.database, revision = found.revision, "record taken from Swarm");
                    writer.put_record(found)?;
                    super::adopt::row_of_record(writer, (&fleet, now_ms), found)?;
                    adopted += 1;
                }
            }
            Ok(adopted)
        })
        .await?;
    if adopted > 0 {
        known.adopted.send_modify(|all| *all += adopted);
    }
    Ok(record)
}

/// The record with etcd's member at this host's address of today.
fn moved(record: FleetRecord, facts: &HostFacts) -> FleetRecord {
    let mut record = record;
    let today = facts.advertise_address.to_string();
    if let Some(address) = record.etcd_members.get_mut(&facts.host)
        && *address != today
    {
        tracing::warn!(was = address.as_str(), is = today.as_str(), "the host has another address: etcd moves with it");
        *address = today;
        record.revision += 1;
    }
    record
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

    fn facts() -> HostFacts {
        HostFacts {
            host: HostId::parse("host-1").unwrap(),
            hostname: "host".to_owned(),
            swarm_node: "one".to_owned(),
            data_dir: "/var/lib/pgmoor".to_owned(),
            advertise_address: IpAddr::from([192, 0, 2, 1]),
            cpus: 2,
            memory_bytes: 1 << 32,
            postgres_owner: Owner::IMAGE,
            etcd_owner: Owner::IMAGE,
        }
    }

    #[test]
    fn a_swarm_made_anew_and_another_address_are_noticed() {
        let engine = |node: Option<&str>, manager, last| EngineSeen {
            engine_version: "20.10.24".to_owned(),
            swarm_node: node.map(str::to_owned),
            manager,
            leader: manager,
            address: Some(IpAddr::from([192, 0, 2, last])),
            hostname: "host".to_owned(),
            cpus: 4,
            memory_bytes: 1,
        };
        let (facts, fixed) = (facts(), Some(IpAddr::from([192, 0, 2, 1])));
        let seen = |engine: &EngineSeen, advertise| changed(&facts, engine, advertise).unwrap_or_default();
        assert_eq!(seen(&engine(Some("one"), true, 1), None), "", "other processors are no other host");
        assert!(seen(&engine(None, false, 1), None).contains("left"));
        assert!(seen(&engine(Some("two"), true, 1), None).contains("node two"));
        assert!(seen(&engine(Some("one"), false, 1), None).contains("manager"));
        assert!(seen(&engine(Some("one"), true, 2), None).contains("192.0.2.2"));
        assert_eq!(seen(&engine(Some("one"), true, 2), fixed), "", "the configuration says where it is reached");
    }

    #[test]
    fn etcd_moves_with_its_host() {
        let fleet = FleetId::parse("edge").unwrap();
        let entropy = [7; fleet::ENTROPY_BYTES];
        let here = (&facts().host, facts().advertise_address);
        let record = fleet::mint(&fleet, here, String::new(), crate::model::Secret::new("key"), &entropy);
        assert_eq!(moved(record.clone(), &facts()), record);
        let elsewhere = HostFacts { advertise_address: IpAddr::from([192, 0, 2, 9]), ..facts() };
        let after = moved(record.clone(), &elsewhere);
        assert_eq!((after.revision, after.etcd_members[&here.0.clone()].as_str()), (record.revision + 1, "192.0.2.9"));
    }

    #[test]
    fn owners_are_read_from_labels() {
        assert_eq!(parse_owner("26:27"), Some(Owner { uid: 26, gid: 27 }));
        assert_eq!(parse_owner("70"), Some(Owner { uid: 70, gid: 70 }));
        assert_eq!(parse_owner("postgres"), None);
    }
}
