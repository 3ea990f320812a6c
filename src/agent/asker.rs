//! The side of the host that leads: asks another host until it answers, or until the time is up.
//!
//! Invariants: one piece of work keeps its id however often it is asked for; an answer counts only when it is sealed for
//! that work and this lead; no answer in time is `Unreachable`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, watch};

use super::envelope::{Answer, Envelopes};
use super::line::{Heard, Line};
use crate::contract::topics::Topic;
use crate::drivers::{Error, Result};
use crate::model::{HostId, TaskId};
use crate::runtime::random::Random;
use crate::world::work::{Act, HostSeen, Look, Question, Remote, Told, Work};

/// The pause before the same is asked again, at first and at most: a message is lost only with a connection.
const AGAIN: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(4));
/// How long a host may take to look, or to answer a question. A look at a Postgres that hangs takes several seconds.
const LOOK_LIMIT: Duration = Duration::from_secs(20);
/// The same for a host that did not answer the last time: it must not hold up every pass.
const QUIET_LIMIT: Duration = Duration::from_secs(2);
/// What is added to the time that a step has on its host, whose own deadline ends it.
const STEP_MARGIN: Duration = Duration::from_secs(10);
/// Answers to one piece of work that wait to be read.
const ANSWERS: usize = 4;

/// Asks other hosts under one lead.
pub struct Asker {
    envelopes: Envelopes,
    line: Arc<dyn Line>,
    epoch: u64,
    random: Random,
    waiting: Mutex<BTreeMap<TaskId, mpsc::Sender<Answer>>>,
    /// Hosts that did not answer the last time.
    quiet: Mutex<BTreeSet<HostId>>,
    /// The newest lead that a host has spoken of.
    newest: watch::Sender<u64>,
}

/// Takes a piece of work off the list when nobody waits for it any more.
struct Waits<'a> {
    asker: &'a Asker,
    id: TaskId,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        lock(&self.asker.waiting).remove(&self.id);
    }
}

impl Asker {
    /// Asks over a line, under the lead of this epoch.
    #[must_use]
    pub fn new(envelopes: Envelopes, line: Arc<dyn Line>, epoch: u64, random: Random) -> Self {
        let (waiting, quiet, newest) = (Mutex::default(), Mutex::default(), watch::Sender::new(epoch));
        Self { envelopes, line, epoch, random, waiting, quiet, newest }
    }

    /// The newest lead that a host has spoken of, and a way to wait for it to change: above our own, ours is over.
    #[must_use]
    pub fn newest(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// Takes an answer in. What nobody waits for, and what does not open, is passed over.
    pub fn heard(&self, heard: &Heard) {
        let Some(Topic::HostAnswers(from)) = Topic::parse(&self.envelopes.fleet, &heard.topic) else { return };
        let (document, answer) = match self.envelopes.open_answer(&from, &heard.payload) {
            Ok(opened) => opened,
            Err(error) => {
                tracing::warn!(%error, "an answer that no host of this fleet wrote is passed over");
                return;
            }
        };
        if document.epoch != self.epoch {
            return;
        }
        // Also one that came too late: the host is not silent.
        lock(&self.quiet).remove(&from);
        if let Answer::Stale { newest } = &answer {
            self.newest.send_if_modified(|known| {
                let news = *newest > *known;
                *known = (*newest).max(*known);
                news
            });
        }
        let waiting = lock(&self.waiting).get(&document.id).cloned();
        if let Some(waiting) = waiting
            && waiting.try_send(answer).is_err()
        {
            tracing::debug!(id = %document.id, "an answer came to somebody who has several; it is asked for again");
        }
    }

    /// Asks until the answer is there, or `limit` is over.
    async fn exchange(
        &self,
        host: &HostId,
        work: &Work,
        limit: Duration,
        waits: &(dyn Fn(Option<String>) + Sync),
    ) -> Result<Answer> {
        let act = || format!("ask host {host}");
        let id = TaskId::parse(&format!("w{:016x}{:016x}", self.random.next_u64(), self.random.next_u64()))
            .map_err(|error| Error::Failed { act: act(), why: error.to_string() })?;
        let (sender, mut answers) = mpsc::channel(ANSWERS);
        lock(&self.waiting).insert(id.clone(), sender);
        let _waits = Waits { asker: self, id: id.clone() };
        let (topic, payload) = self.envelopes.work(host, &id, self.epoch, work)?;
        let mut last = "it does not answer".to_owned();
        let asking = async {
            let mut pause = AGAIN.0;
            loop {
                if let Err(why) = self.line.say(&topic, &payload).await {
                    last = why;
                }
                let spoke = AtomicBool::new(false);
                let told = |words| {
                    spoke.store(true, Ordering::Relaxed);
                    waits(words);
                };
                match tokio::time::timeout(pause, answered(&mut answers, &told)).await {
                    Ok(answer) => return answer,
                    Err(_silence) if spoke.load(Ordering::Relaxed) => {}
                    Err(_silence) => waits(Some(format!("host {host}: {last}"))),
                }
                pause = (pause * 2).min(AGAIN.1);
            }
        };
        let answer = tokio::time::timeout(limit, asking).await;
        match answer {
            Ok(Answer::Stale { newest }) => {
                let why = format!("host {host} has heard of a newer lead, {newest}; ours is {}", self.epoch);
                Err(Error::Failed { act: act(), why })
            }
            Ok(Answer::Unreachable { why }) => {
                lock(&self.quiet).remove(host);
                Err(Error::Unreachable { act: act(), why })
            }
            Ok(answer) => {
                lock(&self.quiet).remove(host);
                Ok(answer)
            }
            Err(_late) => {
                lock(&self.quiet).insert(host.clone());
                let why = format!("no answer within {} s: {last}", limit.as_secs());
                Err(Error::Unreachable { act: act(), why })
            }
        }
    }

    fn limit(&self, host: &HostId) -> Duration {
        if lock(&self.quiet).contains(host) { QUIET_LIMIT } else { LOOK_LIMIT }
    }
}

/// The first answer that is one; meanwhile `waits` is told what the host waits for.
async fn answered(answers: &mut mpsc::Receiver<Answer>, waits: &(dyn Fn(Option<String>) + Sync)) -> Answer {
    while let Some(answer) = answers.recv().await {
        match answer {
            Answer::Running { waits: words } => waits(words),
            Answer::Looked { .. }
            | Answer::Told { .. }
            | Answer::Done
            | Answer::Failed { .. }
            | Answer::Unreachable { .. }
            | Answer::Stale { .. } => return answer,
        }
    }
    // The sender is on the list for as long as this waits.
    std::future::pending().await
}

#[async_trait]
impl Remote for Asker {
    async fn look(&self, host: &HostId, look: Look) -> Result<HostSeen> {
        let answer = self.exchange(host, &Work::Look(look), self.limit(host), &|_| {}).await?;
        if let Answer::Looked { seen } = answer { Ok(seen) } else { Err(unexpected(host, answer)) }
    }

    async fn act(&self, host: &HostId, act: Act, waits: &(dyn Fn(Option<String>) + Sync)) -> Result<()> {
        let limit = act.limit.saturating_add(STEP_MARGIN);
        let answer = self.exchange(host, &Work::Act(Box::new(act)), limit, waits).await?;
        if answer == Answer::Done { Ok(()) } else { Err(unexpected(host, answer)) }
    }

    async fn ask(&self, host: &HostId, question: Question) -> Result<Told> {
        let answer = self.exchange(host, &Work::Ask(question), self.limit(host), &|_| {}).await?;
        if let Answer::Told { told } = answer { Ok(told) } else { Err(unexpected(host, answer)) }
    }
}

/// A failure in the host's words; else an answer to another question, which a host of another version may give.
fn unexpected(host: &HostId, answer: Answer) -> Error {
    let act = format!("have host {host} do its work");
    if let Answer::Failed { error } = answer {
        return Error::Failed { act, why: error };
    }
    Error::Failed { act, why: "it answered something else than was asked".to_owned() }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
