//! Approval: what interrupts a database whose spec says `"approval": "manual"` waits for a person.

use std::collections::BTreeSet;

use super::Gate;
use crate::model::{Graph, ResourceId};
use crate::plan::{Hold, Stage, Step, approval};

/// Holds what is not approved, and what it would be made from.
pub(in super::super) struct Approval {
    held: BTreeSet<ResourceId>,
}

impl Approval {
    /// Of the first stage of a plan; `needed`: whether an approval is needed and was not given.
    pub(in super::super) fn new(stage: Option<&Stage>, desired: &Graph, needed: bool) -> Self {
        let held = stage.filter(|_| needed).map(|stage| approval::held(stage, desired));
        Self { held: held.unwrap_or_default() }
    }
}

impl Gate for Approval {
    fn holds(&mut self, step: &Step) -> Option<Hold> {
        self.held.contains(&step.resource).then_some(Hold::Approval)
    }
}
