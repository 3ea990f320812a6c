//! Deleted databases: all but record and trash goes; after the grace period, or when a person says so, these go too.
//!
//! The grace period is counted in time that the daemon runs, by the monotonic clock, and kept in the store: a wall clock
//! that jumps (a host without a battery that wakes up in 1970) purges nothing, and a host that is switched off keeps
//! its trash longer. A store that was lost begins to count anew. Invariants: nothing is purged while a spec waits that
//! asks the database back; what is purged is removed from the trash only.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::ledger::say;
use super::leftovers::Leftovers;
use super::pass::{Error, Next, Pass, WAIT};
use super::tell::{View, retained_topics};
use crate::contract::documents::{Event, EventData, EventType, Time};
use crate::contract::topics::Topic;
use crate::domain::database;
use crate::drivers;
use crate::execute::ask;
use crate::model::record::Tombstone;
use crate::model::{AcceptedSpec, DatabaseId, Graph, HostId, InstanceId, Record, Scope};
use crate::plan::behind;
use crate::store::{DesiredRow, IntentRow, Rows as _};
use crate::world::work::Question;

/// When each database in the trash was looked at last, in monotonic time, with the tombstone that it had.
#[derive(Debug, Default)]
pub(super) struct TrashClock(Mutex<BTreeMap<DatabaseId, (Tombstone, Duration)>>);

impl TrashClock {
    /// The time since the last look at the same tombstone; none at the first look of this process.
    fn since_last_look(&self, id: &DatabaseId, tombstone: &Tombstone, now: Duration) -> Duration {
        let mut looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match looks.insert(id.clone(), (tombstone.clone(), now)) {
            Some((before, at)) if before == *tombstone => now.saturating_sub(at),
            Some(_) | None => Duration::ZERO,
        }
    }

    fn forget(&self, id: &DatabaseId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}

impl Pass {
    /// A pass over a database that was deleted.
    pub(super) async fn deleted(
        &self,
        view: &View,
        (record, tombstone): (&Record, &Tombstone),
        spec: Option<&AcceptedSpec>,
    ) -> Result<Next, Error> {
        let scope = Scope::Database(view.id.clone());
        let desired = database::buried(record)?;
        let lived = Record { tombstone: None, ..record.clone() };
        let before = match spec {
            Some(spec) => self.shared.graph(spec, &lived)?,
            None => Graph::default(),
        };
        let (plan, next) = self.converge(&scope, &desired, &before, Some(view)).await?;
        let left_on = behind(&plan, &before, &self.shared.world.facts.host);
        if !plan.is_settled() && left_on.is_empty() {
            // A delete that waits for a person keeps its data as long as any other: from the word on.
            return Ok(next);
        }
        let intent = self.count(&view.id, tombstone).await?;
        if view.row.candidate.is_some() {
            // It was asked back: what waits for the host must find its data when the host is mended.
            return Ok(Next::After(self.shared.options.tick));
        }
        let left = Duration::from_millis(tombstone.grace_ms().saturating_sub(intent.in_trash_ms));
        if !intent.purge && !left.is_zero() {
            // A host that may answer again is looked at as often as any.
            let ticks = if left_on.is_empty() { 20 } else { 1 };
            return Ok(Next::After(left.min(self.shared.options.tick.saturating_mul(ticks))));
        }
        self.purge(view, record, left_on).await
    }

    /// Counts the time in the trash on, and gives what is known of it.
    async fn count(&self, id: &DatabaseId, tombstone: &Tombstone) -> Result<IntentRow, Error> {
        let shared = &self.shared;
        let passed = shared.trash_clock.since_last_look(id, tombstone, shared.world.clock.monotonic());
        let passed_ms = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX);
        if passed_ms == 0 {
            return Ok(shared.store.read(|reader| reader.intent(id))?);
        }
        let id = id.clone();
        let counted = shared.store.write(move |writer| {
            let mut intent = writer.intent(&id)?;
            intent.in_trash_ms = intent.in_trash_ms.saturating_add(passed_ms);
            writer.put_intent(&id, &intent)?;
            Ok(intent)
        });
        Ok(counted.await?)
    }

    /// The trash, the record and every memory of the database go; what is on hosts that do not answer, `left_on` among
    /// them, is kept in mind by the fleet's record first. A spec that comes at the last moment is to be judged.
    async fn purge(&self, view: &View, record: &Record, left_on: BTreeSet<HostId>) -> Result<Next, Error> {
        let world = &self.shared.world;
        let instances: Vec<InstanceId> =
            record.etcd_passwords.keys().filter_map(|name| InstanceId::parse(name).ok()).collect();
        // Those of nodes that were removed before are in the trash too.
        let instances: BTreeSet<InstanceId> = instances.into_iter().chain(record.trashed.iter().cloned()).collect();
        let of = |host: &HostId| instances.iter().filter(|instance| instance.is_on(host)).cloned().collect();
        let mut owed: Leftovers = left_on.into_iter().map(|host| (host.clone(), of(&host))).collect();
        if !self.shared.owed.is_kept(&owed, &world.record.get()) {
            return Ok(Next::After(WAIT));
        }
        let row = self.shared.store.read(|reader| reader.desired(&view.id))?;
        if row.is_some_and(|row| row.candidate.is_some()) {
            return Ok(Next::Again);
        }
        world.confirm_lead().await.map_err(Error::Purge)?;
        // What was on a host that has left the fleet went with it.
        for host in world.hosts.iter().map(|facts| &facts.host) {
            let there: BTreeSet<InstanceId> = of(host);
            if there.is_empty() || owed.contains_key(host) {
                continue;
            }
            match ask(world, host, Question::Purge { instances: there.clone() }).await {
                Ok(_) => {}
                Err(drivers::Error::Unreachable { .. }) if *host != world.facts.host => {
                    owed.insert(host.clone(), there);
                }
                Err(error) => return Err(Error::Purge(error)),
            }
        }
        if !self.shared.owed.is_kept(&owed, &world.record.get()) {
            return Ok(Next::After(WAIT));
        }
        self.forget(view, record, &owed).await
    }

    /// Nobody knows of the database any more.
    async fn forget(&self, view: &View, record: &Record, owed: &Leftovers) -> Result<Next, Error> {
        let world = &self.shared.world;
        let scope = Scope::Database(view.id.clone());
        crate::world::record::remove(world, &scope).await.map_err(Error::Purge)?;
        let now_ms = world.clock.now_ms();
        let data = EventData { message: gone(owed), ..EventData::default() };
        let name = format!("{now_ms}-purged");
        let event = Event::new(&world.fleet, &view.id, name, EventType::Purged, Time::from_ms(now_ms), data);
        let message = say(&world.fleet, &Topic::Events(view.id.clone()), &event, now_ms);
        let id = view.id.clone();
        let prefix = Topic::Status(id.clone()).to_string(&world.fleet).trim_end_matches("status").to_owned();
        let topics = retained_topics(&world.fleet, record);
        let forgotten = self.shared.store.write(move |writer| {
            // A spec that came while the trash was emptied is for the database that comes after: it must not be lost.
            let came = writer.desired(&id)?.filter(|row| row.candidate.is_some());
            // Until now it may have been told to wait for a host.
            if !writer.topics_said(&prefix)?.is_empty() {
                writer.clear_topics(&prefix, &topics, now_ms)?;
            }
            writer.forget_database(&id)?;
            writer.enqueue(&message)?;
            if let Some(DesiredRow { candidate, last_seen, .. }) = &came {
                let (candidate, last_seen) = (candidate.clone(), last_seen.clone());
                writer.put_desired(&id, &DesiredRow { candidate, last_seen, ..DesiredRow::default() })?;
            }
            Ok(came.is_none())
        });
        let gone = forgotten.await?;
        self.shared.trash_clock.forget(&view.id);
        tracing::info!(database = %view.id, "purged");
        self.shared.changed.ring(scope);
        Ok(if gone { Next::Gone } else { Next::Again })
    }
}

/// What is gone, as a sentence for people.
fn gone(owed: &Leftovers) -> String {
    let all = "its data, record and history are gone; the id is free";
    let hosts: Vec<&str> = owed.keys().map(HostId::as_str).collect();
    if hosts.is_empty() {
        return all.to_owned();
    }
    let hosts = hosts.join(", ");
    format!("{all}, except on {hosts}, which did not answer: what is on its disk goes when it does")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trash_clock_counts_from_look_to_look_of_one_tombstone() {
        let (clock, id) = (TrashClock::default(), DatabaseId::parse("shop").unwrap());
        let tombstone = |at| Tombstone { deleted_at_s: at, purge_at_s: at + 60, last_digest: None };
        let s = Duration::from_secs;
        assert_eq!(clock.since_last_look(&id, &tombstone(0), s(5)), s(0), "nobody knows how long it was before");
        assert_eq!(clock.since_last_look(&id, &tombstone(0), s(7)), s(2));
        assert_eq!(clock.since_last_look(&id, &tombstone(9), s(50)), s(0), "it lived meanwhile");
        clock.forget(&id);
        assert_eq!(clock.since_last_look(&id, &tombstone(9), s(60)), s(0));
    }
}
