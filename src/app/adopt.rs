//! Adopting a record that only Swarm had: the store was lost, and the database goes on as it was.

use crate::contract::documents::{AcceptedBy, Time, Verdict, VerdictResult};
use crate::model::{FleetId, Record};
use crate::reconcile::retained_topics;
use crate::store::{DesiredRow, HISTORY_MAX, History as _, HistoryRow, NewSpec, OutMessage, Result, Rows as _, Writer};

/// Writes the row that intake would have, had it been there: the record's spec is the accepted one.
pub(super) fn row_of_record(writer: &mut Writer<'_>, (fleet, now_ms): (&FleetId, i64), record: &Record) -> Result<()> {
    let Some(spec) = &record.spec else { return Ok(()) };
    let mut row: DesiredRow = writer.desired(&record.database)?.unwrap_or_default();
    let at_ms = spec.accepted_at_s.saturating_mul(1000);
    row.accepted = Some(spec.clone());
    row.last_seen = Some(spec.digest.clone());
    row.verdict = Some(Verdict {
        result: VerdictResult::Accepted,
        digest: spec.digest.clone(),
        generation: spec.generation,
        faults: Vec::new(),
        at: Time::from_ms(at_ms),
    });
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
        row.verdict = None;
        row.last_seen = None;
        // What the lost store had said of it may still be retained; nobody else would ever clear it.
        for topic in retained_topics(fleet, record) {
            writer.enqueue(&OutMessage::clear(topic, now_ms))?;
        }
    }
    writer.put_desired(&record.database, &row)
}
