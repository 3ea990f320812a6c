//! Two hosts, each an in-memory world of its own, on a line that loses what a test says: one leads, the other does what is
//! asked of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Agent, Asker, Envelopes, Heard, Line};
use crate::contract::documents::HostWork;
use crate::contract::topics::Topic;
use crate::domain::{HostFacts, Hosts, Owner, fleet};
use crate::drivers::host::Host as _;
use crate::drivers::seal::FleetKey;
use crate::drivers::swarm::Swarm as _;
use crate::drivers::{certificates, fake};
use crate::execute::{self, Ended, Task, Waits};
use crate::model::resource::OnDelete;
use crate::model::service::{Mount, ServiceAttributes};
use crate::model::{
    Attributes, DatabaseId, Dependency, Digest, Executor, FleetId, Graph, HostId, Kind, Observation, Payload, Resource,
    ResourceId, Scope, Secret,
};
use crate::plan::{Action, Disruption, Input, Plan, Reason, Step, plan};
use crate::runtime::clock::{SharedClock, TokioClock};
use crate::runtime::random::Random;
use crate::store::{self, Commits, Journal as _, Store};
use crate::world::World;
use crate::world::current::Current;

/// A moment in 2026: milliseconds since 1970.
const NOW_MS: i64 = 1_780_000_000_000;
const DIRECTORY: &str = "/var/lib/pgmoor/instances/shop";

fn id(name: &str) -> HostId {
    HostId::parse(name).unwrap()
}

/// What lies between the hosts.
#[derive(Default)]
struct Hub {
    asker: Mutex<Option<Arc<Asker>>>,
    work: Mutex<Option<mpsc::Sender<Heard>>>,
    said: Mutex<Vec<Heard>>,
    /// Answers that get lost.
    losing: Mutex<usize>,
}

#[async_trait]
impl Line for Hub {
    async fn say(&self, topic: &str, payload: &[u8]) -> Result<(), String> {
        let heard = Heard { topic: topic.to_owned(), payload: payload.to_vec() };
        self.said.lock().unwrap().push(heard.clone());
        if topic.ends_with("/work") {
            let there = self.work.lock().unwrap().clone();
            // One that is gone hears nothing, and nobody is told.
            if let Some(there) = there {
                let _gone = there.send(heard).await;
            }
            return Ok(());
        }
        let lost = {
            let mut losing = self.losing.lock().unwrap();
            let lost = *losing > 0;
            *losing = losing.saturating_sub(1);
            lost
        };
        let asker = self.asker.lock().unwrap().clone();
        if let Some(asker) = asker.filter(|_| !lost) {
            asker.heard(&heard);
        }
        Ok(())
    }
}

/// Notes what a step waits for.
#[derive(Default)]
struct Words(Mutex<BTreeSet<String>>);

impl Waits for Words {
    fn waits(&self, _step: &Step, words: Option<String>) {
        self.0.lock().unwrap().extend(words);
    }

    fn waits_for(&self, _step: &Step) -> Option<String> {
        None
    }
}

struct Site {
    fleet: FleetId,
    here: fake::World,
    there: fake::World,
    leads: World,
    hub: Arc<Hub>,
    agent: Agent,
    running: JoinSet<()>,
    words: Arc<Words>,
    _key: tempfile::TempDir,
}

impl Site {
    /// `host-1` leads in epoch 5; the agent of `host-2` runs.
    fn new() -> Self {
        let clock: SharedClock = Arc::new(TokioClock::starting_at(NOW_MS));
        let fleet = FleetId::parse("edge").unwrap();
        let directory = tempfile::tempdir().unwrap();
        let key = Arc::new(FleetKey::load_or_create(&directory.path().join("fleet.key")).unwrap());
        let world_of = |node: &str, last| {
            let options = fake::Options::new(Arc::clone(&clock));
            let address = std::net::IpAddr::from([192, 0, 2, last]);
            fake::World::new(fake::Options { swarm_node: node.to_owned(), address, ..options })
        };
        let (here, there) = (world_of("node1", 1), world_of("node2", 2));
        let facts = |host: &str, node: &str, last| HostFacts {
            host: id(host),
            hostname: host.to_owned(),
            swarm_node: node.to_owned(),
            data_dir: "/var/lib/pgmoor".to_owned(),
            advertise_address: std::net::IpAddr::from([192, 0, 2, last]),
            cpus: 2,
            memory_bytes: 1 << 32,
            labels: [].into(),
            postgres_owner: Owner::IMAGE,
            etcd_owner: Owner::IMAGE,
        };
        let facts = [facts("host-1", "node1", 1), facts("host-2", "node2", 2)];
        let authority = certificates::make_authority(&fleet, NOW_MS / 1000).unwrap();
        let member = (&facts[0].host, facts[0].advertise_address);
        let entropy = [7; fleet::ENTROPY_BYTES];
        let record = fleet::mint(&fleet, member, authority.certificate_pem, authority.key_pem, &entropy);
        let world = |fake: &fake::World, at: usize| World {
            drivers: fake.drivers(),
            fleet: fleet.clone(),
            key: Arc::clone(&key),
            facts: facts[at].clone(),
            hosts: facts.iter().cloned().collect::<Hosts>(),
            catalogue: Arc::new(crate::domain::catalogue::embedded().unwrap()),
            record: Current::new(record.clone()),
            etcd_client_port: 2379,
            clock: Arc::clone(&clock),
            random: Random::seeded(7),
            lease: None,
            remote: None,
            images: Arc::default(),
        };
        let hub = Arc::new(Hub::default());
        let store = store::Options { commits: Commits::AtOnce, ..store::Options::new(fleet.clone()) };
        let agent = Agent {
            envelopes: Envelopes { fleet: fleet.clone(), here: id("host-2"), key: Arc::clone(&key) },
            line: Arc::clone(&hub) as Arc<dyn Line>,
            store: Store::in_memory(&store).unwrap(),
            clock: Arc::clone(&clock),
            world: watch::Sender::new(Some(world(&there, 1))).subscribe(),
            running: Arc::default(),
        };
        let leads = world(&here, 0);
        let (running, words) = (JoinSet::new(), Arc::default());
        let mut site = Self { fleet, here, there, leads, hub, agent, running, words, _key: directory };
        site.lead(5);
        site.up();
        site
    }

    /// `host-1` leads anew.
    fn lead(&mut self, epoch: u64) -> Arc<Asker> {
        let envelopes = Envelopes { here: id("host-1"), ..self.agent.envelopes.clone() };
        let line = Arc::clone(&self.hub) as Arc<dyn Line>;
        let asker = Arc::new(Asker::new(envelopes, line, epoch, Random::seeded(epoch)));
        *self.hub.asker.lock().unwrap() = Some(Arc::clone(&asker));
        self.leads.remote = Some(Arc::clone(&asker) as _);
        asker
    }

    /// The agent starts.
    fn up(&mut self) {
        let (work, arriving) = mpsc::channel(64);
        *self.hub.work.lock().unwrap() = Some(work);
        let agent = Agent { running: Arc::default(), ..self.agent.clone() };
        let nobody = watch::Sender::new(None).subscribe();
        self.running.spawn(agent.run(arriving, nobody, CancellationToken::new()));
    }

    /// It dies at once.
    async fn down(&mut self) {
        *self.hub.work.lock().unwrap() = None;
        self.running.shutdown().await;
    }

    async fn plan(&self, desired: &Graph) -> Plan {
        let observed = execute::refresh(&self.leads, &scope(), desired, &Graph::default()).await;
        let (outcomes, forced) = (BTreeMap::new(), BTreeSet::new());
        let scope = scope();
        plan(&Input { scope: &scope, desired, observed: &observed, outcomes: &outcomes, forced: &forced })
    }

    /// Does one step of a plan.
    async fn run(&self, desired: &Graph, step: &Step, limit: Duration) -> Ended {
        let task = Task {
            world: self.leads.clone(),
            scope: scope(),
            step: step.clone(),
            resource: desired.get(&step.resource).cloned(),
            seen: None,
            applied: desired.digest(&step.resource).cloned(),
            limit,
            waits: Arc::clone(&self.words) as Arc<dyn Waits>,
        };
        execute::run(task, self.leads.clock.monotonic()).await
    }

    fn words(&self) -> String {
        self.words.0.lock().unwrap().iter().cloned().collect::<Vec<_>>().join("; ")
    }

    /// How often the other host was asked to write a file.
    fn writes(&self) -> usize {
        self.there.take_calls().iter().filter(|call| call.name == "host.write").count()
    }
}

fn scope() -> Scope {
    Scope::Database(DatabaseId::parse("shop").unwrap())
}

fn resource(kind: Kind, name: &str, host: &str, attributes: Attributes, payload: Payload) -> Resource {
    let (id, executor) = (ResourceId::new(kind, name), Executor::Host(id(host)));
    let (member, dependencies) = (None, BTreeMap::new());
    Resource { id, executor, member, dependencies, attributes, may_differ: Vec::new(), payload }
}

/// A directory with a file in it on each host.
fn files() -> Graph {
    let on = |host: &str| {
        let directory = Attributes::Directory {
            path: DIRECTORY.to_owned(),
            mode: 0o700,
            uid: 26,
            gid: 26,
            on_delete: OnDelete::Remove,
        };
        let text = format!("of {host}");
        let file = Attributes::File {
            path: format!("{DIRECTORY}/patroni.yml"),
            mode: 0o600,
            uid: 26,
            gid: 26,
            content: Digest::of_bytes(text.as_bytes()),
        };
        let directory = resource(Kind::Directory, host, host, directory, Payload::None);
        let mut file = resource(Kind::File, host, host, file, Payload::Content(Secret::new(text)));
        file.dependencies.insert(directory.id.clone(), Dependency::Order);
        [directory, file]
    };
    Graph::new([on("host-1"), on("host-2")].concat()).unwrap()
}

fn file_there() -> ResourceId {
    ResourceId::new(Kind::File, "host-2")
}

const LIMIT: Duration = Duration::from_secs(30);

#[tokio::test(start_paused = true)]
async fn what_is_on_another_host_is_seen_and_made_there() {
    let (site, desired) = (Site::new(), files());
    let first = site.plan(&desired).await;
    assert_eq!(first.steps().count(), 4, "{first:?}");
    for step in first.steps() {
        site.run(&desired, step, LIMIT).await.result.unwrap();
    }
    for (world, host) in [(&site.here, "host-1"), (&site.there, "host-2")] {
        let file = world.read(&format!("{DIRECTORY}/patroni.yml")).await.unwrap().unwrap();
        assert_eq!(file.content.expose(), format!("of {host}"));
    }
    let settled = site.plan(&desired).await;
    assert!(settled.is_settled(), "{settled:?}");
    // Only what is sealed goes over the line.
    let said = site.hub.said.lock().unwrap();
    assert!(!said.iter().any(|heard| String::from_utf8_lossy(&heard.payload).contains("of host-2")));
}

#[tokio::test(start_paused = true)]
async fn a_step_is_done_once_however_often_its_answer_gets_lost() {
    let (site, desired) = (Site::new(), files());
    let first = site.plan(&desired).await;
    for step in first.steps() {
        *site.hub.losing.lock().unwrap() = 3;
        site.run(&desired, step, LIMIT).await.result.unwrap();
    }
    assert_eq!(site.writes(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_older_lead_is_refused_and_learns_of_the_newer() {
    let (mut site, desired) = (Site::new(), files());
    let first = site.plan(&desired).await;
    let step = first.step(&file_there()).unwrap();
    let older = site.lead(4);
    let refused = site.run(&desired, step, LIMIT).await.result.unwrap_err();
    assert!(refused.contains("newer lead, 5"), "{refused}");
    assert_eq!((*older.newest().borrow(), site.writes()), (5, 0));
    // Also after a restart of the host, and for looks.
    site.down().await;
    site.up();
    let seen = execute::refresh(&site.leads, &scope(), &desired, &Graph::default()).await;
    assert!(matches!(&seen.resources[&file_there()], Observation::Unknown { why } if why.contains("newer lead")));
}

#[tokio::test(start_paused = true)]
async fn a_host_that_does_not_answer_hides_its_own_and_nothing_else() {
    let (mut site, desired) = (Site::new(), files());
    site.down().await;
    let began = site.leads.clock.monotonic();
    let seen = execute::refresh(&site.leads, &scope(), &desired, &Graph::default()).await;
    let took = site.leads.clock.monotonic() - began;
    assert!(matches!(&seen.resources[&file_there()], Observation::Unknown { why } if why.contains("host-2")));
    assert_eq!(seen.resources[&ResourceId::new(Kind::File, "host-1")], Observation::Absent);
    let plan = site.plan(&desired).await;
    let again = site.leads.clock.monotonic() - began - took;
    assert!(again < took / 4, "the next look waits less: {again:?} after {took:?}");
    assert!(plan.steps().all(|step| step.executor == Executor::Host(id("host-1"))), "{plan:?}");
    // A step waits for it, says so, and goes on when it is back.
    site.up();
    let plan = site.plan(&desired).await;
    let step = plan.step(&ResourceId::new(Kind::Directory, "host-2")).unwrap();
    site.down().await;
    let overdue = site.run(&desired, step, Duration::from_secs(5)).await;
    assert!(overdue.overdue.is_some() && site.words().contains("host-2: it does not answer"), "{}", site.words());
    site.up();
    site.run(&desired, step, LIMIT).await.result.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_step_that_was_cut_off_is_not_begun_again() {
    let (mut site, desired) = (Site::new(), files());
    let first = site.plan(&desired).await;
    let step = first.step(&ResourceId::new(Kind::Directory, "host-2")).unwrap();
    site.there.freeze_after(0);
    let (hub, there) = (Arc::clone(&site.hub), site.there.clone());
    let agent = site.agent.clone();
    let mut running = std::mem::take(&mut site.running);
    let crash = async {
        there.frozen().await;
        running.shutdown().await;
        there.thaw();
        let (work, arriving) = mpsc::channel(64);
        *hub.work.lock().unwrap() = Some(work);
        let mut after = JoinSet::new();
        let nobody = watch::Sender::new(None).subscribe();
        let agent = Agent { running: Arc::default(), ..agent };
        after.spawn(agent.run(arriving, nobody, CancellationToken::new()));
        after
    };
    let (ended, _after) = tokio::join!(site.run(&desired, step, LIMIT), crash);
    let error = ended.result.unwrap_err();
    assert!(error.contains("stopped in the middle of it"), "{error}");
    assert_eq!(site.there.directory(DIRECTORY).await, Ok(None), "the next look shows how far it came");
}

#[tokio::test(start_paused = true)]
async fn what_is_tampered_with_or_meant_for_another_host_does_nothing() {
    let (mut site, desired) = (Site::new(), files());
    let first = site.plan(&desired).await;
    let step = first.step(&file_there()).unwrap();
    site.down().await;
    let _late = site.run(&desired, step, Duration::from_secs(1)).await;
    let sent =
        site.hub.said.lock().unwrap().iter().rev().find(|heard| heard.topic.ends_with("/work")).cloned().unwrap();
    let document: HostWork = serde_json::from_slice(&sent.payload).unwrap();
    let newer = HostWork { epoch: document.epoch + 1, ..document.clone() };
    let other = HostWork { id: crate::model::TaskId::parse("other").unwrap(), ..document.clone() };
    let from = HostWork { from: id("host-3"), ..document.clone() };
    site.up();
    site.hub.said.lock().unwrap().clear();
    for forged in [newer, other, from] {
        site.hub.say(&sent.topic, &serde_json::to_vec(&forged).unwrap()).await.unwrap();
    }
    site.hub.say(&sent.topic, b"no document").await.unwrap();
    // Another host of the same fleet, to which it is said again.
    let elsewhere = Envelopes { here: id("host-3"), ..site.agent.envelopes.clone() };
    assert!(elsewhere.open_work(&sent.payload).is_err());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((site.writes(), site.agent.store.read(|reader| reader.work_epoch()).unwrap()), (0, 5));
    let answers = Topic::HostAnswers(id("host-2")).to_string(&site.fleet);
    assert!(!site.hub.said.lock().unwrap().iter().any(|heard| heard.topic == answers));
    // As it was sent, it is done.
    site.hub.say(&sent.topic, &sent.payload).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(site.hub.said.lock().unwrap().iter().any(|heard| heard.topic == answers));
}

/// A service on the other host whose container has the directory mounted.
fn service() -> ServiceAttributes {
    ServiceAttributes {
        name: "shop".to_owned(),
        image: "pgmoor/etcd:3.5.16".to_owned(),
        command: vec!["sh".to_owned()],
        args: Vec::new(),
        env: BTreeMap::new(),
        hostname: "shop".to_owned(),
        mounts: BTreeSet::from([Mount {
            source: DIRECTORY.to_owned(),
            target: "/data".to_owned(),
            read_only: false,
            exclusive: true,
        }]),
        networks: Vec::new(),
        ports: Vec::new(),
        healthcheck: None,
        swarm_node: "node2".to_owned(),
        cpu_limit_millis: None,
        cpu_reservation_millis: None,
        memory_limit_bytes: None,
        memory_reservation_bytes: None,
        shm_bytes: None,
        stop_grace_s: 3,
        restart_delay_s: 1,
        replicas: 1,
        container_labels: BTreeMap::from([("pgmoor.fleet".to_owned(), "edge".to_owned())]),
        labels: BTreeMap::from([("pgmoor.fleet".to_owned(), "edge".to_owned())]),
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_is_made_when_its_host_says_that_nothing_mounts_its_data() {
    let (mut site, attributes) = (Site::new(), service());
    let mut wanted =
        resource(Kind::Service, "shop", "host-1", Attributes::Service(Box::new(attributes)), Payload::None);
    wanted.executor = Executor::Manager;
    let desired = Graph::new([wanted.clone()]).unwrap();
    let step = Step {
        resource: wanted.id.clone(),
        action: Action::Create,
        executor: Executor::Manager,
        reason: Reason::DoesNotExist,
        changes: Vec::new(),
        disruption: Disruption::None,
        after: BTreeSet::new(),
        object: None,
        candidates: BTreeSet::new(),
    };
    // Its predecessor is still there, which only the other host knows.
    site.there.add_directory(DIRECTORY);
    let old = site.there.create_service(&service()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let waits = site.run(&desired, &step, Duration::from_secs(3)).await;
    assert!(waits.overdue.is_some() && site.words().contains("still has it mounted"), "{}", site.words());
    site.there.remove_service(&old).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    // A host that cannot be asked is no host without a container.
    site.down().await;
    assert!(site.run(&desired, &step, Duration::from_secs(3)).await.overdue.is_some());
    assert_eq!(site.here.services(&BTreeMap::new()).await.unwrap(), []);
    site.up();
    site.run(&desired, &step, LIMIT).await.result.unwrap();
    assert_eq!(site.here.services(&BTreeMap::new()).await.unwrap().len(), 1);
}
