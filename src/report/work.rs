//! How far a plan is while it is carried out: which steps run since when and wait for what, which are done, which
//! failed and are tried again, which are held.
//!
//! Invariant: this only adds to a plan's document; what the plan says is not changed by it.

use std::collections::BTreeMap;

use super::hold;
use crate::contract::documents::{PlanDoc, PlanState, PlanStep, PlanWait, Progress, StepState, Time};
use crate::model::ResourceId;
use crate::plan::Held;

/// Steps of the stage that runs. Empty between two stages.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Work {
    /// Those that run.
    pub running: BTreeMap<ResourceId, Running>,
    /// Those that are done, and when.
    pub done: BTreeMap<ResourceId, Time>,
}

/// A step that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// Since when.
    pub since: Time,
    /// What it waits for, in the words of whom it waits for; none: it is at work.
    pub waits_for: Option<String>,
}

/// Attempts at a step, all of which failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// At what.
    pub resource: ResourceId,
    /// How many in a row.
    pub attempts: u32,
    /// The last error.
    pub error: String,
    /// When it failed last.
    pub at: Time,
    /// When it may be tried again.
    pub retry_at: Time,
}

/// Puts the progress of the work into the document of its plan.
#[must_use]
pub fn with_progress(mut document: PlanDoc, work: &Work, failures: &[Failure], held: &[Held]) -> PlanDoc {
    for step in document.stages.iter_mut().flat_map(|stage| &mut stage.steps) {
        step.progress = progress(step, work, failures);
    }
    let held_steps = held.iter().filter_map(|held| hold::told(held, failures));
    document.waiting.extend(held_steps.map(|told| PlanWait {
        resource: Some(told.resource),
        reason: told.message,
        since: None,
        until: told.until,
    }));
    let first = document.stages.first().map_or(0, |stage| stage.steps.len());
    if document.state == PlanState::Applying && work.running.is_empty() && first > 0 && held.len() >= first {
        document.state = PlanState::Waiting;
    }
    document
}

fn progress(step: &PlanStep, work: &Work, failures: &[Failure]) -> Option<Progress> {
    let is = |resource: &ResourceId| resource.to_string() == step.resource;
    let failure = failures.iter().find(|failure| is(&failure.resource));
    let attempts = failure.map_or(0, |failure| failure.attempts);
    if let Some((_, running)) = work.running.iter().find(|(resource, _)| is(resource)) {
        let error = running.waits_for.clone();
        return Some(Progress { state: StepState::Running, since: running.since, attempts, error, retry_at: None });
    }
    if let Some((_, at)) = work.done.iter().find(|(resource, _)| is(resource)) {
        return Some(Progress { state: StepState::Done, since: *at, attempts: 0, error: None, retry_at: None });
    }
    failure.map(|failure| Progress {
        state: StepState::Failed,
        since: failure.at,
        attempts,
        error: Some(failure.error.clone()),
        retry_at: Some(failure.retry_at),
    })
}

/// Gives what waits the time since which it was said to wait for the same.
#[must_use]
pub fn dated(mut document: PlanDoc, before: Option<&PlanDoc>) -> PlanDoc {
    let earlier = before.map(|before| before.waiting.as_slice()).unwrap_or_default();
    for wait in &mut document.waiting {
        let same = earlier.iter().find(|old| old.resource == wait.resource && old.reason == wait.reason);
        wait.since = same.and_then(|old| old.since).or(Some(document.updated_at));
    }
    document
}
