//! The engine: pieces of work in, one transaction for as many as wait, answers out after the commit.
//!
//! Invariants: nobody is answered before the commit that holds their work; a piece of work that fails is undone and
//! does not disturb its neighbours; after a failed commit nothing is written any more, since what the file holds then
//! is only known after opening it again.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use tokio::sync::{oneshot, watch};

use super::error::{Error, Result};
use super::writer::{self, Opened, Writer};

/// A failure that a test asks for. Commits are counted from 1 when the store is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// This commit does not happen.
    Lost {
        /// Which.
        commit: u64,
    },
    /// This commit happens, but nobody is told.
    Untold {
        /// Which.
        commit: u64,
    },
}

/// A piece of work and who waits for it.
pub(super) trait Job: Send {
    /// Does the work. `false`: it failed and has to be undone.
    fn run(&mut self, writer: &mut Writer<'_>) -> bool;
    /// Tells the outcome; with `Err` whatever the work gave is void.
    fn tell(self: Box<Self>, outcome: Result<()>);
}

/// A closure as a job.
pub(super) struct Work<F, T> {
    work: Option<F>,
    result: Result<T>,
    tell: oneshot::Sender<Result<T>>,
}

impl<F, T> Work<F, T> {
    pub(super) fn new(work: F) -> (Self, oneshot::Receiver<Result<T>>) {
        let (tell, told) = oneshot::channel();
        (Self { work: Some(work), result: Err(Error::Closed), tell }, told)
    }
}

impl<F, T> Job for Work<F, T>
where
    F: FnOnce(&mut Writer<'_>) -> Result<T> + Send,
    T: Send,
{
    fn run(&mut self, writer: &mut Writer<'_>) -> bool {
        let Some(work) = self.work.take() else { return false };
        self.result = std::panic::catch_unwind(AssertUnwindSafe(|| work(writer))).unwrap_or_else(|panic| {
            let message = panic
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
                .or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_else(|| "without a message".to_owned());
            Err(Error::Panicked { message })
        });
        self.result.is_ok()
    }

    fn tell(self: Box<Self>, outcome: Result<()>) {
        let result = match outcome {
            Ok(()) => self.result,
            Err(error) => Err(error),
        };
        // Whoever asked may have gone meanwhile; the work is done all the same.
        let _nobody_waits = self.tell.send(result);
    }
}

/// Runs jobs in groups.
pub(super) struct Engine {
    database: Arc<redb::Database>,
    fault: Option<Fault>,
    commits: u64,
    /// Whether a commit failed.
    broken: watch::Sender<bool>,
    /// Counts the commits that put something in the outbox.
    said: watch::Sender<u64>,
}

/// How a group ended.
enum Ended {
    Committed,
    NothingToDo,
    Untold,
}

impl Engine {
    pub(super) fn new(
        database: Arc<redb::Database>,
        fault: Option<Fault>,
        said: watch::Sender<u64>,
        broken: watch::Sender<bool>,
    ) -> Self {
        Self { database, fault, commits: 0, broken, said }
    }

    /// Runs the jobs in one transaction and tells each how it went.
    pub(super) fn commit_group(&mut self, mut jobs: Vec<Box<dyn Job>>) {
        let outcome = if *self.broken.borrow() { Err(Error::Broken) } else { self.run_group(&mut jobs) };
        match outcome {
            Ok(Ended::Committed | Ended::NothingToDo) => jobs.into_iter().for_each(|job| job.tell(Ok(()))),
            Ok(Ended::Untold) => {
                self.broken.send_replace(true);
                jobs.into_iter().for_each(|job| job.tell(Err(Error::Closed)));
            }
            Err(error) => {
                self.broken.send_replace(true);
                jobs.into_iter().for_each(|job| job.tell(Err(error.clone())));
            }
        }
    }

    fn run_group(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<Ended> {
        let transaction = writer::begin(&self.database)?;
        let (mut changed, mut said) = (false, false);
        // Closed before the commit.
        let tables = Opened::new(&transaction);
        for job in jobs {
            let mut writer = Writer::new(&tables);
            if job.run(&mut writer) {
                changed |= writer.changed();
                said |= writer.said();
            } else {
                writer.undo()?;
            }
        }
        drop(tables);
        let failed = |source: redb::Error| Error::Commit(Arc::new(source));
        if !changed {
            transaction.abort().map_err(|source| failed(source.into()))?;
            return Ok(Ended::NothingToDo);
        }
        self.commits += 1;
        if self.fault == Some(Fault::Lost { commit: self.commits }) {
            transaction.abort().map_err(|source| failed(source.into()))?;
            return Err(Error::Injected { commit: self.commits });
        }
        transaction.commit().map_err(|source| failed(source.into()))?;
        if self.fault == Some(Fault::Untold { commit: self.commits }) {
            return Ok(Ended::Untold);
        }
        if said {
            self.said.send_modify(|count| *count += 1);
        }
        Ok(Ended::Committed)
    }
}
