//! What the host says about a spec, asked of the in-memory world; the real one is asked in tests/live.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};

use super::{Missing, look, promised};
use crate::contract::{self, Code, Context};
use crate::domain::{HostFacts, Hosts, Owner, catalogue, fleet};
use crate::drivers::fake;
use crate::drivers::seal::FleetKey;
use crate::drivers::swarm::Labels;
use crate::model::service::ServiceAttributes;
use crate::model::{AcceptedSpec, DatabaseId, FleetId, HostId, Secret};
use crate::reconcile::promises::Promises;
use crate::runtime::Random;
use crate::runtime::clock::FakeClock;
use crate::world::World;
use crate::world::current::Current;

const MIB: u64 = 1 << 20;

/// A fleet `harbour` on a host with 4 GiB and two processors, and what holds its files.
fn world(change: impl FnOnce(&mut fake::Options)) -> (World, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let clock = FakeClock::at(1_780_000_000_000);
    let mut options = fake::Options::new(Arc::clone(&clock) as _);
    change(&mut options);
    let (fleet, host) = (FleetId::parse("harbour").unwrap(), HostId::parse("host-1").unwrap());
    let entropy = [7; fleet::ENTROPY_BYTES];
    let record = fleet::mint(&fleet, (&host, options.address), String::new(), Secret::new("key"), &entropy);
    let facts = HostFacts {
        host,
        hostname: options.hostname.clone(),
        swarm_node: options.swarm_node.clone(),
        data_dir: options.data_dir.clone(),
        advertise_address: options.address,
        cpus: options.cpus,
        memory_bytes: options.memory_bytes,
        labels: BTreeMap::new(),
        postgres_owner: Owner::IMAGE,
        etcd_owner: Owner::IMAGE,
    };
    let world = World {
        hosts: Hosts::from(facts.clone()),
        facts,
        drivers: fake::World::new(options).drivers(),
        fleet,
        key: Arc::new(FleetKey::load_or_create(&directory.path().join("fleet.key")).unwrap()),
        catalogue: Arc::new(catalogue::embedded().unwrap()),
        record: Current::new(record),
        etcd_client_port: 2379,
        clock,
        random: Random::System,
        lease: None,
        remote: None,
        images: Arc::default(),
    };
    (world, directory)
}

fn spec(world: &World, id: &str, document: &Value) -> AcceptedSpec {
    let (catalogue, nobody) = (catalogue::embedded().unwrap(), BTreeMap::new());
    let context = Context {
        catalogue: &catalogue,
        host: Some(&world.facts.host),
        placed: &BTreeMap::new(),
        known_hosts: None,
        drained_hosts: None,
        previous: None,
        ports_in_use: &nobody,
        data_dir: &world.facts.data_dir,
        default_memory_bytes: contract::spec::DEFAULT_MEMORY_BYTES,
    };
    contract::accept(&DatabaseId::parse(id).unwrap(), document.to_string().as_bytes(), &context).unwrap()
}

/// A service of somebody on this host that reserves this much.
fn service(world: &World, name: &str, memory_mib: u64, labels: &[(&str, &str)]) -> ServiceAttributes {
    ServiceAttributes {
        name: name.to_owned(),
        image: "pgmoor/etcd:3.5.16".to_owned(),
        command: vec!["sleep".to_owned()],
        args: Vec::new(),
        env: BTreeMap::new(),
        hostname: name.to_owned(),
        mounts: BTreeSet::new(),
        networks: Vec::new(),
        ports: Vec::new(),
        healthcheck: None,
        swarm_node: world.facts.swarm_node.clone(),
        cpu_limit_millis: None,
        cpu_reservation_millis: Some(500),
        memory_limit_bytes: None,
        memory_reservation_bytes: Some(memory_mib * MIB),
        shm_bytes: None,
        stop_grace_s: 10,
        restart_delay_s: 5,
        replicas: 1,
        container_labels: Labels::new(),
        labels: labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
    }
}

async fn codes(world: &World, id: &str, document: &Value, accepted: &Promises) -> Vec<(Code, String)> {
    let spec = spec(world, id, document);
    let looked = look(world, &spec, document, Missing::Pull).await.unwrap();
    let promised = promised(world, &spec, document, &looked, accepted);
    looked.faults.into_iter().chain(promised).map(|fault| (fault.code, fault.pointer)).collect()
}

#[tokio::test]
async fn names_belong_to_who_has_them() {
    let (world, _files) = world(|_| {});
    let swarm = &world.drivers.swarm;
    let document = json!({"template": "postgres"});
    assert_eq!(codes(&world, "shop", &document, &Promises::default()).await, []);
    let theirs = [("pgmoor.fleet", "elsewhere"), ("pgmoor.scope", "db.shop")];
    let name = "postgres-shop-n1-689qacsi";
    let id = swarm.create_service(&service(&world, name, 0, &theirs)).await.unwrap();
    swarm.create_network("shop-database", true, &Labels::new()).await.unwrap();
    let taken = vec![(Code::NameTaken, String::new()); 2];
    assert_eq!(codes(&world, "shop", &document, &Promises::default()).await, taken);
    assert_eq!(codes(&world, "other", &document, &Promises::default()).await, []);
    swarm.remove_service(&id).await.unwrap();
    let ours = [("pgmoor.fleet", "harbour"), ("pgmoor.scope", "db.shop")];
    swarm.create_service(&service(&world, name, 0, &ours)).await.unwrap();
    assert_eq!(codes(&world, "shop", &document, &Promises::default()).await, taken[..1], "its own service is its own");
}

#[tokio::test]
async fn the_last_subnet_is_for_one() {
    let (world, _files) = world(|options| options.networks_max = 1);
    let document = json!({"template": "postgres"});
    assert_eq!(codes(&world, "shop", &document, &Promises::default()).await, []);
    world.drivers.swarm.create_network("another", true, &Labels::new()).await.unwrap();
    let exhausted = [(Code::SubnetsExhausted, String::new())];
    assert_eq!(codes(&world, "shop", &document, &Promises::default()).await, exhausted);
}

#[tokio::test]
async fn what_is_promised_is_counted_once() {
    let (world, _files) = world(|_| {});
    let half = json!({"template": "postgres", "memory": "2GiB", "cpus": "1"});
    let mut accepted = Promises::default();
    accepted.accepted(&spec(&world, "one", &half));
    assert_eq!(codes(&world, "two", &half, &accepted).await, [], "both halves fit");
    accepted.accepted(&spec(&world, "two", &half));
    let full = [(Code::MemoryOvercommitted, "/memory".to_owned()), (Code::CpuOvercommitted, "/cpus".to_owned())];
    assert_eq!(codes(&world, "three", &half, &accepted).await, full, "accepted, though no service runs yet");
    assert_eq!(codes(&world, "two", &half, &accepted).await, [], "its own promise does not count against it");

    // The service of an accepted database is the same promise, not another.
    let swarm = &world.drivers.swarm;
    let ours = |scope| [("pgmoor.fleet", "harbour"), ("pgmoor.scope", scope)];
    swarm.create_service(&service(&world, "a", 2048, &ours("db.one"))).await.unwrap();
    assert_eq!(codes(&world, "two", &half, &accepted).await, []);
    // What runs for a deleted database, for the fleet and for others is promised too.
    swarm.create_service(&service(&world, "b", 1, &[])).await.unwrap();
    assert_eq!(codes(&world, "two", &half, &accepted).await, full);
    let small = json!({"template": "postgres", "memory": "2047MiB", "cpus": "500m"});
    assert_eq!(codes(&world, "two", &small, &accepted).await, []);
    accepted.accepted(&spec(&world, "one", &json!({"deleted": true})));
    assert_eq!(codes(&world, "two", &half, &accepted).await, full[..1], "its container still runs");
}
