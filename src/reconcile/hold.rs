//! The hold on mass deletes (rule 4): more than max(3, 5 %) of the fleet's databases deleted within ten minutes wait for a
//! person.
//!
//! What counts are the tombstones in the records, which survive a lost store: a database that was brought back does not
//! count any more, and those that come in one resync are judged one after another, so the first few go and the rest is
//! held. Invariant: a delete that is held stays so until it is confirmed or withdrawn, however much time goes by.

use std::collections::BTreeMap;

use crate::model::{DatabaseId, Record};

/// How long a delete counts, in seconds.
const WINDOW_S: i64 = 600;
/// So many may always be deleted.
const ALWAYS: usize = 3;
/// Beyond that, one in so many: 5 %.
const ONE_IN: usize = 20;

/// Why the delete of one more database must wait, as a sentence for people; none: it need not.
pub(super) fn reason(records: &BTreeMap<DatabaseId, Record>, now_s: i64) -> Option<String> {
    let living = records.values().filter(|record| record.tombstone.is_none()).count();
    // A clock that jumped back makes deletes of the future: they count as well.
    let recent = records
        .values()
        .filter_map(|record| record.tombstone.as_ref())
        .filter(|tombstone| now_s.saturating_sub(tombstone.deleted_at_s) < WINDOW_S)
        .count();
    let fleet = living.saturating_add(recent);
    let allowed = ALWAYS.max(fleet / ONE_IN);
    (recent >= allowed).then(|| format!("{recent} of {fleet} databases were deleted within ten minutes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::record::Tombstone;

    /// Records of `living` databases, and of others deleted so many seconds ago.
    fn records(living: usize, deleted_s_ago: &[i64]) -> BTreeMap<DatabaseId, Record> {
        let record = |name: String, tombstone| {
            let id = DatabaseId::parse(&name).unwrap();
            (id.clone(), Record { tombstone, ..Record::new(id) })
        };
        let deleted = deleted_s_ago.iter().enumerate().map(|(index, ago_s)| {
            let deleted_at_s = 10_000 - ago_s;
            let tombstone = Tombstone { deleted_at_s, purge_at_s: deleted_at_s + 1, last_digest: None };
            record(format!("gone-{index}"), Some(tombstone))
        });
        (0..living).map(|index| record(format!("db-{index}"), None)).chain(deleted).collect()
    }

    fn held(living: usize, deleted_s_ago: &[i64]) -> bool {
        reason(&records(living, deleted_s_ago), 10_000).is_some()
    }

    #[test]
    fn three_may_go_of_a_small_fleet() {
        assert!(!held(1, &[1, 2]));
        assert!(held(1, &[1, 2, 3]));
        assert!(!held(5, &[1, 2, 700]), "what was deleted long ago does not count");
        assert!(held(5, &[1, 2, -5]), "the clock jumped back");
    }

    #[test]
    fn five_percent_may_go_of_a_large_one() {
        assert!(held(95, &[1, 1, 1, 1]), "five of 99 are more than 5 %");
        assert!(!held(96, &[1, 1, 1, 1]), "five of 100 are not");
        assert!(held(95, &[1, 1, 1, 1, 1]));
    }
}
