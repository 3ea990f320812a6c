//! The ledger of a pass: what each step did, in the store before its dependents start, with the event that says so.

use std::sync::Arc;

use super::apply::{Ended, Ledger};
use crate::contract::documents::{Event, EventData, EventType, Time};
use crate::contract::topics::Topic;
use crate::model::{DatabaseId, FleetId, Scope};
use crate::plan::{Action, Outcome, Step};
use crate::runtime::backoff::Schedule;
use crate::runtime::clock::SharedClock;
use crate::runtime::random::Random;
use crate::store::{OutMessage, OutcomeRow, Rows as _, Store};

/// Stores outcomes of one scope.
#[derive(Clone)]
pub(super) struct StoreLedger {
    pub(super) store: Store,
    pub(super) fleet: FleetId,
    pub(super) scope: Scope,
    pub(super) clock: SharedClock,
    pub(super) random: Random,
}

impl StoreLedger {
    /// For a pass over one scope.
    pub(super) fn shared(self) -> Arc<dyn Ledger> {
        Arc::new(self)
    }
}

#[async_trait::async_trait]
impl Ledger for StoreLedger {
    async fn begun(&self, step: &Step) {
        tracing::debug!(scope = %self.scope, step = %step.resource, action = ?step.action, "step begins");
    }

    async fn ended(&self, ended: &Ended) -> Result<(), String> {
        let (scope, step) = (self.scope.clone(), ended.step.clone());
        let took_ms = u64::try_from(ended.took.as_millis()).unwrap_or(u64::MAX);
        let (now_ms, random) = (self.clock.now_ms(), self.random.next_u64());
        let (fleet, error) = (self.fleet.clone(), ended.result.clone().err());
        match &error {
            None => tracing::info!(%scope, step = %step.resource, action = ?step.action, took_ms, "step done"),
            Some(error) => {
                tracing::warn!(%scope, step = %step.resource, action = ?step.action, took_ms, error, "step failed");
            }
        }
        let written = self.store.write(move |writer| {
            match &error {
                None => writer.clear_outcome(&scope, &step.resource)?,
                Some(error) => {
                    let before = writer.outcomes(&scope)?.remove(&step.resource);
                    let attempts = before.map_or(0, |row| row.outcome.attempts).saturating_add(1);
                    let delay = Schedule::STEP.delay(attempts, random);
                    let delay_ms = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
                    writer.set_outcome(
                        &scope,
                        &OutcomeRow {
                            resource: step.resource.clone(),
                            outcome: Outcome { action: step.action, attempts, error: error.clone() },
                            failed_at_ms: now_ms,
                            next_attempt_at_ms: now_ms.saturating_add(delay_ms),
                        },
                    )?;
                }
            }
            if let Scope::Database(database) = &scope {
                writer.enqueue(&event(&fleet, database, &step, error.as_deref(), now_ms))?;
            }
            Ok(())
        });
        written.await.map_err(|error| error.to_string())
    }
}

/// The event of a step that has ended.
fn event(fleet: &FleetId, database: &DatabaseId, step: &Step, error: Option<&str>, now_ms: i64) -> OutMessage {
    let word = match step.action {
        Action::Create => "create",
        Action::Recreate => "recreate",
        Action::Update => "update",
        Action::Delete => "delete",
    };
    let (kind, message) = match error {
        None => (EventType::StepFinished, format!("{word} {}", step.resource)),
        Some(error) => (EventType::StepFailed, format!("{word} {} failed: {error}", step.resource)),
    };
    let data = EventData { message, resource: Some(step.resource.to_string()), ..EventData::default() };
    let id = format!("{now_ms}-{word}-{}", step.resource);
    let event = Event::new(fleet, database, id, kind, Time::from_ms(now_ms), data).about(step.resource.to_string());
    say(fleet, &Topic::Events(database.clone()), &event, now_ms)
}

/// A document that nobody keeps, for those who listen now.
pub(super) fn say<T: serde::Serialize>(fleet: &FleetId, topic: &Topic, document: &T, now_ms: i64) -> OutMessage {
    OutMessage::event(topic.to_string(fleet), json(document), now_ms)
}

/// A document that the broker keeps.
pub(super) fn keep<T: serde::Serialize>(fleet: &FleetId, topic: &Topic, document: &T, now_ms: i64) -> OutMessage {
    OutMessage::retained(topic.to_string(fleet), json(document), now_ms)
}

/// Our own documents serialise without fail; one that did not would be an empty object, and the schema test would say so.
fn json<T: serde::Serialize>(document: &T) -> Vec<u8> {
    serde_json::to_vec(document).unwrap_or_else(|_| b"{}".to_vec())
}
