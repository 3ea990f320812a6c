//! The `status` document of one database: from what was stored, planned and seen to what is said.
//!
//! Invariants: equal inputs give an equal document; what was said before decides only since when a condition holds,
//! whether the database ever served, and the next number; no error text is shown that a step did not clear for people.

use super::conditions::{self, Found};
use crate::contract::documents::{
    Connection, InstanceSummary, ObservedSpec, State, Status, Time, Verdict, VerdictResult,
};
use crate::model::{AcceptedSpec, DatabaseId, Record, ResourceId};
use crate::plan::{Action, Outcome, Plan};

/// Failures in a row after which a step is told as failed; below that it is told as in progress. Three attempts with
/// back-off take several seconds, which a restart of Docker or of Postgres fits into.
pub const FAILED_AFTER: u32 = 3;

/// How long something may wait before it is told as stalled: 60 s, several times what a start takes.
pub const STALLED_AFTER_MS: i64 = 60_000;

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
        failures: &'a [(&'a ResourceId, &'a Outcome)],
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
    /// Conditions that others found.
    pub found: Vec<Found>,
    /// Where the work stands.
    pub phase: Phase<'a>,
    /// The instances as they were seen last.
    pub instances: Vec<InstanceSummary>,
    /// How it can be reached once it serves.
    pub connection: Option<Connection>,
}

impl Input<'_> {
    pub(super) fn buried(&self) -> bool {
        self.record.is_some_and(|record| record.tombstone.is_some())
    }
}

/// How the database stands. Numbered as if it were said: see [`is_news`].
#[must_use]
pub fn status(input: Input<'_>) -> Status {
    let state = state(&input);
    let conditions = conditions::all(&input, state);
    let buried = input.buried();
    let serves = state == State::Available || ever_served(input.before);
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
        connection: input.connection.filter(|_| serves && !buried),
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
        Phase::Nothing => {
            let rejected = input.verdict.is_some_and(|verdict| verdict.result == VerdictResult::Rejected);
            return if input.checking && !rejected { State::Pending } else { State::Rejected };
        }
        Phase::Unreadable => return State::Stalled,
        Phase::Planned { plan, failures } => (plan, failures),
    };
    if plan.is_settled() {
        return if input.buried() { State::Deleted } else { State::Available };
    }
    if failures.iter().any(|(_, outcome)| outcome.attempts >= FAILED_AFTER) {
        return State::Failed;
    }
    if plan.is_empty() && conditions::waits_since(input.before).is_some_and(|since| too_long(since, input.now)) {
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

fn too_long(since: Time, now: Time) -> bool {
    now.ms().saturating_sub(since.ms()) >= STALLED_AFTER_MS
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
