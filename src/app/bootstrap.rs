//! From an engine that answers to a world that can be worked on: facts of this host, the fleet's record, the records
//! of its databases.
//!
//! Invariant: a fleet record is made only when Swarm has said that there is none (rule 2: what could not be seen is
//! not absent); of two copies of a record the newer revision holds (rule 8).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::config::{self, Settings, default};
use super::role;
use super::services::Base;
use crate::domain::{HostFacts, Hosts, Owner, fleet, is_removed, members};
use crate::drivers;
use crate::drivers::certificates;
use crate::drivers::swarm::EngineSeen;
use crate::model::{FleetRecord, HostId, HostLabels, Scope};
use crate::monitor::HostReporter;
use crate::reconcile::Waiting;
use crate::runtime::backoff::{Backoff, Schedule};
use crate::runtime::bell::Listener;
use crate::runtime::chain::chain;
use crate::store::{self, Rows as _};
use crate::world::current::Current;
use crate::world::{World, images, lead, record, roster};

/// The label of an image with the user and group that its process runs as.
const OWNER_LABEL: &str = "org.pgmoor.uid";

/// The pause between two tries to find a world.
pub(super) const WAIT: Schedule = Schedule { first: Duration::from_millis(250), max: Duration::from_secs(10) };

/// What is known before the engine is asked.
#[derive(Clone)]
pub(super) struct Known {
    pub(super) base: Base,
    pub(super) hostname: String,
    pub(super) advertise: Option<IpAddr>,
    /// What is said of this host.
    pub(super) labels: HostLabels,
    pub(super) etcd_client_port: u16,
    pub(super) images: images::Options,
}

impl Known {
    pub(super) fn new(settings: &Settings, base: &Base) -> Self {
        Self {
            base: base.clone(),
            hostname: config::hostname(),
            advertise: settings.advertise_address,
            labels: settings.host_labels.clone().unwrap_or_default().0,
            etcd_client_port: settings.etcd_client_port.unwrap_or(default::ETCD_CLIENT_PORT),
            images: settings.images(),
        }
    }
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
    #[error("lead the fleet")]
    Role(#[from] role::Error),
    #[error("the Swarm's managers are led by another host, and so is the fleet")]
    Follows,
    #[error(
        "nobody has made the fleet's record yet: pgmoor on the host that leads the Swarm's managers does (`docker node ls` names \
         it), so it has to run there too"
    )]
    NoRecord,
    #[error(
        "host {0} was removed from the fleet: it does nothing. `pgmoor host use {0}`, with a broker of the fleet, takes it into \
         use again"
    )]
    Removed(HostId),
}

impl Error {
    /// Whether another host leads: waiting for a world to lead on is no use.
    fn is_another_role(&self) -> bool {
        matches!(self, Self::Follows | Self::Role(role::Error::Overtaken))
    }
}

/// Tries until there is a world. Each reason is logged once; the host's status says it too, and so does every database,
/// one whose spec comes meanwhile at once.
///
/// Gives none where another host leads.
pub(super) async fn until_there(
    known: &Known,
    adopted: &watch::Sender<u64>,
    mut reporter: HostReporter,
    (waiting, listener): (&Waiting, &mut Listener),
) -> Result<Option<World>, store::Error> {
    let mut backoff = Backoff::new(WAIT, known.base.random.clone());
    let mut last = String::new();
    loop {
        match to_lead(known, adopted).await {
            Ok(world) => return Ok(Some(world)),
            Err(error) if error.is_another_role() => {
                tracing::info!(why = chain(&error), "this host does not lead");
                return Ok(None);
            }
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

/// How often the facts of this host, and the other hosts, are looked at again.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Returns once what the world was made from holds no more, and says what changed. What cannot be seen changes nothing
/// (rule 2).
pub(super) async fn until_changed(known: &Known, world: &World) -> String {
    let (swarm, fleet) = (&*known.base.drivers.swarm, &known.base.fleet);
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if let Ok(engine) = swarm.engine().await
            && let Some(what) = changed(&world.facts, &engine, known.advertise)
        {
            return what;
        }
        if world.images.has_got_any()
            && let Some(what) = owner_changed(known, &world.facts).await
        {
            return what;
        }
        if let Ok(hosts) = roster::read(swarm, fleet).await
            && hosts != world.hosts
        {
            return format!("the hosts of the fleet are now {}", names(&hosts));
        }
        // Who leads has written it itself.
        if let Ok(Some(record)) = record::fleet(swarm, &known.base.key, fleet).await
            && record.revision > world.record.get().revision
        {
            tracing::info!(revision = record.revision, "the record of the fleet has changed");
            world.record.set(record);
        }
    }
}

/// Whom an image runs as that was not here when the facts were looked at, where that is somebody else than was taken for
/// granted.
async fn owner_changed(known: &Known, facts: &HostFacts) -> Option<String> {
    let catalogue = &known.base.catalogue;
    let postgres = catalogue.postgres(&catalogue.default).map(|image| (&image.image, facts.postgres_owner));
    for (image, was) in postgres.into_iter().chain([(&catalogue.etcd.image, facts.etcd_owner)]) {
        let seen = known.base.drivers.swarm.image(image).await.ok().flatten()?;
        let owner = seen.labels.get(OWNER_LABEL).and_then(|label| parse_owner(label)).unwrap_or(Owner::IMAGE);
        if owner != was {
            return Some(format!("image {image} runs as {}:{}, not as {}:{}", owner.uid, owner.gid, was.uid, was.gid));
        }
    }
    None
}

fn names(hosts: &Hosts) -> String {
    hosts.iter().map(|facts| facts.host.as_str()).collect::<Vec<_>>().join(", ")
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

/// The world of a host that leads: the lease is taken or renewed for it, and what only Swarm knows comes into the store.
async fn to_lead(known: &Known, adopted: &watch::Sender<u64>) -> Result<World, Error> {
    let facts = facts(known).await?;
    if !lead::is_elected(&*known.base.drivers.swarm).await? {
        return Err(Error::Follows);
    }
    let (swarm, base) = (&*known.base.drivers.swarm, &known.base);
    if record::fleet(swarm, &base.key, &base.fleet).await?.is_some_and(|record| is_removed(&record, &base.host)) {
        return Err(Error::Removed(base.host.clone()));
    }
    let lease = role::take_up(base).await?;
    let hosts = with_others(known, &facts).await?;
    let record = fleet_record(known, adopted, &facts).await?;
    note_hosts(known, &record, &hosts).await?;
    Ok(World { lease: Some(lease), ..of(known, facts, hosts, record) })
}

/// The world of a host that follows: all there is without being the one that plans.
pub(super) async fn to_follow(known: &Known) -> Result<World, Error> {
    let facts = facts(known).await?;
    let (swarm, base) = (&*known.base.drivers.swarm, &known.base);
    let record = record::fleet(swarm, &base.key, &base.fleet).await?.ok_or(Error::NoRecord)?;
    if is_removed(&record, &base.host) {
        return Err(Error::Removed(base.host.clone()));
    }
    let hosts = with_others(known, &facts).await?;
    note_hosts(known, &record, &hosts).await?;
    Ok(of(known, facts, hosts, record))
}

fn of(known: &Known, facts: HostFacts, hosts: Hosts, record: FleetRecord) -> World {
    let base = &known.base;
    World {
        drivers: base.drivers.clone(),
        fleet: base.fleet.clone(),
        key: Arc::clone(&base.key),
        hosts,
        facts,
        catalogue: Arc::clone(&base.catalogue),
        record: Current::new(record),
        etcd_client_port: known.etcd_client_port,
        clock: Arc::clone(&base.clock),
        random: base.random.clone(),
        lease: None,
        remote: None,
        images: Arc::new(images::Depot::new(known.images.clone())),
    }
}

/// Writes this host into the roster; gives all that stand there.
async fn with_others(known: &Known, facts: &HostFacts) -> Result<Hosts, Error> {
    let (swarm, fleet) = (&*known.base.drivers.swarm, &known.base.fleet);
    roster::announce(swarm, fleet, facts).await?;
    Ok(roster::read(swarm, fleet).await?)
}

/// Keeps what is known of the hosts, for who reads a spec while Swarm does not answer.
async fn note_hosts(known: &Known, record: &FleetRecord, hosts: &Hosts) -> Result<(), store::Error> {
    let hosts = members::fleet_hosts(record, hosts, &known.base.host);
    if known.base.store.read(|reader| reader.fleet_hosts())?.as_ref() == Some(&hosts) {
        return Ok(());
    }
    known.base.store.write(move |writer| writer.put_fleet_hosts(&hosts)).await
}

async fn facts(known: &Known) -> Result<HostFacts, Error> {
    let base = &known.base;
    let engine = base.drivers.swarm.engine().await?;
    let swarm_node = engine.swarm_node.ok_or(Error::NoSwarm)?;
    if !engine.manager {
        return Err(Error::NotAManager);
    }
    let address = known.advertise.or(engine.address).filter(|address| !address.is_loopback()).ok_or(Error::Loopback)?;
    let default = base.catalogue.postgres(&base.catalogue.default).map(|image| image.image.clone());
    Ok(HostFacts {
        host: base.host.clone(),
        hostname: known.hostname.clone(),
        swarm_node,
        data_dir: base.data_dir.clone(),
        advertise_address: address,
        cpus: engine.cpus,
        memory_bytes: engine.memory_bytes,
        labels: known.labels.clone(),
        postgres_owner: owner(known, default.as_deref()).await?,
        etcd_owner: owner(known, Some(&base.catalogue.etcd.image)).await?,
    })
}

/// Whom an image's process runs as; an image that does not say follows the project's own.
async fn owner(known: &Known, image: Option<&str>) -> Result<Owner, Error> {
    let Some(image) = image else { return Ok(Owner::IMAGE) };
    let label = known.base.drivers.swarm.image(image).await?.and_then(|seen| seen.labels.get(OWNER_LABEL).cloned());
    Ok(label.as_deref().and_then(parse_owner).unwrap_or(Owner::IMAGE))
}

/// `26:26`, or `26` for both.
fn parse_owner(label: &str) -> Option<Owner> {
    let (uid, gid) = label.split_once(':').unwrap_or((label, label));
    Some(Owner { uid: uid.parse().ok()?, gid: gid.parse().ok()? })
}

/// The newest of what Swarm and the store have; made where neither has one. The databases' records come along.
async fn fleet_record(known: &Known, adopted: &watch::Sender<u64>, facts: &HostFacts) -> Result<FleetRecord, Error> {
    let base = &known.base;
    let found = record::find(&*base.drivers.swarm, &base.key, &base.fleet).await?;
    let cached = base.store.read(|reader| reader.fleet_record())?;
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
    let (fleet, now_ms) = (base.fleet.clone(), base.clock.now_ms());
    let taken = base
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
    if taken > 0 {
        adopted.send_modify(|all| *all += taken);
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
    let authority = certificates::make_authority(&known.base.fleet, known.base.clock.now_s())?;
    let mut entropy = [0; fleet::ENTROPY_BYTES];
    known.base.random.fill(&mut entropy)?;
    let member = (&known.base.host, facts.advertise_address);
    Ok(fleet::mint(&known.base.fleet, member, authority.certificate_pem, authority.key_pem, &entropy))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{FleetId, HostId};

    fn facts() -> HostFacts {
        HostFacts {
            host: HostId::parse("host-1").unwrap(),
            hostname: "host".to_owned(),
            swarm_node: "one".to_owned(),
            data_dir: "/var/lib/pgmoor".to_owned(),
            advertise_address: IpAddr::from([192, 0, 2, 1]),
            cpus: 2,
            memory_bytes: 1 << 32,
            labels: [].into(),
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
            leader: Some(manager),
            address: Some(IpAddr::from([192, 0, 2, last])),
            hostname: "host".to_owned(),
            cpus: 4,
            memory_bytes: 1,
            root_dir: String::new(),
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
