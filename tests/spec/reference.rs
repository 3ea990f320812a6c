//! Every field of the reference system's DatabaseSpec stands in the schema, in the object where it has it, so that a spec
//! written for it is read here. What is not acted on yet is refused by name, never unknown.

use pgmoor::contract::faults::Code;
use pgmoor::contract::schema::{self, Kind};
use serde_json::{Value, json};

use crate::world::World;

/// The reference's objects (its API of July 2026): where the schema has them, and their fields.
const OBJECTS: [(&str, &[&str]); 15] = [
    (
        "",
        &[
            "database_name",
            "postgres_version",
            "spock_version",
            "port",
            "patroni_port",
            "cpus",
            "memory",
            "nodes",
            "database_users",
            "services",
            "backup_config",
            "restore_config",
            "postgresql_conf",
            "pg_hba_conf",
            "pg_ident_conf",
            "orchestrator_opts",
            "scripts",
        ],
    ),
    (
        "DatabaseNodeSpec",
        &[
            "name",
            "host_ids",
            "postgres_version",
            "port",
            "patroni_port",
            "cpus",
            "memory",
            "postgresql_conf",
            "pg_hba_conf",
            "pg_ident_conf",
            "backup_config",
            "restore_config",
            "orchestrator_opts",
            "source_node",
        ],
    ),
    ("DatabaseUserSpec", &["username", "password", "db_owner", "attributes", "roles"]),
    (
        "ServiceSpec",
        &[
            "service_id",
            "service_type",
            "version",
            "host_ids",
            "connect_as",
            "port",
            "config",
            "cpus",
            "memory",
            "orchestrator_opts",
            "database_connection",
        ],
    ),
    ("DatabaseConnectionSpec", &["target_nodes", "target_session_attrs"]),
    ("BackupConfigSpec", &["repositories", "schedules"]),
    ("BackupScheduleSpec", &["id", "type", "cron_expression"]),
    (
        "BackupRepositorySpec",
        &[
            "id",
            "type",
            "s3_bucket",
            "s3_region",
            "s3_endpoint",
            "s3_key",
            "s3_key_secret",
            "gcs_bucket",
            "gcs_endpoint",
            "gcs_key",
            "azure_account",
            "azure_container",
            "azure_endpoint",
            "azure_key",
            "retention_full",
            "retention_full_type",
            "base_path",
            "custom_options",
        ],
    ),
    (
        "RestoreRepositorySpec",
        &[
            "id",
            "type",
            "s3_bucket",
            "s3_region",
            "s3_endpoint",
            "s3_key",
            "s3_key_secret",
            "gcs_bucket",
            "gcs_endpoint",
            "gcs_key",
            "azure_account",
            "azure_container",
            "azure_endpoint",
            "azure_key",
            "base_path",
            "custom_options",
        ],
    ),
    (
        "RestoreConfigSpec",
        &["source_database_id", "source_node_name", "source_database_name", "repository", "restore_options"],
    ),
    ("OrchestratorOpts", &["swarm"]),
    ("SwarmOpts", &["extra_volumes", "extra_networks", "extra_labels", "image"]),
    ("ExtraVolumeSpec", &["host_path", "destination_path"]),
    ("ExtraNetworkSpec", &["id", "aliases", "driver_opts"]),
    ("ScriptsSpec", &["post_init", "post_database_create"]),
];

/// What pgmoor has besides, in the spec itself.
const OURS: [&str; 6] = ["template", "extensions", "deletion_protection", "deleted", "generation", "client_token"];

fn properties<'a>(schema: &'a Value, object: &str) -> &'a serde_json::Map<String, Value> {
    let object = if object.is_empty() { schema } else { &schema["$defs"][object] };
    object["properties"].as_object().unwrap()
}

#[test]
fn every_field_of_the_reference_is_in_the_schema() {
    let schema: Value = serde_json::from_str(schema::schema(Kind::DatabaseSpec)).unwrap();
    for (object, fields) in OBJECTS {
        let known = properties(&schema, object);
        let missing: Vec<&&str> = fields.iter().filter(|field| !known.contains_key(**field)).collect();
        assert!(missing.is_empty(), "{object}: {missing:?}");
        let described = |name: &str| known[name]["description"].is_string() || known[name]["$ref"].is_string();
        let bare: Vec<&&str> = fields.iter().filter(|field| !described(field)).collect();
        assert!(bare.is_empty(), "{object} does not say what these mean: {bare:?}");
    }
    assert!(OURS.iter().all(|field| properties(&schema, "").contains_key(*field)));
}

/// The kinds of service with their own settings are the reference's; which settings is checked when services are built.
#[test]
fn what_is_not_acted_on_is_refused_by_name() {
    let service = json!({"service_id": "api", "service_type": "postgrest", "version": "latest", "host_ids": ["host-1"],
                         "connect_as": "app", "config": {"db_anon_role": "app"}});
    for (field, value) in [
        ("spock_version", json!("5")),
        ("patroni_port", json!(8888)),
        ("services", json!([service])),
        ("backup_config", json!({"repositories": [{"type": "posix", "base_path": "/backups"}]})),
    ] {
        let spec = json!({"database_users": [{"username": "app"}], field: value}).to_string();
        let faults = World::new().accept(spec.as_bytes(), None).unwrap_err();
        let pointer = format!("/{field}");
        assert!(faults.iter().any(|fault| fault.code == Code::Unsupported && fault.pointer == pointer), "{faults:?}");
        assert!(faults.iter().all(|fault| fault.code != Code::UnknownField), "{faults:?}");
    }
}
