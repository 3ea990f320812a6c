//! Back-off: a step that failed is not tried again before its time.
//!
//! Invariant: a clock that was set back lengthens no wait: what failed in what is now the future may be tried at once.

use std::collections::BTreeMap;

use super::Gate;
use crate::model::ResourceId;
use crate::plan::{Hold, Step};
use crate::store::OutcomeRow;

/// Holds what failed a while ago.
pub(in super::super) struct BackOff<'a> {
    rows: &'a BTreeMap<ResourceId, OutcomeRow>,
    now_ms: i64,
}

impl<'a> BackOff<'a> {
    /// By the failed attempts of a scope, at this time (milliseconds since 1970).
    pub(in super::super) fn new(rows: &'a BTreeMap<ResourceId, OutcomeRow>, now_ms: i64) -> Self {
        Self { rows, now_ms }
    }
}

impl Gate for BackOff<'_> {
    fn holds(&mut self, step: &Step) -> Option<Hold> {
        let row = self.rows.get(&step.resource)?;
        let waits = row.failed_at_ms..row.next_attempt_at_ms;
        waits.contains(&self.now_ms).then_some(Hold::BackOff { until_ms: row.next_attempt_at_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::step;
    use super::*;
    use crate::model::Kind;
    use crate::plan::{Action, Outcome};

    #[test]
    fn it_holds_until_its_time() {
        let resource = ResourceId::new(Kind::Role, "a");
        let row = OutcomeRow {
            resource: resource.clone(),
            outcome: Outcome { action: Action::Create, attempts: 1, error: "no".to_owned() },
            failed_at_ms: 1_000,
            next_attempt_at_ms: 2_000,
            overdue: None,
        };
        let rows = BTreeMap::from([(resource, row)]);
        assert_eq!(BackOff::new(&rows, 1_999).holds(&step("a", &[])), Some(Hold::BackOff { until_ms: 2_000 }));
        assert_eq!(BackOff::new(&rows, 2_000).holds(&step("a", &[])), None);
        assert_eq!(BackOff::new(&rows, 1_000).holds(&step("b", &[])), None);
        assert_eq!(BackOff::new(&rows, 999).holds(&step("a", &[])), None, "the clock was set back");
    }
}
