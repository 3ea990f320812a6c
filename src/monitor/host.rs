//! The host: what it has, and whether it can work, on `hosts/{host}/status`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::contract::documents::{
    Condition, DockerState, HealthDoc, HostInventory, HostStatus, ImageArrival, ImageState, Time, Trash,
};
use crate::contract::topics::Topic;
use crate::model::{DatabaseId, FleetId, Health, HostId, Scope};
use crate::report;
use crate::report::health::{Sample, Tracker};
use crate::runtime::cadence;
use crate::runtime::clock::SharedClock;
use crate::store::{OutMessage, Result, Rows as _, Store};
use crate::world::World;

/// What runs in an image.
const POSTGRES: &str = "postgres";
const ETCD: &str = "etcd";
/// Below this share of the disk free, the host is degraded: Postgres stops when a disk is full.
const FREE_PERCENT_MIN: u64 = 5;

/// Says how the host is.
#[derive(Debug)]
pub struct HostReporter {
    fleet: FleetId,
    host: HostId,
    store: Store,
    clock: SharedClock,
    tracker: Tracker,
    inventory: HostInventory,
    conditions: Vec<Condition>,
}

impl HostReporter {
    /// A reporter for this host.
    #[must_use]
    pub fn new(fleet: &FleetId, host: &HostId, store: &Store, clock: &SharedClock) -> Self {
        Self {
            fleet: fleet.clone(),
            host: host.clone(),
            store: store.clone(),
            clock: SharedClock::clone(clock),
            tracker: Tracker::default(),
            inventory: HostInventory {
                operating_system: operating_system(),
                pgmoor_version: env!("CARGO_PKG_VERSION").to_owned(),
                architecture: std::env::consts::ARCH.to_owned(),
                ..HostInventory::default()
            },
            conditions: Vec::new(),
        }
    }

    /// The host cannot work yet, for this reason.
    ///
    /// # Errors
    /// The store does not work.
    pub async fn waiting(&mut self, why: &str) -> Result<()> {
        self.say(Sample::certain(Health::Down, why), None).await
    }

    /// Looks at the host and says what is new.
    ///
    /// # Errors
    /// The store does not work.
    pub async fn look(&mut self, world: &World, tick: Duration) -> Result<()> {
        let mut inventory = self.inventory.clone();
        let databases = self.store.read(|reader| reader.all_records())?.len();
        let period_s = cadence::period(tick, databases).as_millis().div_ceil(1000);
        inventory.look_every_s = Some(u32::try_from(period_s).unwrap_or(u32::MAX));
        inventory.cpus = world.facts.cpus;
        inventory.memory_bytes = world.facts.memory_bytes;
        inventory.labels.clone_from(&world.facts.labels);
        inventory.hostname.clone_from(&world.facts.hostname);
        inventory.address = world.facts.advertise_address.to_string();
        let sample = match world.drivers.swarm.engine().await {
            Ok(engine) => {
                inventory.docker = Some(DockerState {
                    version: engine.engine_version,
                    swarm_node: engine.swarm_node.clone().unwrap_or_default(),
                    manager: engine.manager,
                });
                match engine.swarm_node {
                    Some(_) if engine.manager => Sample::healthy(),
                    Some(_) => Sample::certain(Health::Down, "the host is not a manager of its Swarm any more"),
                    None => Sample::certain(Health::Down, "the host is not in a Swarm any more"),
                }
            }
            Err(error) => Sample::missed(Health::Down, format!("Docker: {error}")),
        };
        self.promised(world, &mut inventory).await;
        if let Ok(images) = images(world).await {
            let offered = images.iter().filter(|image| image.component == POSTGRES && image.present);
            let offered = offered.filter(|image| !image.version.is_empty());
            inventory.postgres_versions = offered.map(|image| image.version.clone()).collect();
            inventory.images = images;
        }
        inventory.trash = self.trash()?;
        let sample = self.disk(world, &mut inventory, sample).await;
        let conditions = self.store.read(|reader| reader.fleet_standing())?;
        let changed = inventory != self.inventory || conditions != self.conditions;
        self.inventory = inventory;
        self.conditions = conditions;
        self.say(sample, changed.then_some(())).await
    }

    /// Memory given out, and instances here.
    async fn promised(&self, world: &World, inventory: &mut HostInventory) {
        let selector =
            std::collections::BTreeMap::from([(crate::world::FLEET_LABEL.to_owned(), self.fleet.to_string())]);
        let Ok(services) = world.drivers.swarm.services(&selector).await else { return };
        let here: Vec<_> =
            services.iter().filter(|service| service.attributes.swarm_node == world.facts.swarm_node).collect();
        inventory.memory_promised_bytes =
            here.iter().filter_map(|service| service.attributes.memory_reservation_bytes).sum();
        let instances = here.iter().filter(|service| service.attributes.labels.contains_key("pgmoor.instance")).count();
        inventory.instances = u32::try_from(instances).unwrap_or(u32::MAX);
    }

    /// Whether one of these came into the trash, or went out of it, since that was last said.
    pub(super) fn trash_is_news(&self, scopes: &BTreeSet<Scope>) -> Result<bool> {
        self.store.read(|reader| {
            for scope in scopes {
                let Scope::Database(id) = scope else { continue };
                let kept = reader.record(id)?.is_some_and(|record| record.tombstone.is_some());
                if kept != self.inventory.trash.contains_key(id) {
                    return Ok(true);
                }
            }
            Ok(false)
        })
    }

    /// Deleted databases whose data is kept.
    fn trash(&self) -> Result<BTreeMap<DatabaseId, Trash>> {
        self.store.read(|reader| {
            let mut trash = BTreeMap::new();
            for (id, record) in reader.all_records()? {
                if let Some(tombstone) = &record.tombstone {
                    trash.insert(id.clone(), reader.intent(&id)?.trash(tombstone));
                }
            }
            Ok(trash)
        })
    }

    async fn disk(&self, world: &World, inventory: &mut HostInventory, sample: Sample) -> Sample {
        let Ok(disk) = world.drivers.host.disk(&world.facts.data_dir).await else { return sample };
        inventory.disk_bytes = disk.total_bytes;
        // In steps of 64 MiB, so that a busy disk is not news all the time.
        inventory.disk_free_bytes = disk.free_bytes >> 26 << 26;
        let full = disk.free_bytes.saturating_mul(100) < disk.total_bytes.saturating_mul(FREE_PERCENT_MIN);
        if full && sample.health == Health::Healthy {
            let reason = format!("the disk of {} is more than {} % full", world.facts.data_dir, 100 - FREE_PERCENT_MIN);
            return Sample::certain(Health::Degraded, reason);
        }
        sample
    }

    /// A halt is no fault of the host, but it keeps it from taking on anything new.
    fn halted(&self, sample: Sample) -> Result<Sample> {
        let halt = self.store.read(|reader| reader.halt())?;
        Ok(match report::halt::condition(&halt) {
            Some(found) if sample.health == Health::Healthy => Sample::certain(Health::Degraded, found.message),
            Some(_) | None => sample,
        })
    }

    async fn say(&mut self, sample: Sample, news: Option<()>) -> Result<()> {
        let (sample, now) = (self.halted(sample)?, Time::from_ms(self.clock.now_ms()));
        let taken = self.tracker.take(sample, now);
        let health: HealthDoc = match (taken, news) {
            (Some(health), _) => health,
            (None, Some(())) => match self.tracker.said() {
                Some(said) => said.clone(),
                None => return Ok(()),
            },
            (None, None) => return Ok(()),
        };
        let status = HostStatus {
            host: self.host.clone(),
            epoch: self.store.epoch(),
            inventory: self.inventory.clone(),
            health,
            conditions: self.conditions.clone(),
            updated_at: now,
        };
        let topic = Topic::HostStatus(self.host.clone()).to_string(&self.fleet);
        let message = OutMessage::retained(topic, serde_json::to_vec(&status).unwrap_or_default(), now.ms());
        self.store.write(move |writer| writer.enqueue(&message)).await
    }
}

/// The images of the catalogue and those that a spec pins, and which of them are here.
async fn images(world: &World) -> crate::drivers::Result<Vec<ImageState>> {
    let catalogue = &world.catalogue;
    let postgres = catalogue.postgres.iter().map(|image| (POSTGRES, &image.version, &image.image));
    let mut images = Vec::new();
    let (arriving, asked) = (world.images.arriving(), world.images.asked());
    let etcd = (ETCD, &catalogue.etcd.version, &catalogue.etcd.image);
    let known: BTreeSet<&String> = postgres.clone().chain([etcd]).map(|(_, _, image)| image).collect();
    let none = String::new();
    let pinned = asked.keys().filter(|image| !known.contains(image)).map(|image| (POSTGRES, &none, image));
    for (component, version, image) in postgres.chain([etcd]).chain(pinned) {
        let seen = world.drivers.swarm.image(image).await?;
        let arrival = arriving.as_ref().filter(|arrival| seen.is_none() && arrival.image == *image);
        images.push(ImageState {
            component: component.to_owned(),
            version: version.clone(),
            image: image.clone(),
            present: seen.is_some(),
            arrives: arrival.map(|arrival| ImageArrival {
                from: arrival.from.clone(),
                bytes: arrival.bytes,
                of_bytes: arrival.of_bytes,
            }),
            trouble: asked.get(image).cloned().flatten().filter(|_| seen.is_none()),
            id: seen.map(|seen| seen.id),
        });
    }
    Ok(images)
}

/// The name of the operating system, from `/etc/os-release`; the kernel's where there is none.
fn operating_system() -> String {
    let text = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let pretty = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    pretty.map_or_else(|| std::env::consts::OS.to_owned(), |name| name.trim_matches('"').to_owned())
}
