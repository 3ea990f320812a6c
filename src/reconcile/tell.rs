//! Telling how a database stands: `status` and `plan`, made anew from what is stored and seen, and published when
//! they say something new.
//!
//! Invariant: this is the only writer of these two topics, so `seq` grows by one with each status; what was last said
//! (the store remembers it) tells since when a condition holds.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;

use super::ledger::{keep, say};
use super::service::Shared;
use crate::contract::documents::{Connection, InstanceSummary, PlanDoc, State, Status, Time};
use crate::contract::topics::Topic;
use crate::domain::layout;
use crate::model::{AcceptedSpec, DatabaseId, Record, ResourceId};
use crate::plan::{Outcome, Plan};
use crate::report;
use crate::report::conditions::Found;
use crate::report::status::{self, Input, is_news};
use crate::store::{DesiredRow, Error, OutMessage, OutcomeRow, Rows as _};

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
pub(super) async fn status(shared: &Shared, view: &View, phase: &Phase<'_>) -> Result<(), Error> {
    let now = Time::from_ms(shared.world.clock.now_ms());
    let topic = Topic::Status(view.id.clone());
    let before: Option<Status> = last_said(shared, &topic);
    let status = compose(shared, view, phase, before.as_ref(), now);
    let deleted = status.state == State::Deleted;
    let mut messages = Vec::new();
    if is_news(before.as_ref(), &status) {
        let fleet = &shared.world.fleet;
        for event in report::events(fleet, before.as_ref(), &status) {
            messages.push(say(fleet, &Topic::Events(view.id.clone()), &event, now.ms()));
        }
        // Those who listen hear the farewell; who comes later finds nothing, as for a database that never was.
        let message = if deleted { say } else { keep };
        messages.push(message(fleet, &topic, &status, now.ms()));
    }
    if !deleted && let Phase::Planned { plan, .. } = phase {
        messages.extend(plan_message(shared, view, plan, now));
    }
    if deleted {
        return farewell(shared, &topic, messages, now).await;
    }
    if messages.is_empty() {
        return Ok(());
    }
    shared.store.write(move |writer| messages.iter().try_for_each(|message| writer.enqueue(message))).await
}

/// The last words, and every retained topic of the database cleared: once, not with each tick.
async fn farewell(shared: &Shared, topic: &Topic, messages: Vec<OutMessage>, now: Time) -> Result<(), Error> {
    let prefix = topic.to_string(&shared.world.fleet).trim_end_matches("status").to_owned();
    let write = shared.store.write(move |writer| {
        if writer.topics_said(&prefix)?.is_empty() {
            return Ok(());
        }
        messages.iter().try_for_each(|message| writer.enqueue(message))?;
        writer.clear_topics(&prefix, now.ms()).map(|_cleared| ())
    });
    write.await
}

/// The plan, unless it is the one that was last said.
fn plan_message(shared: &Shared, view: &View, plan: &Plan, now: Time) -> Option<OutMessage> {
    let topic = Topic::Plan(view.id.clone());
    let document = report::plan_document(&view.id, plan, view.record.as_ref(), now);
    let before: Option<PlanDoc> = last_said(shared, &topic);
    let same = before.is_some_and(|before| PlanDoc { updated_at: before.updated_at, ..document.clone() } == before);
    (!same).then(|| keep(&shared.world.fleet, &topic, &document, now.ms()))
}

fn last_said<T: DeserializeOwned>(shared: &Shared, topic: &Topic) -> Option<T> {
    let said = shared.store.read(|reader| reader.last_said(&topic.to_string(&shared.world.fleet)));
    said.ok().flatten().and_then(|message| serde_json::from_slice(&message.payload).ok())
}

fn compose(shared: &Shared, view: &View, phase: &Phase<'_>, before: Option<&Status>, now: Time) -> Status {
    let failures: Vec<(&ResourceId, &Outcome)> = match phase {
        Phase::Planned { outcomes, .. } => outcomes.iter().map(|(id, row)| (id, &row.outcome)).collect(),
        Phase::Nothing | Phase::Unreadable => Vec::new(),
    };
    let phase = match phase {
        Phase::Nothing => status::Phase::Nothing,
        Phase::Unreadable => status::Phase::Unreadable,
        Phase::Planned { plan, .. } => status::Phase::Planned { plan, failures: &failures },
    };
    status::status(Input {
        database: &view.id,
        epoch: shared.store.epoch(),
        now,
        before,
        spec: view.spec.as_ref(),
        record: view.record.as_ref(),
        verdict: view.row.verdict.as_ref(),
        checking: view.row.candidate.is_some(),
        found: found(&view.row),
        phase,
        instances: instances(shared, view),
        connection: connection(shared, view),
    })
}

fn found(row: &DesiredRow) -> Vec<Found> {
    row.conditions
        .iter()
        .map(|(kind, condition)| Found {
            kind: *kind,
            reason: condition.reason.clone(),
            message: condition.message.clone(),
        })
        .collect()
}

/// The spec of a database that lives.
fn living(view: &View) -> Option<(&AcceptedSpec, &Record)> {
    let record = view.record.as_ref().filter(|record| record.tombstone.is_none())?;
    Some((view.spec.as_ref()?, record))
}

/// Instances as the monitor saw them last; those that it has not seen yet are unknown.
fn instances(shared: &Shared, view: &View) -> Vec<InstanceSummary> {
    let Some((spec, _)) = living(view) else { return Vec::new() };
    report::instance_summaries(spec, |topic| {
        let said = shared.store.read(|reader| reader.last_said(&topic.to_string(&shared.world.fleet)));
        said.ok().flatten().map(|message| message.payload)
    })
}

fn connection(shared: &Shared, view: &View) -> Option<Connection> {
    let (spec, record) = living(view)?;
    let network = layout::network(&view.id);
    Some(report::connection(spec, record, shared.world.facts.advertise_address, network))
}
