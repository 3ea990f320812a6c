//! One pass over a scope: load, look, plan, apply the first stage, tell. The next pass looks again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::apply::{Ended, apply};
use super::judge;
use super::ledger::StoreLedger;
use super::refresh::refresh;
use super::service::Shared;
use super::tell::{self, Phase, View};
use crate::domain::layout;
use crate::domain::{database, fleet};
use crate::model::spec::PortRequest;
use crate::model::{AcceptedSpec, DatabaseId, Graph, InstanceId, Observed, Record, ResourceId, Scope};
use crate::plan::check::check;
use crate::plan::{Input, Outcome, Plan, Stage, plan};
use crate::runtime::chain::chain;
use crate::store::{OutcomeRow, Rows as _};

/// When a scope gets its next pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// The world is as desired: with the tick.
    Settled,
    /// A stage is done: at once.
    Again,
    /// Something must come first: after this time.
    After(Duration),
    /// The pass itself failed: after a back-off.
    Failed,
    /// The scope is no more.
    Gone,
}

/// The pause while something cannot be seen or is still coming up.
const WAIT: Duration = Duration::from_secs(1);

/// One pass.
pub(super) struct Pass {
    pub(super) shared: Arc<Shared>,
    pub(super) stop: CancellationToken,
}

/// Why a pass could not be made.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("judge the candidate")]
    Judge(#[from] judge::Error),
    #[error("read or write the store")]
    Store(#[from] crate::store::Error),
    #[error("describe what is desired")]
    Domain(#[from] crate::domain::Error),
    #[error("purge what was deleted")]
    Purge(#[source] crate::drivers::Error),
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

    async fn fleet(&self) -> Result<Next, Error> {
        let shared = &self.shared;
        let desired =
            fleet::graph(&shared.world.record, &shared.world.facts, &shared.options.catalogue, &shared.options.fleet)?;
        let (_plan, next, _ended) = self.converge(&Scope::Fleet, &desired, &Graph::default(), None).await?;
        Ok(next)
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
        let view = View { id: id.clone(), row, record: record.clone(), spec: None };
        let Some(record) = record else {
            tell::status(&self.shared, &view, &Phase::Nothing).await?;
            return Ok(if unjudged.is_some() { Next::Failed } else { Next::Settled });
        };
        let spec = judge::read_back(&self.shared, &record);
        let view = View { spec: spec.clone(), ..view };
        if record.tombstone.is_some() {
            return self.deleted(&view, &record, spec.as_ref()).await;
        }
        let Some(spec) = spec else {
            // A record without a readable spec: nothing is known of what is wanted, so nothing is touched.
            tell::status(&self.shared, &view, &Phase::Unreadable).await?;
            return Ok(Next::Settled);
        };
        self.keep_ports(&spec, &record).await?;
        let graph = self.shared.graph(&spec, &record)?;
        let scope = Scope::Database(id.clone());
        let (_plan, next, _ended) = self.converge(&scope, &graph, &Graph::default(), Some(&view)).await?;
        self.shared.changed.ring(scope);
        Ok(if waits_for_host && next == Next::Settled { Next::After(self.shared.options.tick) } else { next })
    }

    /// The table of ports follows from records and specs: after a lost store it is written again.
    async fn keep_ports(&self, spec: &AcceptedSpec, record: &Record) -> Result<(), Error> {
        let wanted: BTreeSet<u16> = published_ports(spec, record).into_iter().collect();
        let table = self.shared.store.read(|reader| reader.ports())?;
        let kept: BTreeSet<u16> =
            table.into_iter().filter(|(_, owner)| *owner == spec.id).map(|(port, _)| port).collect();
        if kept == wanted {
            return Ok(());
        }
        let (id, ports) = (spec.id.clone(), wanted.into_iter().collect::<Vec<_>>());
        Ok(self.shared.store.write(move |writer| writer.put_ports(&id, &ports)).await?)
    }

    /// A database that was deleted: all but its record and the trash goes; after the grace period these go too.
    async fn deleted(&self, view: &View, record: &Record, spec: Option<&AcceptedSpec>) -> Result<Next, Error> {
        let scope = Scope::Database(view.id.clone());
        let purge_at_s = record.tombstone.as_ref().map_or(i64::MAX, |tombstone| tombstone.purge_at_s);
        let desired = database::buried(record)?;
        let lived = Record { tombstone: None, ..record.clone() };
        let before = match spec {
            Some(spec) => self.shared.graph(spec, &lived)?,
            None => Graph::default(),
        };
        let (plan, next, _ended) = self.converge(&scope, &desired, &before, Some(view)).await?;
        if !plan.is_settled() {
            return Ok(next);
        }
        if view.row.candidate.is_some() {
            // It was asked back: what waits for the host must find its data when the host is mended.
            return Ok(Next::After(self.shared.options.tick));
        }
        let left_s = purge_at_s.saturating_sub(self.shared.world.now_s());
        if left_s > 0 {
            let left = Duration::from_secs(u64::try_from(left_s).unwrap_or(u64::MAX));
            return Ok(Next::After(left.min(self.shared.options.tick.saturating_mul(20))));
        }
        let purged = self.purge(view, record).await?;
        Ok(if purged { Next::Gone } else { Next::Again })
    }

    /// The grace period is over: the trash, the record and every memory of the database go.
    /// Gives false when it was asked back at the last moment.
    async fn purge(&self, view: &View, record: &Record) -> Result<bool, Error> {
        let world = &self.shared.world;
        let row = self.shared.store.read(|reader| reader.desired(&view.id))?;
        if row.is_some_and(|row| row.candidate.is_some()) {
            return Ok(false);
        }
        for instance in record.etcd_passwords.keys() {
            let trash = layout::trash(&world.facts.data_dir, instance);
            world.drivers.host.remove_directory(&trash).await.map_err(Error::Purge)?;
        }
        let scope = Scope::Database(view.id.clone());
        crate::world::record::remove(world, &scope).await.map_err(Error::Purge)?;
        let id = view.id.clone();
        self.shared.store.write(move |writer| writer.forget_database(&id)).await?;
        tracing::info!(database = %view.id, "purged");
        Ok(true)
    }

    /// Looks, plans, applies the first stage.
    async fn converge(
        &self,
        scope: &Scope,
        desired: &Graph,
        previous: &Graph,
        view: Option<&View>,
    ) -> Result<(Plan, Next, Vec<Ended>), Error> {
        let shared = &self.shared;
        let observed = refresh(&shared.world, scope, desired, previous).await;
        let rows = shared.store.read(|reader| reader.outcomes(scope))?;
        let plan = self.plan(scope, desired, &observed, &rows)?;
        if let Some(view) = view {
            tell::status(shared, view, &Phase::Planned { plan: &plan, outcomes: &rows }).await?;
        }
        let Some(stage) = plan.stages.first() else {
            let next = if plan.waiting.is_empty() { Next::Settled } else { Next::After(WAIT) };
            return Ok((plan, next, Vec::new()));
        };
        let (stage, held) = self.hold_back(stage, &rows);
        if stage.steps.is_empty() {
            return Ok((plan, Next::After(held), Vec::new()));
        }
        let ledger = StoreLedger {
            store: shared.store.clone(),
            fleet: shared.world.fleet.clone(),
            scope: scope.clone(),
            clock: Arc::clone(&shared.world.clock),
            random: shared.random.clone(),
        };
        let ended = apply(&shared.world, scope, desired, &observed, &stage, (ledger.shared(), &self.stop)).await;
        // A stage in which nothing worked gets its own back-off from the outcomes just stored.
        let next = if ended.iter().any(|one| one.result.is_ok()) { Next::Again } else { Next::After(WAIT) };
        Ok((plan, next, ended))
    }

    fn plan(
        &self,
        scope: &Scope,
        desired: &Graph,
        observed: &Observed,
        rows: &BTreeMap<ResourceId, OutcomeRow>,
    ) -> Result<Plan, Error> {
        let outcomes: BTreeMap<ResourceId, Outcome> =
            rows.iter().map(|(id, row)| (id.clone(), row.outcome.clone())).collect();
        let forced = BTreeSet::new();
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

    /// Takes out the steps that failed a while ago and may not be tried yet, with all that come after them.
    /// Gives what is left, and the time until the first of the others may be tried.
    fn hold_back(&self, stage: &Stage, rows: &BTreeMap<ResourceId, OutcomeRow>) -> (Stage, Duration) {
        let now_ms = self.shared.world.clock.now_ms();
        let mut held: BTreeSet<&ResourceId> = BTreeSet::new();
        let mut first_ms = i64::MAX;
        for step in &stage.steps {
            let until = rows.get(&step.resource).map_or(0, |row| row.next_attempt_at_ms);
            if until > now_ms {
                first_ms = first_ms.min(until);
                held.insert(&step.resource);
            } else if step.after.iter().any(|before| held.contains(before)) {
                held.insert(&step.resource);
            }
        }
        let steps = stage.steps.iter().filter(|step| !held.contains(&step.resource)).cloned().collect();
        let wait_ms = u64::try_from(first_ms.saturating_sub(now_ms)).unwrap_or(0);
        (Stage { purpose: stage.purpose, steps }, Duration::from_millis(wait_ms).min(self.shared.options.tick))
    }
}

/// The ports that a database publishes on its hosts: fixed ones, and those chosen for it.
pub(super) fn published_ports(spec: &AcceptedSpec, record: &Record) -> Vec<u16> {
    if spec.deleted {
        return Vec::new();
    }
    spec.nodes
        .iter()
        .flat_map(|node| {
            node.hosts.iter().filter_map(|host| match node.port {
                PortRequest::Unpublished => None,
                PortRequest::Fixed(port) => Some(port),
                PortRequest::Chosen => record.ports.get(&InstanceId::derive(&spec.id, &node.name, host)).copied(),
            })
        })
        .collect()
}
