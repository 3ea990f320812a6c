//! Which parameters of PostgreSQL 17 take effect only at a start of the server, and of which a replica needs as much as
//! its primary has.
//!
//! Invariant: the list is a forecast for people (and what the in-memory Postgres goes by). Whether the real one waits
//! for a restart is observed (`pending_restart`), and only that restarts it.

use std::collections::BTreeMap;

/// Parameters of which a replica must have at least as much as its primary (PostgreSQL, "Hot Standby: Administrator's
/// Overview"), with what Patroni sets where the configuration does not say.
const AS_MUCH_AS_PRIMARY: [(&str, u64); 5] = [
    ("max_connections", 100),
    ("max_locks_per_transaction", 64),
    ("max_prepared_transactions", 0),
    ("max_wal_senders", 10),
    ("max_worker_processes", 8),
];

/// The names of the parameters of which a replica must have at least as much as its primary.
pub fn as_much_as_primary() -> impl Iterator<Item = &'static str> {
    AS_MUCH_AS_PRIMARY.iter().map(|(name, _)| *name)
}

/// What a node's configuration gives of these. What is not written as a whole number is left out.
#[must_use]
pub fn given_as_much(parameters: &BTreeMap<String, String>) -> BTreeMap<String, u64> {
    as_much(|name| parameters.get(name).map(String::as_str))
}

/// The same of parameters that are looked up one by one.
pub fn as_much<'a>(parameter: impl Fn(&str) -> Option<&'a str>) -> BTreeMap<String, u64> {
    let given = |(name, patronis): &(&str, u64)| {
        let value = match parameter(name) {
            Some(text) => text.trim().parse().ok()?,
            None => *patronis,
        };
        Some(((*name).to_owned(), value))
    };
    AS_MUCH_AS_PRIMARY.iter().filter_map(given).collect()
}

/// Parameters of context `postmaster`, sorted: `postgres --describe-config` of PostgreSQL 17, and the three that it
/// does not list (`config_file`, `debug_io_direct`, `ignore_invalid_pages`).
const POSTMASTER: [&str; 64] = [
    "archive_mode",
    "autovacuum_freeze_max_age",
    "autovacuum_max_workers",
    "autovacuum_multixact_freeze_max_age",
    "bonjour",
    "bonjour_name",
    "cluster_name",
    "commit_timestamp_buffers",
    "config_file",
    "data_directory",
    "data_sync_retry",
    "debug_io_direct",
    "dynamic_shared_memory_type",
    "event_source",
    "external_pid_file",
    "hba_file",
    "hot_standby",
    "huge_page_size",
    "huge_pages",
    "ident_file",
    "ignore_invalid_pages",
    "jit_provider",
    "listen_addresses",
    "logging_collector",
    "max_connections",
    "max_files_per_process",
    "max_locks_per_transaction",
    "max_logical_replication_workers",
    "max_notify_queue_pages",
    "max_pred_locks_per_transaction",
    "max_prepared_transactions",
    "max_replication_slots",
    "max_wal_senders",
    "max_worker_processes",
    "min_dynamic_shared_memory",
    "multixact_member_buffers",
    "multixact_offset_buffers",
    "notify_buffers",
    "port",
    "recovery_target",
    "recovery_target_action",
    "recovery_target_inclusive",
    "recovery_target_lsn",
    "recovery_target_name",
    "recovery_target_time",
    "recovery_target_timeline",
    "recovery_target_xid",
    "reserved_connections",
    "serializable_buffers",
    "shared_buffers",
    "shared_memory_type",
    "shared_preload_libraries",
    "subtransaction_buffers",
    "superuser_reserved_connections",
    "track_activity_query_size",
    "track_commit_timestamp",
    "transaction_buffers",
    "unix_socket_directories",
    "unix_socket_group",
    "unix_socket_permissions",
    "wal_buffers",
    "wal_decode_buffer_size",
    "wal_level",
    "wal_log_hints",
];

/// The same of extensions in our images: pg_stat_statements, pg_prewarm and pglogical.
const POSTMASTER_OF_EXTENSIONS: [&str; 6] = [
    "pg_prewarm.autoprewarm",
    "pg_stat_statements.max",
    "pglogical.batch_inserts",
    "pglogical.synchronous_commit",
    "pglogical.temp_directory",
    "pglogical.use_spi",
];

/// Extensions nearly all of whose parameters are of that context.
const POSTMASTER_PREFIXES: [&str; 1] = ["cron."];

/// Whether a change of this parameter needs a restart. An unknown name counts as reloadable.
#[must_use]
pub fn restart_required(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    POSTMASTER.binary_search(&name.as_str()).is_ok()
        || POSTMASTER_OF_EXTENSIONS.binary_search(&name.as_str()).is_ok()
        || POSTMASTER_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_sorted() {
        assert!(POSTMASTER.is_sorted());
        assert!(POSTMASTER_OF_EXTENSIONS.is_sorted());
    }

    #[test]
    fn what_a_replica_needs_is_read_from_the_configuration() {
        let given = [("max_connections", "25"), ("max_wal_senders", "ten"), ("work_mem", "7")];
        let given = given_as_much(&given.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
        let found: Vec<(&str, u64)> = given.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        let rest = [("max_locks_per_transaction", 64), ("max_prepared_transactions", 0), ("max_worker_processes", 8)];
        assert_eq!(found, [&[("max_connections", 25)][..], &rest].concat());
        assert!(as_much_as_primary().all(restart_required));
    }

    #[test]
    fn names_fall_into_their_class() {
        for name in ["max_connections", "Shared_Buffers", "wal_level", "pg_stat_statements.max", "cron.timezone"] {
            assert!(restart_required(name), "{name}");
        }
        for name in
            ["work_mem", "log_min_duration_statement", "pg_stat_statements.track", "my.own", "", "max_connection"]
        {
            assert!(!restart_required(name), "{name}");
        }
    }
}
