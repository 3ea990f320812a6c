//! `postgresql_conf`: names and values that Postgres can take, and parameters that pgmoor or Patroni set themselves.
//!
//! Invariant: a parameter is in force as it stands, or refused here: one that would be overridden silently has a name
//! in [`MANAGED`], one that Patroni would drop or change is found in [`settings`].

mod settings;

use std::collections::BTreeMap;

use super::Check;
use crate::contract::faults::{Code, pointer};
use crate::contract::wire::{ParameterValue, Parameters};

const PGMOOR: &str = "pgmoor sets it";
const PATRONI: &str = "Patroni sets it and would override this value";
const ACCESS: &str = "it overrides the pg_hba.conf and pg_ident.conf that pgmoor manages and would make pg_hba_conf and \
     pg_ident_conf entries ineffective";
const TLS: &str = "pgmoor and Patroni log in with certificates and need the fleet's";
const INCLUDE: &str = "it would read parameters from a file that no spec describes";

/// Parameters that no spec may set, and why.
const MANAGED: [(&str, &str); 28] = [
    ("archive_cleanup_command", PATRONI),
    ("cluster_name", PATRONI),
    ("config_file", PATRONI),
    ("data_directory", PGMOOR),
    ("external_pid_file", PATRONI),
    ("hba_file", ACCESS),
    ("hot_standby", PATRONI),
    ("ident_file", ACCESS),
    ("include", INCLUDE),
    ("include_dir", INCLUDE),
    ("include_if_exists", INCLUDE),
    ("listen_addresses", PATRONI),
    ("port", "it is the port inside the container; the spec's own \"port\" publishes one on the host"),
    ("primary_conninfo", PATRONI),
    ("primary_slot_name", PATRONI),
    ("promote_trigger_file", PATRONI),
    ("recovery_end_command", PATRONI),
    ("recovery_min_apply_delay", PATRONI),
    ("recovery_target", PATRONI),
    ("restore_command", PATRONI),
    ("ssl", TLS),
    ("ssl_ca_file", TLS),
    ("ssl_cert_file", TLS),
    ("ssl_key_file", TLS),
    ("ssl_passphrase_command", TLS),
    ("synchronous_standby_names", PATRONI),
    ("unix_socket_directories", PGMOOR),
    ("wal_keep_segments", "Postgres has wal_keep_size instead"),
];

/// The least that Patroni 4 takes; of anything else it silently makes a default of its own.
const LEAST: [(&str, f64); 7] = [
    ("max_connections", 25.0),
    ("max_locks_per_transaction", 32.0),
    ("max_prepared_transactions", 0.0),
    ("max_replication_slots", 4.0),
    ("max_wal_senders", 3.0),
    ("max_worker_processes", 2.0),
    // In MB, its own unit.
    ("wal_keep_size", 16.0),
];

const PRELOAD: &str = "shared_preload_libraries";

pub(super) fn check(check: &mut Check<'_>) {
    let spec = check.spec;
    let versions: Vec<String> = check.nodes.iter().map(|node| node.version.value.clone()).collect();
    let major = |index: usize| versions.get(index).and_then(|version| version.split('.').next()).unwrap_or_default();
    layer(check, &spec.postgresql_conf, "/postgresql_conf", major(0));
    for (index, node) in spec.nodes.iter().flatten().enumerate() {
        layer(check, &node.postgresql_conf, &format!("/nodes/{index}/postgresql_conf"), major(index));
    }
    for node in check.nodes {
        preload(check, node);
    }
}

fn layer(check: &mut Check<'_>, parameters: &Parameters, place: &str, major: &str) {
    let mut names: BTreeMap<String, &str> = BTreeMap::new();
    for (name, value) in &parameters.0 {
        let place = pointer(place, name);
        let lower = name.to_ascii_lowercase();
        if let Some(other) = names.insert(lower.clone(), name) {
            let message = format!("\"{name}\" and \"{other}\" are the same parameter");
            check.add(Code::DuplicateName, place.clone(), message);
        }
        if !is_name(&lower) {
            let message = "it is not the name of a parameter: letters, digits, underscores, at most one dot";
            check.add(Code::InvalidParameter, place, message);
        } else if let Some(why) = managed(&lower) {
            check.add(Code::ManagedParameter, place, format!("\"{name}\" is not allowed: {why}"));
        } else if lower == PRELOAD && !matches!(value, ParameterValue::Text(_)) {
            check.add(Code::TypeMismatch, place, format!("\"{PRELOAD}\" must be a string"));
        } else if let Some(why) = bad_value(&lower, &value.text()) {
            check.add(Code::InvalidParameter, place, format!("\"{name}\": {why}"));
        } else if let Some(settings::Wrong { message, hint }) = settings::wrong(major, &lower, &value.text()) {
            check.add_with_hint(Code::InvalidParameter, place, format!("\"{name}\": {message}"), hint);
        }
    }
}

fn is_name(lower: &str) -> bool {
    let part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
            && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    match lower.split_once('.') {
        Some((prefix, rest)) => part(prefix) && part(rest),
        None => part(lower),
    }
}

fn managed(lower: &str) -> Option<&'static str> {
    if lower.starts_with("pgmoor.") {
        return Some(PGMOOR);
    }
    if lower.starts_with("recovery_target_") {
        return Some(PATRONI);
    }
    MANAGED.iter().find(|(name, _)| *name == lower).map(|(_, why)| *why)
}

fn bad_value(lower: &str, value: &str) -> Option<String> {
    if value.chars().any(char::is_control) {
        return Some("the value has a line break or another control character".to_owned());
    }
    if let Some((_, least)) = LEAST.iter().find(|(name, _)| *name == lower) {
        let unit = if lower == "wal_keep_size" { "MB" } else { "" };
        let enough = settings::number(value.trim(), unit).is_some_and(|number| number >= *least);
        if !enough {
            return Some(format!("it must be a number from {least}{unit}; Patroni would take its own default instead"));
        }
    }
    let replicates = ["replica", "logical"].contains(&value.trim().to_ascii_lowercase().as_str());
    (lower == "wal_level" && !replicates)
        .then(|| "it must be replica or logical; Patroni would take replica instead".to_owned())
}

/// Where the image carries spock, nodes replicate through it and it must be loaded; elsewhere Postgres would not start
/// with it.
fn preload(check: &mut Check<'_>, node: &super::Effective<'_>) {
    let given = node.parameters.iter().find(|(name, _)| name.eq_ignore_ascii_case(PRELOAD));
    let (Some((_, at)), Some(image)) = (given, node.image) else { return };
    let ParameterValue::Text(text) = at.value else { return };
    let has_spock = text.split(',').any(|library| library.trim().trim_matches('"') == "spock");
    let image_has_spock = image.multi_active.as_deref() == Some("spock");
    if image_has_spock && !has_spock {
        let message = "\"spock\" must be included in shared_preload_libraries";
        check.add(Code::InvalidParameter, at.pointer.clone(), message);
    } else if has_spock && !image_has_spock && node.pin().is_none() {
        let message =
            format!("the image of PostgreSQL {} does not have \"spock\"; Postgres would not start", image.version);
        check.add(Code::InvalidParameter, at.pointer.clone(), message);
    }
}
