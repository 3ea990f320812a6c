//! The monitor: looks at every instance, and at this host, and says how they are on their topics.
//!
//! Architecture invariants: it reads and tells, and changes nothing; what it could not see it calls unknown; a look is
//! bounded in time, and one instance that hangs holds up no other.

mod events;
mod host;
mod instance;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use host::HostReporter;

use crate::contract::documents::{HealthDoc, Role, Time};
use crate::contract::topics::Topic;
use crate::execute::{ask, unexpected};
use crate::model::ids::NodeName;
use crate::model::{DatabaseId, Health, HostId, InstanceId, Record, Scope};
use crate::report::health::{Member, Tracker, of_database};
use crate::runtime::bell::{Bell, Listener};
use crate::runtime::random::Random;
use crate::store::{self, OutMessage, Rows as _, Store};
use crate::world::World;
use crate::world::vitals::{Target, Vitals};
use crate::world::work::{Question, Told};
use instance::Sampled;

/// Time between two looks at everything (the reference's instance monitor: 5 s).
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How many databases are told of in one transaction.
const TOLD_TOGETHER_MAX: usize = 64;
/// So many instances of another host are asked about at once: they fit a message, and it is answered in time also when
/// each of them takes as long as it may.
const ASKED_TOGETHER_MAX: usize = 64;

/// Why the monitor stops by itself.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store does not work.
    #[error("read or write the store")]
    Store(#[from] store::Error),
}

/// The service.
#[derive(Debug)]
pub struct Monitor {
    store: Store,
    listener: Listener,
    tick: Duration,
    instances: BTreeMap<InstanceId, Tracker>,
    databases: BTreeMap<DatabaseId, Tracker>,
    primaries: BTreeMap<InstanceId, Option<Role>>,
}

impl Monitor {
    /// A monitor that is woken through `listener`, and tells that databases are looked at every `tick`.
    #[must_use]
    pub fn new(store: Store, listener: Listener, tick: Duration) -> Self {
        Self {
            store,
            listener,
            tick,
            instances: BTreeMap::new(),
            databases: BTreeMap::new(),
            primaries: BTreeMap::new(),
        }
    }

    /// Looks at everything every few seconds, and at one database as soon as something happens to it, until `stop`.
    /// Rings `changed` when the health of a database changed, since its status tells of it.
    ///
    /// # Errors
    /// The store does not work.
    pub async fn run(mut self, world: World, changed: Bell, stop: CancellationToken) -> Result<(), Error> {
        let mut reporter = HostReporter::new(&world.fleet, &world.facts.host, &self.store, &world.clock);
        let mut everything_at = Duration::ZERO;
        loop {
            let left = everything_at.saturating_sub(world.clock.monotonic());
            let due = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                due = tokio::time::timeout(left, self.listener.wait()) => due,
            };
            // Bells that ring all the time do not put off the look at everything.
            let only = match due {
                Ok(scopes) => {
                    // What keeps the fleet's own services from running, and what is in the trash, stands in the host's
                    // status.
                    if scopes.contains(&Scope::Fleet) || reporter.trash_is_news(&scopes)? {
                        reporter.look(&world, self.tick).await?;
                    }
                    Some(databases(scopes))
                }
                Err(_due) => {
                    everything_at = world.clock.monotonic().saturating_add(LOOK_EVERY);
                    reporter.look(&world, self.tick).await?;
                    None
                }
            };
            for id in self.look(&world, only.as_ref()).await? {
                changed.ring(Scope::Database(id));
            }
        }
    }

    /// One look. Gives the databases whose health changed.
    async fn look(&mut self, world: &World, only: Option<&BTreeSet<DatabaseId>>) -> Result<Vec<DatabaseId>, Error> {
        let records = match only {
            None => self.store.read(|reader| reader.all_records())?,
            Some(ids) => self.store.read(|reader| {
                let found = ids.iter().map(|id| Ok((id.clone(), reader.record(id)?)));
                let found: Result<Vec<_>, store::Error> = found.collect();
                Ok(found?.into_iter().filter_map(|(id, record)| Some((id, record?))).collect())
            })?,
        };
        let targets: Vec<Target> = records.values().flat_map(|record| targets(world, record)).collect();
        if only.is_none() {
            self.forget_all_but(&targets);
        }
        let mut by_host: BTreeMap<HostId, Vec<Target>> = BTreeMap::new();
        for target in targets {
            by_host.entry(target.host.clone()).or_default().push(target);
        }
        let mut looks = JoinSet::new();
        for (host, targets) in by_host {
            let world = world.clone();
            looks.spawn(async move { vitals(&world, &host, targets).await });
        }
        let mut sampled: BTreeMap<DatabaseId, Vec<Sampled>> = BTreeMap::new();
        while let Some(joined) = looks.join_next().await {
            match joined {
                Ok(found) => {
                    for (target, vitals) in found {
                        let now = Time::from_ms(world.clock.now_ms());
                        let one = instance::judged(target, &vitals, now);
                        sampled.entry(one.target.database.clone()).or_default().push(one);
                    }
                }
                Err(error) => tracing::error!(%error, "a look at instances panicked"),
            }
        }
        let (mut changed, mut said) = (Vec::new(), Vec::new());
        for (id, mut instances) in sampled {
            instance::fill_lags(&mut instances);
            let (messages, is_news) = self.documents(world, &id, instances);
            if is_news {
                changed.push(id.clone());
            }
            said.push((id, messages));
            if said.len() >= TOLD_TOGETHER_MAX {
                self.tell(std::mem::take(&mut said)).await?;
            }
        }
        self.tell(said).await?;
        Ok(changed)
    }

    /// What was deleted is forgotten: a database that comes back is looked at with fresh eyes.
    fn forget_all_but(&mut self, targets: &[Target]) {
        let instances: BTreeSet<&InstanceId> = targets.iter().map(|target| &target.instance).collect();
        let databases: BTreeSet<&DatabaseId> = targets.iter().map(|target| &target.database).collect();
        self.instances.retain(|instance, _| instances.contains(instance));
        self.primaries.retain(|instance, _| instances.contains(instance));
        self.databases.retain(|database, _| databases.contains(database));
    }

    /// What there is to say of one database, and whether its health or a role changed.
    fn documents(&mut self, world: &World, id: &DatabaseId, instances: Vec<Sampled>) -> (Vec<OutMessage>, bool) {
        let now = Time::from_ms(world.clock.now_ms());
        let fleet = &world.fleet;
        let mut messages = Vec::new();
        let mut members = Vec::new();
        let (mut changed, mut is_there) = (false, false);
        for one in instances {
            let name = one.target.instance.clone();
            let topic = Topic::InstanceHealth(id.clone(), name.clone());
            let tracker =
                self.instances.entry(name.clone()).or_insert_with(|| resumed(&self.store, &topic.to_string(fleet)));
            if !one.there && tracker.said().is_none() {
                // It is still to be made: `status` tells of that.
                let node = one.target.node.clone();
                members.push(Member { name: name.to_string(), node, health: Health::Down, primary: false });
                continue;
            }
            is_there = true;
            let before = tracker.health();
            if let Some(document) = tracker.take(one.sample, now) {
                messages.push(retained(topic.to_string(fleet), &document, now));
            }
            changed |= tracker.health() != before;
            let role = one.state.as_ref().and_then(|state| state.role);
            changed |= self.primaries.insert(name.clone(), role) != Some(role);
            members.push(Member {
                name: name.to_string(),
                node: one.target.node.clone(),
                health: tracker.health(),
                primary: role == Some(Role::Primary),
            });
            if let Some(state) = one.state {
                let topic = Topic::InstanceState(id.clone(), name);
                messages.push(retained(topic.to_string(fleet), &state, now));
            }
        }
        if !is_there {
            return (messages, changed);
        }
        let topic = Topic::Health(id.clone()).to_string(fleet);
        let tracker = self.databases.entry(id.clone()).or_insert_with(|| resumed(&self.store, &topic));
        let before = tracker.health();
        if let Some(document) = tracker.take(of_database(&members), now) {
            messages.push(retained(topic, &document, now));
        }
        changed |= tracker.health() != before;
        (messages, changed)
    }

    /// Says what is new of these databases.
    async fn tell(&self, said: Vec<(DatabaseId, Vec<OutMessage>)>) -> Result<(), Error> {
        if said.is_empty() {
            return Ok(());
        }
        let written = self.store.write(move |writer| {
            for (id, messages) in &said {
                // A database that was deleted meanwhile has no topics any more.
                let lives = writer.record(id)?.is_some_and(|record| record.tombstone.is_none());
                for message in messages.iter().filter(|_| lives) {
                    instance::enqueue_if_news(writer, message)?;
                }
            }
            Ok(())
        });
        Ok(written.await?)
    }
}

/// Listens to Docker's events and passes them on as bells, until `stop`.
pub async fn events(world: World, bells: Vec<Bell>, random: Random, stop: CancellationToken) {
    events::listen(world, bells, random, stop).await;
}

/// The databases among scopes.
fn databases(scopes: BTreeSet<Scope>) -> BTreeSet<DatabaseId> {
    scopes
        .into_iter()
        .filter_map(|scope| match scope {
            Scope::Database(id) => Some(id),
            Scope::Fleet => None,
        })
        .collect()
}

/// How the instances of one host are.
async fn vitals(world: &World, host: &HostId, targets: Vec<Target>) -> Vec<(Target, Vitals)> {
    let together = if *host == world.facts.host { targets.len() } else { ASKED_TOGETHER_MAX };
    let mut all = Vec::with_capacity(targets.len());
    for part in targets.chunks(together.max(1)) {
        let told = ask(world, host, Question::Vitals { targets: part.to_vec() }).await;
        let hidden = |why: String| vec![Vitals::Hidden { why }; part.len()];
        let vitals = match told {
            Ok(Told::Vitals { vitals }) if vitals.len() == part.len() => vitals,
            Ok(told) => hidden(unexpected(host, &told).to_string()),
            Err(error) => hidden(error.to_string()),
        };
        all.extend(part.iter().cloned().zip(vitals));
    }
    all
}

/// The instances that a record says there are, on the hosts that the fleet has. Their ids hold node and host.
fn targets(world: &World, record: &Record) -> Vec<Target> {
    if record.tombstone.is_some() || record.spec.is_none() {
        return Vec::new();
    }
    let target = |name: &String| {
        let instance = InstanceId::parse(name).ok()?;
        let (rest, _host) = name.rsplit_once('-')?;
        let (_database, node) = rest.rsplit_once('-')?;
        let host = world.hosts.iter().map(|facts| &facts.host).find(|host| instance.is_on(host))?.clone();
        Some(Target { database: record.database.clone(), node: NodeName::parse(node).ok()?, instance, host })
    };
    record.etcd_passwords.keys().filter_map(target).collect()
}

fn resumed(store: &Store, topic: &str) -> Tracker {
    let said = store.read(|reader| reader.last_said(topic)).ok().flatten();
    let document: Option<HealthDoc> = said.and_then(|message| serde_json::from_slice(&message.payload).ok());
    Tracker::resumed(document)
}

fn retained<T: serde::Serialize>(topic: String, document: &T, now: Time) -> OutMessage {
    OutMessage::retained(topic, serde_json::to_vec(document).unwrap_or_default(), now.ms())
}
