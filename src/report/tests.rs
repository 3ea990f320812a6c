//! Statuses, conditions and events, case by case.

use std::collections::BTreeSet;

use super::conditions::Found;
use super::events;
use super::status::{FAILED_AFTER, Input, Phase, STALLED_AFTER_MS, is_news, status};
use crate::contract::documents::{
    Condition, ConditionStatus, ConditionType, Connection, EventType, InstanceSummary, Role, State, Status, Time,
    Verdict, VerdictResult,
};
use crate::contract::{Code, Fault};
use crate::model::record::Tombstone;
use crate::model::{
    DatabaseId, Digest, Executor, FleetId, Health, HostId, InstanceId, Kind, NodeName, Record, ResourceId, Scope,
};
use crate::plan::{Action, Disruption, Outcome, Plan, Purpose, Reason, Stage, Step, Waiting, WaitsFor};

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
        network: None,
        users: Vec::new(),
    }
}

fn verdict(result: VerdictResult) -> Verdict {
    let faults = vec![Fault::new(Code::Required, "/x", "it is missing")];
    Verdict { result, digest: Digest::of_bytes(b"x"), generation: None, faults, at: Time::from_ms(0) }
}

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
        found: Vec::new(),
        phase,
        instances: vec![instance("a", Role::Primary, Health::Healthy)],
        connection: Some(connection()),
    }
}

fn planned<'a>(plan: &'a Plan, failures: &'a [(&'a ResourceId, &'a Outcome)]) -> Phase<'a> {
    Phase::Planned { plan, failures }
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
    let (plan, resource) = (creates(Kind::Role), resource(Kind::Role));
    let outcome = |attempts| Outcome { action: Action::Create, attempts, error: "no such role".to_owned() };
    for (attempts, state) in
        [(1, State::Modifying), (FAILED_AFTER - 1, State::Modifying), (FAILED_AFTER, State::Failed)]
    {
        let outcome = outcome(attempts);
        let failures = [(&resource, &outcome)];
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

#[test]
fn conditions_keep_their_time_while_they_hold_and_their_order() {
    let (plan, before) = (settled(), served());
    let found = |kind| Found { kind, reason: "R".to_owned(), message: "m".to_owned() };
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
