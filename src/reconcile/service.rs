//! The loop: which scope gets a pass, and when.
//!
//! Invariants: one pass of a scope at a time; a panic in a pass costs that pass only; a database waits for the fleet's scope once; a pass that waits is cut
//! off when something newer was asked of its database; the tick looks at everything again (the tick is the retry).

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::pass::{Next, Pass};
use super::preview;
use crate::contract::Context;
use crate::contract::commands::Question;
use crate::contract::spec::DEFAULT_MEMORY_BYTES;
use crate::domain::{self, FleetOptions};
use crate::model::{AcceptedSpec, Catalogue, DatabaseId, Graph, HostId, Record, Scope};
use crate::runtime::backoff::{Backoff, Schedule};
use crate::runtime::bell::{Bell, Listener};
use crate::runtime::random::Random;
use crate::store::{self, Rows as _, Store};
use crate::world::World;

/// How many scopes are worked on at once: each is a handful of calls to Docker, etcd and Postgres at a time.
const PASSES_MAX: usize = 8;

/// How the reconciler works.
#[derive(Debug, Clone)]
pub struct Options {
    /// Time between two looks at a scope that is settled.
    pub tick: Duration,
    /// Seconds that the data of a deleted database stays in the trash.
    pub deletion_grace_s: u32,
    /// Ports of etcd.
    pub fleet: FleetOptions,
    /// All hosts of the fleet.
    pub known_hosts: BTreeSet<HostId>,
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
    shared: Arc<Shared>,
    listener: Listener,
    questions: mpsc::Receiver<Question>,
}

/// What all passes share.
pub(super) struct Shared {
    pub(super) options: Options,
    pub(super) world: World,
    pub(super) store: Store,
    pub(super) random: Random,
    /// Held from reading what is given out (ports) to giving out more: two databases never get one port.
    pub(super) accepting: Mutex<()>,
    /// Rung when a report must be made anew (the monitor listens).
    pub(super) changed: Bell,
}

impl Shared {
    /// What a spec is judged against.
    pub(super) fn context<'a>(
        &'a self,
        previous: Option<&'a AcceptedSpec>,
        ports_in_use: &'a BTreeMap<u16, DatabaseId>,
    ) -> Context<'a> {
        Context {
            catalogue: &self.options.catalogue,
            host: &self.world.facts.host,
            known_hosts: &self.options.known_hosts,
            previous,
            ports_in_use,
            data_dir: &self.world.facts.data_dir,
            default_memory_bytes: DEFAULT_MEMORY_BYTES,
        }
    }

    /// What is desired under a spec.
    pub(super) fn graph(&self, spec: &AcceptedSpec, record: &Record) -> Result<Graph, domain::Error> {
        let (world, options) = (&self.world, &self.options);
        domain::database::graph(spec, record, &world.record, &world.facts, &options.catalogue, &options.fleet)
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

/// One scope's place in the loop.
#[derive(Debug)]
struct Slot {
    /// The pass that runs, and what cuts it off.
    running: Option<CancellationToken>,
    /// It was asked for again while it ran.
    again: bool,
    /// When it is due by itself, in monotonic time.
    due: Duration,
    backoff: Backoff,
}

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
            shared: Arc::new(Shared { options, world, store, random, accepting: Mutex::new(()), changed }),
            listener,
            questions,
        }
    }

    /// Runs until told to stop; a pass that runs then is cut off.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), Error> {
        let mut slots: BTreeMap<Scope, Slot> = BTreeMap::new();
        let mut passes: JoinSet<(Scope, Next)> = JoinSet::new();
        let mut answers: JoinSet<()> = JoinSet::new();
        let mut fleet_ready = false;
        for scope in self.known()? {
            slots.insert(scope, self.slot());
        }
        loop {
            self.start_due(&mut slots, &mut passes, fleet_ready, &stop);
            let sleep = self.until_next(&slots, fleet_ready);
            tokio::select! {
                () = stop.cancelled() => break,
                rung = self.listener.wait() => self.rung(rung, &mut slots),
                Some(Ok((scope, next))) = passes.join_next(), if !passes.is_empty() => {
                    fleet_ready |= scope == Scope::Fleet && matches!(next, Next::Settled);
                    self.ended(&scope, next, &mut slots);
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
        while passes.join_next().await.is_some() {}
        Ok(())
    }

    fn known(&self) -> Result<BTreeSet<Scope>, Error> {
        let ids = self.shared.store.read(|reader| {
            let desired = reader.all_desired()?.into_keys();
            Ok(desired.chain(reader.all_records()?.into_keys()).collect::<BTreeSet<_>>())
        });
        let databases = ids.map_err(Error::Store)?.into_iter().map(Scope::Database);
        Ok(std::iter::once(Scope::Fleet).chain(databases).collect())
    }

    fn slot(&self) -> Slot {
        let backoff = Backoff::new(Schedule::STEP, self.shared.random.clone());
        Slot { running: None, again: false, due: Duration::ZERO, backoff }
    }

    /// Starts what is due, as long as there is room.
    fn start_due(
        &self,
        slots: &mut BTreeMap<Scope, Slot>,
        passes: &mut JoinSet<(Scope, Next)>,
        fleet_ready: bool,
        stop: &CancellationToken,
    ) {
        let now = self.shared.world.clock.monotonic();
        for (scope, slot) in slots.iter_mut() {
            if passes.len() >= PASSES_MAX {
                return;
            }
            let waits_for_fleet = *scope != Scope::Fleet && !fleet_ready;
            if slot.running.is_some() || slot.due > now || waits_for_fleet {
                continue;
            }
            let cut = stop.child_token();
            slot.running = Some(cut.clone());
            slot.again = false;
            let pass = Pass { shared: Arc::clone(&self.shared), stop: cut };
            let scope = scope.clone();
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

    /// Time until the next slot is due; a bell or a finished pass comes first as a rule.
    fn until_next(&self, slots: &BTreeMap<Scope, Slot>, fleet_ready: bool) -> Duration {
        let now = self.shared.world.clock.monotonic();
        slots
            .iter()
            .filter(|(scope, slot)| slot.running.is_none() && (fleet_ready || **scope == Scope::Fleet))
            .map(|(_, slot)| slot.due.saturating_sub(now))
            .min()
            .unwrap_or(self.shared.options.tick)
            .max(Duration::from_millis(10))
    }

    fn rung(&self, scopes: BTreeSet<Scope>, slots: &mut BTreeMap<Scope, Slot>) {
        for scope in scopes {
            let overtaken = self.overtaken(&scope);
            let slot = slots.entry(scope).or_insert_with(|| self.slot());
            slot.due = Duration::ZERO;
            if let Some(running) = &slot.running {
                slot.again = true;
                if overtaken {
                    running.cancel();
                }
            }
        }
    }

    /// Whether something newer was asked of the database than what a running pass leads to.
    fn overtaken(&self, scope: &Scope) -> bool {
        let Scope::Database(database) = scope else { return false };
        let row = self.shared.store.read(|reader| reader.desired(database));
        matches!(row, Ok(Some(row)) if row.candidate.is_some() && row.verdict.is_none())
    }

    fn ended(&self, scope: &Scope, next: Next, slots: &mut BTreeMap<Scope, Slot>) {
        if matches!(next, Next::Gone) {
            // It was asked for again while it went: then it begins anew.
            if slots.remove(scope).is_some_and(|slot| slot.again) {
                slots.insert(scope.clone(), self.slot());
            }
            return;
        }
        let now = self.shared.world.clock.monotonic();
        let Some(slot) = slots.get_mut(scope) else { return };
        slot.running = None;
        let wait = match next {
            Next::Settled => {
                slot.backoff.worked();
                self.shared.options.tick
            }
            Next::Again => {
                slot.backoff.worked();
                Duration::ZERO
            }
            Next::After(wait) => wait,
            Next::Failed => slot.backoff.failed(),
            Next::Gone => return,
        };
        slot.due = if slot.again { Duration::ZERO } else { now.saturating_add(wait) };
    }
}
