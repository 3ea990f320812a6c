//! One document of each kind, with every field set: it is of its schema, and comes back from its bytes as it was.

use pgmoor::contract::documents::*;
use pgmoor::contract::faults::{Code, Fault};
use pgmoor::contract::schema::{self, Kind};
use pgmoor::model::{ControllerId, DatabaseId, Digest, FleetId, Health, HostId, InstanceId, NodeName, TaskId};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

fn check<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(kind: Kind, document: &T) {
    let bytes = to_bytes(document);
    let value: Value = serde_json::from_slice(&bytes).unwrap();
    let schema: Value = serde_json::from_str(schema::schema(kind)).unwrap();
    let validator = jsonschema::options().should_validate_formats(true).build(&schema).unwrap();
    let wrong: Vec<String> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
    assert!(wrong.is_empty(), "{}: {wrong:?}\n{value:#}", kind.as_str());
    assert_eq!(serde_json::from_slice::<T>(&bytes).unwrap(), *document);
    // Fields of a newer version are no reason to stop reading; only what people write is strict.
    let mut grown = value.clone();
    grown["field_of_the_future"] = json!(1);
    assert_eq!(validator.is_valid(&grown), ![Kind::Inventory, Kind::Approve].contains(&kind), "{}", kind.as_str());
    // Nothing that must be there can be left out.
    for name in schema["required"].as_array().unwrap() {
        let mut short = value.clone();
        short.as_object_mut().unwrap().remove(name.as_str().unwrap());
        assert!(!validator.is_valid(&short), "{}: {name}", kind.as_str());
        assert!(serde_json::from_value::<T>(short).is_err(), "{}: {name}", kind.as_str());
    }
}

fn database() -> DatabaseId {
    DatabaseId::parse("shop").unwrap()
}

fn instance() -> InstanceId {
    InstanceId::parse("shop-n1-689qacsi").unwrap()
}

fn node() -> NodeName {
    NodeName::parse("n1").unwrap()
}

fn host() -> HostId {
    HostId::parse("host-1").unwrap()
}

fn time() -> Time {
    Time::from_ms(1_783_000_000_123)
}

fn fault() -> Fault {
    Fault::new(Code::PortClash, "/port", "port 5432 belongs to database \"other\"").hint("choose another one")
}

fn health() -> HealthDoc {
    HealthDoc {
        health: Health::Degraded,
        since: time(),
        checked_at: time(),
        valid_for_s: 15,
        reason: Some("a replica is missing".to_owned()),
    }
}

fn condition() -> Condition {
    Condition {
        kind: ConditionType::SecretInSpec,
        status: ConditionStatus::True,
        reason: "PasswordInSpec".to_owned(),
        message: "the spec holds a password".to_owned(),
        hint: Some("leave it out".to_owned()),
        since: time(),
    }
}

fn placement() -> NodePlacement {
    let placed = PlacedHost { host: host(), reason: "no other host fits".to_owned() };
    NodePlacement { node: NodeName::parse("n1").unwrap(), hosts: vec![placed] }
}

fn plan() -> PlanDoc {
    let step = PlanStep {
        action: Action::Update,
        resource: "patroni-config::n1".to_owned(),
        executor: "host host-1".to_owned(),
        reason: Reason::HasDiff,
        detail: Some("one parameter".to_owned()),
        changes: vec![Change {
            pointer: "/parameters/work_mem".to_owned(),
            from: Some(json!("4MB")),
            to: Some(json!("8MB")),
        }],
        disruption: Disruption::Reload,
        progress: Some(Progress {
            state: StepState::Failed,
            since: time(),
            attempts: 2,
            error: Some("Patroni does not answer".to_owned()),
            retry_at: Some(time()),
        }),
    };
    PlanDoc {
        database: database(),
        state: PlanState::Waiting,
        digest: Digest::of_bytes(b"plan"),
        spec: Some(Digest::of_bytes(b"spec")),
        counts: Counts { create: 0, update: 1, recreate: 0, delete: 0, switchover: 0 },
        disruption: Disruption::Reload,
        interruptions: vec![Interruption {
            what: "instance::shop-n1".to_owned(),
            disruption: Disruption::Restart,
            ends: false,
            downtime: Some(Downtime { expected_ms: 3200, basis: DowntimeBasis::Measured, measures: 2 }),
        }],
        approval: PlanApproval { state: ApprovalState::Needed, digest: Some(Digest::of_bytes(b"waits")) },
        notes: vec![PlanNote { pointer: "/port".to_owned(), message: "chosen when it is applied".to_owned() }],
        placement: vec![placement()],
        stages: vec![PlanStage { steps: vec![step] }],
        waiting: vec![PlanWait {
            resource: Some("network::x".to_owned()),
            reason: "the fleet".to_owned(),
            since: Some(time()),
            until: Some(time()),
        }],
        updated_at: time(),
    }
}

#[test]
fn status_is_of_its_schema() {
    let status = Status {
        database: database(),
        state: State::Available,
        observed: Some(ObservedSpec {
            generation: Some(3),
            digest: Digest::of_bytes(b"spec"),
            client_token: Some("token".to_owned()),
        }),
        verdict: Some(Verdict {
            result: VerdictResult::Rejected,
            digest: Digest::of_bytes(b"other"),
            generation: Some(4),
            faults: vec![fault()],
            at: time(),
        }),
        conditions: vec![condition()],
        instances: vec![InstanceSummary {
            instance: instance(),
            node: node(),
            host: host(),
            role: Some(Role::Primary),
            synchronous: false,
            health: Health::Healthy,
            postgres_version: Some("17.12".to_owned()),
        }],
        placement: vec![placement()],
        connection: Some(Connection {
            hosts: vec!["192.0.2.1".to_owned()],
            port: Some(5432),
            database: "shop".to_owned(),
            uri: "postgresql://192.0.2.1:5432/shop".to_owned(),
            uri_read_only: Some("postgresql://192.0.2.1:5432/shop".to_owned()),
            network: Some("shop-database".to_owned()),
            users: vec![ConnectionUser { username: "app".to_owned(), db_owner: true }],
            nodes: vec![NodeConnection {
                node: NodeName::parse("n1").unwrap(),
                hosts: vec!["192.0.2.1".to_owned()],
                port: Some(5432),
                uri: "postgresql://192.0.2.1:5432/shop".to_owned(),
                uri_read_only: Some("postgresql://192.0.2.1:5432/shop".to_owned()),
            }],
        }),
        seq: 7,
        epoch: 2,
        updated_at: time(),
    };
    check(Kind::Status, &status);
    let text = serde_json::to_value(&status).unwrap();
    assert_eq!((&text["state"], &text["conditions"][0]["type"]), (&json!("available"), &json!("SecretInSpec")));
    assert_eq!(text["updated_at"], json!("2026-07-02T13:46:40.123Z"));
}

#[test]
fn health_and_instances_are_of_their_schemas() {
    check(Kind::Health, &health());
    let state = InstanceState {
        database: database(),
        instance: instance(),
        node: node(),
        host: host(),
        state: "running".to_owned(),
        role: Some(Role::Replica),
        synchronous: true,
        timeline: Some(1),
        lsn: Some("0/3000148".to_owned()),
        lag_bytes: Some(0),
        postgres_version: Some("17.12".to_owned()),
        container: Some("c0ffee".to_owned()),
        image: Some("pgmoor/postgres:17.12".to_owned()),
        pending_restart: false,
        started_at: Some(time()),
        checked_at: time(),
    };
    check(Kind::InstanceState, &state);
}

#[test]
fn plans_and_answers_are_of_their_schemas() {
    check(Kind::Plan, &plan());
    let result = CommandResult {
        database: Some(database()),
        verb: "plan".to_owned(),
        request: Digest::of_bytes(b"spec"),
        correlation_id: Some("7".to_owned()),
        result: CommandOutcome::Accepted,
        faults: vec![fault()],
        plan: Some(plan()),
        message: Some("done".to_owned()),
        spec: Some(ObservedSpec { generation: Some(2), digest: Digest::of_bytes(b"spec"), client_token: None }),
        history: Some(HistoryDoc {
            specs: vec![past_spec()],
            plans: vec![past_plan()],
            trash: Some(Trash { deleted_at: time(), keeps_for_s: 60 }),
        }),
        diff: Some(SpecDiff {
            from: past_spec(),
            to: past_spec(),
            changes: vec![Change { pointer: "/port".to_owned(), from: Some(json!(1)), to: None }],
        }),
        decision: Some(DecisionDoc {
            database: Some(database()),
            number: Some(3),
            pgmoor: "0.1.0".to_owned(),
            at: time(),
            last_at: time(),
            times: 2,
            begun: vec!["network::x".to_owned()],
            held: vec![HeldStep { resource: "service::x".to_owned(), why: "a halt".to_owned() }],
            decision: json!({"any": "form"}),
        }),
        task: Some(TaskId::parse("0198-7").unwrap()),
        at: time(),
    };
    check(Kind::CommandResult, &result);
    check(Kind::Approve, &Approve { digest: Digest::of_bytes(b"waits").short().to_owned() });
}

fn past_spec() -> PastSpec {
    PastSpec {
        number: 3,
        generation: Some(2),
        digest: Digest::of_bytes(b"spec"),
        deleted: false,
        by: AcceptedBy::ClearedTopic,
        at: time(),
    }
}

fn past_plan() -> PastPlan {
    let step = PastStep {
        action: Action::Update,
        resource: "role::app".to_owned(),
        disruption: Disruption::Reload,
        took_ms: 12,
        attempts: 2,
        error: Some("no".to_owned()),
    };
    PastPlan {
        spec: Some(Digest::of_bytes(b"spec")),
        started_at: time(),
        finished_at: Some(time()),
        disruption: Disruption::Reload,
        steps: vec![step],
        steps_left_out: 1,
    }
}

#[test]
fn payloads_of_commands_are_strict() {
    for (kind, good) in [
        (Kind::Nothing, json!({})),
        (Kind::DiffRequest, json!({"from": 1, "to": 2})),
        (Kind::RollbackRequest, json!({"to": 1})),
        (Kind::HostRequest, json!({"host": "h2"})),
        (Kind::HostRemoval, json!({"host": "h2"})),
    ] {
        let schema: Value = serde_json::from_str(schema::schema(kind)).unwrap();
        let validator = jsonschema::validator_for(&schema).unwrap();
        assert!(validator.is_valid(&good), "{}", kind.as_str());
        let mut grown = good.clone();
        grown["typo"] = json!(1);
        assert!(!validator.is_valid(&grown), "{}", kind.as_str());
        for name in good.as_object().unwrap().keys() {
            let mut short = good.clone();
            short.as_object_mut().unwrap().remove(name);
            assert!(!validator.is_valid(&short), "{}: {name}", kind.as_str());
        }
    }
}

#[test]
fn a_question_for_a_decision_names_one_or_none() {
    let schema: Value = serde_json::from_str(schema::schema(Kind::DecisionRequest)).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    for (payload, good) in
        [(json!({}), true), (json!({"before": 7}), true), (json!({"before": -1}), false), (json!({"after": 7}), false)]
    {
        assert_eq!(validator.is_valid(&payload), good, "{payload}");
    }
}

#[test]
fn events_are_cloud_events() {
    let data = EventData {
        message: "the database is available".to_owned(),
        state: Some(State::Available),
        previous_state: Some(State::Creating),
        health: Some(Health::Healthy),
        digest: Some(Digest::of_bytes(b"spec")),
        generation: Some(1),
        instance: Some(instance()),
        resource: Some("role::app".to_owned()),
        changes: vec![Change {
            pointer: "/flags/createdb".to_owned(),
            from: Some(true.into()),
            to: Some(false.into()),
        }],
        noticed_by: Some(HostId::parse("host-1").unwrap()),
        times: Some(3),
        faults: vec![fault()],
    };
    let fleet = FleetId::parse("demo").unwrap();
    let event = Event::new(&fleet, &database(), "2-7".to_owned(), EventType::StateChanged, time(), data)
        .about("shop-n1-689qacsi");
    check(Kind::Event, &event);
    let text = serde_json::to_value(&event).unwrap();
    for (name, value) in [
        ("specversion", "1.0"),
        ("source", "/pgmoor/v1/demo/databases/shop"),
        ("type", "dev.pgmoor.database.state-changed"),
        ("datacontenttype", "application/json"),
    ] {
        assert_eq!(text[name], json!(value));
    }
}

#[test]
fn controllers_and_hosts_are_of_their_schemas() {
    let availability = Availability {
        state: OnlineState::Lost,
        controller: ControllerId::parse("host-1").unwrap(),
        epoch: 4,
        since: time(),
        version: "0.1.0".to_owned(),
        spec_set: Some(SpecSet {
            complete: ConditionStatus::False,
            reason: "InventoryNotFulfilled".to_owned(),
            message: "the broker has no spec of 1 database of the inventory".to_owned(),
            specs: 12,
            inventory_revision: Some(3),
            missing: vec![database()],
        }),
    };
    check(Kind::Availability, &availability);
    check(Kind::SyncMarker, &SyncMarker { epoch: 4, marker: 1 });
    check(Kind::Inventory, &Inventory { revision: 1, databases: [(database(), 3)].into() });
    let docker = DockerState { version: "20.10.24".to_owned(), swarm_node: "abc".to_owned(), manager: true };
    let inventory = HostInventory {
        cpus: 2,
        look_every_s: Some(10),
        memory_bytes: 1 << 33,
        memory_promised_bytes: 1 << 29,
        disk_bytes: 1 << 40,
        disk_free_bytes: 1 << 39,
        operating_system: "Debian GNU/Linux 12 (bookworm)".to_owned(),
        architecture: "x86_64".to_owned(),
        hostname: "moor-1".to_owned(),
        labels: [("zone".to_owned(), "a".to_owned())].into(),
        address: "192.0.2.1".to_owned(),
        postgres_versions: vec!["17.11".to_owned()],
        images: vec![ImageState {
            component: "postgres".to_owned(),
            version: "17.11".to_owned(),
            image: "pgmoor/postgres:17.11".to_owned(),
            present: false,
            id: Some("sha256:0123".to_owned()),
            arrives: Some(ImageArrival { from: Some(host()), bytes: 1, of_bytes: 2 }),
            trouble: Some("no route to host".to_owned()),
        }],
        pgmoor_version: "0.1.0".to_owned(),
        docker: Some(docker),
        instances: 1,
        trash: [(database(), Trash { deleted_at: time(), keeps_for_s: 60 })].into(),
    };
    let status = HostStatus {
        host: host(),
        epoch: 4,
        inventory,
        health: health(),
        conditions: vec![condition()],
        updated_at: time(),
    };
    check(Kind::HostStatus, &status);
    let (id, sealed) = (TaskId::parse("0198-7").unwrap(), "AQ==".to_owned());
    check(Kind::HostWork, &HostWork { id: id.clone(), epoch: 5, from: host(), sealed: sealed.clone() });
    check(Kind::HostAnswer, &HostAnswer { id: id.clone(), epoch: 5, from: host(), sealed: sealed.clone() });
    let (token, authority) = (TaskId::parse("t1").unwrap(), Digest::of_bytes(b"ca"));
    check(Kind::HostJoin, &HostJoin { id: id.clone(), token, expires_at_s: 9, authority, sealed: sealed.clone() });
    let faults = vec![Fault::new(Code::TokenUsed, "", "a host has joined with it")];
    check(Kind::HostAdmission, &HostAdmission { id, from: host(), faults, sealed: Some(sealed) });
}
