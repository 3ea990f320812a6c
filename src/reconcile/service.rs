//! The loop: which scope gets a pass, and when.
//!
//! Invariants: one pass of a scope at a time; a panic in a pass costs that pass only; a database waits for the fleet's
//! scope once; who has waited longest for a place gets it, and a pass that only waits gives it up; a pass that waits is
//! cut off when something newer was asked of its database; the tick looks at everything again (the tick is the retry).

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::agenda::{Agenda, Slot};
use super::deadlines::Deadlines;
use super::decisions::Decisions;
use super::docket::{Docket, Sitting};
use super::fleet::{self, FLEET_GRACE, FLEET_GRACE_OF_MANY, FLEET_LOOK, Told};
use super::gate::Disruptions;
use super::leftovers::Owed;
use super::limits::Limits;
use super::pass::{Next, Pass};
use super::place::{self, Place};
use super::placing::Tentative;
use super::preview;
use super::promises::Promises;
use super::together;
use super::trash::TrashClock;
use super::waiting::Waiting;
use crate::contract::Context;
use crate::contract::commands::Question;
use crate::contract::spec::DEFAULT_MEMORY_BYTES;
use crate::domain::{self, FleetOptions};
use crate::model::{AcceptedSpec, Catalogue, DatabaseId, FleetHosts, Graph, HostPorts, NodeHosts, Record, Scope};
use crate::runtime::backoff::{Backoff, Schedule};
use crate::runtime::bell::{Bell, Listener};
use crate::runtime::cadence;
use crate::runtime::chain::chain;
use crate::runtime::random::Random;
use crate::store::{self, Rows as _, Store};
use crate::world::World;

/// How many scopes are worked on at once: each is a handful of calls to Docker, etcd and Postgres at a time.
const PASSES_MAX: usize = 8;
/// How many while specs are judged together: verdicts are quick, and their authors wait for them. It is not zero, so
/// that a flood of specs never stops the work on databases.
const PASSES_BESIDE_JUDGING: usize = 1;

/// How the reconciler works.
#[derive(Debug, Clone)]
pub struct Options {
    /// Time between two looks at a scope that is settled; with many databases it grows ([`cadence::period`]).
    pub tick: Duration,
    /// How much may go on, and go wrong, at a time.
    pub limits: Limits,
    /// How long each phase may take.
    pub deadlines: Deadlines,
    /// Seconds that the data of a deleted database stays in the trash.
    pub deletion_grace_s: u32,
    /// How many accepted specs and finished plans of each database are kept.
    pub history_max: usize,
    /// Ports of etcd.
    pub fleet: FleetOptions,
    /// The version catalogue.
    pub catalogue: Arc<Catalogue>,
}

/// Why the reconciler stops by itself.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What is to be done cannot be read.
    #[error("read what is desired")]
    Store(#[source] store::Error),
}

/// The service.
#[derive(Debug)]
pub struct Reconciler {
    pub(super) shared: Arc<Shared>,
    listener: Listener,
    questions: mpsc::Receiver<Question>,
    /// Whether a scope that is due finds no place: passes that only wait then give up theirs.
    wanted: watch::Sender<bool>,
}

/// What all passes share.
pub(super) struct Shared {
    pub(super) options: Options,
    pub(super) world: World,
    pub(super) store: Store,
    pub(super) random: Random,
    /// Held from reading what is given out (ports, memory, processors) to giving out more: no two databases get the
    /// same. None until records were read.
    pub(super) accepting: Mutex<Option<Promises>>,
    /// Hosts that were chosen for specs that are not accepted yet.
    pub(super) tentative: Tentative,
    /// Who restarts or replaces an instance.
    pub(super) disruptions: Disruptions,
    /// The last decisions, for whoever asks.
    pub(super) decisions: Decisions,
    /// How long deleted databases have been in the trash.
    pub(super) trash_clock: TrashClock,
    /// What hosts that do not answer have to delete.
    pub(super) owed: Owed,
    /// Rung when a report must be made anew (the monitor listens).
    pub(super) changed: Bell,
}

impl Shared {
    /// The hosts of the fleet.
    pub(super) fn hosts(&self) -> FleetHosts {
        domain::members::fleet_hosts(&self.world.record.get(), &self.world.hosts, &self.world.facts.host)
    }

    /// What a spec is judged against.
    pub(super) fn context<'a>(
        &'a self,
        (hosts, placed): (&'a FleetHosts, &'a NodeHosts),
        previous: Option<&'a AcceptedSpec>,
        ports_in_use: &'a HostPorts,
    ) -> Context<'a> {
        Context {
            catalogue: &self.options.catalogue,
            host: hosts.only(),
            placed,
            known_hosts: Some(&hosts.known),
            drained_hosts: Some(&hosts.drained),
            previous,
            ports_in_use,
            data_dir: &self.world.facts.data_dir,
            default_memory_bytes: DEFAULT_MEMORY_BYTES,
        }
    }

    /// What is desired under a spec.
    pub(super) fn graph(&self, spec: &AcceptedSpec, record: &Record) -> Result<Graph, domain::Error> {
        let (world, options) = (&self.world, &self.options);
        domain::database::graph(spec, record, &world.record.get(), &world.hosts, &options.catalogue, &options.fleet)
    }

    /// What was desired of instances that leave their node.
    pub(super) fn leaving(&self, spec: &AcceptedSpec, record: &Record) -> Result<Graph, domain::Error> {
        let (world, options) = (&self.world, &self.options);
        domain::database::leaving(spec, record, &world.record.get(), &world.hosts, &options.catalogue, &options.fleet)
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("options", &self.options).finish_non_exhaustive()
    }
}

/// What comes in.
#[derive(Debug)]
pub struct Inputs {
    /// Scopes that need a look.
    pub listener: Listener,
    /// Questions what a spec would change.
    pub questions: mpsc::Receiver<Question>,
}

/// How long what runs has to end, when the reconciler is stopped; then it is cut off, as by the end of the process.
const END_LIMIT: Duration = Duration::from_secs(5);

impl Reconciler {
    /// A reconciler that works on `world`, is woken and asked through `inputs`, and rings `changed` after each pass over
    /// a database.
    #[must_use]
    pub fn new(
        options: Options,
        (world, store): (World, Store),
        random: Random,
        changed: Bell,
        inputs: Inputs,
    ) -> Self {
        let Inputs { listener, questions } = inputs;
        Self {
            shared: Arc::new(Shared {
                disruptions: Disruptions::new(options.limits),
                options,
                world,
                store,
                random,
                accepting: Mutex::new(None),
                tentative: Tentative::default(),
                decisions: Decisions::default(),
                trash_clock: TrashClock::default(),
                owed: Owed::default(),
                changed,
            }),
            listener,
            questions,
            wanted: watch::Sender::new(false),
        }
    }

    /// Runs until told to stop; a pass that runs then is cut off where it waits, and after some seconds where it works. Gives back what it was woken and asked through, for
    /// another one on another world.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn run(mut self, stop: CancellationToken) -> Result<Inputs, Error> {
        let mut agenda = Agenda::default();
        let mut docket = Docket::default();
        let mut passes: JoinSet<(Scope, Next)> = JoinSet::new();
        let mut judging: JoinSet<Sitting> = JoinSet::new();
        let mut answers: JoinSet<()> = JoinSet::new();
        let mut fleet_ready = false;
        let mut halted = self.halted_since();
        for scope in self.known()? {
            agenda.add(&scope, || self.slot());
        }
        let mut told = Told { at: self.shared.world.clock.monotonic(), found: None };
        loop {
            if !fleet_ready {
                self.fleet_waits(&mut told, None).await?;
            }
            self.free(&mut halted, &mut agenda);
            if fleet_ready {
                self.judge(&mut docket, &mut agenda, &mut judging);
            }
            let flood = docket.floods_for(PASSES_MAX, self.now());
            let places = if docket.is_busy() || flood.is_some() { PASSES_BESIDE_JUDGING } else { PASSES_MAX };
            self.start_due(&mut agenda, &mut passes, (fleet_ready, places), &stop);
            let sleep = self.until_next(&agenda, fleet_ready, passes.len() >= places);
            let sleep = if fleet_ready { sleep } else { sleep.min(FLEET_LOOK) };
            let sleep = docket.tells_in(self.now()).into_iter().chain(flood).fold(sleep, Duration::min);
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                rung = self.listener.wait() => {
                    if !fleet_ready {
                        self.fleet_waits(&mut told, Some(&rung)).await?;
                    }
                    self.rung(rung, &mut agenda, &mut docket);
                }
                Some(Ok((scope, next))) = passes.join_next(), if !passes.is_empty() => {
                    fleet_ready |= scope == Scope::Fleet && matches!(next, Next::Settled);
                    self.ended(&scope, next, &mut agenda);
                }
                Some(Ok(sitting)) = judging.join_next(), if !judging.is_empty() => {
                    docket.ended(&sitting, PASSES_MAX, self.now());
                    self.judged(&sitting, &mut agenda);
                }
                Some(question) = self.questions.recv() => {
                    let shared = Arc::clone(&self.shared);
                    answers.spawn(async move { preview::answer(&shared, question).await });
                }
                Some(_) = answers.join_next(), if !answers.is_empty() => {}
                () = tokio::time::sleep(sleep) => {}
            }
        }
        answers.shutdown().await;
        let ended = async {
            while judging.join_next().await.is_some() {}
            while passes.join_next().await.is_some() {}
        };
        // A step on another host, whose line is gone by now, would wait for its deadline.
        if tokio::time::timeout(END_LIMIT, ended).await.is_err() {
            judging.shutdown().await;
            passes.shutdown().await;
        }
        Ok(Inputs { listener: self.listener, questions: self.questions })
    }

    /// Tells of databases that wait for the fleet: at once of those that were rung for, of all when what they wait for is
    /// another than before, and with the tick. At first all have a moment: mostly the fleet needs none.
    async fn fleet_waits(&self, told: &mut Told, rung: Option<&BTreeSet<Scope>>) -> Result<(), Error> {
        let shared = &self.shared;
        let waiting = waiting(shared);
        let found = fleet::not_ready(shared);
        if let Some(rung) = rung {
            let only = rung.iter().filter_map(|scope| match scope {
                Scope::Database(id) => Some(id.clone()),
                Scope::Fleet => None,
            });
            return waiting.told(&found, Some(&only.collect())).await.map_err(Error::Store);
        }
        let now = shared.world.clock.monotonic();
        let pause = match &told.found {
            Some(before) if *before == found => shared.options.tick,
            Some(_) => Duration::ZERO,
            // Who has just come to lead may have to wait first for the answers of hosts that went away.
            None if shared.world.hosts.iter().count() > 1 => FLEET_GRACE_OF_MANY,
            None => FLEET_GRACE,
        };
        if now.saturating_sub(told.at) < pause {
            return Ok(());
        }
        *told = Told { at: now, found: Some(found.clone()) };
        waiting.told(&found, None).await.map_err(Error::Store)
    }

    fn known(&self) -> Result<BTreeSet<Scope>, Error> {
        let ids = self.shared.store.read(|reader| {
            let desired = reader.all_desired()?.into_keys();
            Ok(desired.chain(reader.all_records()?.into_keys()).collect::<BTreeSet<_>>())
        });
        let databases = ids.map_err(Error::Store)?.into_iter().map(Scope::Database);
        Ok(std::iter::once(Scope::Fleet).chain(databases).collect())
    }

    fn now(&self) -> Duration {
        self.shared.world.clock.monotonic()
    }

    fn slot(&self) -> Slot {
        let backoff = Backoff::new(Schedule::STEP, self.shared.random.clone());
        Slot::new(self.shared.world.clock.monotonic(), backoff)
    }

    /// Starts what is due as long as there are places: the fleet first, since all stand on it, then who has waited longest.
    fn start_due(
        &self,
        agenda: &mut Agenda,
        passes: &mut JoinSet<(Scope, Next)>,
        (fleet_ready, places): (bool, usize),
        stop: &CancellationToken,
    ) {
        let now = self.shared.world.clock.monotonic();
        let (due, wanted) = agenda.due(now, !fleet_ready, places.saturating_sub(passes.len()));
        self.wanted.send_if_modified(|before| std::mem::replace(before, wanted) != wanted);
        for scope in due {
            let cut = stop.child_token();
            let wanted = self.wanted.subscribe();
            let mut place = None;
            agenda.change(&scope, |slot| {
                slot.running = Some(cut.clone());
                slot.again = false;
                let (begun, worked, board) = (slot.begun.clone(), slot.worked.clone(), slot.board.clone());
                place = Some(Place { stop: cut, lost: CancellationToken::new(), wanted, begun, worked, board });
            });
            let Some(place) = place else { continue };
            let pass = Pass { shared: Arc::clone(&self.shared), place };
            passes.spawn(async move {
                let run = AssertUnwindSafe(pass.run(&scope)).catch_unwind().await;
                let next = run.unwrap_or_else(|_panic| {
                    tracing::error!(%scope, "a pass panicked; the scope is looked at again after a while");
                    Next::Failed
                });
                (scope, next)
            });
        }
    }

    /// Time until the next slot is due; a bell or a finished pass comes first as a rule. While there is no place, what is
    /// due already waits for the end of a pass, not for the time.
    fn until_next(&self, agenda: &Agenda, fleet_ready: bool, full: bool) -> Duration {
        let now = self.shared.world.clock.monotonic();
        let due = agenda.next_due(now, !fleet_ready, full);
        let left = due.map_or(self.shared.options.tick, |due| due.saturating_sub(now));
        left.max(Duration::from_millis(10))
    }

    fn rung(&self, scopes: BTreeSet<Scope>, agenda: &mut Agenda, docket: &mut Docket) {
        let now = self.shared.world.clock.monotonic();
        let newer = together::newer(&self.shared.store, &scopes);
        for scope in scopes {
            let overtaken = newer.contains(&scope);
            agenda.add(&scope, || self.slot());
            agenda.change(&scope, |slot| {
                slot.due = slot.due.min(now);
                match &slot.running {
                    Some(running) => {
                        slot.again = true;
                        if overtaken {
                            running.cancel();
                        }
                    }
                    // A pass that runs is followed by another, which judges.
                    None if overtaken => slot.judged |= listed(docket, &scope, now),
                    None => {}
                }
            });
        }
    }

    /// Begins to judge what waits for it together, or to tell of what was judged.
    fn judge(&self, docket: &mut Docket, agenda: &mut Agenda, judging: &mut JoinSet<Sitting>) {
        let Some(mut sitting) = docket.take(self.now()) else { return };
        let (Sitting::Judge(group) | Sitting::Tell(group)) = &mut sitting;
        // Whoever has a pass is judged, and told of, there.
        let scope = |id: &DatabaseId| Scope::Database(id.clone());
        group.retain(|id| agenda.get(&scope(id)).is_some_and(|slot| slot.running.is_none()));
        group.iter().for_each(|id| agenda.change(&scope(id), |slot| slot.judged = true));
        let shared = Arc::clone(&self.shared);
        judging.spawn(async move {
            let sat = AssertUnwindSafe(sit(&shared, &sitting)).catch_unwind().await;
            // What is left is judged, and told of, in the pass of its database.
            if sat.is_err() {
                tracing::error!("judging together panicked; each is judged alone");
            }
            sitting
        });
    }

    /// A group was judged: each of its databases is due.
    fn judged(&self, sitting: &Sitting, agenda: &mut Agenda) {
        let (Sitting::Judge(group) | Sitting::Tell(group)) = sitting;
        let now = self.shared.world.clock.monotonic();
        for id in group {
            agenda.change(&Scope::Database(id.clone()), |slot| {
                slot.judged = false;
                slot.due = slot.due.min(now);
            });
        }
    }

    /// Those that were held for a reason that has gone are due, and all when a halt has begun or ended, since each says so.
    fn free(&self, halted: &mut Option<i64>, agenda: &mut Agenda) {
        let (now, before) = (self.shared.world.clock.monotonic(), *halted);
        *halted = self.halted_since();
        let mut freed = self.shared.disruptions.take_freed();
        if *halted != before {
            freed = agenda.scopes().cloned().collect();
        }
        for scope in freed {
            tracing::trace!(%scope, "may go on");
            agenda.change(&scope, |slot| {
                slot.due = slot.due.min(now);
                slot.again |= slot.running.is_some();
            });
        }
    }

    /// Since when nothing new begins. A store that cannot be read is found by the passes.
    fn halted_since(&self) -> Option<i64> {
        self.shared.store.read(|reader| reader.halt()).ok().and_then(|halt| halt.since_ms)
    }

    fn ended(&self, scope: &Scope, next: Next, agenda: &mut Agenda) {
        if matches!(next, Next::Gone) {
            self.shared.disruptions.over(scope);
            // It was asked for again while it went: then it begins anew.
            if agenda.remove(scope).is_some_and(|slot| slot.again) {
                agenda.add(scope, || self.slot());
            }
            return;
        }
        let now = self.shared.world.clock.monotonic();
        let tick = self.shared.options.tick;
        let period = cadence::period(tick, agenda.databases());
        agenda.change(scope, |slot| {
            slot.running = None;
            let wait = match next {
                Next::Settled => {
                    slot.backoff.worked();
                    cadence::until_next(now, period, &scope.label())
                }
                Next::Again => {
                    slot.backoff.worked();
                    Duration::ZERO
                }
                Next::After(wait) => wait,
                Next::GaveWay => {
                    let waited = slot.begun.first().map_or(Duration::ZERO, |first| now.saturating_sub(first));
                    place::pause(waited, tick)
                }
                Next::Failed => slot.backoff.failed(),
                Next::Gone => Duration::ZERO,
            };
            slot.due = if slot.again { now } else { now.saturating_add(wait) };
        });
    }
}

async fn sit(shared: &Shared, sitting: &Sitting) {
    let done = match sitting {
        Sitting::Judge(group) => together::candidates(shared, group).await.map_err(|error| chain(&error)),
        Sitting::Tell(group) => waiting(shared).queued(group).await.map_err(|error| chain(&error)),
    };
    if let Err(error) = done {
        tracing::debug!(error, "a group was not judged together");
    }
}

/// Who tells of databases that have no pass yet.
fn waiting(shared: &Shared) -> Waiting {
    Waiting {
        store: shared.store.clone(),
        fleet: shared.world.fleet.clone(),
        clock: Arc::clone(&shared.world.clock),
        limit: shared.options.deadlines.fleet,
    }
}

/// Puts a database on the docket, if it is not there; whether it is there now.
fn listed(docket: &mut Docket, scope: &Scope, now: Duration) -> bool {
    let Scope::Database(id) = scope else { return false };
    docket.add(id, now);
    true
}
