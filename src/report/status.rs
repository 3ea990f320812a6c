//! The `status` document of one database: from what was stored, planned and seen to what is said.
//!
//! Invariants: equal inputs give an equal document; what was said before decides only since when a condition holds,
//! whether the database ever served, and the next number; no error text is shown that a step did not clear for people.

use std::collections::BTreeSet;

use super::cause::{self, Standing};
use super::conditions::{self, Found};
use super::hands_off;
use super::trouble;
use super::work::{Failure, Work};
use crate::contract::documents::{
    Connection, InstanceSummary, NodePlacement, ObservedSpec, PlacedHost, Role, State, Status, Time, Verdict,
    VerdictResult,
};
use crate::model::{AcceptedSpec, ChosenHost, DatabaseId, Health, HostId, NodeName, Record, ResourceId};
use crate::plan::{Action, Held, Overdue, Plan, WaitsFor};

/// Failures in a row after which a step is told as failed; below that it is told as in progress. Three attempts with
/// back-off take several seconds, which a restart of Docker or of Postgres fits into.
pub const FAILED_AFTER: u32 = 3;

/// Something that lasts longer than its deadline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Late {
    /// What: a resource; none: the spec itself, which is being checked.
    pub resource: Option<ResourceId>,
    /// Which phase, since when, and its deadline.
    pub overdue: Overdue,
}

impl Late {
    /// The reason as a sentence for people.
    #[must_use]
    pub fn message(&self) -> String {
        let Overdue { phase, since_ms, limit_s } = self.overdue;
        let of = self.resource.as_ref().map(|resource| format!(" ({resource})")).unwrap_or_default();
        let since = Time::from_ms(since_ms);
        let setting = phase.as_str();
        format!("{}{of} lasts since {since}, longer than its {limit_s} s (deadlines.{setting}_s)", phase.what())
    }
}

/// Where the work on a database stands.
#[derive(Debug, Clone, Copy)]
pub enum Phase<'a> {
    /// No spec was ever accepted.
    Nothing,
    /// The accepted spec cannot be read by this version.
    Unreadable,
    /// The world was looked at.
    Planned {
        /// What is left to do.
        plan: &'a Plan,
        /// Steps that failed and have not succeeded since.
        failures: &'a [Failure],
        /// Steps of the first stage that may not run now.
        held: &'a [Held],
        /// How far the steps are that run now.
        work: &'a Work,
    },
}

/// What a status is made from.
#[derive(Debug, Clone)]
pub struct Input<'a> {
    /// The database.
    pub database: &'a DatabaseId,
    /// The epoch of the controller that says it.
    pub epoch: u64,
    /// The time.
    pub now: Time,
    /// What was said last.
    pub before: Option<&'a Status>,
    /// The accepted spec, if there is one that can be read.
    pub spec: Option<&'a AcceptedSpec>,
    /// The database's record.
    pub record: Option<&'a Record>,
    /// What was said about the last spec that came.
    pub verdict: Option<&'a Verdict>,
    /// Whether a spec waits for the live checks.
    pub checking: bool,
    /// Whether the spec asks for what was not done yet, apart from what drifted since.
    pub asks_for_more: bool,
    /// Conditions that others found.
    pub found: Vec<Found>,
    /// What keeps the fleet's own services from running.
    pub fleet: &'a [Found],
    /// Where the work stands.
    pub phase: Phase<'a>,
    /// The hosts that do not answer and have something left of it, of a deleted database that is gone everywhere else.
    pub left_on: &'a BTreeSet<HostId>,
    /// What lasts longer than its deadline, the longest first.
    pub late: Vec<Late>,
    /// How long it may wait for something before that is told as stalled, in milliseconds.
    pub wait_ms: i64,
    /// The instances as they were seen last.
    pub instances: Vec<InstanceSummary>,
    /// How it can be reached once it serves.
    pub connection: Option<Connection>,
}

impl Input<'_> {
    pub(super) fn buried(&self) -> bool {
        self.record.is_some_and(|record| record.tombstone.is_some())
    }

    /// Whether it was deleted, and all that is left of it is on hosts that do not answer. A step that such a host did not
    /// finish in time keeps nothing else from its end; a spec that asks the database back does.
    pub(super) fn is_left_behind(&self) -> bool {
        self.buried() && !self.left_on.is_empty() && self.late.iter().all(|late| late.resource.is_some())
    }
}

/// How the database stands. Numbered as if it were said: see [`is_news`].
#[must_use]
pub fn status(input: Input<'_>) -> Status {
    let state = state(&input);
    let conditions = conditions::all(&input, state);
    let buried = input.buried();
    let serves = matches!(state, State::Available | State::Degraded) || ever_served(input.before);
    let last = input.before.filter(|before| before.epoch == input.epoch).map_or(0, |before| before.seq);
    Status {
        database: input.database.clone(),
        state,
        observed: input.record.and_then(|record| record.spec.as_ref()).map(|stored| ObservedSpec {
            generation: stored.generation,
            digest: stored.digest.clone(),
            client_token: input.spec.and_then(|spec| spec.client_token.clone()),
        }),
        verdict: input.verdict.cloned(),
        conditions,
        instances: if buried { Vec::new() } else { input.instances },
        placement: input.record.filter(|_| !buried).map(placement).unwrap_or_default(),
        connection: input.connection.filter(|_| serves && !buried),
        seq: last.saturating_add(1),
        epoch: input.epoch,
        updated_at: input.now,
    }
}

/// The hosts that were chosen for a database.
#[must_use]
pub fn placement(record: &Record) -> Vec<NodePlacement> {
    let nodes = record.placement.iter().filter_map(|(node, placement)| {
        let placed = |chosen: &ChosenHost| PlacedHost { host: chosen.host.clone(), reason: chosen.why.clone() };
        Some(NodePlacement { node: NodeName::parse(node).ok()?, hosts: placement.hosts.iter().map(placed).collect() })
    });
    nodes.collect()
}

/// What is known of a database while nothing can be seen: there is no Docker or Swarm yet, or the fleet's own services
/// do not run.
#[derive(Debug, Clone)]
pub struct Unseen<'a> {
    /// The database.
    pub database: &'a DatabaseId,
    /// The epoch of the controller that says it.
    pub epoch: u64,
    /// The time.
    pub now: Time,
    /// What was said last.
    pub before: Option<&'a Status>,
    /// Whether it has a record: then it was accepted once.
    pub recorded: bool,
    /// What was said about the last spec that came.
    pub verdict: Option<&'a Verdict>,
    /// What must come first.
    pub found: &'a Found,
    /// How long it may wait before that is told as stalled, in milliseconds.
    pub wait_ms: i64,
}

/// How a database stands while nothing can be seen: as it was said last, with what must come first. One of which
/// nothing was said is pending, so that whoever published its spec hears at once.
#[must_use]
pub fn unseen(input: &Unseen<'_>) -> Status {
    let rejected = input.verdict.is_some_and(|verdict| verdict.result == VerdictResult::Rejected);
    let first = match (input.recorded, rejected) {
        (true, _) => State::Modifying,
        (false, true) => State::Rejected,
        (false, false) => State::Pending,
    };
    let said = input.before.map_or(first, |before| before.state);
    let waits_too_long = conditions::waits_since(input.before)
        .is_some_and(|since| input.now.ms().saturating_sub(since.ms()) >= input.wait_ms);
    let state = match said {
        State::Rejected if !input.recorded => first,
        State::Available | State::Degraded | State::Rejected | State::Deleted => said,
        State::Pending | State::Creating | State::Modifying | State::Stalled | State::Failed | State::Deleting
            if waits_too_long =>
        {
            State::Stalled
        }
        State::Pending | State::Creating | State::Modifying | State::Stalled | State::Failed | State::Deleting => said,
    };
    let last = input.before.filter(|before| before.epoch == input.epoch).map_or(0, |before| before.seq);
    Status {
        database: input.database.clone(),
        state,
        observed: input.before.and_then(|before| before.observed.clone()),
        verdict: input.verdict.cloned(),
        conditions: conditions::unseen(input, state),
        instances: input.before.map(|before| before.instances.clone()).unwrap_or_default(),
        placement: input.before.map(|before| before.placement.clone()).unwrap_or_default(),
        connection: input.before.and_then(|before| before.connection.clone()),
        seq: last.saturating_add(1),
        epoch: input.epoch,
        updated_at: input.now,
    }
}

/// Whether `after` says anything that `before` did not: more than another number and time. The first status of an
/// epoch is news, so that a watcher sees who speaks now.
#[must_use]
pub fn is_news(before: Option<&Status>, after: &Status) -> bool {
    before.is_none_or(|before| {
        let unnumbered = Status { seq: before.seq, updated_at: before.updated_at, ..after.clone() };
        unnumbered != *before
    })
}

fn state(input: &Input<'_>) -> State {
    let (plan, failures) = match input.phase {
        Phase::Nothing => return before_the_first_spec(input),
        Phase::Unreadable => return State::Stalled,
        Phase::Planned { plan, failures, .. } => (plan, failures),
    };
    if let Some(state) = hands_off::state(input) {
        return state;
    }
    if plan.is_settled() && input.late.is_empty() {
        return if input.buried() { State::Deleted } else { State::Available };
    }
    if input.is_left_behind() {
        return State::Deleted;
    }
    if plan.is_empty() && serves_without(input, plan) {
        return State::Degraded;
    }
    let is_late = |resource: &ResourceId| input.late.iter().any(|late| late.resource.as_ref() == Some(resource));
    if failures.iter().any(|failure| failure.attempts >= FAILED_AFTER && !is_late(&failure.resource)) {
        return State::Failed;
    }
    // An image on its way to a host may take long, and has a deadline of its own.
    let waits = cause::cause(input)
        .is_some_and(|(standing, found)| standing == Standing::Waits && found.reason != trouble::IMAGE_ARRIVES);
    if !input.late.is_empty() || (waits && stalled(input)) {
        return State::Stalled;
    }
    if input.buried() {
        State::Deleting
    } else if ever_served(input.before) || (input.before.is_none() && !makes_database(plan)) {
        State::Modifying
    } else {
        State::Creating
    }
}

/// Whether the database serves although something of it cannot be seen: each of its nodes has a primary that is well.
fn serves_without(input: &Input<'_>, plan: &Plan) -> bool {
    let Some(spec) = input.spec.filter(|_| !input.buried()) else { return false };
    let waits_for_host = plan.waiting.iter().any(|waiting| matches!(waiting.on, WaitsFor::Unknown { .. }));
    let is_primary = |one: &InstanceSummary| one.role == Some(Role::Primary) && one.health == Health::Healthy;
    waits_for_host
        && spec
            .nodes
            .iter()
            .all(|node| input.instances.iter().any(|instance| instance.node == node.name && is_primary(instance)))
}

fn before_the_first_spec(input: &Input<'_>) -> State {
    let rejected = input.verdict.is_some_and(|verdict| verdict.result == VerdictResult::Rejected);
    match (input.checking && !rejected, input.late.is_empty()) {
        (true, true) => State::Pending,
        (true, false) => State::Stalled,
        (false, _) => State::Rejected,
    }
}

/// Whether the last status has said for too long that something waits.
fn stalled(input: &Input<'_>) -> bool {
    let too_long = |since: Time| input.now.ms().saturating_sub(since.ms()) >= input.wait_ms;
    conditions::waits_since(input.before).is_some_and(too_long)
}

/// A connection is told once the database was available, and from then on.
fn ever_served(before: Option<&Status>) -> bool {
    before.is_some_and(|before| before.connection.is_some())
}

/// Whether the plan makes the Postgres database: then there was none, whatever we have forgotten.
fn makes_database(plan: &Plan) -> bool {
    use crate::model::Kind;
    plan.steps().any(|step| step.resource.kind == Kind::Database && step.action == Action::Create)
}
