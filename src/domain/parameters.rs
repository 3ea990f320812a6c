//! `postgresql.conf`: what is always set, what is derived, and the user's parameters, which win.
//!
//! Invariant: no parameter of a user locks pgmoor out of the instance or writes a line of its own into the file.

use std::collections::BTreeMap;

use super::layout::container;
use super::tuning::{self, Machine};
use super::{Error, Hosts};
use crate::model::catalogue::Catalogue;
use crate::model::spec::NodeSpec;
use crate::model::{AcceptedSpec, NodeName};

/// The parameter that says which configuration Postgres has loaded.
pub const CONFIG_MARKER: &str = "pgmoor.config";
/// Libraries to load at start: the union of ours, the extensions' and the user's.
const PRELOAD: &str = "shared_preload_libraries";

/// Set in every instance (reference 3.6).
const ALWAYS: [(&str, &str); 24] = [
    ("archive_command", "/bin/true"),
    ("archive_mode", "on"),
    ("checkpoint_completion_target", "0.9"),
    ("checkpoint_timeout", "15min"),
    ("hot_standby_feedback", "on"),
    ("log_destination", "stderr"),
    ("log_directory", "log"),
    ("log_filename", "postgresql-%a.log"),
    ("log_rotation_age", "1d"),
    ("log_rotation_size", "0"),
    ("log_truncate_on_rotation", "on"),
    ("logging_collector", "on"),
    ("password_encryption", "scram-sha-256"),
    ("ssl", "on"),
    ("ssl_ca_file", "/opt/pgmoor/certificates/ca.crt"),
    ("ssl_cert_file", "/opt/pgmoor/certificates/server.crt"),
    ("ssl_key_file", "/opt/pgmoor/certificates/server.key"),
    ("track_commit_timestamp", "on"),
    ("track_io_timing", "on"),
    ("unix_socket_directories", container::SOCKETS),
    ("wal_level", "logical"),
    ("wal_log_hints", "on"),
    ("wal_sender_timeout", "5s"),
    (PRELOAD, "pg_stat_statements"),
];

/// Set where the image carries Spock (reference 3.6).
const SPOCK: [(&str, &str); 6] = [
    ("spock.allow_ddl_from_functions", "on"),
    ("spock.conflict_log_level", "DEBUG"),
    ("spock.conflict_resolution", "last_update_wins"),
    ("spock.enable_ddl_replication", "on"),
    ("spock.include_ddl_repset", "on"),
    ("spock.save_resolutions", "on"),
];

/// Postgres from 17.11 on loads only the output plugins named here, and pglogical's is not among the defaults
/// (CVE-2026-6471). Patroni leaves the parameter out where Postgres does not know it.
const PGLOGICAL_OUTPUT: (&str, &str) = ("output_plugin_libraries", "pgoutput, test_decoding, pglogical_output");

const SET_BY_PGMOOR: &str = "pgmoor sets it";
const ACCESS_FILES: &str = "it would replace the pg_hba.conf and pg_ident.conf that pgmoor keeps";
const TLS: &str = "pgmoor and Patroni log in with certificates and need the fleet's";

/// Parameters without which pgmoor would be locked out.
const REFUSED: [(&str, &str); 7] = [
    ("hba_file", ACCESS_FILES),
    ("ident_file", ACCESS_FILES),
    ("ssl", TLS),
    ("ssl_ca_file", TLS),
    ("ssl_cert_file", TLS),
    ("ssl_key_file", TLS),
    ("unix_socket_directories", SET_BY_PGMOOR),
];

/// Why this cannot be written into `postgresql.conf`. The contract refuses more, and with a pointer into the document;
/// this is what would lock pgmoor out or write another line than the one that is meant.
fn refusal(name: &str, value: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    if !is_parameter_name(&name) {
        return Some("it is not the name of a parameter: letters, digits, underscores, at most one dot");
    }
    if value.chars().any(char::is_control) {
        return Some("its value has a line break or another control character");
    }
    if name.starts_with("pgmoor.") {
        return Some(SET_BY_PGMOOR);
    }
    REFUSED.iter().find(|(refused, _)| *refused == name).map(|(_, why)| *why)
}

fn is_parameter_name(name: &str) -> bool {
    let part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
            && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    match name.split_once('.') {
        Some((prefix, rest)) => part(prefix) && part(rest),
        None => part(name),
    }
}

/// All parameters of a node, without [`CONFIG_MARKER`].
///
/// # Errors
/// The user set a parameter that is refused.
pub(super) fn render(
    spec: &AcceptedSpec,
    node: &NodeSpec,
    hosts: &Hosts,
    catalogue: &Catalogue,
) -> Result<BTreeMap<String, String>, Error> {
    let mut parameters: BTreeMap<String, String> = pairs(&ALWAYS).collect();
    parameters.extend(tuning::derive(machine(node, hosts)));
    let image = catalogue.postgres(&node.postgres_version);
    let spock = image.and_then(|image| image.multi_active.as_deref()) == Some("spock");
    if spock {
        parameters.extend(pairs(&SPOCK));
        let ordinal = node.name.ordinal().to_string();
        parameters.insert("snowflake.node".to_owned(), ordinal.clone());
        parameters.insert("lolor.node".to_owned(), ordinal);
    }
    let libraries = libraries(spec, node, spock);
    if libraries.iter().any(|library| library == "pglogical") {
        parameters.extend(pairs(&[PGLOGICAL_OUTPUT]));
    }
    for (name, value) in &node.postgresql_conf {
        if let Some(why) = refusal(name, value) {
            return Err(refused(&node.name, name, why));
        }
        parameters.insert(name.to_ascii_lowercase(), value.clone());
    }
    parameters.insert(PRELOAD.to_owned(), libraries.join(","));
    Ok(parameters)
}

fn refused(node: &NodeName, name: &str, why: &'static str) -> Error {
    Error::Parameter { node: node.clone(), name: name.to_owned(), why }
}

fn pairs<'a>(list: &'a [(&str, &str)]) -> impl Iterator<Item = (String, String)> + 'a {
    list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
}

/// A spec without a processor limit may use all of the host's, as in the reference; of several hosts, all of the
/// smallest's, since the parameters are the node's and any of its instances may become its primary.
fn machine(node: &NodeSpec, hosts: &Hosts) -> Machine {
    let cpus = match node.cpu_millis {
        Some(millis) => millis.div_ceil(1000),
        None => {
            node.hosts.iter().filter_map(|host| hosts.get(host)).map(|facts| u64::from(facts.cpus)).min().unwrap_or(1)
        }
    };
    // The formulas mean nodes that replicate to each other; those of this build do not.
    Machine { memory_bytes: node.memory_bytes, cpus: cpus.max(1), nodes: 1 }
}

/// Every library once: ours, what the extensions need, what the user names.
fn libraries(spec: &AcceptedSpec, node: &NodeSpec, spock: bool) -> Vec<String> {
    let ours = ["pg_stat_statements"].into_iter().chain(spock.then_some(["snowflake", "spock"]).into_iter().flatten());
    let needed = spec.extensions.values().filter_map(|extension| extension.preload.as_deref());
    let given = node
        .postgresql_conf
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case(PRELOAD))
        .flat_map(|(_, value)| value.split(','))
        .map(|library| library.trim().trim_matches('"'));
    let mut libraries: Vec<String> = Vec::new();
    for library in ours.chain(needed).chain(given).filter(|library| !library.is_empty()) {
        if !libraries.iter().any(|known| known == library) {
            libraries.push(library.to_owned());
        }
    }
    libraries
}

/// The method of the catch-all lines of `pg_hba.conf`.
pub(super) fn password_method(parameters: &BTreeMap<String, String>) -> &'static str {
    super::hba::password_method(parameters.get("password_encryption").map_or("", String::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::layout;

    #[test]
    fn what_would_lock_pgmoor_out_is_refused() {
        let refused = [
            ("hba_file", "x"),
            ("HBA_FILE", "x"),
            ("ssl", "off"),
            ("pgmoor.config", "x"),
            ("work_mem = 1\nport", "1"),
            ("a.b = 1 #", "1"),
            ("work_mem", "1\n2"),
            ("", "1"),
            ("a.b.c", "1"),
        ];
        for (name, value) in refused {
            assert!(refusal(name, value).is_some(), "{name} = {value}");
        }
        for (name, value) in [("max_connections", "25"), ("Work_Mem", "4MB"), ("pgaudit.log", "ddl, write")] {
            assert_eq!(refusal(name, value), None, "{name} = {value}");
        }
    }

    #[test]
    fn tables_agree_with_the_layout() {
        let value = |name: &str| ALWAYS.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        let server = layout::in_container(layout::SERVER);
        assert_eq!(value("ssl_cert_file"), Some(format!("{server}.crt").as_str()));
        assert_eq!(value("ssl_key_file"), Some(format!("{server}.key").as_str()));
        assert_eq!(value("ssl_ca_file"), Some(format!("{}.crt", layout::in_container("ca")).as_str()));
    }
}
