//! One pass over a scope: load, look, plan, apply the first stage, tell. The next pass looks again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::apply::{Applied, apply};
use super::approval::Decision;
use super::decisions::{Made, Names};
use super::drift;
use super::gate::{self, Admitted, Gate};
use super::halt;
use super::judge;
use super::ledger::StoreLedger;
use super::place::Place;
use super::replacing;
use super::service::Shared;
use super::tell::{self, Carried, Phase, Seen, Told, View};
use crate::contract::documents::Time;
use crate::domain::database;
use crate::execute::{Ended, refresh};
use crate::model::spec::{PortRequest, Reconcile};
use crate::model::{
    AcceptedSpec, DatabaseId, Graph, HostId, InstanceId, Kind, Observed, Payload, Record, Resource, ResourceId, Scope,
};
use crate::plan::check::check;
use crate::plan::drift::Memory;
use crate::plan::halt::Halt;
use crate::plan::{Held, Input, Outcome, Plan, Stage, Step, behind, downtime, plan};
use crate::report;
use crate::report::work::Work;
use crate::runtime::chain::chain;
use crate::store::{Approvals as _, History as _, OutcomeRow, Rows as _};

/// When a scope gets its next pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// The world is as desired: with the tick.
    Settled,
    /// A stage is done: at once.
    Again,
    /// Something must come first: after this time.
    After(Duration),
    /// It only waited for an instance, and others wanted its place: after a pause that grows with the wait.
    GaveWay,
    /// The pass itself failed: after a back-off.
    Failed,
    /// The scope is no more.
    Gone,
}

/// The pause while something cannot be seen or is still coming up.
pub(super) const WAIT: Duration = Duration::from_secs(1);

/// One pass.
pub(super) struct Pass {
    pub(super) shared: Arc<Shared>,
    pub(super) place: Place,
}

/// Why a pass could not be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("judge the candidate")]
    Judge(#[from] judge::Error),
    #[error("read or write the store")]
    Store(#[from] crate::store::Error),
    #[error("describe what is desired")]
    Domain(#[from] crate::domain::Error),
    #[error("purge what was deleted")]
    Purge(#[source] crate::drivers::Error),
    #[error("keep the record in Swarm")]
    Record(#[source] crate::drivers::Error),
    #[error("write the fleet's record: {0}")]
    Write(String),
    #[error("the plan breaks its own rules: {0}")]
    Plan(String),
}

impl Pass {
    /// Runs it.
    pub(super) async fn run(&self, scope: &Scope) -> Next {
        let result = match scope {
            Scope::Fleet => self.fleet().await,
            Scope::Database(id) => self.database(id).await,
        };
        match result {
            Ok(next) => next,
            Err(error) => {
                tracing::warn!(%scope, error = chain(&error), "pass failed");
                Next::Failed
            }
        }
    }

    async fn database(&self, id: &DatabaseId) -> Result<Next, Error> {
        // A host that does not answer leaves the candidate where it is; how the database stands is told all the same.
        let unjudged = judge::candidate(&self.shared, id).await.err();
        if let Some(error) = &unjudged {
            tracing::warn!(database = %id, error = chain(error), "the candidate could not be judged now");
        }
        let (row, record) = self.shared.store.read(|reader| Ok((reader.desired(id)?, reader.record(id)?)))?;
        if row.is_none() && record.is_none() {
            // There is no such database, or no longer: nothing is said of it.
            return Ok(Next::Gone);
        }
        let row = row.unwrap_or_default();
        let waits_for_host = row.candidate.is_some();
        let why = unjudged.as_ref().map(|error| chain(error));
        let view = View { id: id.clone(), row, record: record.clone(), spec: None, unjudged: why, placement: None };
        let Some(record) = record else {
            tell::status(&self.shared, &view, &Phase::Nothing).await?;
            return Ok(if unjudged.is_some() { Next::Failed } else { Next::Settled });
        };
        let spec = judge::read_back(&self.shared, &record);
        let view = View { spec: spec.clone(), ..view };
        if let Some(tombstone) = &record.tombstone {
            return self.deleted(&view, (&record, tombstone), spec.as_ref()).await;
        }
        let Some(spec) = spec else {
            // A record without a readable spec: nothing is known of what is wanted, so nothing is touched.
            tell::status(&self.shared, &view, &Phase::Unreadable).await?;
            return Ok(Next::Settled);
        };
        self.keep_ports(&spec, &record).await?;
        let graph = self.shared.graph(&spec, &record)?;
        let scope = Scope::Database(id.clone());
        if spec.reconcile == Reconcile::Paused {
            let next = self.paused(&view, &record, &graph).await?;
            return Ok(if waits_for_host { Next::After(self.shared.options.tick) } else { next });
        }
        let wish = replacing::wish(&self.shared, &spec, &record).await;
        let view = View { placement: wish.as_ref().and_then(|wish| wish.found.clone()), ..view };
        let leaving = self.shared.leaving(&spec, &record)?;
        let (plan, next) = self.converge(&scope, &graph, &leaving, Some(&view)).await?;
        if !leaving.is_empty() && plan.is_settled() {
            return self.release(&spec, record).await;
        }
        if let Some(wish) = wish.filter(|_| plan.is_settled())
            && let Some(next) = self.replace(&spec, record, wish).await?
        {
            return Ok(next);
        }
        self.shared.changed.ring(scope);
        Ok(if waits_for_host && next == Next::Settled { Next::After(self.shared.options.tick) } else { next })
    }

    /// Nothing is left of the instances that leave: they are forgotten, in the record first.
    async fn release(&self, spec: &AcceptedSpec, record: Record) -> Result<Next, Error> {
        let released = database::released(spec, record);
        self.shared.store.write(move |writer| writer.put_record(&released)).await?;
        Ok(Next::Again)
    }

    /// Nothing is looked at, and only the record is kept in Swarm: it holds the very word that nothing is to be touched.
    async fn paused(&self, view: &View, record: &Record, desired: &Graph) -> Result<Next, Error> {
        let (shared, scope) = (&self.shared, Scope::Database(view.id.clone()));
        let mut memory = shared.store.read(|reader| reader.drift(&scope))?;
        let own = desired.in_order().find(|resource| resource.id.kind == Kind::Record);
        if let Some(Resource { id, payload: Payload::Content(content), .. }) = own
            && !memory.is_done(desired, id)
        {
            shared.world.confirm_lead().await.map_err(Error::Record)?;
            let put = crate::world::record::put(&shared.world, &scope, record.revision, content);
            put.await.map_err(Error::Record)?;
            memory.note_done(desired, id);
            let (kept, key) = (memory.clone(), scope.clone());
            shared.store.write(move |writer| writer.put_drift(&key, &kept)).await?;
        }
        let plan = Plan::empty(scope.clone());
        let seen = Seen { asks_for_more: memory.asks_for_more(desired, &plan), ..Seen::default() };
        let approval = &Decision::of(shared, view, &plan, desired)?;
        let (outcomes, work) = (BTreeMap::new(), Work::default());
        let phase = Phase::Planned {
            plan: &plan,
            outcomes: &outcomes,
            held: &[],
            work: &work,
            approval,
            seen: &seen,
            told: Told::First,
        };
        tell::status(shared, view, &phase).await?;
        shared.changed.ring(scope);
        Ok(Next::Settled)
    }

    /// The table of ports follows from records and specs: after a lost store it is written again.
    async fn keep_ports(&self, spec: &AcceptedSpec, record: &Record) -> Result<(), Error> {
        let wanted = published_ports(spec, record);
        let table = self.shared.store.read(|reader| reader.ports())?;
        let kept: BTreeSet<(HostId, u16)> =
            table.into_iter().filter(|(_, owner)| *owner == spec.id).map(|(at, _)| at).collect();
        if kept == wanted {
            return Ok(());
        }
        let id = spec.id.clone();
        Ok(self.shared.store.write(move |writer| writer.put_ports(&id, &wanted)).await?)
    }

    /// Looks, plans, applies the first stage.
    pub(super) async fn converge(
        &self,
        scope: &Scope,
        desired: &Graph,
        previous: &Graph,
        view: Option<&View>,
    ) -> Result<(Plan, Next), Error> {
        let shared = &self.shared;
        let observed = refresh(&shared.world, scope, desired, previous).await;
        let (rows, halt) = shared.store.read(|reader| Ok((reader.outcomes(scope)?, reader.halt()?)))?;
        let plan = self.plan(scope, desired, &observed, &rows)?;
        let now_ms = shared.world.clock.now_ms();
        let reconcile = view.map_or(Reconcile::Repair, asked);
        let buried = view.is_some_and(buried);
        let memory = if buried {
            drift::forget(shared, scope).await?;
            Memory::default()
        } else {
            drift::take(shared, scope, desired, &plan, reconcile).await?
        };
        let hands = Hands { reconcile, memory: &memory };
        let approval = view.map(|view| Decision::of(shared, view, &plan, desired)).transpose()?;
        let needed = approval.as_ref().is_some_and(Decision::needed);
        let approved = gate::Approval::new(plan.stages.first(), desired, needed);
        let Admitted { stage, held } = self.admit((scope, desired), &plan, (approved, hands), (&rows, &halt), now_ms);
        self.keep_decision((scope, desired, &observed), &rows, (&plan, stage.as_ref(), &held), view);
        let board = &self.place.board;
        board.keep_only(stage.as_ref());
        let changed = view.and_then(|View { id, .. }| {
            report::scripts::condition(desired, &observed, || tell::last_status(shared, id))
        });
        let conditions = drift::conditions(&memory, now_ms).into_iter().chain(changed).collect();
        let left_on = if buried { behind(&plan, previous, &shared.world.facts.host) } else { BTreeSet::new() };
        let seen = Seen { conditions, asks_for_more: memory.asks_for_more(desired, &plan), left_on };
        let database = view.zip(approval.as_ref()).map(|(view, approval)| (view, approval, &seen));
        let carried = Carried { scope, database, plan: &plan, held: &held, board };
        carried.tell(shared, Told::First).await?;
        if plan.is_empty() {
            shared.disruptions.over(scope);
            if plan.is_settled() {
                self.settled(scope).await?;
            }
            let next = if plan.waiting.is_empty() { Next::Settled } else { Next::After(WAIT) };
            return Ok((plan, next));
        }
        let Some(stage) = stage else {
            if reconcile == Reconcile::Observe {
                shared.disruptions.over(scope);
                return Ok((plan, Next::Settled));
            }
            return Ok((plan, Next::After(gate::pause(&held, now_ms, shared.options.tick))));
        };
        if let Err(error) = shared.world.confirm_lead().await {
            tracing::warn!(%scope, %error, "this host cannot be sure to lead: the stage is not begun");
            return Ok((plan, Next::After(WAIT)));
        }
        let ledger = self.ledger(scope, view);
        let how = (ledger.shared(), &self.place, &shared.options.deadlines);
        let working = apply(&shared.world, scope, desired, &observed, &stage, how);
        let applied = Box::pin(self.unless_lost(carried.during(shared, working), scope, (desired, previous))).await;
        if let Some(view) = view {
            self.note_downtimes(&view.id, &applied.ended, desired).await?;
        }
        Ok((plan, self.after(scope, &applied)))
    }

    /// What follows a stage: one in which nothing worked gets its own back-off from the outcomes just stored.
    fn after(&self, scope: &Scope, applied: &Applied) -> Next {
        let worked = applied.ended.iter().any(|one| one.result.is_ok());
        if worked {
            self.place.worked.note();
        }
        match worked {
            _ if applied.left && self.place.lost.is_cancelled() => Next::Again,
            _ if applied.left => Next::GaveWay,
            true => Next::Again,
            false => {
                // Who cannot go on does not keep others from it.
                self.shared.disruptions.over(scope);
                Next::After(WAIT)
            }
        }
    }

    /// Keeps what was decided, for whoever asks later how it came about.
    fn keep_decision(
        &self,
        (scope, desired, observed): (&Scope, &Graph, &Observed),
        rows: &BTreeMap<ResourceId, OutcomeRow>,
        (plan, stage, held): (&Plan, Option<&Stage>, &[Held]),
        view: Option<&View>,
    ) {
        let shared = &self.shared;
        let (outcomes, forced) = (outcomes(rows), BTreeSet::new());
        let input = Input { scope, desired, observed, outcomes: &outcomes, forced: &forced };
        let fleet = shared.world.record.get();
        let names = Names::new(&fleet, view.and_then(|view| view.record.as_ref()));
        shared.decisions.note(&Made { input, plan, stage, held }, &names.veil(), shared.world.clock.now_ms());
    }

    /// Where the steps of this pass are written down.
    fn ledger(&self, scope: &Scope, view: Option<&View>) -> StoreLedger {
        let shared = &self.shared;
        StoreLedger {
            store: shared.store.clone(),
            fleet: shared.world.fleet.clone(),
            scope: scope.clone(),
            clock: Arc::clone(&shared.world.clock),
            random: shared.random.clone(),
            halt_after: shared.options.limits.halt_after,
            spec: view.and_then(|view| view.row.accepted.as_ref()).map(|stored| stored.digest.clone()),
            history_max: shared.options.history_max,
            board: self.place.board.clone(),
        }
    }

    /// What of the plan may run now. The gates are asked in this order; the cap counts, so it comes last.
    fn admit(
        &self,
        (scope, desired): (&Scope, &Graph),
        plan: &Plan,
        (mut approved, hands): (gate::Approval, Hands<'_>),
        (rows, halt): (&BTreeMap<ResourceId, OutcomeRow>, &Halt),
        now_ms: i64,
    ) -> Admitted {
        // The fleet's own services carry all databases: they are mended also in a halt.
        let halted = halt.since_ms.filter(|_| *scope != Scope::Fleet);
        let world = &self.shared.world;
        let mut gates: [&mut dyn Gate; 7] = [
            &mut gate::Observe::new(hands.reconcile),
            &mut approved,
            &mut gate::BackOff::new(rows, now_ms),
            &mut gate::Fight::new(hands.memory, now_ms),
            &mut gate::Halted::new(halted),
            &mut gate::Image::new(&world.images, &world.hosts, desired),
            &mut gate::Cap::new(&self.shared.disruptions, scope, &world.facts.host),
        ];
        gate::admit(plan.stages.first(), &mut gates)
    }

    /// The scope is as desired. Where that took work, failures of other databases before it were not in a row.
    async fn settled(&self, scope: &Scope) -> Result<(), Error> {
        let Scope::Database(database) = scope else { return Ok(()) };
        self.finish_plan(database).await?;
        if !self.place.worked.take() {
            return Ok(());
        }
        let database = database.clone();
        Ok(self.shared.store.write(move |writer| halt::worked(writer, &database)).await?)
    }

    /// What the interruptions of a stage took tells what the next ones will take.
    async fn note_downtimes(&self, id: &DatabaseId, ended: &[Ended], desired: &Graph) -> Result<(), Error> {
        let worked: Vec<(&Step, Duration)> =
            ended.iter().filter(|one| one.result.is_ok()).map(|one| (&one.step, one.took)).collect();
        let measured = downtime::measured(&worked, desired);
        if measured.is_empty() {
            return Ok(());
        }
        let id = id.clone();
        let written = self.shared.store.write(move |writer| {
            let mut downtimes = writer.downtimes(&id)?;
            measured.iter().for_each(|(disruption, took)| downtimes.note(*disruption, *took));
            writer.put_downtimes(&id, &downtimes)
        });
        Ok(written.await?)
    }

    /// Nothing is left to do: the plan that ran, if one did, goes into the history.
    async fn finish_plan(&self, id: &DatabaseId) -> Result<(), Error> {
        let runs = self.shared.store.read(|reader| reader.past_plans(id))?;
        if runs.last().is_none_or(|plan| plan.finished_at.is_some()) {
            return Ok(());
        }
        let (id, now) = (id.clone(), Time::from_ms(self.shared.world.clock.now_ms()));
        Ok(self.shared.store.write(move |writer| writer.finish_plan(&id, now)).await?)
    }

    pub(super) fn plan(
        &self,
        scope: &Scope,
        desired: &Graph,
        observed: &Observed,
        rows: &BTreeMap<ResourceId, OutcomeRow>,
    ) -> Result<Plan, Error> {
        let (outcomes, forced) = (outcomes(rows), BTreeSet::new());
        let input = Input { scope, desired, observed, outcomes: &outcomes, forced: &forced };
        let plan = plan(&input);
        // The checker is quick, and a plan that breaks a rule of safety must never run.
        match check(&plan, &input) {
            Ok(()) => Ok(plan),
            Err(violations) => {
                Err(Error::Plan(violations.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")))
            }
        }
    }
}

fn outcomes(rows: &BTreeMap<ResourceId, OutcomeRow>) -> BTreeMap<ResourceId, Outcome> {
    rows.iter().map(|(id, row)| (id.clone(), row.outcome.clone())).collect()
}

/// What the spec asks to be done about what differs, and what is remembered of it.
#[derive(Clone, Copy)]
struct Hands<'a> {
    reconcile: Reconcile,
    memory: &'a Memory,
}

/// What the spec asks to be done about what differs.
fn asked(view: &View) -> Reconcile {
    // What was deleted keeps its last spec, and goes whatever that asked.
    view.spec.as_ref().filter(|_| !buried(view)).map_or(Reconcile::Repair, |spec| spec.reconcile)
}

/// Whether the database was deleted: its resources go on purpose.
fn buried(view: &View) -> bool {
    view.record.as_ref().is_some_and(|record| record.tombstone.is_some())
}

/// The ports that a database publishes on its hosts: fixed ones, and those chosen for it.
pub(super) fn published_ports(spec: &AcceptedSpec, record: &Record) -> BTreeSet<(HostId, u16)> {
    let nodes = spec.nodes.iter().filter(|_| !spec.deleted);
    nodes
        .flat_map(|node| {
            node.hosts.iter().filter_map(|host| {
                let port = match node.port {
                    PortRequest::Unpublished => None,
                    PortRequest::Fixed(port) => Some(port),
                    PortRequest::Chosen => record.ports.get(&InstanceId::derive(&spec.id, &node.name, host)).copied(),
                };
                Some((host.clone(), port?))
            })
        })
        .collect()
}
