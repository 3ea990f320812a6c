//! The conditions of a status: what holds, why, and since when.
//!
//! Invariants: one condition of each type at most, in the order of the types; `since` changes only when `status` does,
//! also over a restart (what was said before is kept in the store).

use super::status::{Input, Phase};
use crate::contract::documents::{Condition, ConditionStatus, ConditionType, State, Status, Time};
use crate::model::Health;
use crate::plan::WaitsFor;

/// A condition that holds, before it is known since when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What it is about.
    pub kind: ConditionType,
    /// The reason in one word.
    pub reason: String,
    /// The reason as a sentence for people, with what to do.
    pub message: String,
}

/// A condition and whether it holds.
struct Draft {
    status: ConditionStatus,
    found: Found,
}

impl Draft {
    fn new(kind: ConditionType, holds: bool, reason: &str, message: impl Into<String>) -> Self {
        let status = if holds { ConditionStatus::True } else { ConditionStatus::False };
        Self { status, found: Found { kind, reason: reason.to_owned(), message: message.into() } }
    }
}

pub(super) fn all(input: &Input<'_>, state: State) -> Vec<Condition> {
    let waiting = waiting(&input.phase);
    let ready = ready(input, state);
    let mut drafts = vec![progressing(&input.phase, state)];
    if state == State::Stalled {
        let message = waiting.as_ref().map_or(&ready.found.message, |draft| &draft.found.message).clone();
        drafts.push(Draft::new(ConditionType::Stalled, true, "DeadlinePassed", message));
    }
    drafts.extend([ready].into_iter().chain(waiting));
    if input.spec.is_some_and(|spec| spec.holds_secret) {
        let message = "the spec holds a password, and whoever may read its topic can read it; leave passwords out \
                       and pgmoor makes them";
        drafts.push(Draft::new(ConditionType::SecretInSpec, true, "PasswordInSpec", message));
    }
    for found in &input.found {
        drafts.push(Draft { status: ConditionStatus::True, found: found.clone() });
    }
    // The sort is stable: of two of one type the first, which is our own, stays.
    drafts.sort_by_key(|draft| draft.found.kind);
    drafts.dedup_by_key(|draft| draft.found.kind);
    drafts.into_iter().map(|draft| dated(draft, input.before, input.now)).collect()
}

/// Since when the last status has said that something waits.
pub(super) fn waits_since(before: Option<&Status>) -> Option<Time> {
    let mut conditions = before?.conditions.iter();
    let holds =
        |condition: &&Condition| condition.kind == ConditionType::Waiting && condition.status == ConditionStatus::True;
    conditions.find(holds).map(|condition| condition.since)
}

fn dated(draft: Draft, before: Option<&Status>, now: Time) -> Condition {
    let Draft { status, found: Found { kind, reason, message } } = draft;
    let older = before.and_then(|before| {
        before.conditions.iter().find(|condition| condition.kind == kind && condition.status == status)
    });
    Condition { kind, status, reason, message, since: older.map_or(now, |condition| condition.since) }
}

fn ready(input: &Input<'_>, state: State) -> Draft {
    let worst = match input.phase {
        Phase::Planned { failures, .. } => failures.iter().max_by_key(|(_, outcome)| outcome.attempts),
        Phase::Nothing | Phase::Unreadable => None,
    };
    let down = input.instances.iter().find(|instance| instance.health == Health::Down);
    let draft = |holds, reason, message: String| Draft::new(ConditionType::Ready, holds, reason, message);
    match (state, worst, input.phase) {
        (State::Available, ..) => match down {
            Some(instance) => draft(false, "InstanceDown", format!("{} does not serve", instance.instance)),
            None => draft(true, "Settled", "everything is as the spec asks".to_owned()),
        },
        (State::Deleted, ..) => draft(false, "Deleted", "it is gone; its data is in the trash".to_owned()),
        (State::Rejected, ..) => draft(false, "NoSpec", "no spec was accepted yet; the verdict says why".to_owned()),
        (State::Pending, ..) => draft(false, "Checking", "the spec is checked against the host".to_owned()),
        (_, Some((resource, outcome)), _) => {
            let message = format!("{resource}: {} (attempt {})", outcome.error, outcome.attempts);
            draft(false, "StepFailed", message)
        }
        (_, None, Phase::Unreadable) => {
            let message = "this version refuses the accepted spec; nothing is touched until a newer spec comes";
            draft(false, "SpecUnreadable", message.to_owned())
        }
        (
            State::Creating | State::Modifying | State::Deleting | State::Stalled | State::Failed,
            None,
            Phase::Nothing | Phase::Planned { .. },
        ) => draft(false, "InProgress", "the plan is being carried out".to_owned()),
    }
}

fn progressing(phase: &Phase<'_>, state: State) -> Draft {
    let steps = match phase {
        Phase::Planned { plan, .. } => plan.steps().count(),
        Phase::Nothing | Phase::Unreadable => 0,
    };
    let works = steps > 0 && !matches!(state, State::Failed | State::Stalled);
    let (reason, message) = match (works, steps) {
        (true, 1) => ("Applying", "1 step to go".to_owned()),
        (true, _) => ("Applying", format!("{steps} steps to go")),
        (false, 0) => ("Idle", "nothing to do".to_owned()),
        (false, _) => ("BackingOff", "failed steps are tried again after a while".to_owned()),
    };
    Draft::new(ConditionType::Progressing, works, reason, message)
}

/// What the plan waits for: what cannot be seen first, since the rest often follows from it.
fn waiting(phase: &Phase<'_>) -> Option<Draft> {
    let Phase::Planned { plan, .. } = phase else { return None };
    let unseen = plan.waiting.iter().find(|waiting| matches!(waiting.on, WaitsFor::Unknown { .. }));
    let waiting = unseen.or_else(|| plan.waiting.first())?;
    let (reason, message) = match &waiting.on {
        WaitsFor::Unknown { why } => ("NotSeen", format!("{} cannot be seen: {why}", waiting.resource)),
        WaitsFor::Person { why } => ("Person", format!("{} waits for a person: {why}", waiting.resource)),
        WaitsFor::Dependencies { on } | WaitsFor::Dependents { on } | WaitsFor::Desired { on } => {
            let names: Vec<String> = on.iter().map(ToString::to_string).collect();
            ("Dependencies", format!("{} waits for {}", waiting.resource, names.join(", ")))
        }
    };
    Some(Draft::new(ConditionType::Waiting, true, reason, message))
}
