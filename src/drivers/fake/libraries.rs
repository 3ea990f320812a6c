//! The libraries that the in-memory Postgres can load without an image that brings them.

/// Libraries that PostgreSQL itself brings.
const LIBRARIES: [&str; 4] = ["auth_delay", "auto_explain", "pg_prewarm", "pg_stat_statements"];

/// Whether PostgreSQL itself brings this library.
pub(super) fn is_own_library(name: &str) -> bool {
    LIBRARIES.contains(&name)
}
