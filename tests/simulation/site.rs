//! One host of the simulation: a world, a broker, a disk, clocks, and the daemon that runs on them or does not.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use pgmoor::app::config::Settings;
use pgmoor::app::services::{self, Base, Leading, Lines};
use pgmoor::contract::documents::{Availability, OnlineState, Status, Time};
use pgmoor::domain::{catalogue, fleet, layout};
use pgmoor::drivers::certificates::make_authority;
use pgmoor::drivers::fake::{Delays, Options, World};
use pgmoor::drivers::seal::FleetKey;
use pgmoor::drivers::swarm::Swarm as _;
use pgmoor::model::{Catalogue, ControllerId, Digest, FleetId, HostId, Scope, Secret};
use pgmoor::runtime::clock::{SharedClock, TokioClock};
use pgmoor::runtime::supervisor::{self, Policy, Supervisor};
use pgmoor::runtime::{Random, chain};
use pgmoor::store::{self, Commits, Store};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::acks::Acks;
use crate::broker::{Broker, Link};
use crate::clock::{JumpingClock, START_MS};
use crate::dice::Dice;
use crate::disk::Disk;
use crate::guarded::Guarded;
use crate::invariants::{Breaches, Invariant};
use crate::planted::{self, Plant};
use crate::trace::Trace;
use crate::weather::{Ruler, Weather};
use crate::words::Words;

/// The fleet.
pub(crate) const FLEET: &str = "sim";
/// The host, and its controller.
pub(crate) const HOST: &str = "host-1";
/// The databases that a run may have.
pub(crate) const DATABASES: [&str; 2] = ["crm", "shop"];

/// Everything of one run.
#[derive(Clone)]
pub(crate) struct Site {
    pub(crate) world: World,
    pub(crate) broker: Broker,
    pub(crate) disk: Disk,
    pub(crate) clock: Arc<JumpingClock>,
    pub(crate) trace: Trace,
    pub(crate) weather: Weather,
    pub(crate) words: Words,
    pub(crate) breaches: Breaches,
    random: Random,
    epoch: Arc<AtomicU64>,
    settings: Arc<Settings>,
    plant: Plant,
    embedded: bool,
    /// Whether data may be purged in this run.
    purging: Arc<std::sync::atomic::AtomicBool>,
}

/// How things are in a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manner {
    /// Decides everything.
    pub(crate) seed: u64,
    /// A mistake on purpose.
    pub(crate) plant: Plant,
    /// Seconds that deleted data stays in the trash.
    pub(crate) grace_s: u32,
    /// Whether the broker is the daemon's own.
    pub(crate) embedded: bool,
}

/// Every authority's certificate is filled up to so many bytes of PEM.
const AUTHORITY_BYTES: usize = 1200;

/// Containers take their real time, and a shutdown that of a busy Postgres; calls take the weather's.
const DELAYS: Delays = Delays { events_ms: 400, latency_ms: 0, stop_ms: 4000, ..Delays::REALISTIC };

fn key() -> Arc<FleetKey> {
    static KEY: OnceLock<Arc<FleetKey>> = OnceLock::new();
    let make = || {
        let directory = tempfile::tempdir().unwrap();
        Arc::new(FleetKey::load_or_create(&directory.path().join("fleet.key")).unwrap())
    };
    Arc::clone(KEY.get_or_init(make))
}

fn embedded_catalogue() -> Arc<Catalogue> {
    static CATALOGUE: OnceLock<Arc<Catalogue>> = OnceLock::new();
    Arc::clone(CATALOGUE.get_or_init(|| Arc::new(catalogue::embedded().unwrap())))
}

/// A fleet that was founded before: keys and certificates are made by the system's chance alone, and their length must
/// not decide where the store puts its rows.
async fn found_fleet(world: &World, dice: &Dice) {
    static AUTHORITY: OnceLock<(String, Secret)> = OnceLock::new();
    let fleet = FleetId::parse(FLEET).unwrap();
    let found = || {
        let authority = make_authority(&fleet, START_MS / 1000).unwrap();
        let missing = AUTHORITY_BYTES.saturating_sub(authority.certificate_pem.len());
        (authority.certificate_pem + &"\n".repeat(missing), authority.key_pem)
    };
    let (certificate, key_pem) = AUTHORITY.get_or_init(found).clone();
    let mut entropy = [0; fleet::ENTROPY_BYTES];
    entropy.iter_mut().for_each(|byte| *byte = u8::try_from(dice.below(256)).unwrap());
    let host = HostId::parse(HOST).unwrap();
    let member = (&host, std::net::IpAddr::from([192, 0, 2, 1]));
    let record = fleet::mint(&fleet, member, certificate, key_pem, &entropy);
    let name = layout::record_config(&fleet, &Scope::Fleet, record.revision);
    let sealed = key().seal(&name, &serde_json::to_vec(&record).unwrap()).unwrap();
    let label = |key: &str, value: String| (format!("pgmoor.{key}"), value);
    let labels = [
        label("fleet", FLEET.to_owned()),
        label("scope", Scope::Fleet.label()),
        label("resource", "record".to_owned()),
        label("revision", record.revision.to_string()),
    ];
    world.create_config(&name, &labels.into(), &sealed).await.unwrap();
}

impl Site {
    /// A host on which nothing has run yet. Needs a runtime.
    pub(crate) async fn new(manner: Manner) -> Self {
        let fleet = FleetId::parse(FLEET).unwrap();
        let clock = JumpingClock::new();
        let steady: SharedClock = Arc::new(TokioClock::starting_at(START_MS));
        let trace = Trace::new(Arc::clone(&steady));
        let world = World::new(Options { delays: DELAYS, ..Options::new(steady) });
        found_fleet(&world, &Dice::new(manner.seed, 4)).await;
        let broker = Broker::new(fleet, Dice::new(manner.seed, 1), trace.clone());
        let words = Words::new(&DATABASES, manner.grace_s, clock.clone());
        let settings = Settings {
            fleet: Some(FleetId::parse(FLEET).unwrap()),
            deletion_grace_s: Some(manner.grace_s),
            tick_s: Some(15),
            ..Settings::default()
        };
        let (weather, breaches) = (Weather::default(), Breaches::default());
        world.ruled_by(Box::new(Ruler {
            weather: weather.clone(),
            dice: Dice::new(manner.seed, 2),
            trace: trace.clone(),
            words: words.clone(),
            breaches: breaches.clone(),
        }));
        Self {
            world,
            broker,
            disk: Disk::default(),
            clock,
            trace,
            weather,
            words,
            breaches,
            random: Random::seeded(manner.seed ^ 0x5eed),
            epoch: Arc::default(),
            settings: Arc::new(settings),
            plant: manner.plant,
            embedded: manner.embedded,
            purging: Arc::default(),
        }
    }

    /// A topic below the fleet.
    pub(crate) fn topic(&self, below: &str) -> String {
        format!("pgmoor/v1/{FLEET}/{below}")
    }

    /// The epoch of the daemon that was started last.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// Whether Swarm has a record of a database.
    pub(crate) fn recorded(&self, database: &str) -> bool {
        self.world.look().configs.iter().any(|name| name.starts_with(&format!("pgmoor.db.{database}.")))
    }

    /// Whether the wish for a database is what its status says is observed.
    pub(crate) fn observed(&self, database: &str) -> bool {
        let status = self.broker.retained(&self.topic(&format!("databases/{database}/status")));
        let status = status.and_then(|payload| serde_json::from_slice::<Status>(&payload).ok());
        let observed = status.and_then(|status| status.observed).map(|observed| observed.digest);
        observed == self.words.of(database).spec.map(|spec| Digest::of_bytes(spec.as_bytes()))
    }

    /// What is said of each database, for whoever looks into a run that did not end well.
    pub(crate) fn told(&self) -> String {
        let topics = DATABASES.iter().flat_map(|database| {
            ["status", "plan"].map(|document| self.topic(&format!("databases/{database}/{document}")))
        });
        let told = topics.filter_map(|topic| {
            let payload = self.broker.retained(&topic)?;
            Some(format!("{topic} {}", String::from_utf8_lossy(&payload)))
        });
        told.collect::<Vec<_>>().join("\n")
    }

    /// From now on deleted data may be purged, so it need not be there any more.
    pub(crate) fn allow_purge(&self) {
        self.purging.store(true, Ordering::SeqCst);
    }

    /// Whether data may have been purged.
    pub(crate) fn purges(&self) -> bool {
        self.purging.load(Ordering::SeqCst)
    }

    /// Starts the daemon.
    pub(crate) fn start(&self) -> Daemon {
        self.trace.say("the daemon starts");
        let (site, stop) = (self.clone(), CancellationToken::new());
        let mut tasks = JoinSet::new();
        let stopped = stop.clone();
        tasks.spawn(async move { site.serve(stopped).await.err().unwrap_or_else(|| "stopped".to_owned()) });
        Daemon { tasks, stop }
    }

    async fn serve(&self, stop: CancellationToken) -> Result<(), String> {
        let fleet = FleetId::parse(FLEET).map_err(|error| error.to_string())?;
        let options = store::Options { commits: Commits::AtOnce, ..store::Options::new(fleet.clone()) };
        let file = self.disk.open().map_err(|error| chain(&error))?;
        let store = Store::on(file, &options).map_err(|error| chain(&error))?;
        self.epoch.store(store.epoch(), Ordering::SeqCst);
        let controller = ControllerId::parse(HOST).map_err(|error| error.to_string())?;
        let will = Availability {
            state: OnlineState::Lost,
            controller: controller.clone(),
            epoch: store.epoch(),
            since: Time::from_ms(START_MS),
            version: "simulated".to_owned(),
            spec_set: None,
        };
        let will = serde_json::to_vec(&will).map_err(|error| error.to_string())?;
        let will = (self.topic(&format!("controllers/{HOST}/availability")), will);
        let base = Base {
            fleet,
            controller,
            host: HostId::parse(HOST).map_err(|error| error.to_string())?,
            data_dir: "/var/lib/pgmoor".to_owned(),
            catalogue: embedded_catalogue(),
            store,
            drivers: planted::drivers(&self.world, self.plant),
            key: key(),
            clock: self.clock.clone(),
            random: self.random.clone(),
        };
        let acks = Acks::new(base.fleet.clone(), self.disk.clone(), self.breaches.clone());
        let (sender, deliveries) = mpsc::channel(256);
        let mut supervisor = Supervisor::new(supervisor::Options::default(), base.clock.clone(), base.random.clone());
        let guarded = Guarded::start(&mut supervisor, self.plant, (&base.fleet, &base.store, &base.clock));
        let link = Link::new(self.broker.clone(), will, acks, guarded, self.plant);
        let lines = Lines {
            inward: Arc::new(link.clone()),
            deliveries,
            outward: Arc::new(link.clone()),
            confirm: Arc::new(link.clone()),
            embedded: self.embedded,
        };
        let leading = Leading { over: CancellationToken::new(), between_hosts: None };
        services::start(&mut supervisor, &self.settings, &base, (lines, leading));
        drop(base);
        supervisor.start("link", Policy::Essential, move |stop| {
            let (link, sender) = (link.clone(), sender.clone());
            async move {
                link.run(&sender, &stop).await;
                Ok(())
            }
        });
        supervisor.run(stop).await.map_err(|error| chain(&error))
    }
}

/// A daemon that runs, or has ended by itself.
pub(crate) struct Daemon {
    tasks: JoinSet<String>,
    stop: CancellationToken,
}

impl Daemon {
    /// Why it ended, if it did.
    pub(crate) fn ended(&mut self) -> Option<String> {
        match self.tasks.try_join_next() {
            Some(Ok(why)) => Some(why),
            Some(Err(error)) => Some(error.to_string()),
            None => None,
        }
    }

    /// SIGKILL.
    pub(crate) async fn kill(mut self, site: &Site) {
        site.trace.say("the daemon is killed");
        site.disk.kill();
        site.broker.cut();
        self.tasks.shutdown().await;
        // Tasks of tasks end one after the other.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    /// SIGTERM.
    pub(crate) async fn stop(mut self, site: &Site) {
        site.trace.say("the daemon is told to stop");
        self.stop.cancel();
        match tokio::time::timeout(Duration::from_secs(40), self.tasks.join_next()).await {
            Ok(_) => {}
            Err(_) => site.breaches.found(Invariant::Quiet, "the daemon did not stop".to_owned()),
        }
        self.kill(site).await;
    }
}
