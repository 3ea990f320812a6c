//! The ledger of a pass: what each step did, in the store before its dependents start, with the event that says so; and
//! what runs just now, in memory.
//!
//! Which steps run is not stored by itself: no step outlives the process, so after a crash such a row would be wrong.
//! `tell` reads it from here and puts it into `status` and `plan`, which are stored and published in one transaction.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::apply::Ledger;
use super::halt;
use crate::contract::documents::{Event, EventData, EventType, Time};
use crate::contract::topics::Topic;
use crate::execute::{Ended, Waits};
use crate::model::{DatabaseId, Digest, FleetId, Scope};
use crate::plan::{Action, Outcome, Stage, Step};
use crate::report;
use crate::report::work::{Running, Work};
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
    /// After steps of so many databases failed in a row nothing new begins.
    pub(super) halt_after: u32,
    /// The digest of the spec that the plan leads to.
    pub(super) spec: Option<Digest>,
    /// How many plans are kept in the history.
    pub(super) history_max: usize,
    /// What runs just now.
    pub(super) board: Board,
}

/// What runs just now, shared between a pass and whoever tells of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Board(Arc<Mutex<Work>>);

impl Board {
    /// How far the steps are.
    pub(super) fn work(&self) -> Work {
        self.lock().clone()
    }

    /// A pass begins: forgets what an earlier one did, and what it left and this stage does not take up again.
    pub(super) fn keep_only(&self, stage: Option<&Stage>) {
        let mut work = self.lock();
        work.done.clear();
        work.running
            .retain(|resource, _| stage.is_some_and(|stage| stage.steps.iter().any(|step| step.resource == *resource)));
    }

    fn lock(&self) -> MutexGuard<'_, Work> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StoreLedger {
    /// For a pass over one scope.
    pub(super) fn shared(self) -> Arc<dyn Ledger> {
        Arc::new(self)
    }
}

impl Waits for StoreLedger {
    fn waits(&self, step: &Step, words: Option<String>) {
        if let Some(running) = self.board.lock().running.get_mut(&step.resource) {
            running.waits_for = words;
        }
    }

    fn waits_for(&self, step: &Step) -> Option<String> {
        self.board.lock().running.get(&step.resource).and_then(|running| running.waits_for.clone())
    }
}

#[async_trait::async_trait]
impl Ledger for StoreLedger {
    async fn begun(&self, step: &Step) {
        tracing::debug!(scope = %self.scope, step = %step.resource, action = ?step.action, "step begins");
        // One that an earlier pass has left goes on: it runs since then.
        let since = Time::from_ms(self.clock.now_ms());
        self.board.lock().running.entry(step.resource.clone()).or_insert(Running { since, waits_for: None });
    }

    async fn ended(&self, ended: &Ended) -> Result<(), String> {
        let (scope, step) = (self.scope.clone(), ended.step.clone());
        let took_ms = u64::try_from(ended.took.as_millis()).unwrap_or(u64::MAX);
        let limit = self.halt_after;
        let (now_ms, random) = (self.clock.now_ms(), self.random.next_u64());
        let (fleet, error, overdue) = (self.fleet.clone(), ended.result.clone().err(), ended.overdue.clone());
        let (spec, keep) = (self.spec.clone(), self.history_max);
        {
            let mut work = self.board.lock();
            work.running.remove(&step.resource);
            if error.is_none() {
                work.done.insert(step.resource.clone(), Time::from_ms(now_ms));
            }
        }
        match &error {
            None => tracing::info!(%scope, step = %step.resource, action = ?step.action, took_ms, "step done"),
            Some(error) => {
                tracing::warn!(%scope, step = %step.resource, action = ?step.action, took_ms, error, "step failed");
            }
        }
        let written = self.store.write(move |writer| {
            match &error {
                None => {
                    let retried = writer.clear_outcome(&scope, &step.resource)?;
                    if let Scope::Database(database) = &scope
                        && retried
                    {
                        halt::worked(writer, database)?;
                    }
                }
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
                            overdue: overdue.clone(),
                        },
                    )?;
                }
            }
            if let Scope::Database(database) = &scope {
                if let Some(error) = &error {
                    halt::failed(writer, (&fleet, limit, now_ms), database, (&step, error))?;
                }
                let past = report::past_step(&step, took_ms, error.as_deref());
                writer.add_past_step(database, (spec, past), Time::from_ms(now_ms), keep)?;
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
        Action::Switchover => "switchover of",
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
