//! The site of the simulation: a world, a broker, clocks, its hosts with a disk each, and the daemons that run on them or do
//! not.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use pgmoor::app::config::Settings;
use pgmoor::app::services::{self, Base, Leading};
use pgmoor::contract::documents::{Availability, OnlineState, Status, Time};
use pgmoor::domain::{catalogue, fleet, layout};
use pgmoor::drivers::certificates::make_authority;
use pgmoor::drivers::fake::{Delays, Options, World};
use pgmoor::drivers::seal::FleetKey;
use pgmoor::drivers::swarm::Swarm as _;
use pgmoor::model::{Catalogue, ControllerId, Digest, FleetId, HostId, Scope, Secret};
use pgmoor::runtime::clock::{SharedClock, TokioClock};
use pgmoor::runtime::supervisor::{self, Supervisor};
use pgmoor::runtime::{Random, chain};
use pgmoor::store::{self, Commits, Store};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::acks::Acks;
use crate::broker::Broker;
use crate::clock::{JumpingClock, START_MS};
use crate::dice::Dice;
use crate::disk::Disk;
use crate::guarded::Guarded;
use crate::invariants::{Breaches, Invariant};
use crate::line::{Lines, Stale};
use crate::link::Link;
use crate::planted::{self, Plant};
use crate::trace::Trace;
use crate::weather::{Ruler, Weather};
use crate::words::Words;

/// The fleet.
pub(crate) const FLEET: &str = "sim";
/// The hosts, each with its controller. Most runs have the first alone.
pub(crate) const HOSTS: [&str; 3] = ["host-1", "host-2", "host-3"];
/// The first of them.
pub(crate) const HOST: &str = HOSTS[0];
/// The databases that a run may have.
pub(crate) const DATABASES: [&str; 2] = ["crm", "shop"];

/// Everything of one run.
#[derive(Clone)]
pub(crate) struct Site {
    /// As the first host sees it.
    pub(crate) world: World,
    pub(crate) broker: Broker,
    /// Between hosts.
    pub(crate) lines: Lines,
    pub(crate) stale: Stale,
    pub(crate) hosts: Vec<Host>,
    /// The first host's.
    pub(crate) disk: Disk,
    pub(crate) clock: Arc<JumpingClock>,
    pub(crate) trace: Trace,
    pub(crate) weather: Weather,
    pub(crate) words: Words,
    pub(crate) breaches: Breaches,
    random: Random,
    pub(crate) settings: Arc<Settings>,
    pub(crate) plant: Plant,
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
    /// How many hosts there are.
    pub(crate) hosts: usize,
}

/// A host.
#[derive(Clone)]
pub(crate) struct Host {
    pub(crate) id: HostId,
    /// The world as it is seen there.
    pub(crate) world: World,
    pub(crate) disk: Disk,
    /// The epoch of the daemon that was started last.
    epoch: Arc<AtomicU64>,
    /// The store of that daemon.
    store: Arc<Mutex<Option<Store>>>,
}

impl Host {
    fn new(id: &str, world: World) -> Self {
        let id = HostId::parse(id).unwrap();
        Self { id, world, disk: Disk::default(), epoch: Arc::default(), store: Arc::default() }
    }

    /// The epoch of the daemon that was started last.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// The store of the daemon that was started last, if it could be opened.
    pub(crate) fn store(&self) -> Option<Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Every authority's certificate is filled up to so many bytes of PEM.
const AUTHORITY_BYTES: usize = 1200;

/// Containers take their real time, and a shutdown that of a busy Postgres; calls take the weather's.
const DELAYS: Delays = Delays { events_ms: 400, latency_ms: 0, stop_ms: 4000, ..Delays::REALISTIC };

/// The fleet's key, which is none of the seed's.
pub(crate) fn key() -> Arc<FleetKey> {
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
        let options = |number: u8| Options {
            delays: DELAYS,
            hostname: format!("host-{number}"),
            swarm_node: format!("node-{number}"),
            address: std::net::IpAddr::from([192, 0, 2, number]),
            ..Options::new(Arc::clone(&steady))
        };
        let world = World::new(options(1));
        let mut hosts = vec![Host::new(HOST, world.clone())];
        for (number, id) in (2..).zip(HOSTS.iter().skip(1)).take(manner.hosts.saturating_sub(1)) {
            hosts.push(Host::new(id, world.join(&options(number))));
        }
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
            lines: Lines::default(),
            stale: Stale::default(),
            disk: hosts.first().map(|host| host.disk.clone()).unwrap_or_default(),
            hosts,
            clock,
            trace,
            weather,
            words,
            breaches,
            random: Random::seeded(manner.seed ^ 0x5eed),
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

    /// Starts the daemon of a host.
    pub(crate) fn start(&self, host: &Host) -> Daemon {
        let alone = self.hosts.len() == 1;
        self.trace.say(if alone {
            "the daemon starts".to_owned()
        } else {
            format!("the daemon of {} starts", host.id)
        });
        let (site, here, stop) = (self.clone(), host.clone(), CancellationToken::new());
        let mut tasks = JoinSet::new();
        let stopped = stop.clone();
        tasks.spawn(async move {
            let served = if alone { site.serve(&here, stopped).await } else { site.play(&here, stopped).await };
            served.err().unwrap_or_else(|| "stopped".to_owned())
        });
        Daemon { tasks, stop, host: host.clone() }
    }

    /// What every part of a daemon knows, with the store open.
    pub(crate) fn base(&self, host: &Host) -> Result<Base, String> {
        let fleet = FleetId::parse(FLEET).map_err(|error| error.to_string())?;
        let options = store::Options { commits: Commits::AtOnce, ..store::Options::new(fleet.clone()) };
        let file = host.disk.open().map_err(|error| chain(&error))?;
        let store = Store::on(file, &options).map_err(|error| chain(&error))?;
        host.epoch.store(store.epoch(), Ordering::SeqCst);
        if self.hosts.len() > 1 {
            *host.store.lock().unwrap_or_else(PoisonError::into_inner) = Some(store.clone());
        }
        Ok(Base {
            fleet,
            controller: ControllerId::parse(host.id.as_str()).map_err(|error| error.to_string())?,
            host: host.id.clone(),
            data_dir: "/var/lib/pgmoor".to_owned(),
            catalogue: embedded_catalogue(),
            store,
            drivers: planted::drivers(&host.world, self.plant),
            key: key(),
            clock: self.clock.clone(),
            random: self.random.clone(),
        })
    }

    /// What the broker says for a daemon when it loses it.
    pub(crate) fn will(&self, base: &Base) -> Result<(String, Vec<u8>), String> {
        let will = Availability {
            state: OnlineState::Lost,
            controller: base.controller.clone(),
            epoch: base.store.epoch(),
            since: Time::from_ms(START_MS),
            version: "simulated".to_owned(),
            spec_set: None,
        };
        let said = serde_json::to_vec(&will).map_err(|error| error.to_string())?;
        Ok((self.topic(&format!("controllers/{}/availability", base.controller)), said))
    }

    /// A host that is alone leads, whatever happens.
    async fn serve(&self, host: &Host, stop: CancellationToken) -> Result<(), String> {
        let base = self.base(host)?;
        let will = self.will(&base)?;
        let acks = Acks::new(base.fleet.clone(), host.disk.clone(), self.breaches.clone());
        let (sender, deliveries) = mpsc::channel(DELIVERIES);
        let mut supervisor = Supervisor::new(supervisor::Options::default(), base.clock.clone(), base.random.clone());
        let guarded = Guarded::start(&mut supervisor, self.plant, (&base.fleet, &base.store, &base.clock));
        let link = Link::new((self.broker.clone(), HOST), will, acks, Some(guarded), self.plant);
        let lines = services::Lines {
            inward: Arc::new(link.clone()),
            deliveries,
            outward: Arc::new(link.clone()),
            confirm: Arc::new(link.clone()),
            embedded: self.embedded,
        };
        let leading = Leading { over: CancellationToken::new(), between_hosts: None };
        services::start(&mut supervisor, &self.settings, &base, (lines, leading));
        drop(base);
        link.start(&mut supervisor, sender);
        supervisor.run(stop).await.map_err(|error| chain(&error))
    }
}

/// Messages that wait to be taken in by a daemon.
pub(crate) const DELIVERIES: usize = 256;

/// A daemon that runs, or has ended by itself.
pub(crate) struct Daemon {
    tasks: JoinSet<String>,
    stop: CancellationToken,
    host: Host,
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
        site.trace.say(format!("the daemon of {} is killed", self.host.id));
        self.host.disk.kill();
        site.broker.cut_line(self.host.id.as_str());
        self.tasks.shutdown().await;
        // Tasks of tasks end one after the other.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    /// SIGTERM.
    pub(crate) async fn stop(mut self, site: &Site) {
        site.trace.say(format!("the daemon of {} is told to stop", self.host.id));
        self.stop.cancel();
        match tokio::time::timeout(Duration::from_secs(40), self.tasks.join_next()).await {
            Ok(_) => {}
            Err(_) => site.breaches.found(Invariant::Quiet, "the daemon did not stop".to_owned()),
        }
        self.kill(site).await;
    }
}
