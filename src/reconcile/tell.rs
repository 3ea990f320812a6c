//! Telling how a database stands: `status` and `plan`, made anew from what is stored and seen, and published when
//! they say something new.
//!
//! Invariant: this is the only writer of these two topics, so `seq` grows by one with each status; what was last said
//! (the store remembers it) tells since when a condition holds.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use super::approval::Decision;
use super::fleet;
use super::ledger::{Board, keep, say};
use super::service::Shared;
use crate::contract::documents::{
    Connection, InstanceSummary, PlanDoc, PlanState, PlanWait, Role, State, Status, Time, VerdictResult,
};
use crate::contract::topics::Topic;
use crate::domain::{layout, members};
use crate::model::spec::Reconcile;
use crate::model::{AcceptedSpec, DatabaseId, FleetId, HostId, InstanceId, Record, ResourceId, Scope};
use crate::plan::{self, Held, Overdue, Plan};
use crate::report;
use crate::report::conditions::Found;
use crate::report::status::{self, Input, Late, is_news};
use crate::report::work::{Failure, Work};
use crate::store::{DesiredRow, Error, OutMessage, OutcomeRow, Rows as _, Writer};

/// What is known of one database.
#[derive(Debug, Clone)]
pub(super) struct View {
    pub(super) id: DatabaseId,
    pub(super) row: DesiredRow,
    pub(super) record: Option<Record>,
    /// The accepted spec, if there is one that can be read.
    pub(super) spec: Option<AcceptedSpec>,
    /// Why its candidate could not be judged in this pass, if it could not.
    pub(super) unjudged: Option<String>,
    /// What is wanting of the hosts that were chosen for it.
    pub(super) placement: Option<Found>,
}

/// Where the work on it stands.
#[derive(Debug)]
pub(super) enum Phase<'a> {
    /// No spec was ever accepted.
    Nothing,
    /// The accepted spec cannot be read by this version.
    Unreadable,
    /// The world was looked at.
    Planned {
        plan: &'a Plan,
        outcomes: &'a BTreeMap<ResourceId, OutcomeRow>,
        held: &'a [Held],
        work: &'a Work,
        approval: &'a Decision,
        seen: &'a Seen,
        told: Told,
    },
}

/// What is to be said of what was seen: what drifted, and which scripts were changed after they ran.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) conditions: Vec<Found>,
    /// Whether the spec asks for what was not done yet, apart from repairs.
    pub(super) asks_for_more: bool,
    /// Of a deleted database that is gone everywhere else: the hosts that do not answer and have something left of it.
    pub(super) left_on: BTreeSet<HostId>,
}

/// When something is told of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// Before it is carried out: what was decided is stored with it.
    First,
    /// While it is carried out: what was decided stands, or was changed by a person meanwhile.
    Again,
}

/// When a step has run for so long, how the database stands is told again, and every [`TELL_EVERY`] from then on: most
/// steps are done before, and a creation says nothing in between.
const TELL_AFTER: Duration = Duration::from_secs(2);
const TELL_EVERY: Duration = Duration::from_secs(1);

/// A plan that is carried out, for those who tell of it meanwhile.
#[derive(Debug, Clone, Copy)]
pub(super) struct Carried<'a> {
    pub(super) scope: &'a Scope,
    /// The database, whether what the plan interrupts may be, and what was seen; none for the fleet.
    pub(super) database: Option<(&'a View, &'a Decision, &'a Seen)>,
    pub(super) plan: &'a Plan,
    pub(super) held: &'a [Held],
    pub(super) board: &'a Board,
}

impl Carried<'_> {
    /// Tells how it stands now.
    pub(super) async fn tell(&self, shared: &Shared, told: Told) -> Result<(), Error> {
        let outcomes = shared.store.read(|reader| reader.outcomes(self.scope))?;
        let work = self.board.work();
        let Some((view, approval, seen)) = self.database else {
            return fleet::tell(shared, self.plan, &outcomes, &work).await;
        };
        let (plan, held) = (self.plan, self.held);
        let phase = Phase::Planned { plan, outcomes: &outcomes, held, work: &work, approval, seen, told };
        status(shared, view, &phase).await
    }

    /// Does the work, and tells how it stands as long as it lasts, where that is news.
    pub(super) async fn during<T>(&self, shared: &Shared, work: impl Future<Output = T>) -> T {
        let done = CancellationToken::new();
        let telling = async {
            let mut pause = TELL_AFTER;
            loop {
                // A telling that has begun is finished, or the next would count from the wrong number.
                tokio::select! {
                    biased;
                    () = done.cancelled() => return,
                    () = tokio::time::sleep(pause) => {}
                }
                pause = TELL_EVERY;
                if let Err(error) = self.tell(shared, Told::Again).await {
                    tracing::warn!(scope = %self.scope, %error, "how the work stands could not be told");
                }
            }
        };
        let working = async {
            let ended = work.await;
            done.cancel();
            ended
        };
        tokio::join!(working, telling).0
    }
}

/// Publishes `status`, and `plan` beside it, where they say something new.
pub(super) async fn status(shared: &Shared, view: &View, phase: &Phase<'_>) -> Result<(), Error> {
    let now = Time::from_ms(shared.world.clock.now_ms());
    let topic = Topic::Status(view.id.clone());
    let before = last_status(shared, &view.id);
    let status = compose(shared, view, phase, before.as_ref(), now);
    // What waits for a host that does not answer is told for as long as it does.
    let deleted = status.state == State::Deleted && left_on(phase).is_empty();
    let mut messages = Vec::new();
    if is_news(before.as_ref(), &status) {
        let fleet = &shared.world.fleet;
        for event in report::events(fleet, before.as_ref(), &status) {
            messages.push(say(fleet, &Topic::Events(view.id.clone()), &event, now.ms()));
        }
        // Those who listen hear the farewell; who comes later finds nothing, as for a database that never was.
        let message = if deleted { say } else { keep };
        messages.push(message(fleet, &topic, &status, now.ms()));
    }
    let mut approval = None;
    if let Phase::Planned { plan, outcomes, held, work, approval: decision, told, .. } = phase {
        approval = decision.store().filter(|_| *told == Told::First);
        if !deleted {
            let document = decision.shown(report::plan_document(&view.id, plan, view.record.as_ref(), now));
            let mut document = report::work::with_progress(document, work, &failures(outcomes), held);
            if let Some(reason) = hands_off(view, plan) {
                document.state = PlanState::Waiting;
                document.waiting.push(PlanWait { resource: None, reason: reason.to_owned(), since: None, until: None });
            }
            messages.extend(plan_message(shared, view, document, now));
        }
    }
    if !deleted && messages.is_empty() && approval.is_none() {
        return Ok(());
    }
    let farewell = deleted.then(|| {
        let prefix = topic.to_string(&shared.world.fleet).trim_end_matches("status").to_owned();
        let topics = view.record.as_ref().map(|record| retained_topics(&shared.world.fleet, record));
        (prefix, topics.unwrap_or_default())
    });
    let write = shared.store.write(move |writer| {
        if let Some(store) = approval {
            store(writer)?;
        }
        match farewell {
            Some((prefix, topics)) => self::farewell(writer, (&prefix, &topics), &messages, now),
            None => messages.iter().try_for_each(|message| writer.enqueue(message)),
        }
    });
    write.await
}

fn left_on<'a>(phase: &Phase<'a>) -> &'a BTreeSet<HostId> {
    static NOWHERE: BTreeSet<HostId> = BTreeSet::new();
    match phase {
        Phase::Planned { seen, .. } => &seen.left_on,
        Phase::Nothing | Phase::Unreadable => &NOWHERE,
    }
}

/// The last words, and every retained topic of the database cleared: once, not with each tick.
fn farewell(
    writer: &mut Writer<'_>,
    (prefix, topics): (&str, &[String]),
    messages: &[OutMessage],
    now: Time,
) -> Result<(), Error> {
    if writer.topics_said(prefix)?.is_empty() {
        return Ok(());
    }
    messages.iter().try_for_each(|message| writer.enqueue(message))?;
    writer.clear_topics(prefix, topics, now.ms()).map(|_cleared| ())
}

/// The topics on which something was retained while the database lived, as its record tells.
#[must_use]
pub fn retained_topics(fleet: &FleetId, record: &Record) -> Vec<String> {
    let id = &record.database;
    let instances = record.etcd_passwords.keys().filter_map(|instance| InstanceId::parse(instance).ok());
    let of_instances = instances.flat_map(|instance| {
        [Topic::InstanceState(id.clone(), instance.clone()), Topic::InstanceHealth(id.clone(), instance)]
    });
    Topic::reports(id).into_iter().chain(of_instances).map(|topic| topic.to_string(fleet)).collect()
}

/// The plan, unless it is the one that was last said.
fn plan_message(shared: &Shared, view: &View, document: PlanDoc, now: Time) -> Option<OutMessage> {
    let topic = Topic::Plan(view.id.clone());
    let before: Option<PlanDoc> = last_said(shared, &topic);
    let document = report::work::dated(document, before.as_ref());
    let same = before.is_some_and(|before| PlanDoc { updated_at: before.updated_at, ..document.clone() } == before);
    (!same).then(|| keep(&shared.world.fleet, &topic, &document, now.ms()))
}

/// Why a plan is not carried out, where the spec asks for that.
fn hands_off(view: &View, plan: &Plan) -> Option<&'static str> {
    let (spec, _) = living(view)?;
    match spec.reconcile {
        Reconcile::Observe if !plan.is_empty() => {
            Some("\"reconcile\" is \"observe\": this is what \"repair\" would do")
        }
        Reconcile::Paused => Some("\"reconcile\" is \"paused\": what is to be done is not looked at"),
        Reconcile::Repair | Reconcile::Observe => None,
    }
}

/// How a database was last said to stand.
pub(super) fn last_status(shared: &Shared, id: &DatabaseId) -> Option<Status> {
    last_said(shared, &Topic::Status(id.clone()))
}

fn last_said<T: DeserializeOwned>(shared: &Shared, topic: &Topic) -> Option<T> {
    let said = shared.store.read(|reader| reader.last_said(&topic.to_string(&shared.world.fleet)));
    said.ok().flatten().and_then(|message| serde_json::from_slice(&message.payload).ok())
}

fn compose(shared: &Shared, view: &View, phase: &Phase<'_>, before: Option<&Status>, now: Time) -> Status {
    let failures = match phase {
        Phase::Planned { outcomes, .. } => failures(outcomes),
        Phase::Nothing | Phase::Unreadable => Vec::new(),
    };
    let fleet = fleet::standing(shared);
    let told = phase;
    let mut found: Vec<Found> = found(view).into_iter().chain(halted(shared)).collect();
    let (fleet_record, instances) = (shared.world.record.get(), instances(shared, view));
    if let Some((spec, _)) = living(view) {
        found.extend(report::failover::condition(spec, members::voting(&fleet_record), &instances));
        found.extend(report::removed::condition(spec, &fleet_record.hosts));
        found.extend(view.placement.clone());
        found.extend(report::apart::condition(spec));
    }
    let mut asks_for_more = false;
    if let Phase::Planned { approval, seen, .. } = phase {
        found.extend(approval.condition());
        found.extend(seen.conditions.iter().cloned());
        asks_for_more = seen.asks_for_more;
    }
    let phase = match phase {
        Phase::Nothing => status::Phase::Nothing,
        Phase::Unreadable => status::Phase::Unreadable,
        Phase::Planned { plan, held, work, .. } => status::Phase::Planned { plan, failures: &failures, held, work },
    };
    status::status(Input {
        database: &view.id,
        epoch: shared.store.epoch(),
        now,
        before,
        spec: view.spec.as_ref(),
        record: view.record.as_ref(),
        verdict: view.row.verdict.as_ref(),
        checking: view.row.candidate.is_some(),
        asks_for_more,
        found,
        fleet: &fleet,
        phase,
        left_on: left_on(told),
        connection: connection(shared, view, &instances),
        instances,
        late: late(shared, view, told, now),
        wait_ms: milliseconds(shared.options.deadlines.wait),
    })
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// What lasts longer than its deadline, the longest first: steps, and the checks of a spec that waits for the host.
fn late(shared: &Shared, view: &View, phase: &Phase<'_>, now: Time) -> Vec<Late> {
    let mut late: Vec<Late> = match phase {
        Phase::Planned { outcomes, .. } => outcomes.values().filter_map(late_step).collect(),
        Phase::Nothing | Phase::Unreadable => Vec::new(),
    };
    let limit = shared.options.deadlines.judge;
    let rejected = view.row.verdict.as_ref().is_some_and(|verdict| verdict.result == VerdictResult::Rejected);
    if let Some(candidate) = view.row.candidate.as_ref().filter(|_| !rejected)
        && now.ms().saturating_sub(candidate.received_at_ms) >= milliseconds(limit)
    {
        let limit_s = u32::try_from(limit.as_secs()).unwrap_or(u32::MAX);
        let overdue = Overdue { phase: plan::Phase::Judge, since_ms: candidate.received_at_ms, limit_s };
        late.push(Late { resource: None, overdue });
    }
    late.sort_by_key(|late| late.overdue.since_ms);
    late
}

fn late_step(row: &OutcomeRow) -> Option<Late> {
    Some(Late { resource: Some(row.resource.clone()), overdue: row.overdue.clone()? })
}

/// The halt, while there is one. What cannot be read is not said.
fn halted(shared: &Shared) -> Option<Found> {
    shared.store.read(|reader| reader.halt()).ok().and_then(|halt| report::halt::condition(&halt))
}

fn failures(outcomes: &BTreeMap<ResourceId, OutcomeRow>) -> Vec<Failure> {
    let failure = |row: &OutcomeRow| Failure {
        resource: row.resource.clone(),
        attempts: row.outcome.attempts,
        error: row.outcome.error.clone(),
        at: Time::from_ms(row.failed_at_ms),
        retry_at: Time::from_ms(row.next_attempt_at_ms),
    };
    outcomes.values().map(failure).collect()
}

/// Conditions that intake found, and why a spec could not be checked against the host just now.
fn found(view: &View) -> Vec<Found> {
    let unjudged = view.unjudged.as_ref().map(|why| {
        report::found(why, "HostDoesNotAnswer", format!("the spec cannot be checked against the host: {why}"))
    });
    let intake = view.row.conditions.iter().map(|(kind, condition)| Found {
        kind: *kind,
        reason: condition.reason.clone(),
        message: condition.message.clone(),
        hint: None,
    });
    intake.chain(unjudged).collect()
}

/// The spec of a database that lives.
fn living(view: &View) -> Option<(&AcceptedSpec, &Record)> {
    let record = view.record.as_ref().filter(|record| record.tombstone.is_none())?;
    Some((view.spec.as_ref()?, record))
}

/// Instances as the monitor saw them last; those that it has not seen yet are unknown.
fn instances(shared: &Shared, view: &View) -> Vec<InstanceSummary> {
    let Some((spec, _)) = living(view) else { return Vec::new() };
    report::instance_summaries(spec, |topic| {
        let said = shared.store.read(|reader| reader.last_said(&topic.to_string(&shared.world.fleet)));
        said.ok().flatten().map(|message| message.payload)
    })
}

fn connection(shared: &Shared, view: &View, instances: &[InstanceSummary]) -> Option<Connection> {
    let (spec, record) = living(view)?;
    let network = layout::network(&view.id);
    let primaries = instances.iter().filter(|one| one.role == Some(Role::Primary)).map(|one| one.instance.clone());
    Some(report::connection(spec, record, &shared.world.hosts.addresses(), network, &primaries.collect()))
}
