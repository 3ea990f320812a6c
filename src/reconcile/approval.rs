//! Approvals: whether what a plan interrupts may be done, by the word of the spec or of a person.
//!
//! Invariants: with `"approval": "manual"` nothing is interrupted that is not a part of what a person approved; what
//! waits is in the store in the transaction that tells it, so only what was told can be approved.

use super::judge;
use super::service::Shared;
use super::tell::View;
use crate::contract::documents::{ApprovalState, PlanDoc};
use crate::model::spec::Approval;
use crate::model::{DatabaseId, Graph};
use crate::plan::{Disruptions, Downtimes, Plan};
use crate::report;
use crate::report::conditions::Found;
use crate::store::{ApprovalRow, Approvals as _, Result, Writer};

/// What a plan interrupts, and whether it may.
#[derive(Debug)]
pub(super) struct Decision {
    database: DatabaseId,
    disruptions: Disruptions,
    downtimes: Downtimes,
    state: ApprovalState,
    before: ApprovalRow,
    after: ApprovalRow,
}

impl Decision {
    /// By the spec and what was approved so far.
    pub(super) fn of(shared: &Shared, view: &View, plan: &Plan, desired: &Graph) -> Result<Self> {
        let id = &view.id;
        let (before, downtimes) = shared.store.read(|reader| Ok((reader.approval(id)?, reader.downtimes(id)?)))?;
        let disruptions = Disruptions::of(plan, desired);
        let state = state(mode(shared, view), &disruptions, before.given.as_ref());
        let mut after = before.clone();
        match state {
            _ if plan.is_settled() => after.settle(),
            ApprovalState::Needed => after.ask(Some(disruptions.clone())),
            ApprovalState::NotNeeded | ApprovalState::Given => after.ask(None),
        }
        Ok(Self { database: id.clone(), disruptions, downtimes, state, before, after })
    }

    /// Whether an approval is needed and was not given.
    pub(super) fn needed(&self) -> bool {
        self.state == ApprovalState::Needed
    }

    /// The plan's document with what it interrupts.
    pub(super) fn shown(&self, document: PlanDoc) -> PlanDoc {
        report::with_interruptions(document, &self.disruptions, &self.downtimes, self.state)
    }

    /// The condition that says what waits, and what to type.
    pub(super) fn condition(&self) -> Option<Found> {
        self.needed().then(|| report::approval::needed(&self.database, &self.disruptions, self.after.given.as_ref()))
    }

    /// What is to be stored with what is told; none: nothing has changed.
    pub(super) fn store(&self) -> Option<impl FnOnce(&mut Writer<'_>) -> Result<()> + Send + 'static> {
        let (id, row) = (self.database.clone(), self.after.clone());
        (self.after != self.before).then_some(move |writer: &mut Writer<'_>| writer.put_approval(&id, &row))
    }
}

/// Whether an approval is needed.
pub(super) fn state(mode: Approval, disruptions: &Disruptions, given: Option<&Disruptions>) -> ApprovalState {
    match (mode, given) {
        (Approval::Auto, _) => ApprovalState::NotNeeded,
        (Approval::Manual, _) if disruptions.is_empty() => ApprovalState::NotNeeded,
        (Approval::Manual, Some(given)) if disruptions.is_part_of(given) => ApprovalState::Given,
        (Approval::Manual, Some(_) | None) => ApprovalState::Needed,
    }
}

/// Who decides. A delete may say so itself; else it is as it was.
fn mode(shared: &Shared, view: &View) -> Approval {
    let spec = view.spec.as_ref();
    let deleted = view.record.as_ref().is_some_and(|record| record.tombstone.is_some());
    let word = view.row.accepted.as_ref().filter(|_| deleted);
    let word = word.and_then(|stored| judge::read_stored(shared, &view.id, stored, spec));
    word.as_ref().or(spec).map_or(Approval::Auto, |spec| spec.approval)
}
