//! What an accepted spec says: defaults, overrides, what is kept, and rules that need a catalogue of their own.

use pgmoor::contract::faults::{Code, Fault};
use pgmoor::model::spec::{PoolMode, PortRequest};

use crate::world::World;

#[test]
fn a_template_alone_is_a_database() {
    let spec = World::new().good(r#"{"template":"postgres"}"#, None);
    assert_eq!(spec.database_name, "shop");
    let node = &spec.nodes[0];
    assert_eq!((node.name.as_str(), node.hosts[0].as_str()), ("n1", "host-1"));
    assert_eq!((node.postgres_version.as_str(), node.image.as_str()), ("17.12", "pgmoor/postgres:17.12"));
    assert_eq!((node.port, node.memory_bytes), (PortRequest::Unpublished, 512 << 20));
    let owner = spec.owner().unwrap();
    assert_eq!((owner.username.as_str(), owner.flags.login, owner.password.is_none()), ("app", true, true));
    assert!(!spec.holds_secret && !spec.deleted && !spec.deletion_protection);
}

#[test]
fn nodes_override_the_database() {
    let spec = World::new().good(
        r##"{"port": 6000, "memory": "1GiB", "cpus": "2",
            "postgresql_conf": {"work_mem": "1MB", "jit": true},
            "pg_hba_conf": ["local all all md5"],
            "orchestrator_opts": {"swarm": {"extra_labels": {"a": "b"}}},
            "nodes": [{"name": "n1", "host_ids": ["host-1"], "port": 0, "cpus": "250m",
                       "postgresql_conf": {"work_mem": "2MB"}, "pg_hba_conf": ["local all app peer", "  # why"],
                       "orchestrator_opts": {"swarm": {"extra_labels": {"c": "d"}}}}]}"##,
        None,
    );
    let node = &spec.nodes[0];
    assert_eq!(node.port, PortRequest::Chosen, "an explicit 0 of a node is not the database's port");
    assert_eq!((node.cpu_millis, node.memory_bytes), (Some(250), 1 << 30));
    let parameters: Vec<_> = node.postgresql_conf.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(parameters, [("jit", "on"), ("work_mem", "2MB")]);
    assert_eq!(node.pg_hba, ["local all app peer", "local all all md5"]);
    let labels: Vec<&str> = node.swarm.extra_labels.keys().map(String::as_str).collect();
    assert_eq!(labels, ["c"]);
}

#[test]
fn a_database_keeps_the_version_that_it_runs() {
    let world = World::new();
    let old = world.good(r#"{"postgres_version": "17.11", "database_name": "orders"}"#, None);
    let next = world.good(r#"{"memory": "1GiB"}"#, Some(&old));
    assert_eq!(next.nodes[0].postgres_version, "17.11");
    assert_eq!(next.database_name, "orders");
    let forgotten =
        World::new().with_catalogue(|catalogue| catalogue.postgres.retain(|image| image.version != "17.11"));
    let kept = forgotten.good(r#"{"memory": "1GiB"}"#, Some(&old));
    assert_eq!(kept.nodes[0].image, old.nodes[0].image);
}

#[test]
fn an_accepted_spec_that_is_refused_today_still_guards() {
    let old =
        r#"{"postgres_version": "16.1", "deletion_protection": true, "generation": 4, "database_name": "orders"}"#;
    let world = World::new();
    assert!(world.accept(old.as_bytes(), None).is_err(), "its version is not in the catalogue any more");
    let guard = world.remembered(old, "image-of-16").unwrap();
    assert_eq!(guard.nodes[0].image, "image-of-16");
    let codes = |text: &str| -> Vec<Code> {
        let faults = world.accept(text.as_bytes(), Some(&guard)).err().unwrap_or_default();
        faults.iter().map(|fault| fault.code).collect()
    };
    assert_eq!(codes(r#"{"deleted": true}"#), [Code::DeletionProtected]);
    assert_eq!(
        codes(r#"{"generation": 3, "postgres_version": "17.12"}"#),
        [Code::StaleGeneration, Code::MajorVersionChange]
    );
    assert_eq!(
        codes(r#"{"database_name": "other", "postgres_version": "17.12"}"#),
        [Code::ImmutableField, Code::MajorVersionChange]
    );
}

#[test]
fn a_delete_keeps_what_was() {
    let world = World::new();
    let old = world.good(r#"{"template": "postgres", "database_name": "orders", "generation": 2}"#, None);
    let gone = world.good(r#"{"deleted": true, "generation": 3}"#, Some(&old));
    assert!(gone.deleted);
    assert_eq!((gone.database_name.as_str(), gone.generation), ("orders", Some(3)));
    assert_eq!(gone.nodes, old.nodes);
    // A rule that came later does not keep a database from being deleted.
    let world = World::new().with_catalogue(|catalogue| catalogue.postgres.clear());
    assert!(world.good(r#"{"template": "gone", "deleted": true}"#, Some(&old)).deleted);
}

#[test]
fn protection_goes_first_and_delete_follows() {
    let world = World::new();
    let protected = world.good(r#"{"deletion_protection": true}"#, None);
    let open = world.good(r#"{"deletion_protection": false}"#, Some(&protected));
    assert!(world.good(r#"{"deleted": true}"#, Some(&open)).deleted);
}

#[test]
fn secrets_in_specs_are_seen() {
    let world = World::new();
    assert!(world.good(r#"{"database_users": [{"username": "a", "password": "b"}]}"#, None).holds_secret);
    assert!(world.good(r#"{"scripts": {"post_init": ["CREATE ROLE a PASSWORD 'b'"]}}"#, None).holds_secret);
    assert!(!world.good(r#"{"scripts": {"post_init": ["CREATE ROLE a"]}}"#, None).holds_secret);
}

#[test]
fn an_extension_brings_its_library() {
    let spec = World::new().good(r#"{"extensions": ["pgaudit", {"name": "hstore", "schema": "x"}]}"#, None);
    assert_eq!(spec.extensions["pgaudit"].preload.as_deref(), Some("pgaudit"));
    assert_eq!(spec.extensions["hstore"].schema.as_deref(), Some("x"));
}

#[test]
fn spock_must_be_loaded_where_the_image_has_it() {
    let world = World::new().with_catalogue(|catalogue| {
        for image in &mut catalogue.postgres {
            image.multi_active = Some("spock".to_owned());
        }
    });
    let without = br#"{"postgresql_conf": {"shared_preload_libraries": "pg_stat_statements"}}"#;
    let codes: Vec<Code> = world.accept(without, None).unwrap_err().iter().map(|fault| fault.code).collect();
    assert_eq!(codes, [Code::InvalidParameter]);
    world.good(r#"{"postgresql_conf": {"shared_preload_libraries": "pg_stat_statements,spock"}}"#, None);
    world.good(r#"{"postgresql_conf": {"work_mem": "1MB"}}"#, None);
}

#[test]
fn a_pooler_has_defaults_and_a_node_its_own() {
    let pooler = |spec: &str| World::new().good(spec, None).nodes[0].pooler.clone();
    assert_eq!(pooler("{}"), None);
    let plain = pooler(r#"{"pooler": {}}"#).unwrap();
    assert_eq!((plain.port, plain.mode), (PortRequest::Unpublished, PoolMode::Transaction));
    assert_eq!((plain.clients_max, plain.pool_size, plain.memory_bytes), (200, 20, 64 << 20));
    assert!(plain.image.starts_with("pgmoor/pgbouncer:"), "{plain:?}");
    let own = pooler(
        r#"{"pooler": {"port": 0, "mode": "session", "pool_size": 7, "image": "mine:1"},
            "nodes": [{"name": "n1", "host_ids": ["host-1"], "pooler": {"port": 6000}}]}"#,
    );
    let own = own.unwrap();
    assert_eq!((own.port, own.mode, own.pool_size), (PortRequest::Fixed(6000), PoolMode::Transaction, 20));
    assert_eq!(own.image, plain.image, "it replaces the database's as a whole");
}

#[test]
fn a_catalogue_without_a_pooler_needs_a_named_one() {
    let world = World::new().with_catalogue(|catalogue| catalogue.pooler = None);
    let faults = world.accept(br#"{"pooler": {}}"#, None).unwrap_err();
    let places: Vec<(Code, &str)> = faults.iter().map(|fault| (fault.code, fault.pointer.as_str())).collect();
    assert_eq!(places, [(Code::Required, "/pooler/image")]);
    let named = world.good(r#"{"pooler": {"image": "mine:1"}}"#, None);
    assert_eq!(named.nodes[0].pooler.as_ref().unwrap().image, "mine:1");
}

#[test]
fn hints_help() {
    let told = |spec: &[u8], of: fn(&Fault) -> &str| -> Vec<String> {
        World::new().accept(spec, None).unwrap_err().iter().map(|fault| of(fault).to_owned()).collect()
    };
    let hints = told(br#"{"databaseName": "x", "extensions": ["pgvector"], "port": null}"#, |fault| {
        fault.hint.as_deref().unwrap_or_default()
    });
    assert_eq!(hints, ["did you mean \"database_name\"?", "did you mean \"vector\"?", "leave the field out instead"]);
    let messages = told(br#"{"approval": "never", "reconcile": 7, "extensions": [7]}"#, |fault| &fault.message);
    let expected = [
        "must be \"auto\" or \"manual\"",
        "must be a text or an object, and is a number",
        "must be a text, and is a number",
    ];
    assert_eq!(messages, expected, "a choice names all that can be chosen");
}
