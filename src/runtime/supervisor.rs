//! The supervisor owns every long-lived task of the process by name.
//!
//! Invariants: no task ends unseen, whether by return, error or panic; tasks are stopped in the reverse order of their
//! start, so that what others rely on (the outbox, the broker) goes last; a shutdown ends within its deadline, by force
//! if it must.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;

use super::backoff::{Backoff, Schedule};
use super::chain::chain;
use super::clock::SharedClock;
use super::random::Random;

/// What a task ends with.
pub type TaskResult = Result<(), TaskError>;

/// Whatever made a task fail.
pub type TaskError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// A task that ran this long before it failed starts again with the first delay.
const SETTLED_AFTER: Duration = Duration::from_secs(60);

/// What is left for the tasks that nobody told to stop when the time for a shutdown is up.
const LAST_MOMENT: Duration = Duration::from_secs(1);

/// What happens when a task ends although nobody stopped it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// It is started again after a delay.
    Restart(Schedule),
    /// The process stops: without this task it would only look alive.
    Essential,
    /// It may end well whenever it likes; an error or a panic stops the process.
    Once,
}

/// How a shutdown goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// How long one task may take to stop before the next is told to.
    pub task_limit: Duration,
    /// How long the whole shutdown may take.
    pub shutdown_limit: Duration,
}

impl Default for Options {
    /// Ten seconds for a task, 25 for all: below the 30 that a service manager waits before it kills.
    fn default() -> Self {
        Self { task_limit: Duration::from_secs(10), shutdown_limit: Duration::from_secs(25) }
    }
}

/// Why the process stopped by itself, or did not stop well.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A task that must run failed.
    #[error("task {name} failed")]
    Failed {
        /// The task.
        name: String,
        /// Why.
        #[source]
        source: TaskError,
    },
    /// A task that must run returned.
    #[error("task {name} ended although nobody stopped it")]
    Ended {
        /// The task.
        name: String,
    },
    /// Tasks had to be aborted.
    #[error("did not stop in time: {}", names.join(", "))]
    Unstopped {
        /// The tasks.
        names: Vec<String>,
    },
}

/// A task panicked.
#[derive(Debug, thiserror::Error)]
#[error("panic: {message}")]
struct Panic {
    message: String,
}

/// Owns the tasks.
#[derive(Debug)]
pub struct Supervisor {
    options: Options,
    clock: SharedClock,
    random: Random,
    root: CancellationToken,
    tasks: JoinSet<TaskResult>,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    id: Id,
    name: String,
    policy: Policy,
    stop: CancellationToken,
}

impl Supervisor {
    /// No tasks yet.
    #[must_use]
    pub fn new(options: Options, clock: SharedClock, random: Random) -> Self {
        let (root, tasks, entries) = (CancellationToken::new(), JoinSet::new(), Vec::new());
        Self { options, clock, random, root, tasks, entries }
    }

    /// Starts a task. `make` is called again for each restart, with the token that tells the task to stop.
    pub fn start<F, T>(&mut self, name: impl Into<String>, policy: Policy, make: F)
    where
        F: FnMut(CancellationToken) -> T + Send + 'static,
        T: Future<Output = TaskResult> + Send + 'static,
    {
        let (name, stop) = (name.into(), self.root.child_token());
        let id = match policy {
            Policy::Restart(schedule) => {
                let backoff = Backoff::new(schedule, self.random.clone());
                let watch = Watch { name: name.clone(), stop: stop.clone(), clock: self.clock.clone(), backoff };
                self.tasks.spawn(watch.keep_running(make)).id()
            }
            Policy::Essential | Policy::Once => self.tasks.spawn(guarded(make, stop.clone())).id(),
        };
        self.entries.push(Entry { id, name, policy, stop });
    }

    /// Runs until `stop` is cancelled or a task ends that must not; then stops the others, last started first.
    ///
    /// # Errors
    /// The task that ended, or else the tasks that did not stop in time.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), Error> {
        let failure = loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break None,
                Some(ended) = self.tasks.join_next_with_id() => {
                    if let Some(error) = self.judge(ended) {
                        break Some(error);
                    }
                }
            }
        };
        let unstopped = self.shut_down().await;
        match failure {
            Some(error) => Err(error),
            None if unstopped.is_empty() => Ok(()),
            None => Err(Error::Unstopped { names: unstopped }),
        }
    }

    /// Whether the end of a task while all is running is a failure.
    fn judge(&mut self, ended: Result<(Id, TaskResult), tokio::task::JoinError>) -> Option<Error> {
        let (id, result) = unpack(ended);
        let position = self.entries.iter().position(|entry| entry.id == id)?;
        let Entry { name, policy, .. } = self.entries.remove(position);
        match (result, policy) {
            (Err(source), _) => Some(Error::Failed { name, source }),
            (Ok(()), Policy::Once) => {
                tracing::debug!(task = name, "finished");
                None
            }
            (Ok(()), Policy::Essential | Policy::Restart(_)) => Some(Error::Ended { name }),
        }
    }

    /// Stops the tasks one after the other, last started first, and gives the names of those that had to be aborted.
    async fn shut_down(&mut self) -> Vec<String> {
        let order: Vec<(Id, CancellationToken)> =
            self.entries.iter().rev().map(|entry| (entry.id, entry.stop.clone())).collect();
        let Options { task_limit, shutdown_limit } = self.options;
        let one_by_one = async {
            for (id, stop) in order {
                stop.cancel();
                let ended = self.reap_until(|entries| entries.iter().all(|entry| entry.id != id));
                if tokio::time::timeout(task_limit, ended).await.is_err() {
                    let name = self.entries.iter().find(|entry| entry.id == id).map(|entry| &entry.name);
                    tracing::warn!(task = name, "does not stop");
                }
            }
        };
        let _all_told = tokio::time::timeout(shutdown_limit, one_by_one).await;
        self.root.cancel();
        let _all_ended = tokio::time::timeout(LAST_MOMENT, self.reap_until(<[Entry]>::is_empty)).await;
        self.tasks.shutdown().await;
        self.entries.drain(..).map(|entry| entry.name).collect()
    }

    /// Takes tasks that ended off the list until `enough` says so.
    async fn reap_until(&mut self, enough: impl Fn(&[Entry]) -> bool) {
        while !enough(&self.entries) {
            let Some(ended) = self.tasks.join_next_with_id().await else { return };
            let (id, result) = unpack(ended);
            let Some(position) = self.entries.iter().position(|entry| entry.id == id) else { continue };
            let entry = self.entries.remove(position);
            if let Err(error) = result {
                tracing::warn!(task = entry.name, error = chain(&*error), "failed while stopping");
            }
        }
    }
}

fn unpack(ended: Result<(Id, TaskResult), tokio::task::JoinError>) -> (Id, TaskResult) {
    match ended {
        Ok((id, result)) => (id, result),
        // Panics are caught inside, so this is an abort.
        Err(error) => (error.id(), Err(Box::new(error))),
    }
}

/// One run of a task, a panic turned into an error.
async fn guarded<F, T>(mut make: F, stop: CancellationToken) -> TaskResult
where
    F: FnMut(CancellationToken) -> T,
    T: Future<Output = TaskResult>,
{
    run_once(&mut make, stop).await
}

async fn run_once<F, T>(make: &mut F, stop: CancellationToken) -> TaskResult
where
    F: FnMut(CancellationToken) -> T,
    T: Future<Output = TaskResult>,
{
    let run = AssertUnwindSafe(async { make(stop).await }).catch_unwind();
    match run.await {
        Ok(result) => result,
        Err(panic) => {
            let message = panic
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
                .or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_else(|| "without a message".to_owned());
            Err(Box::new(Panic { message }))
        }
    }
}

/// What keeps a restartable task running.
struct Watch {
    name: String,
    stop: CancellationToken,
    clock: SharedClock,
    backoff: Backoff,
}

impl Watch {
    async fn keep_running<F, T>(mut self, mut make: F) -> TaskResult
    where
        F: FnMut(CancellationToken) -> T + Send,
        T: Future<Output = TaskResult> + Send,
    {
        loop {
            let started = self.clock.monotonic();
            let result = run_once(&mut make, self.stop.clone()).await;
            if self.stop.is_cancelled() {
                return result;
            }
            if self.clock.monotonic().saturating_sub(started) >= SETTLED_AFTER {
                self.backoff.worked();
            }
            let delay = self.backoff.failed();
            let why = result.map_or_else(|error| chain(&*error), |()| "ended although nobody stopped it".to_owned());
            let failures = self.backoff.failures();
            let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
            tracing::error!(task = self.name, error = why, failures, delay_ms, "task is started again");
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(delay) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::runtime::clock::{Clock as _, TokioClock};

    fn supervisor() -> Supervisor {
        Supervisor::new(Options::default(), Arc::new(TokioClock::starting_at(0)), Random::seeded(1))
    }

    #[tokio::test(start_paused = true)]
    async fn tasks_stop_in_reverse_order() {
        let mut supervisor = supervisor();
        let order = Arc::new(Mutex::new(Vec::new()));
        for name in ["store", "outbox", "reconcile"] {
            let order = Arc::clone(&order);
            supervisor.start(name, Policy::Essential, move |stop| {
                let order = Arc::clone(&order);
                async move {
                    stop.cancelled().await;
                    // The first told takes longest: the order must not come from who is quickest.
                    tokio::time::sleep(Duration::from_secs(if name == "reconcile" { 5 } else { 1 })).await;
                    order.lock().unwrap().push(name);
                    Ok(())
                }
            });
        }
        let stop = CancellationToken::new();
        stop.cancel();
        supervisor.run(stop).await.unwrap();
        assert_eq!(*order.lock().unwrap(), ["reconcile", "outbox", "store"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_restartable_task_survives_panics_errors_and_returns() {
        let mut supervisor = supervisor();
        let (runs, stop) = (Arc::new(AtomicU32::new(0)), CancellationToken::new());
        let (seen, stopper) = (Arc::clone(&runs), stop.clone());
        supervisor.start("worker", Policy::Restart(Schedule::TASK), move |stop| {
            let (run, stopper) = (seen.fetch_add(1, Ordering::SeqCst), stopper.clone());
            async move {
                match run {
                    0 => panic!("on purpose"),
                    1 => Err("an error".into()),
                    2 => Ok(()),
                    _ => {
                        stopper.cancel();
                        stop.cancelled().await;
                        Ok(())
                    }
                }
            }
        });
        supervisor.run(stop).await.unwrap();
        assert_eq!(runs.load(Ordering::SeqCst), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn an_essential_task_that_ends_stops_the_process() {
        for (what, expected) in
            [("panic", "task main failed: panic: on purpose"), ("return", "task main ended although nobody stopped it")]
        {
            let mut supervisor = supervisor();
            let stopped = Arc::new(AtomicU32::new(0));
            let seen = Arc::clone(&stopped);
            supervisor.start("other", Policy::Essential, move |stop| {
                let seen = Arc::clone(&seen);
                async move {
                    stop.cancelled().await;
                    seen.fetch_add(1, Ordering::SeqCst);
                    Ok(())
                }
            });
            supervisor.start("brief", Policy::Once, |_stop| async { Ok(()) });
            supervisor.start("main", Policy::Essential, move |_stop| async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                if what == "panic" {
                    panic!("on purpose");
                }
                Ok(())
            });
            let error = supervisor.run(CancellationToken::new()).await.unwrap_err();
            assert_eq!(chain(&error), expected);
            assert_eq!(stopped.load(Ordering::SeqCst), 1, "the others were told to stop");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_does_not_stop_is_aborted_and_named() {
        let mut supervisor = supervisor();
        supervisor.start("good", Policy::Essential, |stop| async move {
            stop.cancelled().await;
            Ok(())
        });
        for name in ["deaf", "dumb", "blind"] {
            supervisor.start(name, Policy::Essential, |_stop| std::future::pending());
        }
        let clock = TokioClock::starting_at(0);
        let stop = CancellationToken::new();
        stop.cancel();
        let error = supervisor.run(stop).await.unwrap_err();
        assert_eq!(error.to_string(), "did not stop in time: deaf, dumb, blind");
        assert!(clock.monotonic() <= Options::default().shutdown_limit + LAST_MOMENT);
    }
}
