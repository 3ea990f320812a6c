//! Doing what a stage says: steps whose dependencies are met run in parallel, without barriers; each has a deadline;
//! its outcome is stored before its dependents start.
//!
//! Invariant: nothing is decided here; what a single step does, and on which host, is `execute`'s.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::task::JoinSet;

use super::deadlines::Deadlines;
use super::place::Place;
use crate::execute::{Ended, Task, Waits, run};
use crate::model::{Graph, Observation, Observed, ResourceId, Scope};
use crate::plan::{Phase, Stage, Step};
use crate::world::World;

/// How a stage ended.
#[derive(Debug, Default)]
pub(super) struct Applied {
    /// Steps that ended, well or not.
    pub(super) ended: Vec<Ended>,
    /// A step that only waits was left: for another pass, or since something newer was asked. It has not failed.
    pub(super) left: bool,
}

/// Who is told of each step, and must have stored it before the dependents start.
#[async_trait::async_trait]
pub(super) trait Ledger: Waits {
    /// A step begins.
    async fn begun(&self, step: &Step);
    /// A step has ended. An error here ends the stage: what cannot be stored must not be built upon.
    async fn ended(&self, ended: &Ended) -> std::result::Result<(), String>;
}

/// Runs one stage. Steps whose dependencies failed, or were left, never run.
pub(super) async fn apply(
    world: &World,
    scope: &Scope,
    desired: &Graph,
    observed: &Observed,
    stage: &Stage,
    (ledger, place, deadlines): (Arc<dyn Ledger>, &Place, &Deadlines),
) -> Applied {
    let mut waiting: BTreeMap<ResourceId, Task> = stage
        .steps
        .iter()
        .map(|step| (step.resource.clone(), task(world, scope, (desired, observed), step, (deadlines, &ledger))))
        .collect();
    let mut done: BTreeSet<ResourceId> = BTreeSet::new();
    let mut running = JoinSet::new();
    let mut applied = Applied::default();
    loop {
        let ready: Vec<ResourceId> =
            waiting.iter().filter(|(_, task)| task.step.after.is_subset(&done)).map(|(id, _)| id.clone()).collect();
        for id in ready {
            if let Some(task) = waiting.remove(&id).filter(|_| !place.stop.is_cancelled()) {
                ledger.begun(&task.step).await;
                running.spawn(guarded(task, place.clone()));
            }
        }
        let Some(joined) = running.join_next().await else { break };
        let one = match joined {
            Ok(Some(one)) => one,
            Ok(None) => {
                applied.left = true;
                continue;
            }
            Err(error) => {
                tracing::error!(%scope, %error, "a step panicked");
                continue;
            }
        };
        match ledger.ended(&one).await {
            Ok(()) if one.result.is_ok() => {
                done.insert(one.step.resource.clone());
            }
            Ok(()) => {}
            Err(error) => {
                tracing::error!(%scope, %error, step = %one.step.resource, "the outcome of a step could not be stored");
                waiting.clear();
            }
        }
        applied.ended.push(one);
    }
    applied
}

fn task(
    world: &World,
    scope: &Scope,
    (desired, observed): (&Graph, &Observed),
    step: &Step,
    (deadlines, ledger): (&Deadlines, &Arc<dyn Ledger>),
) -> Task {
    let seen = match observed.resources.get(&step.resource) {
        Some(Observation::Present(present)) => Some(present.attributes.clone()),
        Some(Observation::Absent | Observation::Unknown { .. }) | None => None,
    };
    Task {
        world: world.clone(),
        scope: scope.clone(),
        step: step.clone(),
        resource: desired.get(&step.resource).cloned(),
        seen,
        applied: desired.digest(&step.resource).cloned(),
        limit: deadlines.of(Phase::of(step.resource.kind)),
        waits: Arc::clone(ledger) as Arc<dyn Waits>,
    }
}

/// One step that may panic, or be left: a wait for readiness changes nothing, so it ends at once when something newer was
/// asked, what it stands on is lost or pgmoor stops, and gives way to others after a while. None: it was left.
async fn guarded(task: Task, place: Place) -> Option<Ended> {
    let step = task.step.clone();
    let only_waits = step.only_waits();
    let begun = place.begun.at(&step.resource, task.world.clock.monotonic());
    let running = AssertUnwindSafe(run(task, begun)).catch_unwind();
    let ended = tokio::select! {
        biased;
        ended = running => ended.unwrap_or_else(|_panic| Ended {
            step: step.clone(),
            result: Err("pgmoor panicked in this step; the log says where".to_owned()),
            took: Duration::ZERO,
            overdue: None,
        }),
        () = place.stop.cancelled(), if only_waits => {
            place.begun.over(&step.resource);
            return None;
        }
        () = place.lost.cancelled(), if only_waits => return None,
        () = place.given_up(), if only_waits => return None,
    };
    place.begun.over(&step.resource);
    Some(ended)
}
