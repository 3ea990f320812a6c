//! What a world is like: the machine, the images, and how long things take.

use std::collections::BTreeMap;

use crate::model::catalogue::Catalogue;
use crate::runtime::clock::SharedClock;

/// Megabytes to bytes.
const MIB: u64 = 1024 * 1024;

/// Memory of a database that asks for none.
const DATABASE_BYTES: u64 = 512 * MIB;

/// How many Patronis a large world lets look at etcd in a millisecond.
const ROUNDS_PER_MS: u32 = 5;

/// The machine and its images.
#[derive(Debug, Clone)]
pub struct Options {
    /// Tells the time; a test may hand in one that stands still.
    pub clock: SharedClock,
    /// The only directory below which directories may be removed.
    pub data_dir: String,
    /// The host's name.
    pub hostname: String,
    /// The Swarm node's id.
    pub swarm_node: String,
    /// Whether it leads the Swarm's managers.
    pub leads: bool,
    /// The address that the Swarm node advertises.
    pub address: std::net::IpAddr,
    /// Processors.
    pub cpus: u32,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Size of the disk in bytes.
    pub disk_bytes: u64,
    /// How many overlay networks fit into Swarm's address pool.
    pub networks_max: usize,
    /// The images on the host with their labels, and what `docker pull` finds besides.
    pub images: BTreeMap<String, BTreeMap<String, String>>,
    /// Which extensions and libraries an image has.
    pub catalogue: Catalogue,
    /// How long things take.
    pub delays: Delays,
    /// Whether calls, and what tests look for in them, are written down. Without, a world of many databases is small.
    pub remembers: bool,
}

/// How long things take, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delays {
    /// From the order to a container (image, network, mounts).
    pub prepare_ms: i64,
    /// From the container to a first successful health check.
    pub start_ms: i64,
    /// From Swarm's answer to what it does about a container that it wants gone.
    pub orchestrate_ms: i64,
    /// How long a container takes to stop; never longer than its grace period.
    pub stop_ms: i64,
    /// `initdb` and Patroni's bootstrap.
    pub initdb_ms: i64,
    /// From a Postgres that is started to one that answers.
    pub postgres_ms: i64,
    /// Between two looks of Patroni at etcd.
    pub patroni_loop_ms: i64,
    /// From something that happens to the event that tells of it, at most.
    pub events_ms: u64,
    /// Added to every call, in real time.
    pub latency_ms: u64,
}

impl Delays {
    /// About a twentieth of what the real things take: fast, but nothing is there at once.
    pub const SHORT: Self = Self {
        prepare_ms: 20,
        start_ms: 20,
        orchestrate_ms: 15,
        stop_ms: 30,
        initdb_ms: 50,
        postgres_ms: 20,
        patroni_loop_ms: 20,
        events_ms: 10,
        latency_ms: 0,
    };

    /// What the real things take on a small machine (runtime.md).
    pub const REALISTIC: Self = Self {
        prepare_ms: 300,
        start_ms: 400,
        orchestrate_ms: 150,
        stop_ms: 600,
        initdb_ms: 1200,
        postgres_ms: 300,
        patroni_loop_ms: 2000,
        events_ms: 10,
        latency_ms: 2,
    };
}

impl Options {
    /// A machine with two processors, 4 GiB of memory and the images of the embedded catalogue.
    #[must_use]
    pub fn new(clock: SharedClock) -> Self {
        let catalogue = embedded_catalogue();
        let label = |version: &str| {
            BTreeMap::from([
                ("org.pgmoor.uid".to_owned(), "26".to_owned()),
                ("org.opencontainers.image.version".to_owned(), version.to_owned()),
            ])
        };
        let mut images: BTreeMap<_, _> =
            catalogue.postgres.iter().map(|image| (image.image.clone(), label(&image.version))).collect();
        images.insert(catalogue.etcd.image.clone(), label(&catalogue.etcd.version));
        images.extend(catalogue.pooler.iter().map(|pooler| (pooler.image.clone(), label(&pooler.version))));
        Self {
            clock,
            data_dir: "/var/lib/pgmoor".to_owned(),
            hostname: "fake-host".to_owned(),
            swarm_node: "fakenode0000000000000000n".to_owned(),
            leads: true,
            address: std::net::IpAddr::from([192, 0, 2, 1]),
            cpus: 2,
            memory_bytes: 4096 * MIB,
            disk_bytes: 100 * 1024 * MIB,
            networks_max: 256,
            images,
            catalogue,
            delays: Delays::SHORT,
            remembers: true,
        }
    }

    /// For a daemon: nothing is written down, and where a number of databases of the default size is given, there is
    /// room for so many, and their Patronis take so much longer rounds that all together cost no more.
    #[must_use]
    pub fn for_daemon(self, databases: Option<u32>) -> Self {
        let own = Self { remembers: false, ..self };
        let Some(databases) = databases else { return own };
        let round_ms = i64::from(databases / ROUNDS_PER_MS).max(own.delays.patroni_loop_ms);
        Self {
            // One network and one service more, for what is not a database.
            memory_bytes: (u64::from(databases) + 1) * DATABASE_BYTES,
            networks_max: own.networks_max.max(usize::try_from(databases).unwrap_or(usize::MAX)),
            delays: Delays { patroni_loop_ms: round_ms, ..own.delays },
            ..own
        }
    }
}

/// The catalogue of this build; an unreadable one (which the catalogue's own test refuses) leaves a world without images.
fn embedded_catalogue() -> Catalogue {
    serde_json::from_str(include_str!("../../../deploy/catalogue.json")).unwrap_or_else(|_| Catalogue {
        schema_version: 1,
        default: String::new(),
        etcd: crate::model::catalogue::EtcdImage { version: String::new(), image: String::new() },
        pooler: None,
        postgres: Vec::new(),
        templates: BTreeMap::new(),
    })
}
