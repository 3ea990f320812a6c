//! One step: done here or by the host that it belongs to, tried again while something does not answer, ended by its
//! deadline.
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
pub(super) use postgres::{is_of, primary};

use std::sync::Arc;
use std::time::Duration;

use super::place::{self, Place};
use crate::drivers::{Error, Result};
use crate::model::{Attributes, Digest, Payload, Resource, Scope};
use crate::plan::{Action, Overdue, Phase, Step};
use crate::runtime::backoff::{Backoff, Schedule};
use crate::world::World;
use crate::world::work::Act;
use watch::Watch;

/// The pause before a step that got no answer is tried again, at first and at most.
const RETRY: Schedule = Schedule { first: Duration::from_millis(200), max: Duration::from_secs(5) };
/// What another host gets besides the time that a step has left here: the deadline that is told is ours.
const LONGER: Duration = Duration::from_secs(5);

/// What a step needs to know.
#[derive(Clone)]
pub struct Task {
    /// The world.
    pub world: World,
    /// Whose plan it is.
    pub scope: Scope,
    /// What it says.
    pub step: Step,
    /// The desired resource; none for a delete.
    pub resource: Option<Resource>,
    /// What was seen of it.
    pub seen: Option<Attributes>,
    /// The digest of all that it is applied with.
    pub applied: Option<Digest>,
    /// How long it may take, from when it began: maybe in an earlier pass.
    pub limit: Duration,
    /// Who is told what it waits for.
    pub waits: Arc<dyn Waits>,
}

/// How a step ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// Which.
    pub step: Step,
    /// Whether it is done, or why not.
    pub result: std::result::Result<(), String>,
    /// How long it took.
    pub took: Duration,
    /// It was not done by its deadline.
    pub overdue: Option<Overdue>,
}

/// Who is told what a step waits for.
pub trait Waits: Send + Sync {
    /// What a step that runs waits for now, in the words of whom it waits for; none: it is at work.
    fn waits(&self, step: &Step, words: Option<String>);
    /// What a step that runs was last said to wait for.
    fn waits_for(&self, step: &Step) -> Option<String>;
}

impl Task {
    /// What the host that leads asked for, on this host's world.
    #[must_use]
    pub fn from_act(world: &World, act: Act, waits: Arc<dyn Waits>) -> Self {
        let Act { scope, step, resource, seen, applied, limit } = act;
        Self { world: world.clone(), scope, step, resource, seen, applied, limit, waits }
    }

    /// The same for another host, which has so much time for it.
    fn to_act(&self, limit: Duration) -> Act {
        Act {
            scope: self.scope.clone(),
            step: self.step.clone(),
            resource: self.resource.clone(),
            seen: self.seen.clone(),
            applied: self.applied.clone(),
            limit,
        }
    }
}

/// One step within its deadline: what got no answer is tried again, what was refused is not. `begun` is when work on it
/// began, in monotonic time.
pub async fn run(task: Task, begun: Duration) -> Ended {
    let clock = Arc::clone(&task.world.clock);
    let limit = task.limit;
    let left = limit.saturating_sub(clock.monotonic().saturating_sub(begun));
    let mut backoff = Backoff::new(RETRY, task.world.random.clone());
    let mut watch = Watch::new(&task);
    let attempts = async {
        loop {
            let left = limit.saturating_sub(clock.monotonic().saturating_sub(begun));
            match attempt(&task, left).await {
                Ok(()) => return Ok(()),
                Err(error @ (Error::Unreachable { .. } | Error::Conflict { .. })) => {
                    watch.not_yet(&task, &error).await.map_err(|error| error.to_string())?;
                    tokio::time::sleep(backoff.failed()).await;
                    if matches!(error, Error::Unreachable { .. }) {
                        still_leads(&task, &mut backoff).await?;
                    }
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
            let error = match task.waits.waits_for(&task.step) {
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

/// Waits until it is certain that this host still leads, where it does the step as the one that leads: what did not answer
/// may have been cut off together with this host, and another one leads by now.
///
/// # Errors
/// Another host leads.
async fn still_leads(task: &Task, backoff: &mut Backoff) -> std::result::Result<(), String> {
    if task.step.only_waits() {
        return Ok(());
    }
    loop {
        match task.world.confirm_lead().await {
            Ok(()) => return Ok(()),
            Err(error @ Error::Unreachable { .. }) => {
                task.waits.waits(&task.step, Some(error.to_string()));
                tokio::time::sleep(backoff.failed()).await;
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// One attempt, by whose work it is.
async fn attempt(task: &Task, left: Duration) -> Result<()> {
    match place::of(&task.world, &task.scope, &task.step.executor).await? {
        Place::Here => act(task).await,
        Place::There(host) => {
            let waits = |words| task.waits.waits(&task.step, words);
            task.world.other(&host)?.act(&host, task.to_act(left.saturating_add(LONGER)), &waits).await
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
        Attributes::EtcdMember { .. }
        | Attributes::Etcd { .. }
        | Attributes::EtcdUser { .. }
        | Attributes::PatroniConfig(_) => etcd::establish(task, resource).await,
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
        Attributes::EtcdMember { .. }
        | Attributes::Etcd { .. }
        | Attributes::EtcdUser { .. }
        | Attributes::PatroniConfig(_) => etcd::remove(task, seen).await,
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
