//! Drift: what a spec asks only to be observed is not touched, and a repair within a fight waits.

use super::Gate;
use crate::model::Kind;
use crate::model::spec::Reconcile;
use crate::plan::drift::Memory;
use crate::plan::{Hold, Step};

/// Holds everything unless the spec asks for repairs. The record goes through: it is pgmoor's own memory, and holds the
/// very word that nothing else is to be touched.
pub(in super::super) struct Observe(Reconcile);

impl Observe {
    /// By what the spec asks for.
    pub(in super::super) fn new(reconcile: Reconcile) -> Self {
        Self(reconcile)
    }
}

impl Gate for Observe {
    fn holds(&mut self, step: &Step) -> Option<Hold> {
        (self.0 != Reconcile::Repair && step.resource.kind != Kind::Record).then_some(Hold::Observed)
    }
}

/// Holds the repair of what drifts again and again.
pub(in super::super) struct Fight<'a> {
    memory: &'a Memory,
    now_ms: i64,
}

impl<'a> Fight<'a> {
    /// By what is remembered of a scope, at this time (milliseconds since 1970).
    pub(in super::super) fn new(memory: &'a Memory, now_ms: i64) -> Self {
        Self { memory, now_ms }
    }
}

impl Gate for Fight<'_> {
    fn holds(&mut self, step: &Step) -> Option<Hold> {
        let until_ms = self.memory.held_until_ms(&step.resource)?;
        (until_ms > self.now_ms).then_some(Hold::Fight { until_ms })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::model::{Executor, ResourceId};
    use crate::plan::{Action, Disruption, Reason};

    #[test]
    fn only_the_record_passes_what_is_not_repaired() {
        let step = |kind| Step {
            resource: ResourceId::new(kind, "a"),
            action: Action::Create,
            executor: Executor::Manager,
            reason: Reason::DoesNotExist,
            changes: Vec::new(),
            disruption: Disruption::None,
            after: BTreeSet::new(),
            object: None,
            candidates: BTreeSet::new(),
        };
        for reconcile in [Reconcile::Observe, Reconcile::Paused] {
            assert_eq!(Observe::new(reconcile).holds(&step(Kind::Role)), Some(Hold::Observed));
            assert_eq!(Observe::new(reconcile).holds(&step(Kind::Record)), None);
        }
        assert_eq!(Observe::new(Reconcile::Repair).holds(&step(Kind::Role)), None);
    }
}
