//! A fleet with one database in an in-memory world, and passes over it one by one, on a clock that stands still while
//! nobody waits.

use std::net::IpAddr;
use std::sync::{Arc, Mutex as StdMutex};
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

use super::super::decisions::Decisions;
use super::super::gate::Disruptions;
use super::super::ledger::Board;
use super::super::leftovers::Owed;
use super::super::pass::{Next, Pass};
use super::super::place::{Begun, Place, Worked};
use super::super::placing::Tentative;
use super::super::service::{Options, Shared};
use super::super::trash::TrashClock;
use super::super::{Deadlines, Limits};
use super::others::Others;
use crate::contract::documents::{AcceptedBy, Condition, ConditionType, Event, EventType, PlanDoc, Status};
use crate::contract::topics::Topic;
use crate::domain::{FleetOptions, HostFacts, Hosts, Owner, catalogue, fleet};
use crate::drivers::seal::FleetKey;
use crate::drivers::swarm::EngineSeen;
use crate::drivers::{certificates, fake};
use crate::model::record::StoredSpec;
use crate::model::{DatabaseId, Digest, FleetId, HostId, InstanceId, NodeName, Scope, Secret};
use crate::runtime::bell::bell;
use crate::runtime::clock::{SharedClock, TokioClock};
use crate::runtime::random::Random;
use crate::store::{self, Candidate, Commits, Hold, Rows as _, Store};
use crate::world::current::Current;
use crate::world::images::{self, Depot};
use crate::world::lease::Lease;
use crate::world::{InstanceEndpoints, World};

/// A moment in 2026: milliseconds since 1970.
const NOW_MS: i64 = 1_780_000_000_000;
/// Passes until everything must be settled.
const PASSES_MAX: usize = 60;

/// The world, and what pgmoor shares.
pub(super) struct Site {
    pub(super) fake: fake::World,
    pub(super) shared: Arc<Shared>,
    pub(super) id: DatabaseId,
    /// The hosts beside the one that leads.
    pub(super) others: Arc<Others>,
    heard: StdMutex<Option<u64>>,
    _key: tempfile::TempDir,
}

/// What the host that leads is.
fn facts(host: &HostId, advertise_address: IpAddr, engine: EngineSeen) -> HostFacts {
    HostFacts {
        host: host.clone(),
        hostname: engine.hostname,
        swarm_node: engine.swarm_node.unwrap(),
        data_dir: "/var/lib/pgmoor".to_owned(),
        advertise_address,
        cpus: engine.cpus,
        memory_bytes: engine.memory_bytes,
        labels: [].into(),
        postgres_owner: Owner::IMAGE,
        etcd_owner: Owner::IMAGE,
    }
}

impl Site {
    /// A fleet whose etcd runs, on a host beside which none can lead.
    pub(super) async fn new() -> Self {
        Self::with(false, 0).await
    }

    /// The same on a host that holds the lease.
    pub(super) async fn leading() -> Self {
        Self::with(true, 0).await
    }

    /// The same on a host beside which there are so many others, without any work yet.
    pub(super) async fn among(others: u8) -> Self {
        Self::with(true, others).await
    }

    async fn with(lease: bool, others: u8) -> Self {
        let clock: SharedClock = Arc::new(TokioClock::starting_at(NOW_MS));
        let fake = fake::World::new(fake::Options::new(Arc::clone(&clock)));
        let drivers = fake.drivers();
        let engine = drivers.swarm.engine().await.unwrap();
        let (id, host) = (FleetId::parse("edge").unwrap(), HostId::parse("host-1").unwrap());
        let address = engine.address.unwrap();
        let authority = certificates::make_authority(&id, NOW_MS / 1000).unwrap();
        let entropy = [7; fleet::ENTROPY_BYTES];
        let record = fleet::mint(&id, (&host, address), authority.certificate_pem, authority.key_pem, &entropy);
        let directory = tempfile::tempdir().unwrap();
        let key = FleetKey::load_or_create(&directory.path().join("fleet.key")).unwrap();
        let options = FleetOptions::default();
        let facts = facts(&host, address, engine);
        let lease = if lease { Some(Lease::take(&fake, &id, &host, 0).await.unwrap()) } else { None };
        let mut world = World {
            drivers,
            fleet: id.clone(),
            key: Arc::new(key),
            hosts: Hosts::from(facts.clone()),
            facts,
            catalogue: Arc::new(catalogue::embedded().unwrap()),
            record: Current::new(record),
            etcd_client_port: options.etcd_client_port,
            clock,
            random: Random::seeded(7),
            lease,
            remote: None,
            images: Arc::new(Depot::new(images::Options { port: 0, ..images::Options::default() })),
        };
        let others = Arc::new(Others::beside(&world, others));
        world.hosts =
            others.worlds.values().map(|(_, other)| other.facts.clone()).chain([world.facts.clone()]).collect();
        world.remote = Some(Arc::clone(&others) as _);
        let options = Options {
            tick: Duration::from_secs(10),
            limits: Limits::default(),
            deadlines: Deadlines::default(),
            deletion_grace_s: 3600,
            history_max: 10,
            fleet: options,
            catalogue: Arc::new(catalogue::embedded().unwrap()),
        };
        let store = store::Options { commits: Commits::AtOnce, ..store::Options::new(id) };
        let shared = Shared {
            disruptions: Disruptions::new(options.limits),
            options,
            world,
            store: Store::in_memory(&store).unwrap(),
            random: Random::seeded(7),
            accepting: Mutex::new(None),
            tentative: Tentative::default(),
            decisions: Decisions::default(),
            trash_clock: TrashClock::default(),
            owed: Owed::default(),
            changed: bell().0,
        };
        let site = Self {
            fake,
            shared: Arc::new(shared),
            id: DatabaseId::parse("shop").unwrap(),
            others,
            heard: StdMutex::new(None),
            _key: directory,
        };
        if site.others.worlds.is_empty() {
            site.settle(&Scope::Fleet).await;
        }
        site
    }

    /// The database's scope.
    pub(super) fn scope(&self) -> Scope {
        Scope::Database(self.id.clone())
    }

    /// One pass.
    pub(super) async fn pass(&self, scope: &Scope) -> Next {
        let place = Place {
            stop: CancellationToken::new(),
            lost: CancellationToken::new(),
            wanted: watch::channel(false).1,
            begun: Begun::default(),
            worked: Worked::default(),
            board: Board::default(),
        };
        Pass { shared: Arc::clone(&self.shared), place }.run(scope).await
    }

    /// One pass over the database.
    pub(super) async fn look(&self) -> Next {
        self.pass(&self.scope()).await
    }

    /// Passes until there is nothing left to do now.
    pub(super) async fn settle(&self, scope: &Scope) {
        for _ in 0..PASSES_MAX {
            match self.pass(scope).await {
                Next::Settled | Next::Gone => return,
                Next::Again | Next::GaveWay => {}
                Next::After(wait) => tokio::time::sleep(wait).await,
                Next::Failed => panic!("a pass failed"),
            }
        }
        panic!("not settled: {:#?}", self.plan());
    }

    /// A spec passes the rules.
    pub(super) async fn publish(&self, document: &str) {
        let (id, now_ms) = (self.id.clone(), self.shared.world.clock.now_ms());
        let spec = StoredSpec {
            document: Secret::new(document),
            digest: Digest::of_bytes(document.as_bytes()),
            generation: None,
            accepted_at_s: now_ms / 1000,
        };
        let write = self.shared.store.write(move |writer| {
            let mut row = writer.desired(&id)?.unwrap_or_default();
            row.verdict = None;
            row.candidate = Some(Candidate { spec, received_at_ms: now_ms, by: AcceptedBy::Publish, hold: Hold::No });
            writer.put_desired(&id, &row)
        });
        write.await.unwrap();
    }

    /// A spec is published and everything that it asks for is done.
    pub(super) async fn apply(&self, document: &str) {
        self.publish(document).await;
        self.settle(&self.scope()).await;
    }

    /// The events since the last call.
    pub(super) fn events(&self) -> Vec<Event> {
        let mut heard = self.heard.lock().unwrap();
        let waiting = self.shared.store.read(|reader| reader.messages_after(*heard, usize::MAX)).unwrap();
        *heard = waiting.last().map(|waiting| waiting.seq).or(*heard);
        let events = waiting.iter().filter(|waiting| waiting.message.topic.ends_with("/events"));
        events.map(|waiting| serde_json::from_slice(&waiting.message.payload).unwrap()).collect()
    }

    /// Those of a type.
    pub(super) fn events_of(&self, kind: EventType) -> Vec<Event> {
        self.events().into_iter().filter(|event| event.kind == kind).collect()
    }

    fn said<T: serde::de::DeserializeOwned>(&self, topic: &Topic) -> Option<T> {
        let topic = topic.to_string(&self.shared.world.fleet);
        let said = self.shared.store.read(|reader| reader.last_said(&topic)).unwrap();
        said.filter(|said| !said.payload.is_empty()).map(|said| serde_json::from_slice(&said.payload).unwrap())
    }

    /// What stands on the topic `plan`.
    pub(super) fn plan(&self) -> PlanDoc {
        self.said(&Topic::Plan(self.id.clone())).unwrap()
    }

    /// What stands on the topic `status`.
    pub(super) fn status(&self) -> Status {
        self.said(&Topic::Status(self.id.clone())).unwrap()
    }

    /// A condition of the status.
    pub(super) fn condition(&self, kind: ConditionType) -> Option<Condition> {
        self.status().conditions.into_iter().find(|condition| condition.kind == kind)
    }

    /// The only instance's name.
    pub(super) fn instance(&self) -> InstanceId {
        InstanceId::derive(&self.id, &NodeName::parse("n1").unwrap(), &self.shared.world.facts.host)
    }

    /// The only instance's service.
    pub(super) fn service(&self) -> String {
        crate::domain::layout::service(&self.instance())
    }

    /// Where it answers.
    pub(super) async fn endpoints(&self) -> InstanceEndpoints {
        let (instance, service) = (self.instance(), self.service());
        self.shared.world.instance(instance.as_str(), &service).await.unwrap().unwrap()
    }
}
