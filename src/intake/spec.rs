//! A spec came in.

use std::collections::BTreeMap;

use super::{Error, Intake};
use crate::contract::documents::{ConditionType, Event, EventData, EventType, Time, Verdict, VerdictResult};
use crate::contract::topics::Topic;
use crate::contract::{self, Fault};
use crate::model::record::StoredSpec;
use crate::model::{AcceptedSpec, DatabaseId, Digest, Scope, Secret};
use crate::store::{Candidate, ConditionRow, DesiredRow, OutMessage, Rows as _};

/// What is to be done with a spec before its rules are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum News {
    /// It is the one that was judged last: nothing.
    Known,
    /// It is the accepted one again, after another was refused: that verdict is lifted.
    Again,
    /// The broker replayed one that another has taken the place of (rule 9).
    Old,
    /// It is to be judged.
    New,
}

fn news(row: &DesiredRow, digest: &Digest, retained: bool) -> News {
    let accepted = row.accepted.as_ref().is_some_and(|accepted| accepted.digest == *digest);
    let waits = row.candidate.as_ref().is_some_and(|candidate| candidate.spec.digest == *digest);
    if waits {
        News::Known
    } else if accepted {
        let clean = row.candidate.is_none()
            && row.conditions.is_empty()
            && row.verdict.as_ref().is_some_and(|verdict| verdict.digest == *digest);
        if clean { News::Known } else { News::Again }
    } else if retained && row.superseded(digest) {
        News::Old
    } else if row.last_seen.as_ref() == Some(digest) && retained {
        News::Known
    } else {
        News::New
    }
}

impl Intake {
    /// Judges a spec by the rules that need no host.
    pub(super) async fn spec(&self, id: &DatabaseId, payload: &[u8], retained: bool) -> Result<(), Error> {
        let digest = Digest::of_bytes(payload);
        let (row, record, ports) =
            self.store.read(|reader| Ok((reader.desired(id)?, reader.record(id)?, reader.ports()?)))?;
        let row = row.unwrap_or_default();
        match news(&row, &digest, retained) {
            News::Known => return Ok(()),
            News::Again => return self.again(id, digest).await,
            News::Old => return self.old(id, digest).await,
            News::New => {}
        }
        let previous = record
            .as_ref()
            .and_then(|record| record.spec.as_ref())
            .and_then(|stored| self.read_back(id, stored.document.expose().as_bytes()));
        let others: BTreeMap<u16, DatabaseId> = ports.into_iter().filter(|(_, owner)| owner != id).collect();
        let context = self.context(previous.as_ref(), &others);
        match contract::accept(id, payload, &context) {
            Ok(spec) => self.candidate(id, &spec, payload, digest).await,
            Err(faults) => self.refused(id, faults, digest).await,
        }
    }

    /// A spec that was accepted before, read with today's rules.
    fn read_back(&self, id: &DatabaseId, document: &[u8]) -> Option<AcceptedSpec> {
        let nobody = BTreeMap::new();
        let context = self.context(None, &nobody);
        contract::accept(id, document, &context).ok()
    }

    async fn candidate(
        &self,
        id: &DatabaseId,
        spec: &AcceptedSpec,
        payload: &[u8],
        digest: Digest,
    ) -> Result<(), Error> {
        let now_ms = self.clock.now_ms();
        let stored = StoredSpec {
            document: Secret::new(String::from_utf8_lossy(payload)),
            digest: digest.clone(),
            generation: spec.generation,
            accepted_at_s: now_ms.div_euclid(1000),
        };
        self.change(id, Vec::new(), move |row| {
            row.last_seen = Some(digest);
            // Nothing is said of it until the host was asked.
            row.verdict = None;
            row.candidate = Some(Candidate { spec: stored, received_at_ms: now_ms });
        })
        .await
    }

    pub(super) async fn refused(&self, id: &DatabaseId, faults: Vec<Fault>, digest: Digest) -> Result<(), Error> {
        let now_ms = self.clock.now_ms();
        let verdict = Verdict {
            result: VerdictResult::Rejected,
            digest: digest.clone(),
            generation: None,
            faults: faults.clone(),
            at: Time::from_ms(now_ms),
        };
        let message = format!("the spec was refused: {} faults", faults.len());
        let data = EventData { message, digest: Some(digest.clone()), faults, ..EventData::default() };
        let event = self.event(id, EventType::SpecRejected, &digest, data);
        self.change(id, vec![event], move |row| {
            row.last_seen = Some(digest);
            row.verdict = Some(verdict);
            // What waited for the host is no longer what the topic says.
            row.candidate = None;
        })
        .await
    }

    /// The accepted spec came again: whatever was said about another one meanwhile no longer holds.
    async fn again(&self, id: &DatabaseId, digest: Digest) -> Result<(), Error> {
        let now_ms = self.clock.now_ms();
        self.change(id, Vec::new(), move |row| {
            let generation = row.accepted.as_ref().and_then(|accepted| accepted.generation);
            let same = row.verdict.as_ref().is_some_and(|verdict| verdict.digest == digest);
            if !same {
                row.verdict = Some(Verdict {
                    result: VerdictResult::Accepted,
                    digest: digest.clone(),
                    generation,
                    faults: Vec::new(),
                    at: Time::from_ms(now_ms),
                });
            }
            row.candidate = None;
            row.conditions.remove(&ConditionType::BrokerAmnesia);
            row.conditions.remove(&ConditionType::BrokerRewound);
            row.last_seen = Some(digest);
        })
        .await
    }

    async fn old(&self, id: &DatabaseId, digest: Digest) -> Result<(), Error> {
        let now_ms = self.clock.now_ms();
        let message = "the broker replayed a spec that another has taken the place of; it was not applied".to_owned();
        let data = EventData { message: message.clone(), digest: Some(digest.clone()), ..EventData::default() };
        let event = self.event(id, EventType::ReplayIgnored, &digest, data);
        self.change(id, vec![event], move |row| {
            row.conditions.entry(ConditionType::BrokerRewound).or_insert(ConditionRow {
                reason: "SupersededSpecReplayed".to_owned(),
                message: format!("{message}; publish the spec that shall hold"),
                since_ms: now_ms,
            });
        })
        .await
    }

    /// The broker has no spec for databases that are there: said, and nothing else (rule 4).
    ///
    /// # Errors
    /// The store does not work.
    pub async fn forgotten(&self, id: &DatabaseId) -> Result<(), Error> {
        let now_ms = self.clock.now_ms();
        self.change(id, Vec::new(), move |row| {
            row.conditions.entry(ConditionType::BrokerAmnesia).or_insert(ConditionRow {
                reason: "SpecNotRetained".to_owned(),
                message: "the broker has no spec of this database; it goes on as it is. Publish the spec again"
                    .to_owned(),
                since_ms: now_ms,
            });
        })
        .await
    }

    /// Changes the row of a database and says something, in one transaction; then wakes the reconciler.
    pub(super) async fn change(
        &self,
        id: &DatabaseId,
        messages: Vec<OutMessage>,
        change: impl FnOnce(&mut DesiredRow) + Send + 'static,
    ) -> Result<(), Error> {
        let key = id.clone();
        self.store
            .write(move |writer| {
                let mut row = writer.desired(&key)?.unwrap_or_default();
                change(&mut row);
                writer.put_desired(&key, &row)?;
                messages.iter().try_for_each(|message| writer.enqueue(message))
            })
            .await?;
        self.bell.ring(Scope::Database(id.clone()));
        Ok(())
    }

    pub(super) fn event(&self, id: &DatabaseId, kind: EventType, digest: &Digest, data: EventData) -> OutMessage {
        let now_ms = self.clock.now_ms();
        let name = format!("{now_ms}-intake-{}", digest.short());
        let event = Event::new(&self.fleet, id, name, kind, Time::from_ms(now_ms), data);
        let payload = serde_json::to_vec(&event).unwrap_or_default();
        OutMessage::event(Topic::Events(id.clone()).to_string(&self.fleet), payload, now_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::HistoryRow;

    fn digest(text: &str) -> Digest {
        Digest::of_bytes(text.as_bytes())
    }

    fn row() -> DesiredRow {
        let mut row = DesiredRow::default();
        for text in ["one", "two"] {
            row.remember(HistoryRow { generation: None, digest: digest(text), deleted: false, at_ms: 0 });
        }
        row.accepted = Some(StoredSpec {
            document: Secret::new("two"),
            digest: digest("two"),
            generation: None,
            accepted_at_s: 0,
        });
        row.last_seen = Some(digest("two"));
        row
    }

    #[test]
    fn a_replayed_old_spec_is_old_and_a_published_one_is_new() {
        assert_eq!(news(&row(), &digest("one"), true), News::Old);
        assert_eq!(news(&row(), &digest("one"), false), News::New);
    }

    #[test]
    fn the_accepted_spec_again_lifts_what_was_said_since() {
        let mut row = row();
        assert_eq!(news(&row, &digest("two"), true), News::Again, "no verdict stands beside it");
        row.verdict = Some(Verdict {
            result: VerdictResult::Accepted,
            digest: digest("two"),
            generation: None,
            faults: Vec::new(),
            at: Time::from_ms(0),
        });
        assert_eq!(news(&row, &digest("two"), true), News::Known);
        row.conditions.insert(
            ConditionType::BrokerAmnesia,
            ConditionRow { reason: String::new(), message: String::new(), since_ms: 0 },
        );
        assert_eq!(news(&row, &digest("two"), true), News::Again);
    }

    #[test]
    fn a_refused_spec_is_judged_again_only_when_published() {
        let mut row = row();
        row.last_seen = Some(digest("bad"));
        assert_eq!(news(&row, &digest("bad"), true), News::Known);
        assert_eq!(news(&row, &digest("bad"), false), News::New);
    }
}
