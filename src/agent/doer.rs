//! The side of the host that is asked: looks, does steps, answers.
//!
//! Invariants: a step stands in the journal before it is begun, and is begun once; of two steps on one resource the
//! second waits for the first, unless that only waits itself; an answer that gets lost is given again when it is asked for;
//! what only waits ends when another lead is heard of, since nobody hears of its end.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt as _;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::asker::Asker;
use super::envelope::{Answer, Envelopes};
use super::line::{Heard, Line};
use crate::contract::documents::HostWork;
use crate::contract::topics::Topic;
use crate::drivers::Error;
use crate::execute::{self, Waits};
use crate::model::{ResourceId, Scope, TaskId};
use crate::plan::Step;
use crate::runtime::chain::chain;
use crate::runtime::clock::SharedClock;
use crate::store::{self, Begun, Journal as _, Store, WorkEnd};
use crate::world::World;
use crate::world::work::{Act, Work};

/// Work that is taken up at once; more is asked for again. A leader has eight passes, each with a few dozen steps.
const WORK_MAX: usize = 128;

/// What this host does for the one that leads.
#[derive(Clone)]
pub struct Agent {
    /// Opens what comes, and seals the answers.
    pub envelopes: Envelopes,
    /// Where answers go.
    pub line: Arc<dyn Line>,
    /// The journal.
    pub store: Store,
    /// The time.
    pub clock: SharedClock,
    /// This host's world; none while its Swarm side is not up.
    pub world: watch::Receiver<Option<World>>,
    /// What runs.
    pub running: Arc<Mutex<BTreeMap<TaskId, Running>>>,
}

/// Work that runs.
#[derive(Debug)]
pub struct Running {
    /// What a step is about; none: it is a look or a question.
    on: Option<(Scope, ResourceId)>,
    /// The epoch of the lead that asked for it.
    epoch: u64,
    /// What it waits for.
    waits: Option<String>,
    /// It only waits for readiness, so another may take its place.
    only_waits: bool,
    /// Ends it then.
    left: CancellationToken,
}

/// Whether work may be taken up.
enum Entered {
    Now(CancellationToken),
    /// It runs, and may wait for something.
    Runs(Option<String>),
    /// A step on the same resource runs.
    Busy,
}

/// Takes work off the list of what runs.
struct Leave<'a> {
    agent: &'a Agent,
    id: &'a TaskId,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.agent.running().remove(self.id);
    }
}

/// Notes what a step waits for, for whoever asks how far it is.
struct Notes {
    running: Arc<Mutex<BTreeMap<TaskId, Running>>>,
    id: TaskId,
}

impl Waits for Notes {
    fn waits(&self, _step: &Step, words: Option<String>) {
        if let Some(running) = lock(&self.running).get_mut(&self.id) {
            running.waits = words;
        }
    }

    fn waits_for(&self, _step: &Step) -> Option<String> {
        lock(&self.running).get(&self.id).and_then(|running| running.waits.clone())
    }
}

impl Agent {
    /// Takes in what comes over the line until told to stop: work for this host, and answers to what it asked itself.
    /// What runs then is cut off; the journal knows it.
    pub async fn run(
        self,
        mut arriving: mpsc::Receiver<Heard>,
        asker: watch::Receiver<Option<Arc<Asker>>>,
        stop: CancellationToken,
    ) {
        let own = Topic::HostWork(self.envelopes.here.clone()).to_string(&self.envelopes.fleet);
        let mut tasks = JoinSet::new();
        loop {
            let heard = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(_ended) = tasks.join_next(), if !tasks.is_empty() => continue,
                heard = arriving.recv() => match heard { Some(heard) => heard, None => break },
            };
            if heard.topic != own {
                if let Some(asker) = asker.borrow().clone() {
                    asker.heard(&heard);
                }
            } else if tasks.len() < WORK_MAX {
                let agent = self.clone();
                tasks.spawn(async move { agent.take(&heard.payload).await });
            }
        }
        tasks.shutdown().await;
    }

    /// Takes one message up and answers it.
    async fn take(&self, payload: &[u8]) {
        let (document, work) = match self.envelopes.open_work(payload) {
            Ok(opened) => opened,
            Err(error) => {
                tracing::warn!(%error, "work that no host of this fleet sent is passed over");
                return;
            }
        };
        let answer = match self.answer(&document, work).await {
            Ok(answer) => answer,
            Err(error) => {
                // It is asked for again; a store that does not work ends the process before long.
                tracing::error!(id = %document.id, error = chain(&error), "work could not be written down");
                return;
            }
        };
        let Some(answer) = answer else { return };
        let said = match self.envelopes.answer(&document.id, document.epoch, &answer) {
            Ok((topic, payload)) => self.line.say(&topic, &payload).await,
            Err(error) => Err(error.to_string()),
        };
        if let Err(why) = said {
            tracing::info!(id = %document.id, why, "an answer did not get out; it is asked for again");
        }
    }

    /// The answer; none: there will be one, or was.
    async fn answer(&self, document: &HostWork, work: Work) -> Result<Option<Answer>, store::Error> {
        let (id, epoch) = (&document.id, document.epoch);
        let known = self.store.read(|reader| reader.work_epoch())?;
        let newest = if epoch > known {
            let newest = self.store.write(move |writer| writer.hear_of_lead(epoch)).await?;
            self.end_waits_before(newest);
            newest
        } else {
            known
        };
        if epoch < newest {
            return Ok(Some(Answer::Stale { newest }));
        }
        let world = self.world.borrow().clone();
        let Some(world) = world else {
            return Ok(Some(Answer::Unreachable { why: "its Swarm is not there yet".to_owned() }));
        };
        match work {
            Work::Act(act) => self.act(document, &world, *act).await,
            Work::Look(look) => {
                Ok(self.once((id, epoch), async { Answer::Looked { seen: execute::look(&world, &look).await } }).await)
            }
            Work::Ask(question) => {
                let asked = async {
                    match execute::answer(&world, &question).await {
                        Ok(told) => Answer::Told { told },
                        Err(Error::Unreachable { act, why }) => Answer::Unreachable { why: format!("{act}: {why}") },
                        Err(error) => Answer::Failed { error: error.to_string() },
                    }
                };
                Ok(self.once((id, epoch), asked).await)
            }
        }
    }

    /// What changes nothing, once at a time.
    async fn once(&self, (id, epoch): (&TaskId, u64), work: impl Future<Output = Answer>) -> Option<Answer> {
        match self.enter((id, epoch), None, false) {
            Entered::Now(_left) => {
                let _leave = Leave { agent: self, id };
                Some(work.await)
            }
            Entered::Runs(_) | Entered::Busy => None,
        }
    }

    async fn act(&self, document: &HostWork, world: &World, act: Act) -> Result<Option<Answer>, store::Error> {
        let (id, epoch) = (&document.id, document.epoch);
        let only_waits = act.step.only_waits();
        let left = match self.enter((id, epoch), Some((act.scope.clone(), act.step.resource.clone())), only_waits) {
            Entered::Now(left) => left,
            Entered::Runs(waits) => return Ok(Some(Answer::Running { waits })),
            Entered::Busy => {
                let waits = Some("an earlier step on it still runs there".to_owned());
                return Ok(Some(Answer::Running { waits }));
            }
        };
        let _leave = Leave { agent: self, id };
        let (key, now_ms) = (id.clone(), self.clock.now_ms());
        let begun = self.store.write(move |writer| writer.begin_work(&key, epoch, now_ms)).await?;
        let end = match begun {
            Begun::Stale { newest } => return Ok(Some(Answer::Stale { newest })),
            Begun::Known(row) => row.end.unwrap_or_else(|| WorkEnd::Failed {
                error: "its pgmoor was stopped in the middle of it: how far it came shows the next look".to_owned(),
            }),
            Begun::New => {
                let end = self.run_step(id, world, act, left).await;
                let (key, kept) = (id.clone(), end.clone());
                self.store.write(move |writer| writer.end_work(&key, kept)).await?;
                end
            }
        };
        Ok(Some(match end {
            WorkEnd::Done => Answer::Done,
            WorkEnd::Failed { error } => Answer::Failed { error },
        }))
    }

    async fn run_step(&self, id: &TaskId, world: &World, act: Act, left: CancellationToken) -> WorkEnd {
        let notes = Arc::new(Notes { running: Arc::clone(&self.running), id: id.clone() });
        let (scope, step) = (act.scope.clone(), act.step.resource.clone());
        tracing::info!(%scope, %step, action = ?act.step.action, "a step for the host that leads");
        let task = execute::Task::from_act(world, act, notes);
        let begun = world.clock.monotonic();
        let running = AssertUnwindSafe(execute::run(task, begun)).catch_unwind();
        let result = tokio::select! {
            biased;
            ended = running => ended.map_or_else(|_panic| Err("pgmoor panicked in this step".to_owned()), |ended| ended.result),
            () = left.cancelled() => Err("it only waited, and a newer step on the same or another lead came".to_owned()),
        };
        match result {
            Ok(()) => WorkEnd::Done,
            Err(error) => {
                tracing::info!(%scope, %step, error, "the step failed");
                WorkEnd::Failed { error }
            }
        }
    }

    /// Puts work on the list of what runs. A step that only waits for the same resource leaves it.
    fn enter(&self, (id, epoch): (&TaskId, u64), on: Option<(Scope, ResourceId)>, only_waits: bool) -> Entered {
        let mut all = self.running();
        if let Some(same) = all.get(id) {
            return Entered::Runs(same.waits.clone());
        }
        if let Some(other) = on.as_ref().and_then(|on| all.values().find(|other| other.on.as_ref() == Some(on))) {
            if other.only_waits {
                other.left.cancel();
            }
            return Entered::Busy;
        }
        let left = CancellationToken::new();
        all.insert(id.clone(), Running { on, epoch, waits: None, only_waits, left: left.clone() });
        Entered::Now(left)
    }

    /// Ends steps of an older lead that only wait: whatever they wait for may never come, now that another decides.
    fn end_waits_before(&self, epoch: u64) {
        for running in self.running().values().filter(|running| running.only_waits && running.epoch < epoch) {
            running.left.cancel();
        }
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<TaskId, Running>> {
        lock(&self.running)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
