//! Properties: topics come back as they went, and no document whatever makes the reader panic or tell a secret.

use pgmoor::contract::schema::Kind;
use pgmoor::contract::topics::{TABLE, Topic, Verb};
use pgmoor::model::{ControllerId, DatabaseId, FleetId, HostId, InstanceId, ServiceInstanceId, TaskId};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::world::World;

const ID: &str = "[a-z0-9]([a-z0-9]{0,10}(-[a-z0-9]{1,5}){0,3})?";

fn topics() -> impl Strategy<Value = Topic> {
    let kind = prop::sample::select(Kind::ALL.to_vec());
    (0..TABLE.len(), ID, ID, kind).prop_map(|(row, one, two, kind)| {
        let db = DatabaseId::parse(&one).unwrap();
        let instance = InstanceId::parse(&two).unwrap();
        let service = ServiceInstanceId::parse(&two).unwrap();
        let (task, verb) = (TaskId::parse(&two).unwrap(), Verb::parse(&two).unwrap());
        match row {
            0 => Topic::Spec(db),
            1 => Topic::Status(db),
            2 => Topic::Health(db),
            3 => Topic::Plan(db),
            4 => Topic::InstanceState(db, instance),
            5 => Topic::InstanceHealth(db, instance),
            6 => Topic::ServiceState(db, service),
            7 => Topic::ServiceHealth(db, service),
            8 => Topic::Events(db),
            9 => Topic::Task(db, task),
            10 => Topic::TaskLog(db, task),
            11 => Topic::Command(db, verb),
            12 => Topic::CommandResult(db, verb),
            13 => Topic::HostStatus(HostId::parse(&one).unwrap()),
            14 => Topic::Availability(ControllerId::parse(&one).unwrap()),
            15 => Topic::Sync(ControllerId::parse(&one).unwrap()),
            16 => Topic::Probe(ControllerId::parse(&one).unwrap(), u32::try_from(two.len()).unwrap()),
            17 => Topic::Inventory,
            18 => Topic::FleetCommand(verb),
            19 => Topic::FleetCommandResult(verb),
            20 => Topic::HostWork(HostId::parse(&one).unwrap()),
            21 => Topic::HostAnswers(HostId::parse(&one).unwrap()),
            22 => Topic::HostJoin(HostId::parse(&one).unwrap()),
            23 => Topic::HostAdmission(HostId::parse(&one).unwrap()),
            _ => Topic::Schema(kind),
        }
    })
}

/// Names of fields, and one that needs escapes in a pointer.
const KEYS: [&str; 40] = [
    "template",
    "generation",
    "deleted",
    "deletion_protection",
    "database_name",
    "postgres_version",
    "port",
    "cpus",
    "memory",
    "nodes",
    "database_users",
    "extensions",
    "services",
    "backup_config",
    "restore_config",
    "postgresql_conf",
    "pg_hba_conf",
    "pg_ident_conf",
    "orchestrator_opts",
    "scripts",
    "swarm",
    "name",
    "host_ids",
    "username",
    "password",
    "attributes",
    "roles",
    "post_init",
    "extra_volumes",
    "image",
    "id",
    "type",
    "x/y~z",
    "repositories",
    "schedules",
    "extra_labels",
    "extra_networks",
    "host_path",
    "work_mem",
    "service_id",
];

/// Any JSON, with the names and words of specs among its keys and texts.
fn documents() -> impl Strategy<Value = Value> {
    let words = prop::sample::select(vec![
        "postgres",
        "n1",
        "host-1",
        "host-9",
        "512MiB",
        "17.12",
        "LOGIN",
        "local all all md5",
        "SELECT 1",
        "",
        "\0",
        "é\"'",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        words.prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    let keys = prop::sample::select(KEYS.to_vec());
    leaf.prop_recursive(5, 60, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(keys.clone(), inner, 0..8)
                .prop_map(|map| Value::Object(map.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())),
        ]
    })
}

proptest! {
    #[test]
    fn topics_come_back(topic in topics(), fleet in ID) {
        prop_assume!(fleet != "schemas");
        let fleet = FleetId::parse(&fleet).unwrap();
        let text = topic.to_string(&fleet);
        prop_assert!(text.matches('/').count() <= 7, "{text}");
        prop_assert_eq!(Topic::parse(&fleet, &text), Some(topic));
        let deeper = format!("{text}/more");
        prop_assert_ne!(Topic::parse(&fleet, &deeper).map(|topic| topic.to_string(&fleet)), Some(text.clone()));
        let elsewhere = FleetId::parse("another-fleet-altogether").unwrap();
        if topic_is_of_fleet(&text, &fleet) {
            prop_assert_eq!(Topic::parse(&elsewhere, &text), None);
        }
    }

    #[test]
    fn what_is_no_topic_is_none(text in "(pgmoor|pgmoor/v1|pgmoor/v1/f)?/?[a-z+#/-]{0,30}") {
        let fleet = FleetId::parse("f").unwrap();
        if let Some(topic) = Topic::parse(&fleet, &text) {
            prop_assert_eq!(topic.to_string(&fleet), text);
        }
    }

    #[test]
    fn any_document_is_judged(document in documents()) {
        let world = World::new();
        let text = document.to_string();
        if let Err(faults) = world.accept(text.as_bytes(), None) {
            prop_assert!(!faults.is_empty());
            prop_assert_eq!(&faults, &world.accept(text.as_bytes(), None).unwrap_err());
            for fault in faults {
                prop_assert!(fault.pointer.is_empty() || fault.pointer.starts_with('/'), "{}", fault);
            }
        }
    }

    #[test]
    fn any_bytes_are_judged(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let world = World::new();
        drop(world.accept(&bytes, None));
    }

    #[test]
    fn faults_tell_no_secret(at in 0..8_usize, wrong in 0..3_usize) {
        let secret = ["hunter2secret", "hunter2secret'", "hunter2secret\n\u{1}"][wrong];
        let mut document = json!({"colour": 1});
        let place = [
            json!({"database_users": [{"username": "a", "password": [secret]}]}),
            json!({"database_users": [{"username": "a", "password": secret.repeat(200)}]}),
            json!({"postgresql_conf": {"max_connections": secret}}),
            json!({"pg_hba_conf": [format!("host all all all {secret}")]}),
            json!({"scripts": {"post_init": [format!("ALTER ROLE a PASSWORD {secret}")]}}),
            json!({"backup_config": {"repositories": [{"type": "s3", "s3_key": {"x": secret}}]}}),
            json!({"services": [{"config": secret}]}),
            json!({"pg_ident_conf": [format!("a b \"{secret}")]}),
        ];
        document.as_object_mut().unwrap().extend(place[at].as_object().unwrap().clone());
        let faults = World::new().accept(document.to_string().as_bytes(), None).unwrap_err();
        prop_assert!(!format!("{faults:?}").contains("hunter2secret"), "{:?}", faults);
    }
}

fn topic_is_of_fleet(text: &str, fleet: &FleetId) -> bool {
    text.starts_with(&format!("pgmoor/v1/{fleet}/"))
}
