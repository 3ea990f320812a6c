//! Adopting a record that only Swarm had: the store was lost, and the database goes on as it was.
//!
//! Invariant: what intake has heard since the start stays the last word: the verdict is about that.

use crate::contract::documents::{AcceptedBy, Time, Verdict, VerdictResult};
use crate::model::{FleetId, Record};
use crate::reconcile::retained_topics;
use crate::store::{DesiredRow, HISTORY_MAX, History as _, HistoryRow, NewSpec, OutMessage, Result, Rows as _, Writer};

/// Writes the row that intake would have, had it been there: the record's spec is the accepted one.
pub(super) fn row_of_record(writer: &mut Writer<'_>, (fleet, now_ms): (&FleetId, i64), record: &Record) -> Result<()> {
    let Some(spec) = &record.spec else { return Ok(()) };
    let mut row: DesiredRow = writer.desired(&record.database)?.unwrap_or_default();
    let at_ms = spec.accepted_at_s.saturating_mul(1000);
    let heard_another = row.last_seen.as_ref().is_some_and(|heard| *heard != spec.digest);
    row.accepted = Some(spec.clone());
    if !heard_another {
        // The broker may have been faster than Swarm: it is no news.
        row.candidate =
            row.candidate.filter(|candidate| candidate.spec.digest != spec.digest || record.tombstone.is_some());
        row.last_seen = Some(spec.digest.clone());
        row.verdict = Some(Verdict {
            result: VerdictResult::Accepted,
            digest: spec.digest.clone(),
            generation: spec.generation,
            faults: Vec::new(),
            at: Time::from_ms(at_ms),
        });
    }
    if writer.past_specs(&record.database)?.is_empty() {
        let first = NewSpec { spec: spec.clone(), deleted: false, by: AcceptedBy::Record, at_ms };
        writer.add_past_spec(&record.database, first, HISTORY_MAX)?;
    }
    row.remember(HistoryRow { generation: spec.generation, digest: spec.digest.clone(), deleted: false, at_ms });
    if let Some(tombstone) = &record.tombstone {
        let at_ms = tombstone.deleted_at_s.saturating_mul(1000);
        let digest = crate::model::Digest::of_bytes(b"{\"deleted\":true}");
        row.remember(HistoryRow { generation: None, digest, deleted: true, at_ms });
        // The delete holds: publishing the old spec again is then news, and brings the database back.
        row.accepted = None;
        if !heard_another {
            row.verdict = None;
            row.last_seen = None;
        }
        // What the lost store had said of it may still be retained; nobody else would ever clear it.
        for topic in retained_topics(fleet, record) {
            writer.enqueue(&OutMessage::clear(topic, now_ms))?;
        }
    }
    writer.put_desired(&record.database, &row)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::record::StoredSpec;
    use crate::model::{DatabaseId, Digest, Secret};
    use crate::store::{self, Candidate, Commits, Hold, Store};

    fn spec(document: &str) -> StoredSpec {
        let digest = Digest::of_bytes(document.as_bytes());
        StoredSpec { document: Secret::new(document), digest, generation: None, accepted_at_s: 7 }
    }

    /// The row after a record with the spec `old` was adopted beside what intake had heard.
    async fn adopted(heard: DesiredRow) -> DesiredRow {
        let (fleet, id) = (FleetId::parse("edge").unwrap(), DatabaseId::parse("shop").unwrap());
        let options = store::Options { commits: Commits::AtOnce, ..store::Options::new(fleet.clone()) };
        let store = Store::in_memory(&options).unwrap();
        let record = Record { spec: Some(spec("old")), ..Record::new(id.clone()) };
        let key = id.clone();
        let write = store.write(move |writer| {
            writer.put_desired(&key, &heard)?;
            row_of_record(writer, (&fleet, 8000), &record)
        });
        write.await.unwrap();
        store.read(|reader| reader.desired(&id)).unwrap().unwrap()
    }

    #[tokio::test]
    async fn the_records_spec_is_the_accepted_one() {
        let row = adopted(DesiredRow::default()).await;
        assert_eq!(row.accepted, Some(spec("old")));
        assert_eq!(row.last_seen, Some(spec("old").digest));
        assert_eq!(row.verdict.unwrap().at, Time::from_ms(7000));
    }

    #[tokio::test]
    async fn what_was_heard_meanwhile_stays_the_last_word() {
        let waiting = Candidate { spec: spec("new"), received_at_ms: 0, by: AcceptedBy::Publish, hold: Hold::No };
        let mut heard = DesiredRow { candidate: Some(waiting), ..DesiredRow::default() };
        heard.saw(spec("new").digest);
        let row = adopted(heard.clone()).await;
        assert_eq!((row.accepted, &row.candidate), (Some(spec("old")), &heard.candidate));
        assert_eq!((row.last_seen, row.verdict), (Some(spec("new").digest), None), "it is not judged yet");

        let refused = Verdict {
            result: VerdictResult::Rejected,
            digest: spec("bad").digest,
            generation: None,
            faults: Vec::new(),
            at: Time::from_ms(1),
        };
        let mut heard = DesiredRow { verdict: Some(refused.clone()), ..DesiredRow::default() };
        heard.saw(spec("bad").digest);
        let row = adopted(heard).await;
        assert_eq!((row.accepted, row.verdict), (Some(spec("old")), Some(refused)));
    }
}
