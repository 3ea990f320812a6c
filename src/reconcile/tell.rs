//! Telling how a database stands: `status` and `plan`, made anew from what is stored and seen, and published when
//! they say something new.
//!
//! Invariant: this is the only writer of these two topics, so `seq` grows by one with each status; what was last said
//! (the store remembers it) tells since when a condition holds.

use std::collections::BTreeMap;

use super::ledger::keep;
use super::service::Shared;
use crate::contract::documents::{
    Condition, ConditionStatus, ConditionType, Event, EventData, EventType, ObservedSpec, State, Status, Time,
    VerdictResult,
};
use crate::contract::topics::Topic;
use crate::domain::layout;
use crate::model::{AcceptedSpec, DatabaseId, Record, ResourceId};
use crate::plan::{Plan, WaitsFor};
use crate::report;
use crate::store::{DesiredRow, OutMessage, OutcomeRow, Rows as _};

/// Failures in a row after which a step is told as failed; below that it is told as in progress.
const FAILED_AFTER: u32 = 3;
/// How long something may wait before it is told as stalled: 60 s, several times what a start takes.
const STALLED_AFTER_MS: i64 = 60_000;

/// What is known of one database.
#[derive(Debug, Clone)]
pub(super) struct View {
    pub(super) id: DatabaseId,
    pub(super) row: DesiredRow,
    pub(super) record: Option<Record>,
    /// The accepted spec, if there is one that can be read.
    pub(super) spec: Option<AcceptedSpec>,
}

/// Where the work on it stands.
#[derive(Debug)]
pub(super) enum Phase<'a> {
    /// No spec was ever accepted.
    Nothing,
    /// The accepted spec cannot be read by this version.
    Unreadable,
    /// The world was looked at.
    Planned { plan: &'a Plan, outcomes: &'a BTreeMap<ResourceId, OutcomeRow> },
}

/// Publishes `status`, and `plan` beside it, where they say something new.
pub(super) async fn status(shared: &Shared, view: &View, phase: &Phase<'_>) -> Result<(), crate::store::Error> {
    let now_ms = shared.world.clock.now_ms();
    let fleet = &shared.world.fleet;
    let topic = Topic::Status(view.id.clone()).to_string(fleet);
    let said = shared.store.read(|reader| reader.last_said(&topic))?;
    let before: Option<Status> = said.and_then(|message| serde_json::from_slice(&message.payload).ok());
    let mut status = compose(shared, view, phase, before.as_ref(), now_ms);
    let mut messages: Vec<OutMessage> = Vec::new();
    let same = before.as_ref().is_some_and(|before| {
        let unnumbered =
            Status { seq: before.seq, epoch: before.epoch, updated_at: before.updated_at, ..status.clone() };
        unnumbered == *before && before.epoch == status.epoch
    });
    if !same {
        let last = before.as_ref().filter(|before| before.epoch == status.epoch).map_or(0, |before| before.seq);
        status.seq = last + 1;
        messages.extend(state_event(shared, view, before.as_ref(), &status, now_ms));
        if status.state == State::Deleted {
            // Those who listen hear it; those who come later find nothing, as for a database that never was.
            let farewell = serde_json::to_vec(&status).unwrap_or_default();
            messages.push(OutMessage::event(topic.clone(), farewell, now_ms));
        } else {
            messages.push(keep(fleet, &Topic::Status(view.id.clone()), &status, now_ms));
        }
    }
    if let Phase::Planned { plan, .. } = phase
        && status.state != State::Deleted
    {
        let document = report::plan_document(&view.id, plan, view.record.as_ref(), Time::from_ms(now_ms));
        let plan_topic = Topic::Plan(view.id.clone());
        let said = shared.store.read(|reader| reader.last_said(&plan_topic.to_string(fleet)))?;
        let before: Option<crate::contract::documents::PlanDoc> =
            said.and_then(|message| serde_json::from_slice(&message.payload).ok());
        let same = before.is_some_and(|before| {
            let undated = crate::contract::documents::PlanDoc { updated_at: before.updated_at, ..document.clone() };
            undated == before
        });
        if !same {
            messages.push(keep(fleet, &plan_topic, &document, now_ms));
        }
    }
    let gone = (status.state == State::Deleted).then(|| {
        let all = Topic::Status(view.id.clone()).to_string(fleet);
        all.trim_end_matches("status").to_owned()
    });
    if messages.is_empty() && gone.is_none() {
        return Ok(());
    }
    let write = shared.store.write(move |writer| {
        let nothing_said = match &gone {
            Some(prefix) => writer.topics_said(prefix)?.is_empty(),
            None => false,
        };
        if nothing_said {
            // The farewell was said before; saying it with each tick would be noise.
            return Ok(());
        }
        for message in &messages {
            writer.enqueue(message)?;
        }
        if let Some(prefix) = &gone {
            writer.clear_topics(prefix, now_ms)?;
        }
        Ok(())
    });
    write.await
}

/// The event of a changed state.
fn state_event(
    shared: &Shared,
    view: &View,
    before: Option<&Status>,
    status: &Status,
    now_ms: i64,
) -> Option<OutMessage> {
    let previous_state = before.map(|before| before.state);
    if previous_state == Some(status.state) {
        return None;
    }
    let ready = status.conditions.iter().find(|condition| condition.kind == ConditionType::Ready);
    let data = EventData {
        message: ready.map_or_else(String::new, |ready| ready.message.clone()),
        state: Some(status.state),
        previous_state,
        ..EventData::default()
    };
    let fleet = &shared.world.fleet;
    let id = format!("{now_ms}-state-{}-{}", status.epoch, status.seq);
    let event = Event::new(fleet, &view.id, id, EventType::StateChanged, Time::from_ms(now_ms), data);
    Some(super::ledger::say(fleet, &Topic::Events(view.id.clone()), &event, now_ms))
}

fn compose(shared: &Shared, view: &View, phase: &Phase<'_>, before: Option<&Status>, now_ms: i64) -> Status {
    let state = state(view, phase, before, now_ms);
    let serves = before.is_some_and(|before| before.connection.is_some());
    let connection = match (&view.spec, &view.record) {
        (Some(spec), Some(record)) if record.tombstone.is_none() && (state == State::Available || serves) => {
            let network = layout::network(&view.id);
            Some(report::connection(spec, record, shared.world.facts.advertise_address, network))
        }
        _ => None,
    };
    Status {
        database: view.id.clone(),
        state,
        observed: view.record.as_ref().and_then(|record| record.spec.as_ref()).map(|stored| ObservedSpec {
            generation: stored.generation,
            digest: stored.digest.clone(),
            client_token: view.spec.as_ref().and_then(|spec| spec.client_token.clone()),
        }),
        verdict: view.row.verdict.clone(),
        conditions: conditions(view, phase, state, before, now_ms),
        instances: instances(shared, view),
        connection,
        seq: 0,
        epoch: shared.store.epoch(),
        updated_at: Time::from_ms(now_ms),
    }
}

/// Instances as the monitor saw them last; those that it has not seen yet are unknown.
fn instances(shared: &Shared, view: &View) -> Vec<crate::contract::documents::InstanceSummary> {
    let Some(spec) = view.spec.as_ref().filter(|_| view.record.as_ref().is_some_and(|r| r.tombstone.is_none())) else {
        return Vec::new();
    };
    let fleet = &shared.world.fleet;
    report::instance_summaries(spec, |topic| {
        let said = shared.store.read(|reader| reader.last_said(&topic.to_string(fleet)));
        said.ok().flatten().map(|message| message.payload)
    })
}

fn state(view: &View, phase: &Phase<'_>, before: Option<&Status>, now_ms: i64) -> State {
    let tombstone = view.record.as_ref().is_some_and(|record| record.tombstone.is_some());
    match phase {
        Phase::Nothing if view.row.candidate.is_some() && !rejected(&view.row) => State::Pending,
        Phase::Nothing => State::Rejected,
        Phase::Unreadable => State::Stalled,
        Phase::Planned { plan, .. } if plan.is_settled() && tombstone => State::Deleted,
        Phase::Planned { plan, .. } if plan.is_settled() => State::Available,
        Phase::Planned { outcomes, .. } if outcomes.values().any(|row| row.outcome.attempts >= FAILED_AFTER) => {
            State::Failed
        }
        Phase::Planned { plan, .. } if plan.is_empty() && waits_too_long(before, now_ms) => State::Stalled,
        Phase::Planned { .. } if tombstone => State::Deleting,
        Phase::Planned { .. } if ever_available(before) => State::Modifying,
        Phase::Planned { .. } => State::Creating,
    }
}

fn rejected(row: &DesiredRow) -> bool {
    row.verdict.as_ref().is_some_and(|verdict| verdict.result == VerdictResult::Rejected)
}

/// A connection is told once the database was available, and from then on.
fn ever_available(before: Option<&Status>) -> bool {
    before.is_some_and(|before| before.connection.is_some())
}

fn waits_too_long(before: Option<&Status>, now_ms: i64) -> bool {
    let waiting = before.and_then(|before| {
        before
            .conditions
            .iter()
            .find(|condition| condition.kind == ConditionType::Waiting && condition.status == ConditionStatus::True)
    });
    waiting.is_some_and(|condition| now_ms.saturating_sub(condition.since.ms()) >= STALLED_AFTER_MS)
}

/// A condition before it is known since when it holds.
struct Draft {
    kind: ConditionType,
    holds: bool,
    reason: String,
    message: String,
}

fn conditions(view: &View, phase: &Phase<'_>, state: State, before: Option<&Status>, now_ms: i64) -> Vec<Condition> {
    let mut drafts = vec![ready(state, phase), progressing(state, phase)];
    drafts.extend(waiting(phase));
    if state == State::Stalled {
        let message = waiting(phase).map_or_else(|| ready(state, phase).message, |draft| draft.message);
        let reason = "DeadlinePassed".to_owned();
        drafts.push(Draft { kind: ConditionType::Stalled, holds: true, reason, message });
    }
    if view.spec.as_ref().is_some_and(|spec| spec.holds_secret) {
        drafts.push(Draft {
            kind: ConditionType::SecretInSpec,
            holds: true,
            reason: "PasswordInSpec".to_owned(),
            message: "the spec holds a password, and whoever may read its topic can read it; leave passwords out and \
                      pgmoor makes them"
                .to_owned(),
        });
    }
    drafts.extend(view.row.conditions.iter().map(|(kind, row)| Draft {
        kind: *kind,
        holds: true,
        reason: row.reason.clone(),
        message: row.message.clone(),
    }));
    drafts.sort_by_key(|draft| draft.kind);
    drafts.into_iter().map(|draft| dated(draft, before, now_ms)).collect()
}

fn dated(draft: Draft, before: Option<&Status>, now_ms: i64) -> Condition {
    let status = if draft.holds { ConditionStatus::True } else { ConditionStatus::False };
    let older = before.and_then(|before| {
        before.conditions.iter().find(|condition| condition.kind == draft.kind && condition.status == status)
    });
    Condition {
        kind: draft.kind,
        status,
        reason: draft.reason,
        message: draft.message,
        since: older.map_or(Time::from_ms(now_ms), |condition| condition.since),
    }
}

fn ready(state: State, phase: &Phase<'_>) -> Draft {
    let failure = match phase {
        Phase::Planned { outcomes, .. } => outcomes.values().max_by_key(|row| row.outcome.attempts),
        Phase::Nothing | Phase::Unreadable => None,
    };
    let (holds, reason, message) = match (state, failure) {
        (State::Available, _) => (true, "Settled", "everything is as the spec asks".to_owned()),
        (State::Deleted, _) => (false, "Deleted", "it is gone; its data is in the trash".to_owned()),
        (State::Rejected, _) => (false, "NoSpec", "no spec was accepted yet; the verdict says why".to_owned()),
        (State::Pending, _) => (false, "Checking", "the spec is checked against the host".to_owned()),
        (_, Some(row)) => {
            let message = format!("{}: {} (attempt {})", row.resource, row.outcome.error, row.outcome.attempts);
            (false, "StepFailed", message)
        }
        (State::Stalled, None) if matches!(phase, Phase::Unreadable) => {
            let message = "this version refuses the accepted spec; nothing is touched until a newer spec comes";
            (false, "SpecUnreadable", message.to_owned())
        }
        (State::Creating | State::Modifying | State::Deleting | State::Stalled | State::Failed, None) => {
            (false, "InProgress", "the plan is being carried out".to_owned())
        }
    };
    Draft { kind: ConditionType::Ready, holds, reason: reason.to_owned(), message }
}

fn progressing(state: State, phase: &Phase<'_>) -> Draft {
    let steps = match phase {
        Phase::Planned { plan, .. } => plan.steps().count(),
        Phase::Nothing | Phase::Unreadable => 0,
    };
    let works = steps > 0 && !matches!(state, State::Failed | State::Stalled);
    let (reason, message) = match (works, steps) {
        (true, _) => ("Applying", format!("{steps} steps to go")),
        (false, 0) => ("Idle", "nothing to do".to_owned()),
        (false, _) => ("BackingOff", "failed steps are tried again after a while".to_owned()),
    };
    Draft { kind: ConditionType::Progressing, holds: works, reason: reason.to_owned(), message }
}

fn waiting(phase: &Phase<'_>) -> Option<Draft> {
    let Phase::Planned { plan, .. } = phase else { return None };
    let first = plan.waiting.iter().find(|waiting| matches!(waiting.on, WaitsFor::Unknown { .. }));
    let waiting = first.or_else(|| plan.waiting.first())?;
    let (reason, message) = match &waiting.on {
        WaitsFor::Unknown { why } => ("NotSeen", format!("{} cannot be seen: {why}", waiting.resource)),
        WaitsFor::Person { why } => ("Person", format!("{} waits for a person: {why}", waiting.resource)),
        WaitsFor::Dependencies { on } | WaitsFor::Dependents { on } | WaitsFor::Desired { on } => {
            let names: Vec<String> = on.iter().map(ToString::to_string).collect();
            ("Dependencies", format!("{} waits for {}", waiting.resource, names.join(", ")))
        }
    };
    Some(Draft { kind: ConditionType::Waiting, holds: true, reason: reason.to_owned(), message })
}
