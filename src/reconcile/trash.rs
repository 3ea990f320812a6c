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
use super::pass::{Error, Next, Pass};
use super::tell::View;
use crate::contract::documents::{Event, EventData, EventType, Time};
use crate::contract::topics::Topic;
use crate::domain::database;
use crate::execute::ask;
use crate::model::record::Tombstone;
use crate::model::{AcceptedSpec, DatabaseId, Graph, InstanceId, Record, Scope};
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
        if !plan.is_settled() {
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
            return Ok(Next::After(left.min(self.shared.options.tick.saturating_mul(20))));
        }
        let purged = self.purge(view, record).await?;
        Ok(if purged { Next::Gone } else { Next::Again })
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

    /// The trash, the record and every memory of the database go. Gives false when a spec came at the
    /// last moment: it is to be judged.
    async fn purge(&self, view: &View, record: &Record) -> Result<bool, Error> {
        let world = &self.shared.world;
        let row = self.shared.store.read(|reader| reader.desired(&view.id))?;
        if row.is_some_and(|row| row.candidate.is_some()) {
            return Ok(false);
        }
        world.confirm_lead().await.map_err(Error::Purge)?;
        let instances = record.etcd_passwords.keys().filter_map(|name| InstanceId::parse(name).ok());
        let instances: Vec<InstanceId> = instances.collect();
        // What was on a host that has left the fleet went with it.
        for host in world.hosts.iter().map(|facts| &facts.host) {
            let there: BTreeSet<_> = instances.iter().filter(|instance| instance.is_on(host)).cloned().collect();
            if !there.is_empty() {
                ask(world, host, Question::Purge { instances: there }).await.map_err(Error::Purge)?;
            }
        }
        let scope = Scope::Database(view.id.clone());
        crate::world::record::remove(world, &scope).await.map_err(Error::Purge)?;
        let now_ms = world.clock.now_ms();
        let data = EventData {
            message: "its data, record and history are gone; the id is free".to_owned(),
            ..EventData::default()
        };
        let name = format!("{now_ms}-purged");
        let event = Event::new(&world.fleet, &view.id, name, EventType::Purged, Time::from_ms(now_ms), data);
        let message = say(&world.fleet, &Topic::Events(view.id.clone()), &event, now_ms);
        let id = view.id.clone();
        let forgotten = self.shared.store.write(move |writer| {
            // A spec that came while the trash was emptied is for the database that comes after: it must not be lost.
            let came = writer.desired(&id)?.filter(|row| row.candidate.is_some());
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
        Ok(gone)
    }
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
