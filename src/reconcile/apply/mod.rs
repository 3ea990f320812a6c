//! Doing what a stage says: steps whose dependencies are met run in parallel, without barriers; each has a deadline;
//! its outcome is stored before its dependents start.
//!
//! Invariant: nothing is decided here. A step that turns out to need more than the plan says fails, and the next
//! look plans again.

mod etcd;
mod host;
mod instance;
mod postgres;
mod swarm;
mod switchover;
mod watch;

pub(super) use host::{CERTIFICATE_MODE, KEY_MODE};

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::task::JoinSet;

use super::deadlines::Deadlines;
use super::place::Place;
use crate::drivers::{Error, Result};
use crate::model::{Attributes, Digest, Graph, Kind, Observation, Observed, Payload, Resource, ResourceId, Scope};
use crate::plan::{Action, Overdue, Phase, Stage, Step};
use crate::runtime::backoff::{Backoff, Schedule};
use crate::world::World;
use watch::Watch;

/// The pause before a step that got no answer is tried again, at first and at most.
const RETRY: Schedule = Schedule { first: Duration::from_millis(200), max: Duration::from_secs(5) };

/// What a step needs to know.
#[derive(Clone)]
pub(super) struct Task {
    pub(super) world: World,
    pub(super) scope: Scope,
    pub(super) step: Step,
    /// The desired resource; none for a delete.
    pub(super) resource: Option<Resource>,
    /// What was seen of it.
    pub(super) seen: Option<Attributes>,
    /// The digest of all that it is applied with.
    pub(super) applied: Option<Digest>,
    /// How long it may take, from when it began: maybe in an earlier pass.
    limit: Duration,
    /// Who is told what it waits for.
    pub(super) ledger: Arc<dyn Ledger>,
}

/// How a step ended.
#[derive(Debug, Clone)]
pub(super) struct Ended {
    pub(super) step: Step,
    pub(super) result: std::result::Result<(), String>,
    pub(super) took: Duration,
    /// It was not done by its deadline.
    pub(super) overdue: Option<Overdue>,
}

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
pub(super) trait Ledger: Send + Sync {
    /// A step begins.
    async fn begun(&self, step: &Step);
    /// What a step that runs waits for now, in the words of whom it waits for; none: it is at work.
    fn waits(&self, step: &Step, words: Option<String>);
    /// What a step that runs was last said to wait for.
    fn waits_for(&self, step: &Step) -> Option<String>;
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
        ledger: Arc::clone(ledger),
    }
}

/// One step that may panic, or be left: a wait for readiness changes nothing, so it ends at once when something newer was
/// asked, what it stands on is lost or pgmoor stops, and gives way to others after a while. None: it was left.
async fn guarded(task: Task, place: Place) -> Option<Ended> {
    let step = task.step.clone();
    let only_waits = matches!(step.resource.kind, Kind::Instance | Kind::Etcd);
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

/// One step within its deadline: what got no answer is tried again, what was refused is not.
async fn run(task: Task, begun: Duration) -> Ended {
    let clock = Arc::clone(&task.world.clock);
    let limit = task.limit;
    let left = limit.saturating_sub(clock.monotonic().saturating_sub(begun));
    let mut backoff = Backoff::new(RETRY, task.world.random.clone());
    let mut watch = Watch::new(&task);
    let attempts = async {
        loop {
            match act(&task).await {
                Ok(()) => return Ok(()),
                Err(error @ (Error::Unreachable { .. } | Error::Conflict { .. })) => {
                    watch.not_yet(&task, &error).await.map_err(|error| error.to_string())?;
                    tokio::time::sleep(backoff.failed()).await;
                }
                Err(error) => return Err(error.to_string()),
            }
        }
    };
    let ended = tokio::time::timeout(left, attempts).await;
    let took = clock.monotonic().saturating_sub(begun);
    match ended {
        Ok(result) => Ended { result, took, step: task.step, overdue: None },
        Err(_) => {
            let error = match task.ledger.waits_for(&task.step) {
                Some(last) => format!("not done within {} s; last: {last}", limit.as_secs()),
                None => format!("not done within {} s", limit.as_secs()),
            };
            let overdue = Overdue {
                phase: Phase::of(task.step.resource.kind),
                since_ms: clock.now_ms().saturating_sub(i64::try_from(took.as_millis()).unwrap_or(i64::MAX)),
                limit_s: u32::try_from(limit.as_secs()).unwrap_or(u32::MAX),
            };
            Ended { result: Err(error), took, step: task.step, overdue: Some(overdue) }
        }
    }
}

async fn act(task: &Task) -> Result<()> {
    match task.step.action {
        Action::Delete => return delete(task).await,
        Action::Switchover => return switchover::hand_over(task).await,
        Action::Create | Action::Recreate | Action::Update => {}
    }
    let Some(resource) = &task.resource else {
        return Err(failed(task, "the plan names a resource that is not desired"));
    };
    match &resource.attributes {
        Attributes::Record { revision } => match &resource.payload {
            Payload::Content(content) => crate::world::record::put(&task.world, &task.scope, *revision, content).await,
            Payload::None | Payload::Password(_) | Payload::Statements(_) => Err(failed(task, "it has no content")),
        },
        Attributes::Directory { .. } | Attributes::File { .. } | Attributes::Certificate(_) => {
            host::establish(task, resource).await
        }
        Attributes::Network { .. } | Attributes::Service(_) => swarm::establish(task, resource).await,
        Attributes::Etcd { .. } | Attributes::EtcdUser { .. } | Attributes::PatroniConfig(_) => {
            etcd::establish(task, resource).await
        }
        Attributes::Instance(wanted) => instance::ready(task, wanted).await,
        Attributes::Role(_)
        | Attributes::Database { .. }
        | Attributes::Extension { .. }
        | Attributes::Script { .. } => postgres::establish(task, resource).await,
    }
}

async fn delete(task: &Task) -> Result<()> {
    let Some(seen) = &task.seen else { return Ok(()) };
    match seen {
        Attributes::Record { .. } => crate::world::record::remove(&task.world, &task.scope).await,
        Attributes::Directory { .. } | Attributes::File { .. } | Attributes::Certificate(_) => {
            host::remove(task, seen).await
        }
        Attributes::Network { .. } | Attributes::Service(_) => swarm::remove(task, seen).await,
        Attributes::Etcd { .. } | Attributes::EtcdUser { .. } | Attributes::PatroniConfig(_) => {
            etcd::remove(task, seen).await
        }
        // Readiness goes with the service.
        Attributes::Instance(_) => Ok(()),
        Attributes::Role(_)
        | Attributes::Database { .. }
        | Attributes::Extension { .. }
        | Attributes::Script { .. } => postgres::remove(task, seen).await,
    }
}

/// The error of a step that cannot be done as it is.
fn failed(task: &Task, why: &str) -> Error {
    Error::Failed { act: format!("{:?} {}", task.step.action, task.step.resource), why: why.to_owned() }
}
