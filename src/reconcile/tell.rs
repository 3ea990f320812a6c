//! Telling how a database stands: `status` and `plan`, made anew from what is stored and seen, and published when
//! they say something new.
//!
//! Invariant: this is the only writer of these two topics, so `seq` grows by one with each status; what was last said
//! (the store remembers it) tells since when a condition holds.

use std::collections::BTreeMap;

use super::ledger::{keep, say};
use super::service::Shared;
use crate::contract::documents::{State, Status, Time};
use crate::contract::topics::Topic;
use crate::domain::layout;
use crate::model::{AcceptedSpec, DatabaseId, Record, ResourceId};
use crate::plan::{Outcome, Plan};
use crate::report;
use crate::report::conditions::Found;
use crate::store::{DesiredRow, OutMessage, OutcomeRow, Rows as _};

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
    let status = compose(shared, view, phase, before.as_ref(), now_ms);
    let mut messages: Vec<OutMessage> = Vec::new();
    if report::status::is_news(before.as_ref(), &status) {
        let events = report::events(fleet, before.as_ref(), &status);
        messages.extend(events.iter().map(|event| say(fleet, &Topic::Events(view.id.clone()), event, now_ms)));
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

fn compose(shared: &Shared, view: &View, phase: &Phase<'_>, before: Option<&Status>, now_ms: i64) -> Status {
    let failures: Vec<(&ResourceId, &Outcome)> = match phase {
        Phase::Planned { outcomes, .. } => outcomes.values().map(|row| (&row.resource, &row.outcome)).collect(),
        Phase::Nothing | Phase::Unreadable => Vec::new(),
    };
    let connection = view.spec.as_ref().zip(view.record.as_ref()).map(|(spec, record)| {
        report::connection(spec, record, shared.world.facts.advertise_address, layout::network(&view.id))
    });
    let found = view.row.conditions.iter().map(|(kind, row)| Found {
        kind: *kind,
        reason: row.reason.clone(),
        message: row.message.clone(),
    });
    report::status::status(report::status::Input {
        database: &view.id,
        epoch: shared.store.epoch(),
        now: Time::from_ms(now_ms),
        before,
        spec: view.spec.as_ref(),
        record: view.record.as_ref(),
        verdict: view.row.verdict.as_ref(),
        checking: view.row.candidate.is_some(),
        found: found.collect(),
        phase: match phase {
            Phase::Nothing => report::status::Phase::Nothing,
            Phase::Unreadable => report::status::Phase::Unreadable,
            Phase::Planned { plan, .. } => report::status::Phase::Planned { plan, failures: &failures },
        },
        instances: instances(shared, view),
        connection,
    })
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
