//! The conditions of a status: what holds, why, and since when.
//!
//! Invariants: one condition of each type at most, in the order of the types; `since` changes only when `status` does,
//! also over a restart (what was said before is kept in the store).

use super::cause::{Standing, cause};
use super::hands_off;
use super::status::{Input, Phase, Unseen};
use crate::contract::documents::{Condition, ConditionStatus, ConditionType, State, Status, Time};
use crate::model::Health;

/// A condition that holds, before it is known since when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What it is about.
    pub kind: ConditionType,
    /// The reason in one word.
    pub reason: String,
    /// The reason as a sentence for people.
    pub message: String,
    /// What to do about it, where there is something to do.
    pub hint: Option<String>,
}

/// A condition and whether it holds.
pub(super) struct Draft {
    pub(super) status: ConditionStatus,
    found: Found,
}

impl Draft {
    pub(super) fn new(kind: ConditionType, holds: bool, reason: &str, message: impl Into<String>) -> Self {
        let status = if holds { ConditionStatus::True } else { ConditionStatus::False };
        Self { status, found: Found { kind, reason: reason.to_owned(), message: message.into(), hint: None } }
    }
}

pub(super) fn all(input: &Input<'_>, state: State) -> Vec<Condition> {
    let cause = cause(input);
    let ready = ready(input, state, cause.as_ref().map(|(_, found)| found));
    let mut drafts = hands_off::drafts(input);
    drafts.push(progressing(&input.phase, state, waits_for_person(input)));
    if state == State::Stalled {
        let cause = cause.as_ref().map(|(_, found)| found);
        let (message, hint) = match (input.late.first(), cause) {
            (Some(late), Some(cause)) => (format!("{}; {}", late.message(), cause.message), cause.hint.clone()),
            (Some(late), None) => (late.message(), None),
            (None, cause) => {
                let found = cause.unwrap_or(&ready.found);
                (found.message.clone(), found.hint.clone())
            }
        };
        let mut stalled = Draft::new(ConditionType::Stalled, true, "DeadlinePassed", message);
        stalled.found.hint = hint.or_else(|| input.late.first().map(|late| late.overdue.phase.hint().to_owned()));
        drafts.push(stalled);
    }
    drafts.push(ready);
    if let Some((Standing::Waits, found)) = cause {
        drafts.push(Draft { status: ConditionStatus::True, found });
    }
    if input.spec.is_some_and(|spec| spec.holds_secret) {
        let message = "the spec holds a password, and whoever may read its topic can read it";
        let mut secret = Draft::new(ConditionType::SecretInSpec, true, "PasswordInSpec", message);
        secret.found.hint =
            Some("leave passwords out of the spec: pgmoor makes them, and keeps those it has".to_owned());
        drafts.push(secret);
    }
    for found in &input.found {
        drafts.push(Draft { status: ConditionStatus::True, found: found.clone() });
    }
    // The sort is stable: of two of one type the first, which is our own, stays.
    drafts.sort_by_key(|draft| draft.found.kind);
    drafts.dedup_by_key(|draft| draft.found.kind);
    drafts.into_iter().map(|draft| dated(draft, input.before, input.now)).collect()
}

/// Whether what the plan interrupts waits for a person's approval.
fn waits_for_person(input: &Input<'_>) -> bool {
    input.found.iter().any(|found| found.kind == ConditionType::ApprovalNeeded)
}

/// The conditions while nothing can be seen: those that were told, with what must come first.
pub(super) fn unseen(input: &Unseen<'_>, state: State) -> Vec<Condition> {
    let mut drafts = vec![Draft { status: ConditionStatus::True, found: input.found.clone() }];
    if state != State::Available {
        let ready = Found { kind: ConditionType::Ready, ..input.found.clone() };
        drafts.push(Draft { status: ConditionStatus::False, found: ready });
    }
    if state == State::Stalled {
        let stalled =
            Found { kind: ConditionType::Stalled, reason: "DeadlinePassed".to_owned(), ..input.found.clone() };
        drafts.push(Draft { status: ConditionStatus::True, found: stalled });
    }
    let mut conditions: Vec<Condition> =
        drafts.into_iter().map(|draft| dated(draft, input.before, input.now)).collect();
    conditions.extend(input.before.into_iter().flat_map(|before| before.conditions.iter().cloned()));
    // The sort is stable: of two of one type the first, which is the new one, stays.
    conditions.sort_by_key(|condition| condition.kind);
    conditions.dedup_by_key(|condition| condition.kind);
    conditions
}

/// Since when the last status has said that something waits.
pub(super) fn waits_since(before: Option<&Status>) -> Option<Time> {
    let mut conditions = before?.conditions.iter();
    let holds =
        |condition: &&Condition| condition.kind == ConditionType::Waiting && condition.status == ConditionStatus::True;
    conditions.find(holds).map(|condition| condition.since)
}

fn dated(draft: Draft, before: Option<&Status>, now: Time) -> Condition {
    let Draft { status, found: Found { kind, reason, message, hint } } = draft;
    let older = before.and_then(|before| {
        before.conditions.iter().find(|condition| condition.kind == kind && condition.status == status)
    });
    Condition { kind, status, reason, message, hint, since: older.map_or(now, |condition| condition.since) }
}

/// A step that runs longer than this is named: 2 s, which most steps do not take.
const NAMED_AFTER_MS: i64 = 2_000;

fn ready(input: &Input<'_>, state: State, cause: Option<&Found>) -> Draft {
    let down = input.instances.iter().find(|instance| instance.health == Health::Down);
    let draft = |holds, reason, message: String| Draft::new(ConditionType::Ready, holds, reason, message);
    match (state, cause, input.phase) {
        (_, Some(found), _) => {
            let found = Found { kind: ConditionType::Ready, ..found.clone() };
            Draft { status: ConditionStatus::False, found }
        }
        (State::Available, ..) => match down {
            Some(instance) => {
                let mut draft = draft(false, "InstanceDown", format!("{} does not serve", instance.instance));
                let hint = "Swarm and Patroni are at it; if it lasts, `docker service ps --no-trunc` of its service";
                draft.found.hint = Some(hint.to_owned());
                draft
            }
            None => draft(true, "Settled", "everything is as the spec asks".to_owned()),
        },
        (State::Deleted, ..) => draft(false, "Deleted", "it is gone; its data is in the trash".to_owned()),
        (State::Rejected, ..) => {
            let mut draft = draft(false, "NoSpec", "no spec was accepted yet; the verdict says why".to_owned());
            draft.found.hint = Some("publish a spec without the faults of the verdict".to_owned());
            draft
        }
        (State::Pending, ..) => draft(false, "Checking", "the spec is checked against the host".to_owned()),
        (_, None, Phase::Unreadable) => {
            let message = "this version refuses the accepted spec; nothing is touched until a newer spec comes";
            let mut draft = draft(false, "SpecUnreadable", message.to_owned());
            draft.found.hint = Some("publish a spec that this version takes; the log has the faults".to_owned());
            draft
        }
        (_, None, _) if waits_for_person(input) => {
            draft(false, "ApprovalNeeded", "the plan waits for a person's approval".to_owned())
        }
        (
            State::Creating | State::Modifying | State::Deleting | State::Degraded | State::Stalled | State::Failed,
            None,
            Phase::Nothing | Phase::Planned { .. },
        ) => draft(false, "InProgress", longest(input)),
    }
}

/// The step that has run longest, if it has run for long.
fn longest(input: &Input<'_>) -> String {
    let Phase::Planned { work, .. } = input.phase else { return "the plan is being carried out".to_owned() };
    let longest = work.running.iter().min_by_key(|(_, running)| running.since);
    match longest.filter(|(_, running)| input.now.ms().saturating_sub(running.since.ms()) >= NAMED_AFTER_MS) {
        Some((resource, running)) => format!("{resource} is at work since {}", running.since),
        None => "the plan is being carried out".to_owned(),
    }
}

fn progressing(phase: &Phase<'_>, state: State, waits_for_person: bool) -> Draft {
    let (steps, runs, may_run) = match phase {
        Phase::Planned { plan, held, work, .. } => {
            let first = plan.stages.first().map_or(0, |stage| stage.steps.len());
            let left = plan.steps().filter(|step| !work.done.contains_key(&step.resource)).count();
            (left, !work.running.is_empty(), first > held.len())
        }
        Phase::Nothing | Phase::Unreadable => (0, false, false),
    };
    if waits_for_person && !may_run {
        return Draft::new(ConditionType::Progressing, false, "Pending", "nothing is done before the plan is approved");
    }
    let works = steps > 0 && (runs || !matches!(state, State::Failed | State::Stalled));
    let (reason, message) = match (works, steps) {
        (true, 1) => ("Applying", "1 step to go".to_owned()),
        (true, _) => ("Applying", format!("{steps} steps to go")),
        (false, 0) => ("Idle", "nothing to do".to_owned()),
        (false, _) => ("BackingOff", "failed steps are tried again after a while".to_owned()),
    };
    Draft::new(ConditionType::Progressing, works, reason, message)
}
