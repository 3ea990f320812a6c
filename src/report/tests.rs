//! Statuses, conditions and events, case by case.

use std::collections::{BTreeMap, BTreeSet};

use super::conditions::Found;
use super::status::{FAILED_AFTER, Input, Late, Phase, Unseen, is_news, status, unseen};
use super::work::{Failure, Running, Work, dated, with_progress};
use super::{events, plan_document};
use crate::contract::documents::{
    Condition, ConditionStatus, ConditionType, Connection, EventType, InstanceSummary, NodePlacement, PlacedHost,
    PlanDoc, PlanState, Role, State, Status, StepState, Time, Verdict, VerdictResult,
};
use crate::contract::{Code, Fault};
use crate::model::record::Tombstone;
use crate::model::{
    DatabaseId, Digest, Executor, FleetId, Health, HostId, InstanceId, Kind, NodeName, Record, ResourceId, Scope,
};
use crate::plan::{
    Action, Disruption, Held, Hold, Overdue, Phase as PhaseOfWork, Plan, Purpose, Reason, Stage, Step, Waiting,
    WaitsFor,
};

fn database() -> DatabaseId {
    DatabaseId::parse("shop").unwrap()
}

fn resource(kind: Kind) -> ResourceId {
    ResourceId::new(kind, "x")
}

fn settled() -> Plan {
    Plan::empty(Scope::Database(database()))
}

fn creates(kind: Kind) -> Plan {
    let step = Step {
        resource: resource(kind),
        action: Action::Create,
        executor: Executor::Manager,
        reason: Reason::DoesNotExist,
        changes: Vec::new(),
        disruption: Disruption::None,
        after: BTreeSet::new(),
        object: None,
        candidates: BTreeSet::new(),
    };
    Plan { stages: vec![Stage { purpose: Purpose::Converge, steps: vec![step] }], ..settled() }
}

fn waits() -> Plan {
    let waiting = |kind, on| Waiting { resource: resource(kind), action: None, on };
    let unknown = WaitsFor::Unknown { why: "Docker does not answer".to_owned() };
    let follows = WaitsFor::Dependencies { on: [resource(Kind::Service)].into() };
    Plan { waiting: vec![waiting(Kind::Role, follows), waiting(Kind::Service, unknown)], ..settled() }
}

fn instance(id: &str, role: Role, health: Health) -> InstanceSummary {
    InstanceSummary {
        instance: InstanceId::parse(id).unwrap(),
        node: NodeName::parse("n1").unwrap(),
        host: HostId::parse("host-1").unwrap(),
        role: Some(role),
        synchronous: false,
        health,
        postgres_version: None,
    }
}

fn connection() -> Connection {
    Connection {
        hosts: vec!["192.0.2.1".to_owned()],
        port: None,
        database: "shop".to_owned(),
        uri: "postgresql:///shop".to_owned(),
        uri_read_only: None,
        network: None,
        users: Vec::new(),
        nodes: Vec::new(),
    }
}

fn verdict(result: VerdictResult) -> Verdict {
    let faults = vec![Fault::new(Code::Required, "/x", "it is missing")];
    Verdict { result, digest: Digest::of_bytes(b"x"), generation: None, faults, at: Time::from_ms(0) }
}

/// How long something may wait in these tests.
const STALLED_AFTER_MS: i64 = 60_000;

static NOWHERE: BTreeSet<HostId> = BTreeSet::new();

/// A status after a second, of a healthy database that nobody said anything about before.
fn input(phase: Phase<'_>) -> Input<'_> {
    static DATABASE: std::sync::LazyLock<DatabaseId> = std::sync::LazyLock::new(database);
    Input {
        database: &DATABASE,
        epoch: 3,
        now: Time::from_ms(1000),
        before: None,
        spec: None,
        record: None,
        verdict: None,
        checking: false,
        asks_for_more: false,
        found: Vec::new(),
        phase,
        left_on: &NOWHERE,
        fleet: &[],
        late: Vec::new(),
        wait_ms: STALLED_AFTER_MS,
        instances: vec![instance("a", Role::Primary, Health::Healthy)],
        connection: Some(connection()),
    }
}

fn planned<'a>(plan: &'a Plan, failures: &'a [Failure]) -> Phase<'a> {
    static IDLE: Work = Work { running: BTreeMap::new(), done: BTreeMap::new() };
    Phase::Planned { plan, failures, held: &[], work: &IDLE }
}

fn failure(kind: Kind, attempts: u32, error: &str) -> Failure {
    let error = error.to_owned();
    Failure { resource: resource(kind), attempts, error, at: Time::from_ms(500), retry_at: Time::from_ms(2500) }
}

fn condition(status: &Status, kind: ConditionType) -> Option<&Condition> {
    status.conditions.iter().find(|condition| condition.kind == kind)
}

fn reason(status: &Status, kind: ConditionType) -> &str {
    condition(status, kind).map_or("", |condition| condition.reason.as_str())
}

/// A database that serves.
fn served() -> Status {
    status(input(planned(&settled(), &[])))
}

#[test]
fn a_status_is_numbered_within_its_epoch_and_says_only_news() {
    let first = served();
    assert_eq!((first.state, first.seq, first.epoch), (State::Available, 1, 3));
    assert!(is_news(None, &first));
    let plan = settled();
    let again = status(Input { before: Some(&first), now: Time::from_ms(9), ..input(planned(&plan, &[])) });
    assert_eq!(again.seq, 2);
    assert!(!is_news(Some(&first), &again), "only its number and its time differ");
    let restarted = status(Input { before: Some(&first), epoch: 4, ..input(planned(&plan, &[])) });
    assert_eq!(restarted.seq, 1);
    assert!(is_news(Some(&first), &restarted));
}

#[test]
fn before_a_spec_is_accepted_the_verdict_decides() {
    let refused = verdict(VerdictResult::Rejected);
    for (checking, verdict, expected) in [
        (true, None, State::Pending),
        (false, Some(&refused), State::Rejected),
        // The rules let it pass and the host did not: it stays a candidate, and the verdict counts.
        (true, Some(&refused), State::Rejected),
    ] {
        let said = status(Input { checking, verdict, ..input(Phase::Nothing) });
        assert_eq!((said.state, said.connection), (expected, None));
    }
    let unreadable = status(input(Phase::Unreadable));
    assert_eq!((unreadable.state, reason(&unreadable, ConditionType::Ready)), (State::Stalled, "SpecUnreadable"));
}

#[test]
fn a_database_is_created_once_and_modified_ever_after() {
    let (makes, changes, before) = (creates(Kind::Database), creates(Kind::Role), served());
    let creating = status(input(planned(&makes, &[])));
    assert_eq!((creating.state, creating.connection.clone()), (State::Creating, None));
    let state = |before: Option<&Status>, plan: &Plan| status(Input { before, ..input(planned(plan, &[])) }).state;
    assert_eq!(state(Some(&creating), &changes), State::Creating, "the last steps of a creation");
    assert_eq!(state(Some(&before), &makes), State::Modifying, "it served before");
    assert_eq!(state(None, &changes), State::Modifying, "its database is there, whatever we forgot");
    let modifying = status(Input { before: Some(&before), ..input(planned(&makes, &[])) });
    assert_eq!(modifying.connection, Some(connection()));
    assert_eq!(condition(&modifying, ConditionType::Progressing).unwrap().message, "1 step to go");
}

#[test]
fn failures_are_told_when_they_last() {
    let plan = creates(Kind::Role);
    for (attempts, state) in
        [(1, State::Modifying), (FAILED_AFTER - 1, State::Modifying), (FAILED_AFTER, State::Failed)]
    {
        let failures = [failure(Kind::Role, attempts, "no such role")];
        let said = status(input(planned(&plan, &failures)));
        assert_eq!(said.state, state);
        let ready = condition(&said, ConditionType::Ready).unwrap();
        assert_eq!(ready.message, format!("role::x: no such role (attempt {attempts})"));
    }
}

#[test]
fn what_waits_too_long_is_stalled_and_says_for_what() {
    let plan = waits();
    let before = served();
    let first = status(Input { before: Some(&before), now: Time::from_ms(5000), ..input(planned(&plan, &[])) });
    assert_eq!((first.state, reason(&first, ConditionType::Waiting)), (State::Modifying, "NotSeen"));
    let at = |ms| status(Input { before: Some(&first), now: Time::from_ms(ms), ..input(planned(&plan, &[])) });
    assert_eq!(at(5000 + STALLED_AFTER_MS - 1).state, State::Modifying);
    let stalled = at(5000 + STALLED_AFTER_MS);
    assert_eq!(stalled.state, State::Stalled);
    let message = "service::x cannot be seen: Docker does not answer";
    assert_eq!(condition(&stalled, ConditionType::Stalled).unwrap().message, message);
    assert_eq!(condition(&stalled, ConditionType::Waiting).unwrap().since, Time::from_ms(5000));
    assert_eq!(stalled.connection, Some(connection()), "it may serve all the same");
}

#[test]
fn what_lasts_longer_than_its_deadline_is_stalled_and_says_which_phase_since_when_and_what_to_do() {
    let (plan, resource) = (creates(Kind::Instance), resource(Kind::Instance));
    let failures = [failure(Kind::Instance, FAILED_AFTER, "not done within 9 s")];
    let late = |resource: Option<ResourceId>, phase| {
        vec![Late { resource, overdue: Overdue { phase, since_ms: 0, limit_s: 9 } }]
    };
    let slow = Input { late: late(Some(resource), PhaseOfWork::Start), ..input(planned(&plan, &failures)) };
    let said = status(slow);
    assert_eq!(said.state, State::Stalled, "however often it was tried: it is slow, not broken");
    let Condition { message, hint, .. } = condition(&said, ConditionType::Stalled).unwrap();
    for part in ["instance::x", "1970-01-01T00:00:00.000Z", "deadlines.start_s", "9 s"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert!(hint.as_deref().unwrap().contains("docker service ps"), "{hint:?}");
    let checked = |phase| status(Input { checking: true, late: late(None, PhaseOfWork::Judge), ..input(phase) });
    assert_eq!(checked(Phase::Nothing).state, State::Stalled);
    let settled = settled();
    let running = checked(planned(&settled, &[]));
    assert_eq!((running.state, running.connection), (State::Stalled, None));
}

/// A step that runs since the beginning and waits for this.
fn work(kind: Kind, words: Option<&str>) -> Work {
    let running = Running { since: Time::from_ms(0), waits_for: words.map(str::to_owned) };
    Work { running: BTreeMap::from([(resource(kind), running)]), done: BTreeMap::new() }
}

#[test]
fn what_a_running_step_waits_for_is_told_with_what_to_do() {
    let (plan, work) =
        (creates(Kind::Instance), work(Kind::Instance, Some("Swarm says failed: task: non-zero exit (1)")));
    let phase = Phase::Planned { plan: &plan, failures: &[], held: &[], work: &work };
    let first = status(input(phase));
    assert_eq!(first.state, State::Modifying, "it waits, nothing has failed");
    for kind in [ConditionType::Ready, ConditionType::Waiting] {
        let told = condition(&first, kind).unwrap();
        assert_eq!(told.reason, "ProcessExited");
        assert!(told.message.contains("instance::x waits: Swarm says failed"), "{}", told.message);
        assert!(told.hint.as_deref().unwrap().contains("docker service logs"), "{:?}", told.hint);
    }
    let later = Time::from_ms(1000 + STALLED_AFTER_MS);
    let stalled = status(Input { before: Some(&first), now: later, ..input(phase) });
    assert_eq!(stalled.state, State::Stalled);
    assert_eq!(condition(&stalled, ConditionType::Waiting).unwrap().since, Time::from_ms(1000));
    // A failure that is over says nothing.
    let over = settled();
    let failures = [failure(Kind::Role, 7, "boom")];
    assert_eq!(reason(&status(input(planned(&over, &failures))), ConditionType::Ready), "Settled");
}

#[test]
fn a_long_step_is_named_and_a_plan_says_how_far_it_is() {
    let plan = creates(Kind::Instance);
    let running = work(Kind::Instance, None);
    let phase = Phase::Planned { plan: &plan, failures: &[], held: &[], work: &running };
    let said = status(Input { now: Time::from_ms(2000), ..input(phase) });
    let ready = condition(&said, ConditionType::Ready).unwrap();
    assert_eq!(ready.message, "instance::x is at work since 1970-01-01T00:00:00.000Z");
    let document = |work: &Work, failures: &[Failure], held: &[Held]| {
        let document = plan_document(&database(), &plan, None, Time::from_ms(9));
        dated(with_progress(document, work, failures, held), None)
    };
    let progress = |document: &PlanDoc| document.stages[0].steps[0].progress.clone().unwrap();
    let runs = document(&running, &[], &[]);
    assert_eq!((runs.state, progress(&runs).state), (PlanState::Applying, StepState::Running));
    let held = [Held { resource: resource(Kind::Instance), why: Hold::BackOff { until_ms: 2500 } }];
    let failed = document(&Work::default(), &[failure(Kind::Instance, 2, "boom")], &held);
    assert_eq!((failed.state, progress(&failed).retry_at), (PlanState::Waiting, Some(Time::from_ms(2500))));
    let wait = &failed.waiting[0];
    assert_eq!((wait.until, wait.since), (Some(Time::from_ms(2500)), Some(Time::from_ms(9))));
    assert!(wait.reason.contains("failed 2 times in a row"), "{}", wait.reason);
}

#[test]
fn while_nothing_can_be_seen_a_new_spec_is_pending_and_what_was_said_stays() {
    let found = super::found("this Docker engine is not in a Swarm", "x", "there is no Swarm".to_owned());
    let id = database();
    let told = |before: Option<&Status>, ms| {
        let now = Time::from_ms(ms);
        unseen(&Unseen {
            database: &id,
            epoch: 3,
            now,
            before,
            recorded: false,
            verdict: None,
            found: &found,
            wait_ms: STALLED_AFTER_MS,
        })
    };
    let new = told(None, 0);
    assert_eq!((new.state, reason(&new, ConditionType::Ready)), (State::Pending, "NoSwarm"));
    assert!(condition(&new, ConditionType::Waiting).unwrap().hint.as_deref().unwrap().contains("docker swarm init"));
    assert_eq!(told(Some(&new), STALLED_AFTER_MS).state, State::Stalled);
    let good = served();
    let blind = told(Some(&good), 2000);
    assert_eq!((blind.state, blind.connection.clone()), (State::Available, good.connection.clone()));
    assert_eq!(reason(&blind, ConditionType::Ready), "Settled");
    assert_eq!((reason(&blind, ConditionType::Waiting), blind.seq), ("NoSwarm", good.seq + 1));
}

#[test]
fn a_deleted_database_shows_neither_connection_nor_instances() {
    let tombstone = Tombstone { deleted_at_s: 0, purge_at_s: 1, last_digest: None };
    let record = Record { tombstone: Some(tombstone), ..Record::new(database()) };
    let before = served();
    for (plan, state) in [(creates(Kind::Role), State::Deleting), (settled(), State::Deleted)] {
        let input = Input { before: Some(&before), record: Some(&record), ..input(planned(&plan, &[])) };
        let said = status(input);
        assert_eq!((said.state, said.connection, said.instances), (state, None, Vec::new()));
    }
}

fn overdue(resource: Option<ResourceId>) -> Late {
    Late { resource, overdue: Overdue { phase: PhaseOfWork::Stop, since_ms: 0, limit_s: 9 } }
}

#[test]
fn a_deleted_database_says_where_something_is_left() {
    let tombstone = Tombstone { deleted_at_s: 0, purge_at_s: 1, last_digest: None };
    let record = Record { tombstone: Some(tombstone), ..Record::new(database()) };
    let (plan, left_on) = (waits(), [HostId::parse("h3").unwrap()].into());
    let told = |record, late| {
        let late = if late { vec![overdue(Some(resource(Kind::Service)))] } else { Vec::new() };
        status(Input { record, late, left_on: &left_on, ..input(planned(&plan, &[])) })
    };
    for late in [false, true] {
        let said = told(Some(&record), late);
        assert_eq!((said.state, reason(&said, ConditionType::Waiting)), (State::Deleted, "LeftBehind"));
        let waiting = condition(&said, ConditionType::Waiting).unwrap();
        assert!(waiting.message.contains("on the disk of h3") && waiting.hint.is_some(), "{waiting:?}");
    }
    assert_ne!(told(None, false).state, State::Deleted);
    let asked_back = status(Input {
        record: Some(&record),
        late: vec![overdue(None)],
        left_on: &left_on,
        ..input(planned(&plan, &[]))
    });
    assert_eq!(asked_back.state, State::Stalled, "the spec that asks it back waits for too long");
}

#[test]
fn conditions_keep_their_time_while_they_hold_and_their_order() {
    let (plan, before) = (settled(), served());
    let found = |kind| Found { kind, reason: "R".to_owned(), message: "m".to_owned(), hint: None };
    let found = vec![found(ConditionType::BrokerRewound), found(ConditionType::BrokerAmnesia)];
    let mut down = input(planned(&plan, &[]));
    down.instances = vec![instance("a", Role::Primary, Health::Down)];
    let said = status(Input { before: Some(&before), now: Time::from_ms(2000), found, ..down });
    let told: Vec<_> = said.conditions.iter().map(|c| (c.kind, c.status, c.since.ms())).collect();
    assert_eq!(
        told,
        [
            (ConditionType::Ready, ConditionStatus::False, 2000),
            (ConditionType::Progressing, ConditionStatus::False, 1000),
            (ConditionType::BrokerAmnesia, ConditionStatus::True, 2000),
            (ConditionType::BrokerRewound, ConditionStatus::True, 2000),
        ]
    );
    assert_eq!(reason(&said, ConditionType::Ready), "InstanceDown");
}

#[test]
fn other_hosts_are_an_event() {
    let fleet = FleetId::parse("edge").unwrap();
    let placed = |host: &str| PlacedHost { host: HostId::parse(host).unwrap(), reason: format!("{host} is free") };
    let on = |hosts: &[&str]| Status {
        placement: vec![NodePlacement {
            node: NodeName::parse("n1").unwrap(),
            hosts: hosts.iter().map(|host| placed(host)).collect(),
        }],
        ..served()
    };
    let told = |before: &Status, after: &Status| -> Vec<String> {
        let told = events(&fleet, Some(before), after).into_iter();
        told.filter(|event| event.kind == EventType::PlacementChanged).map(|event| event.data.message).collect()
    };
    let none: [String; 0] = [];
    assert_eq!(told(&served(), &on(&["h1"])), none, "the first choice is no change");
    assert_eq!(told(&on(&["h1"]), &on(&["h1"])), none);
    assert_eq!(told(&on(&["h1", "h2"]), &on(&["h2", "h3"])), ["n1 is on h2, h3, it was on h1, h2; h3: h3 is free"]);
    assert_eq!(told(&on(&["h1", "h2"]), &on(&["h1"])), ["n1 is on h1, it was on h1, h2"]);
}

#[test]
fn events_tell_what_changed_and_nothing_else() {
    let fleet = FleetId::parse("edge").unwrap();
    let kinds = |before: Option<&Status>, after: &Status| -> Vec<(EventType, Option<String>)> {
        events(&fleet, before, after).into_iter().map(|event| (event.kind, event.subject)).collect()
    };
    let mut before = served();
    before.instances =
        vec![instance("a", Role::Primary, Health::Healthy), instance("b", Role::Replica, Health::Healthy)];
    assert_eq!(kinds(None, &before), [(EventType::StateChanged, None)]);
    assert_eq!(kinds(Some(&before), &Status { seq: 9, ..before.clone() }), []);

    let instances = vec![instance("a", Role::Replica, Health::Down), instance("b", Role::Primary, Health::Healthy)];
    let after = Status { instances, state: State::Modifying, seq: 2, ..before.clone() };
    let expected = [
        (EventType::StateChanged, None),
        (EventType::PrimaryChanged, Some("b".to_owned())),
        (EventType::HealthChanged, Some("a".to_owned())),
    ];
    assert_eq!(kinds(Some(&before), &after), expected);
    let told = events(&fleet, Some(&before), &after);
    let ids: BTreeSet<&str> = told.iter().map(|event| event.id.as_str()).collect();
    assert_eq!(ids, BTreeSet::from(["3-2-0", "3-2-1", "3-2-2"]));
    assert_eq!(told[2].data.message, "a is down, it was healthy");
    assert_eq!(told[0].data.previous_state, Some(State::Available));
}
