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

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::drivers::{Error, Result};
use crate::model::{Attributes, Digest, Graph, Kind, Observation, Observed, Payload, Resource, ResourceId, Scope};
use crate::plan::{Action, Stage, Step};
use crate::runtime::backoff::{Backoff, Schedule};
use crate::runtime::random::Random;
use crate::world::World;

/// The pause before a step that got no answer is tried again, at first and at most.
const RETRY: Schedule = Schedule { first: Duration::from_millis(200), max: Duration::from_secs(5) };

/// How long a step of a kind may take. A step that is not done by then has failed, and is planned again.
fn deadline(kind: Kind) -> Duration {
    Duration::from_secs(match kind {
        // Local or Swarm calls of well under a second; the rest is for a busy machine.
        Kind::Record | Kind::Directory | Kind::File | Kind::Certificate | Kind::Network => 60,
        // A stopping Postgres keeps its directory for up to its grace period of 90 s.
        Kind::Service => 180,
        // Image start, initdb or crash recovery; the reference waits 5 min for a healthy task.
        Kind::Instance | Kind::Etcd => 300,
        Kind::EtcdUser | Kind::PatroniConfig => 60,
        Kind::Role | Kind::Database | Kind::Extension => 60,
        // A person's statements may take their time.
        Kind::Script => 300,
    })
}

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
}

/// How a step ended.
#[derive(Debug, Clone)]
pub(super) struct Ended {
    pub(super) step: Step,
    pub(super) result: std::result::Result<(), String>,
    pub(super) took: Duration,
}

/// Who is told of each step, and must have stored it before the dependents start.
#[async_trait::async_trait]
pub(super) trait Ledger: Send + Sync {
    /// A step begins.
    async fn begun(&self, step: &Step);
    /// A step has ended. An error here ends the stage: what cannot be stored must not be built upon.
    async fn ended(&self, ended: &Ended) -> std::result::Result<(), String>;
}

/// Runs one stage. Gives how every step that ran has ended; those whose dependencies failed never ran.
pub(super) async fn apply(
    world: &World,
    scope: &Scope,
    desired: &Graph,
    observed: &Observed,
    stage: &Stage,
    (ledger, stop): (Arc<dyn Ledger>, &CancellationToken),
) -> Vec<Ended> {
    let mut waiting: BTreeMap<ResourceId, Task> =
        stage.steps.iter().map(|step| (step.resource.clone(), task(world, scope, desired, observed, step))).collect();
    let mut done: BTreeSet<ResourceId> = BTreeSet::new();
    let mut running = JoinSet::new();
    let mut ended = Vec::new();
    loop {
        let ready: Vec<ResourceId> =
            waiting.iter().filter(|(_, task)| task.step.after.is_subset(&done)).map(|(id, _)| id.clone()).collect();
        for id in ready {
            if let Some(task) = waiting.remove(&id).filter(|_| !stop.is_cancelled()) {
                ledger.begun(&task.step).await;
                running.spawn(guarded(task, stop.clone()));
            }
        }
        let Some(joined) = running.join_next().await else { break };
        let one = match joined {
            Ok(one) => one,
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
        ended.push(one);
    }
    ended
}

fn task(world: &World, scope: &Scope, desired: &Graph, observed: &Observed, step: &Step) -> Task {
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
    }
}

/// One step that may panic, or be cut off: a wait for readiness changes nothing, so it ends at once when `stop` says so.
async fn guarded(task: Task, stop: CancellationToken) -> Ended {
    let step = task.step.clone();
    let only_waits = matches!(step.resource.kind, Kind::Instance | Kind::Etcd);
    let failed = |why: &str| Ended { step: step.clone(), result: Err(why.to_owned()), took: Duration::ZERO };
    let running = AssertUnwindSafe(run(task)).catch_unwind();
    tokio::select! {
        ended = running => ended.unwrap_or_else(|_panic| failed("pgmoor panicked in this step; the log says where")),
        () = stop.cancelled(), if only_waits => failed("cut off: something newer was asked, or pgmoor stops"),
    }
}

/// One step within its deadline: what got no answer is tried again, what was refused is not.
async fn run(task: Task) -> Ended {
    let clock = Arc::clone(&task.world.clock);
    let begun = clock.monotonic();
    let limit = deadline(task.step.resource.kind);
    let mut backoff = Backoff::new(RETRY, Random::System);
    let mut last = None;
    let attempts = async {
        loop {
            match act(&task).await {
                Ok(()) => return Ok(()),
                Err(error @ (Error::Unreachable { .. } | Error::Conflict { .. })) => {
                    last = Some(error.to_string());
                    tokio::time::sleep(backoff.failed()).await;
                }
                Err(error) => return Err(error.to_string()),
            }
        }
    };
    let result = match tokio::time::timeout(limit, attempts).await {
        Ok(result) => result,
        Err(_) => Err(match last {
            Some(last) => format!("not done within {} s; last: {last}", limit.as_secs()),
            None => format!("not done within {} s", limit.as_secs()),
        }),
    };
    Ended { result, took: clock.monotonic().saturating_sub(begun), step: task.step }
}

async fn act(task: &Task) -> Result<()> {
    if task.step.action == Action::Delete {
        return delete(task).await;
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
