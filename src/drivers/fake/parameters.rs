//! Parameters that only a start of Postgres takes in, and the libraries that it brings.

/// Parameters of context `postmaster` in PostgreSQL 17 (`postgres --describe-config`), and of extensions in the image.
const POSTMASTER: [&str; 69] = [
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
    "pg_stat_statements.max",
    "pglogical.batch_inserts",
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
    "trace_recovery_messages",
    "track_activity_query_size",
    "track_commit_timestamp",
    "transaction_buffers",
    "unix_socket_directories",
    "unix_socket_group",
    "unix_socket_permissions",
    "wal_buffers",
    "wal_decode_buffer_size",
    "wal_keep_segments",
    "wal_level",
    "wal_log_hints",
    "wal_segment_size",
];

/// Libraries that PostgreSQL itself brings.
const LIBRARIES: [&str; 4] = ["auth_delay", "auto_explain", "pg_prewarm", "pg_stat_statements"];

/// Whether only a start takes this parameter in.
pub(super) fn needs_restart(name: &str) -> bool {
    POSTMASTER.contains(&name)
}

/// Whether PostgreSQL itself brings this library.
pub(super) fn is_own_library(name: &str) -> bool {
    LIBRARIES.contains(&name)
}
