//! The store: one redb file with everything that this controller remembers.
//!
//! # What do we store, and what not
//!
//! | table | row | for what |
//! |---|---|---|
//! | `meta` | schema version, fleet, epoch, next message number, messages dropped, `Halt`, how much each broker replays, the newest lead that was heard of, the own last lead, the hosts of the fleet | a halt survives a restart; who wrote the file; the epoch grows with each start, so that a stale will can be told from a fresh one |
//! | `desired` | database → [`DesiredRow`] | the last good spec, the one in the live checks, the verdict, the history that tells old news (rule 9) |
//! | `intents` | database → [`IntentRow`] | what a person asked for since: purge; how long a deleted database has been in the trash |
//! | `records` | database → `Record` | a copy of the newest sealed record in Swarm; the one in Swarm counts |
//! | `host_ports` | host and port → database | which ports are given out, so that two databases of a host never get one |
//! | `fleet` | `FleetRecord`, [`HostWishes`] | the same for the fleet's record; what is asked of hosts until the record has it |
//! | `outcomes` | scope and resource → [`OutcomeRow`] | failed attempts: back-off survives a restart |
//! | `approvals` | database → [`ApprovalRow`] | what waits for a person's approval and what was approved: it holds over a restart |
//! | `downtimes` | database → `Downtimes` | what the last interruptions took, for the forecast of the next |
//! | `drift` | scope → `plan::drift::Memory` | what each resource was last seen done as, to tell drift from work, and which drift comes back; lost, it finds no drift until everything was seen once more |
//! | `messages`, `messages_waiting` | number → [`OutMessage`], retained topic → number | what the broker has not acknowledged yet, in order |
//! | `retained` | topic → [`OutMessage`] | what we last said on each retained topic: said again at start, and the memory of reports (`seq`, since when a condition holds) |
//! | `history_specs`, `history_plans` | database and number → [`SpecRow`], `PastPlan` | the last accepted specs and finished plans, for people: `history`, `diff`, `rollback` |
//! | `work` | id → [`WorkRow`] | what a host that leads asked of this one, before it is begun: it is done once, and a lost answer is given again |
//! | `commands`, `commands_by_time` | correlation id → when | a command that comes twice within 24 hours is done once |
//!
//! Not stored: anything that was observed (it is looked at again), anything that Swarm, Patroni or Postgres can tell
//! (labels, digests, configuration), the fleet key, metrics, logs. Losing the file loses no database (rule 8).
//!
//! Specs and records hold passwords, so the file is 0600 and its content appears in no error and no log.
//!
//! # Invariants
//!
//! Work is atomic and is answered after its commit; work of several callers shares a commit. One process has the file
//! open. Rows carry a version; a newer file is refused.

mod approvals;
mod engine;
mod error;
mod history;
mod journal;
mod messages;
mod open;
mod reader;
mod rows;
mod tables;
#[cfg(test)]
mod tests;
mod writer;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};

pub use approvals::{ASKED_MAX, ApprovalRow, Approvals, Approved};
pub use engine::Fault;
pub use error::{Error, Result};
pub use history::{History, NewSpec};
pub use journal::{Begun, Journal, WORKS_MAX, WorkEnd, WorkRow};
pub use messages::MESSAGES_MAX;
pub use reader::{Reader, Rows, Waiting};
pub use rows::{
    Candidate, ConditionRow, DesiredRow, HISTORY_MAX, HistoryRow, Hold, HostWishes, IntentRow, OutMessage, OutcomeRow,
    POISON_MAX, Poison, ReplayLimitRow, SpecRow,
};
pub use writer::Writer;

use crate::model::FleetId;
use engine::{Engine, Job, Work};

/// How many pieces of work share one commit at most: beyond a few hundred a commit is no cheaper for each, and the
/// first of them would wait for the last.
const GROUP_MAX: usize = 256;

/// How many pieces of work may wait before those who hand in more have to wait.
const QUEUE_MAX: usize = 1024;

/// How long a disk may take for a commit before we say that it hangs.
const WRITE_LIMIT: Duration = Duration::from_secs(30);

/// How the store is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// The fleet that the file belongs to.
    pub fleet: FleetId,
    /// Who commits.
    pub commits: Commits,
    /// A failure that a test asks for; none in production.
    pub fault: Option<Fault>,
}

impl Options {
    /// What the daemon uses.
    #[must_use]
    pub fn new(fleet: FleetId) -> Self {
        Self { fleet, commits: Commits::InThread, fault: None }
    }
}

/// Who commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commits {
    /// A thread of the store, in groups.
    InThread,
    /// Whoever writes, one by one: a simulation with paused time is the same each time.
    AtOnce,
}

/// The open store. Clones are the same store; the file is closed with the last of them.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    epoch: u64,
    said: watch::Receiver<u64>,
    broken: watch::Receiver<bool>,
    // In the order of dropping: first the readers' handle, then the writer's.
    database: Arc<redb::Database>,
    writer: Committer,
}

enum Committer {
    Thread { queue: Option<mpsc::Sender<Box<dyn Job>>>, thread: Option<std::thread::JoinHandle<()>> },
    AtOnce(Box<Mutex<Engine>>),
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("epoch", &self.inner.epoch).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the file, or makes it. Waits up to three seconds for a process that is just ending; call it before the
    /// runtime has other things to do.
    ///
    /// # Errors
    /// The file cannot be opened, is in use, belongs to another fleet, or was written by a newer pgmoor.
    pub fn open(path: &Path, options: &Options) -> Result<Self> {
        Self::with(open::file(path)?, options)
    }

    /// A store in memory.
    ///
    /// # Errors
    /// The thread that writes cannot be started.
    pub fn in_memory(options: &Options) -> Result<Self> {
        Self::with(open::memory()?, options)
    }

    /// A store on a backend of the caller's, for example a disk that fails when a test says so.
    ///
    /// # Errors
    /// See [`Store::open`].
    pub fn on(backend: impl redb::StorageBackend, options: &Options) -> Result<Self> {
        Self::with(open::on(backend)?, options)
    }

    fn with(database: redb::Database, options: &Options) -> Result<Self> {
        let epoch = open::prepare(&database, &options.fleet, open::MIGRATIONS)?;
        let database = Arc::new(database);
        let (tell_said, said) = watch::channel(0);
        let (tell_broken, broken) = watch::channel(false);
        let engine = Engine::new(Arc::clone(&database), options.fault, tell_said, tell_broken);
        let writer = match options.commits {
            Commits::AtOnce => Committer::AtOnce(Box::new(Mutex::new(engine))),
            Commits::InThread => {
                let (queue, jobs) = mpsc::channel(QUEUE_MAX);
                let thread = std::thread::Builder::new().name("store".to_owned());
                let thread = thread.spawn(move || commit_until_closed(engine, jobs));
                let thread = thread.map_err(|source| Error::Thread(Arc::new(source)))?;
                Committer::Thread { queue: Some(queue), thread: Some(thread) }
            }
        };
        Ok(Self { inner: Arc::new(Inner { epoch, said, broken, database, writer }) })
    }

    /// The epoch of this start: higher than that of any start before it.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.inner.epoch
    }

    /// Changes with each commit that put a message in the outbox.
    #[must_use]
    pub fn outbox_changes(&self) -> watch::Receiver<u64> {
        self.inner.said.clone()
    }

    /// Waits until a commit has failed. Nothing is written from then on, so the process has to start again.
    pub async fn until_broken(&self) {
        let mut broken = self.inner.broken.clone();
        if broken.wait_for(|broken| *broken).await.is_err() {
            // The thread that writes is gone without a word: the same.
            tracing::error!("the thread that writes to the store has ended");
        }
    }

    /// Reads one view of the store. Reading is quick and does not wait for writers.
    ///
    /// # Errors
    /// The store cannot be read, or what `work` says.
    pub fn read<T>(&self, work: impl FnOnce(&Reader) -> Result<T>) -> Result<T> {
        work(&Reader::new(&self.inner.database)?)
    }

    /// Does `work` in a transaction and answers once that is on the disk. With an error nothing of it was kept, except
    /// for [`Error::Slow`] and [`Error::Closed`], after which it is not known.
    ///
    /// `work` runs even if the caller stops waiting. It must not wait for anything.
    ///
    /// # Errors
    /// The store cannot be written, or what `work` says.
    pub async fn write<T, F>(&self, work: F) -> Result<T>
    where
        F: FnOnce(&mut Writer<'_>) -> Result<T> + Send + 'static,
        T: Send + 'static,
    {
        let (job, told) = Work::new(work);
        match &self.inner.writer {
            Committer::AtOnce(engine) => {
                engine.lock().unwrap_or_else(PoisonError::into_inner).commit_group(vec![Box::new(job)]);
                told.await.unwrap_or(Err(Error::Closed))
            }
            Committer::Thread { queue, .. } => {
                let queue = queue.as_ref().ok_or(Error::Closed)?;
                let answer = async {
                    queue.send(Box::new(job)).await.map_err(|_closed| Error::Closed)?;
                    told.await.unwrap_or(Err(Error::Closed))
                };
                let slow = Error::Slow { limit_s: WRITE_LIMIT.as_secs() };
                tokio::time::timeout(WRITE_LIMIT, answer).await.unwrap_or(Err(slow))
            }
        }
    }
}

/// Takes all that waits, up to [`GROUP_MAX`], and commits it together, until nobody can hand in more.
fn commit_until_closed(mut engine: Engine, mut jobs: mpsc::Receiver<Box<dyn Job>>) {
    while let Some(first) = jobs.blocking_recv() {
        let mut group = vec![first];
        while group.len() < GROUP_MAX {
            let Ok(next) = jobs.try_recv() else { break };
            group.push(next);
        }
        engine.commit_group(group);
    }
}

impl Drop for Committer {
    /// Waits for the commit that runs, so that the file is closed when the store is gone.
    fn drop(&mut self) {
        match self {
            Self::AtOnce(_) => {}
            Self::Thread { queue, thread } => {
                drop(queue.take());
                let Some(thread) = thread.take() else { return };
                // Work that holds the last clone of the store is dropped on the thread itself, which cannot join itself.
                if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
                    tracing::error!("the thread that writes to the store panicked");
                }
            }
        }
    }
}
