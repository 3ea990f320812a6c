//! Telling of databases while no pass over them can be made: there is no Docker or Swarm yet, or the fleet's own services
//! do not run. A new spec gets a status all the same, and what was said of the others stays, with what they wait for.
//!
//! Invariant: it belongs to `tell` and never runs beside a pass over a database, so the numbers of a status have no gap.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::ledger::{keep, say};
use crate::contract::documents::{Status, Time};
use crate::contract::topics::Topic;
use crate::model::{DatabaseId, FleetId};
use crate::report;
use crate::report::conditions::Found;
use crate::report::status::{Unseen, is_news, unseen};
use crate::runtime::clock::SharedClock;
use crate::store::{Error, Rows as _, Store};

/// Who tells of databases that wait.
#[derive(Debug, Clone)]
pub struct Waiting {
    /// The store.
    pub store: Store,
    /// The fleet.
    pub fleet: FleetId,
    /// The time.
    pub clock: SharedClock,
    /// How long they may wait before that is told as stalled.
    pub limit: Duration,
}

/// Who is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whom {
    All,
    /// Those of which nothing was said so far: they are new.
    New,
}

impl Waiting {
    /// Tells that databases wait for `words` to end, the reason why there is no world to work on: all of them, or these.
    ///
    /// # Errors
    /// The store does not work.
    pub async fn for_world(&self, words: &str, only: Option<&BTreeSet<DatabaseId>>) -> Result<(), Error> {
        let message = format!("there is no Swarm to work on: {words}");
        self.told(&report::found(words, "NoSwarm", message), only).await
    }

    /// Tells what databases wait for: all of them, or these.
    pub(super) async fn told(&self, found: &Found, only: Option<&BTreeSet<DatabaseId>>) -> Result<(), Error> {
        self.tell(found, only, Whom::All).await
    }

    /// Tells of databases whose specs were accepted while more were than are worked on at once: those of which nothing was
    /// said so far. Their authors hear the verdict before their turn comes.
    pub(super) async fn queued(&self, ids: &BTreeSet<DatabaseId>) -> Result<(), Error> {
        let message = "the spec is accepted; other databases are worked on first, and its turn comes".to_owned();
        self.tell(&report::found(&message, "Queued", message.clone()), Some(ids), Whom::New).await
    }

    async fn tell(&self, found: &Found, only: Option<&BTreeSet<DatabaseId>>, whom: Whom) -> Result<(), Error> {
        let (rows, records) = self.store.read(|reader| match only {
            None => Ok((reader.all_desired()?, reader.all_records()?)),
            Some(only) => {
                let (mut rows, mut records) = (BTreeMap::new(), BTreeMap::new());
                for id in only {
                    rows.extend(reader.desired(id)?.map(|row| (id.clone(), row)));
                    records.extend(reader.record(id)?.map(|record| (id.clone(), record)));
                }
                Ok((rows, records))
            }
        })?;
        let ids: BTreeSet<&DatabaseId> = rows.keys().chain(records.keys()).collect();
        let now = Time::from_ms(self.clock.now_ms());
        let mut messages = Vec::new();
        for id in ids {
            let record = records.get(id);
            if record.is_some_and(|record| record.tombstone.is_some()) {
                continue;
            }
            let topic = Topic::Status(id.clone());
            let said = self.store.read(|reader| reader.last_said(&topic.to_string(&self.fleet)))?;
            let before: Option<Status> = said.and_then(|message| serde_json::from_slice(&message.payload).ok());
            if whom == Whom::New && before.is_some() {
                continue;
            }
            let status = unseen(&Unseen {
                database: id,
                epoch: self.store.epoch(),
                now,
                before: before.as_ref(),
                recorded: record.is_some() && whom == Whom::All,
                verdict: rows.get(id).and_then(|row| row.verdict.as_ref()),
                found,
                wait_ms: i64::try_from(self.limit.as_millis()).unwrap_or(i64::MAX),
            });
            if !is_news(before.as_ref(), &status) {
                continue;
            }
            for event in report::events(&self.fleet, before.as_ref(), &status) {
                messages.push(say(&self.fleet, &Topic::Events(id.clone()), &event, now.ms()));
            }
            messages.push(keep(&self.fleet, &topic, &status, now.ms()));
        }
        if messages.is_empty() {
            return Ok(());
        }
        self.store.write(move |writer| messages.iter().try_for_each(|message| writer.enqueue(message))).await
    }
}
