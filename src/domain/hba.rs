//! `pg_hba.conf` and `pg_ident.conf`: who may log in, and how.
//!
//! Invariants: pgmoor's own roles come first and are then refused, so no line of a user opens them; they log in with a
//! certificate over TLS from a network that the container is on, or as the container's own user over its socket.
//! Nothing depends on a subnet that is not known yet. Nothing is `trust`.

use super::layout::{CONTAINER_USER, MAINTENANCE_DATABASE, POOLER_ROLE, REPLICATION_ROLE, SUPERUSER};

/// The map of `pg_ident.conf` from the container's user to pgmoor's roles.
const MAP: &str = "pgmoor";

/// The lines of `pg_hba.conf`, in the order of the reference (3.6): system roles, their refusal, the user's lines,
/// passwords for the rest. Of a node without a pooler nothing is said of the pooler's role, which is not there.
pub(super) fn lines(user: &[String], password_method: &str, pooled: bool) -> Vec<String> {
    let mut lines = vec![
        format!("local all,replication {SUPERUSER},{REPLICATION_ROLE} peer map={MAP}"),
        format!("hostssl all,replication {SUPERUSER} samenet cert clientcert=verify-full"),
        format!("hostssl all,replication {REPLICATION_ROLE} samenet cert clientcert=verify-full"),
        format!("host all,replication {SUPERUSER},{REPLICATION_ROLE} all reject"),
    ];
    if pooled {
        lines.push(format!("hostssl {MAINTENANCE_DATABASE} {POOLER_ROLE} samenet cert clientcert=verify-full"));
        lines.push(format!("host all,replication {POOLER_ROLE} all reject"));
    }
    lines.extend(user.iter().cloned());
    lines.push(format!("local all all {password_method}"));
    lines.push(format!("host all all 0.0.0.0/0 {password_method}"));
    lines.push(format!("host all all ::/0 {password_method}"));
    lines
}

/// The lines of `pg_ident.conf`.
pub(super) fn ident(user: &[String]) -> Vec<String> {
    let system = [SUPERUSER, REPLICATION_ROLE].map(|role| format!("{MAP} {CONTAINER_USER} {role}"));
    system.into_iter().chain(user.iter().cloned()).collect()
}

/// The password method that accepts what `password_encryption` stores: `md5` also takes SCRAM verifiers.
pub(super) fn password_method(password_encryption: &str) -> &'static str {
    if password_encryption.eq_ignore_ascii_case("md5") { "md5" } else { "scram-sha-256" }
}
