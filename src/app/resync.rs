//! After each connect: brings in every spec, says what the broker has forgotten, and whether the set of specs is whole.
//!
//! Invariants: what the broker lacks is said, and changes nothing (rule 4); a spec is published for the broker only
//! where a fresh look at its topic found nothing. The embedded broker keeps nothing on disk, so what it has forgotten is
//! published for it without a word.
//!
//! Whether the set is whole is known by the user's inventory. Without one, a replay that reaches the broker's limit (a
//! probe finds it, once for each broker) says that there may be more. It stands in the controller's availability, and as
//! the condition `SpecSetIncomplete` on each database that it concerns.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::links::Incoming;
use super::services::Base;
use crate::contract::documents::{ConditionStatus, ConditionType, Inventory, SpecSet};
use crate::contract::topics::Topic;
use crate::intake::Retained;
use crate::model::DatabaseId;
use crate::model::record::StoredSpec;
use crate::mqtt::{self, KnownInventory, LinkState, Message};
use crate::runtime::chain::chain;
use crate::runtime::supervisor::{Supervisor, TaskResult};
use crate::store::{DesiredRow, ReplayLimitRow, Rows as _};

/// How long a resync may take: 12,000 specs came in within five seconds; the rest is for a slow link.
const LIMIT: Duration = Duration::from_secs(600);
/// How long what came may take to be stored before we say what did not come.
const SETTLE_LIMIT: Duration = Duration::from_secs(60);
/// The pause between two looks whether it is stored.
const SETTLE_LOOK: Duration = Duration::from_millis(20);
/// How many markers a probe retains: twice what was replayed, within these.
const PROBE_MARKERS: (u32, u32) = (256, 16_384);
/// A replay of so many hundredths of the limit has reached it: a limit is not exact, since messages leave while others
/// are queued (1,020 to 1,100 were measured with a limit of 1,000).
const REACHED_PERCENT: u64 = 92;
/// How long specs are gathered before the set is looked at again.
const GATHER: Duration = Duration::from_secs(2);
/// How many missing databases are named.
const MISSING_NAMED_MAX: usize = 100;

/// The task.
pub(super) struct Resync {
    pub(super) base: Base,
    pub(super) incoming: Incoming,
    /// The broker is our own.
    pub(super) embedded: bool,
    /// Specs that the broker lost are published for it.
    pub(super) reseed: bool,
    /// Changes when records were taken from Swarm that the store did not have.
    pub(super) adopted: watch::Sender<u64>,
    /// What is said of the set of specs.
    pub(super) spec_set: watch::Sender<Option<SpecSet>>,
}

pub(super) fn run(supervisor: &mut Supervisor, resync: Resync) {
    let resync = std::sync::Arc::new(resync);
    supervisor.start("resync", super::AGAIN, move |stop| {
        let resync = std::sync::Arc::clone(&resync);
        async move { resync.keep(stop).await }
    });
}

impl Resync {
    /// A resync after each connect, with each new inventory, and when records were found that the store had lost.
    async fn keep(&self, stop: CancellationToken) -> TaskResult {
        let link = &self.incoming.link;
        let (mut state, mut inventory, mut specs) = (link.state(), link.inventory(), link.specs());
        let mut adopted = self.adopted.subscribe();
        let mut first: Option<(u64, usize)> = None;
        loop {
            adopted.mark_unchanged();
            inventory.mark_unchanged();
            specs.mark_unchanged();
            let now = state.borrow_and_update().clone();
            if let LinkState::Connected { epoch, .. } = now {
                let by_wildcard = first.filter(|(of, _)| *of == epoch).map(|(_, by_wildcard)| by_wildcard);
                let by_wildcard = self.round(by_wildcard).await?;
                first = Some((epoch, by_wildcard));
            }
            loop {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return Ok(()),
                    changed = state.changed() => match changed { Ok(()) => break, Err(_) => return Ok(()) },
                    Ok(()) = inventory.changed() => break,
                    Ok(()) = adopted.changed() => break,
                    // A spec that the inventory asks for may have come.
                    Ok(()) = specs.changed(), if inventory.borrow().inventory.is_some() => {
                        tokio::time::sleep(GATHER).await;
                        specs.mark_unchanged();
                        self.say_whole(&link.seen(), None).await?;
                    }
                }
            }
        }
    }

    /// One resync; `by_wildcard` is what the wildcard brought, where an earlier round of this connection knows it.
    async fn round(&self, by_wildcard: Option<usize>) -> Result<usize, Box<dyn std::error::Error + Send + Sync>> {
        let Incoming { link, reseeds, .. } = &self.incoming;
        reseeds.clear();
        let ids = known_ids(&self.base)?;
        let found = link.resync(&ids, LIMIT).await?;
        let by_wildcard = by_wildcard.unwrap_or(found.by_wildcard);
        self.settle().await;
        // Read again: what came meanwhile may have been a delete.
        let specs = known_specs(&self.base)?;
        for (id, stored) in specs.iter().filter(|(id, _)| !found.seen.contains(*id)) {
            self.forgotten(id, stored).await?;
        }
        self.say_whole(&found.seen, Some(by_wildcard)).await?;
        tracing::info!(specs = found.seen.len(), known = specs.len(), by_wildcard, "resynchronised with the broker");
        Ok(by_wildcard)
    }

    /// Waits until what came is stored, for a while.
    async fn settle(&self) {
        let stored = async {
            while self.incoming.link.unacknowledged() > 0 {
                tokio::time::sleep(SETTLE_LOOK).await;
            }
        };
        if tokio::time::timeout(SETTLE_LIMIT, stored).await.is_err() {
            tracing::warn!("what the broker brought is not stored yet; going on");
        }
    }

    /// The broker did not bring the spec of a database.
    async fn forgotten(&self, id: &DatabaseId, stored: &StoredSpec) -> TaskResult {
        let Incoming { intake, outbound, reseeds, .. } = &self.incoming;
        let (spec, topic) = (Topic::Spec(id.clone()), Topic::Spec(id.clone()).to_string(&self.base.fleet));
        if !self.embedded {
            if intake.confirm.retained(&spec).await != Retained::Nothing {
                return Ok(());
            }
            intake.forgotten(id).await?;
        }
        if !self.reseed {
            return Ok(());
        }
        reseeds.begin(&topic);
        if intake.confirm.retained(&spec).await != Retained::Nothing {
            reseeds.give_up(&topic);
            return Ok(());
        }
        match outbound.publish(&Message::retained(topic.clone(), stored.document.expose().as_bytes())).await {
            Ok(()) => Ok(()),
            Err(error) => {
                reseeds.give_up(&topic);
                if let mqtt::Error::Refused { .. } = error {
                    tracing::warn!(topic, error = chain(&error), "the broker does not take the spec that it lost");
                    return Ok(());
                }
                Err(error.into())
            }
        }
    }

    /// Says whether the set of specs is whole. Without `by_wildcard` only an inventory can tell something new.
    async fn say_whole(&self, seen: &BTreeSet<DatabaseId>, by_wildcard: Option<usize>) -> TaskResult {
        let KnownInventory { inventory, fault } = self.incoming.link.inventory().borrow().clone();
        let judged = match (&inventory, by_wildcard) {
            (Some(inventory), _) => {
                let rows = self.base.store.read(|reader| reader.all_desired())?;
                by_inventory(inventory, seen, &rows)
            }
            (None, _) if self.embedded => Judged::whole("OwnBroker", "the broker is pgmoor's own, and forgets with it"),
            (None, None) => return Ok(()),
            (None, Some(by_wildcard)) => self.by_limit(by_wildcard as u64).await?,
        };
        let rows = self.base.store.read(|reader| reader.all_desired())?;
        for (id, row) in rows {
            let due = judged.concerned(&id);
            if due.is_some() || row.conditions.contains_key(&ConditionType::SpecSetIncomplete) {
                self.incoming.intake.spec_set(&id, due).await?;
            }
        }
        let mut set = judged.set;
        set.specs = seen.len() as u64;
        if let Some(fault) = fault {
            set.message = format!("{}. The inventory that came last cannot be read: {fault}", set.message);
        }
        self.spec_set.send_if_modified(|said| {
            let news = said.as_ref() != Some(&set);
            *said = Some(set);
            news
        });
        Ok(())
    }

    /// Whether a replay of so many specs may have been cut short.
    async fn by_limit(&self, by_wildcard: u64) -> Result<Judged, Box<dyn std::error::Error + Send + Sync>> {
        let broker = self.incoming.intake.confirm.broker();
        let known = self.base.store.read(|reader| reader.replay_limit(&broker))?;
        let limit = match known {
            Some(limit) if !reaches(by_wildcard, &limit) => Some(limit),
            _ if by_wildcard == 0 => None,
            _ => match self.probe(by_wildcard, broker).await? {
                Ok(limit) => Some(limit),
                Err(why) => return Ok(Judged::unknown(&why)),
            },
        };
        Ok(limit.map_or_else(below_limit, |limit| judge_limit(by_wildcard, &limit)))
    }

    /// Asks the broker for its limit and remembers the answer; the inner error says why there is none.
    async fn probe(
        &self,
        by_wildcard: u64,
        broker: String,
    ) -> Result<Result<ReplayLimitRow, String>, crate::store::Error> {
        let (min, max) = PROBE_MARKERS;
        let count = u32::try_from(by_wildcard.saturating_mul(2)).unwrap_or(max).clamp(min, max);
        let probe = match self.incoming.intake.confirm.probe(count).await {
            Ok(probe) => probe,
            Err(why) => {
                tracing::warn!(why, "how much the broker replays could not be probed");
                return Ok(Err(why));
            }
        };
        tracing::info!(retained = probe.retained, replayed = probe.replayed, "probed how much the broker replays");
        let row = ReplayLimitRow {
            retained: probe.retained as u64,
            replayed: probe.replayed as u64,
            at_ms: self.base.clock.now_ms(),
        };
        self.base.store.write(move |writer| writer.put_replay_limit(&broker, &row)).await?;
        Ok(Ok(row))
    }
}

/// What was found out about the set of specs.
struct Judged {
    set: SpecSet,
    /// What each database that it concerns is told; `all` for those that are not named.
    named: BTreeMap<DatabaseId, (&'static str, String)>,
    all: Option<(&'static str, String)>,
}

impl Judged {
    fn new(complete: ConditionStatus, reason: &str, message: impl Into<String>) -> Self {
        let set = SpecSet {
            complete,
            reason: reason.to_owned(),
            message: message.into(),
            specs: 0,
            inventory_revision: None,
            missing: Vec::new(),
        };
        Self { set, named: BTreeMap::new(), all: None }
    }

    fn whole(reason: &str, message: &str) -> Self {
        Self::new(ConditionStatus::True, reason, message)
    }

    fn unknown(why: &str) -> Self {
        let message = format!(
            "how much the broker replays could not be probed, so specs may be missing: {why}. Let pgmoor write on \
             controllers/+/probe/+, or publish an inventory"
        );
        Self::new(ConditionStatus::Unknown, "ReplayLimitUnknown", message)
    }

    fn concerned(&self, id: &DatabaseId) -> Option<(&'static str, String)> {
        self.named.get(id).or(self.all.as_ref()).cloned()
    }
}

fn below_limit() -> Judged {
    Judged::whole("BelowReplayLimit", "the broker replayed fewer specs than it replays at most")
}

/// Whether a replay of so many may be all that the broker gives. What it gave to a probe, it gives.
fn reaches(by_wildcard: u64, limit: &ReplayLimitRow) -> bool {
    if limit.replayed < limit.retained {
        by_wildcard.saturating_mul(100) >= limit.replayed.saturating_mul(REACHED_PERCENT)
    } else {
        by_wildcard > limit.replayed
    }
}

fn judge_limit(by_wildcard: u64, limit: &ReplayLimitRow) -> Judged {
    if limit.replayed >= limit.retained || !reaches(by_wildcard, limit) {
        return below_limit();
    }
    let message = format!(
        "the broker replays about {} retained messages to one subscription and brought {by_wildcard} specs: there may \
         be more that pgmoor does not know of. In mosquitto, set max_queued_messages above the number of databases; \
         or publish an inventory. What is known goes on, nothing is removed",
        limit.replayed
    );
    let all = Some(("ReplayLimitReached", message.clone()));
    Judged { all, ..Judged::new(ConditionStatus::False, "ReplayLimitReached", message) }
}

/// Goes by the inventory: what it names and the broker does not have, and what is older than it says.
fn by_inventory(inventory: &Inventory, seen: &BTreeSet<DatabaseId>, rows: &BTreeMap<DatabaseId, DesiredRow>) -> Judged {
    let missing: Vec<DatabaseId> = inventory.databases.keys().filter(|id| !seen.contains(*id)).cloned().collect();
    let mut named = BTreeMap::new();
    for (id, row) in rows {
        let Some(wanted) = inventory.databases.get(id).copied().filter(|wanted| *wanted > 0) else { continue };
        let specs = [row.accepted.as_ref(), row.candidate.as_ref().map(|candidate| &candidate.spec)];
        let newest = specs.into_iter().flatten().filter_map(|spec| spec.generation).max().unwrap_or(0);
        if newest < wanted {
            let message = format!(
                "the inventory (revision {}) asks for generation {wanted}, the newest spec that pgmoor took has \
                 {newest}. Publish the spec again",
                inventory.revision
            );
            named.insert(id.clone(), ("SpecOlderThanInventory", message));
        }
    }
    let judged = if missing.is_empty() && named.is_empty() {
        Judged::whole("InventoryFulfilled", "the broker brought every spec that the inventory names")
    } else {
        let message = format!(
            "of {} databases in the inventory, the broker has no spec of {}, and {} have an older one than the \
             inventory says. Publish these specs again",
            inventory.databases.len(),
            missing.len(),
            named.len()
        );
        Judged::new(ConditionStatus::False, "InventoryNotFulfilled", message)
    };
    let missing = missing.into_iter().take(MISSING_NAMED_MAX).collect();
    let set = SpecSet { inventory_revision: Some(inventory.revision), missing, ..judged.set };
    Judged { set, named, all: None }
}

/// What the broker is asked for by name: also what is in the trash, which its user may have published again.
fn known_ids(base: &Base) -> Result<BTreeSet<DatabaseId>, crate::store::Error> {
    let (rows, records) = base.store.read(|reader| Ok((reader.all_desired()?, reader.all_records()?)))?;
    Ok(rows.into_keys().chain(records.into_keys()).collect())
}

/// The spec that the broker should hold of each database: the one that waits to be judged, else the accepted one.
fn known_specs(base: &Base) -> Result<BTreeMap<DatabaseId, StoredSpec>, crate::store::Error> {
    let (rows, records) = base.store.read(|reader| Ok((reader.all_desired()?, reader.all_records()?)))?;
    let living = records.into_values().filter(|record| record.tombstone.is_none());
    let mut specs: BTreeMap<_, _> = living.filter_map(|record| Some((record.database, record.spec?))).collect();
    specs.extend(rows.into_iter().filter_map(|(id, row)| Some((id, row.candidate?.spec))));
    Ok(specs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Digest, Secret};

    fn limit(retained: u64, replayed: u64) -> ReplayLimitRow {
        ReplayLimitRow { retained, replayed, at_ms: 0 }
    }

    #[test]
    fn a_replay_at_the_limit_is_told_and_one_below_is_not() {
        let told = |by_wildcard, limit| judge_limit(by_wildcard, &limit).all.is_some();
        assert!(told(1020, limit(2100, 1100)), "limits are not exact");
        assert!(told(1100, limit(2100, 1020)));
        assert!(!told(900, limit(2100, 1020)));
        assert!(!told(5000, limit(10_000, 10_000)), "the broker cuts nothing");
        let judged = judge_limit(1020, &limit(2100, 1020));
        assert!(judged.set.message.contains("max_queued_messages"), "{}", judged.set.message);
    }

    #[test]
    fn a_broker_is_probed_again_only_for_what_is_not_known() {
        assert!(!reaches(256, &limit(256, 256)));
        assert!(reaches(257, &limit(256, 256)), "nobody has tried that many");
        assert!(!reaches(100, &limit(256, 120)));
        assert!(reaches(115, &limit(256, 120)), "its setting may have been changed since");
    }

    fn id(name: &str) -> DatabaseId {
        DatabaseId::parse(name).unwrap()
    }

    fn row(generation: Option<u64>) -> DesiredRow {
        let (document, digest) = (Secret::new("{}"), Digest::of_bytes(b"{}"));
        DesiredRow {
            accepted: Some(StoredSpec { document, digest, generation, accepted_at_s: 0 }),
            ..DesiredRow::default()
        }
    }

    #[test]
    fn an_inventory_names_what_is_missing_and_what_is_old() {
        let databases = [(id("current"), 3), (id("old"), 4), (id("any"), 0), (id("missing"), 1)].into();
        let inventory = Inventory { revision: 9, databases };
        let rows = [("current", Some(3)), ("old", Some(3)), ("any", None), ("other", None)]
            .map(|(name, generation)| (id(name), row(generation)));
        let seen = ["current", "old", "any", "other"].map(id).into();
        let judged = by_inventory(&inventory, &seen, &rows.into());
        assert_eq!(judged.set.missing, [id("missing")]);
        assert_eq!((judged.set.complete, judged.set.inventory_revision), (ConditionStatus::False, Some(9)));
        let told: Vec<_> = rows_told(&judged, ["current", "old", "any", "other"]);
        assert_eq!(told, ["old"], "what the inventory does not name is not touched by it");
    }

    fn rows_told<'a>(judged: &Judged, names: [&'a str; 4]) -> Vec<&'a str> {
        names.into_iter().filter(|name| judged.concerned(&id(name)).is_some()).collect()
    }

    #[test]
    fn an_inventory_that_is_fulfilled_says_so() {
        let inventory = Inventory { revision: 1, databases: [(id("shop"), 2)].into() };
        let judged = by_inventory(&inventory, &[id("shop")].into(), &[(id("shop"), row(Some(2)))].into());
        assert_eq!((judged.set.complete, judged.set.reason.as_str()), (ConditionStatus::True, "InventoryFulfilled"));
    }
}
