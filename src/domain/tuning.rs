//! Parameters derived from memory, processors and the number of nodes: the formulas of the reference (section 3.6).
//!
//! Invariant: no value grows past what Postgres or Patroni accepts, so a derived parameter is never dropped silently.

use std::collections::BTreeMap;

/// What the formulas start from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Machine {
    /// Memory of the instance in bytes.
    pub(super) memory_bytes: u64,
    /// Processors of the instance.
    pub(super) cpus: u64,
    /// Nodes of the database.
    pub(super) nodes: u64,
}

/// The least `max_connections`: Patroni 4.0 takes 100 instead of anything below it.
const CONNECTIONS_MIN: u64 = 25;
/// The most `max_connections` (reference 3.6).
const CONNECTIONS_MAX: u64 = 5000;
/// The least `shared_buffers` that Postgres starts with: 16 pages.
const SHARED_BUFFERS_MIN_PAGES: u64 = 16;
/// The most memory that a parameter in kB can name.
const KILOBYTES_MAX: u64 = 2_147_483_647;
/// The most `autovacuum_vacuum_cost_limit` that Postgres takes.
const COST_LIMIT_MAX: f64 = 10_000.0;
/// Bytes of memory from which `autovacuum_vacuum_cost_limit` begins to grow (20 GiB).
const COST_LIMIT_BASE_BYTES: f64 = 21_474_836_480.0;

/// The derived parameters, every value as text with its unit.
pub(super) fn derive(machine: Machine) -> BTreeMap<String, String> {
    let Machine { memory_bytes: memory, cpus, nodes } = machine;
    let connections = (memory / 9_531_392).clamp(CONNECTIONS_MIN, CONNECTIONS_MAX);
    let senders = (nodes + 2).max(16);
    let pages = |count: u64| kilobytes(count.saturating_mul(8));
    [
        ("max_connections", connections.to_string()),
        ("shared_buffers", pages((memory / 32_768).max(SHARED_BUFFERS_MIN_PAGES))),
        ("effective_cache_size", pages((memory / 16_384).max(1))),
        // M * 1024 / 63963136, without the product.
        ("maintenance_work_mem", kilobytes((memory / 62_464).max(65_536))),
        ("autovacuum_max_workers", (memory / 64_371_566_592).max(3).to_string()),
        ("autovacuum_vacuum_cost_limit", cost_limit(memory).to_string()),
        ("autovacuum_work_mem", kilobytes((memory / 32_768).max(65_536))),
        ("max_worker_processes", (2 * cpus).max(nodes).max(12).to_string()),
        ("max_parallel_workers", (cpus / 2).max(8).to_string()),
        ("max_wal_senders", senders.to_string()),
        ("max_replication_slots", senders.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

fn kilobytes(count: u64) -> String {
    format!("{}kB", count.min(KILOBYTES_MAX))
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a limit between 200 and 10000, rounded down"
)]
fn cost_limit(memory: u64) -> u64 {
    let limit = 600.0 * (memory as f64 / COST_LIMIT_BASE_BYTES).log2();
    limit.clamp(200.0, COST_LIMIT_MAX) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn check(memory_bytes: u64, cpus: u64, nodes: u64, expected: [&str; 11]) {
        let derived = derive(Machine { memory_bytes, cpus, nodes });
        let names = [
            "max_connections",
            "shared_buffers",
            "effective_cache_size",
            "maintenance_work_mem",
            "autovacuum_max_workers",
            "autovacuum_vacuum_cost_limit",
            "autovacuum_work_mem",
            "max_worker_processes",
            "max_parallel_workers",
            "max_wal_senders",
            "max_replication_slots",
        ];
        assert_eq!(names.map(|name| derived[name].as_str()), expected, "{memory_bytes} bytes");
        assert_eq!(derived.len(), names.len());
    }

    /// Worked out by hand from the formulas of reference 3.6.
    #[test]
    fn the_formulas_of_the_reference() {
        // 536870912 / 9531392 = 56.3; / 32768 = 16384 pages = 131072 kB.
        let half = ["56", "131072kB", "262144kB", "65536kB", "3", "200", "65536kB", "12", "8", "16", "16"];
        check(GIB / 2, 1, 1, half);
        // 17179869184 / 9531392 = 1802.4; * 1024 / 63963136 = 275036.9 kB; / 32768 = 524288.
        let sixteen = ["1802", "4194304kB", "8388608kB", "275036kB", "3", "200", "524288kB", "16", "8", "16", "16"];
        check(16 * GIB, 8, 3, sixteen);
        // log2(256 / 20) = 3.678; 600 * 3.678 = 2206.9; 274877906944 / 62464 = 4400581.2; 274877906944 / 64371566592 = 4.27.
        let large =
            ["5000", "67108864kB", "134217728kB", "4400581kB", "4", "2206", "8388608kB", "128", "32", "22", "22"];
        check(256 * GIB, 64, 20, large);
    }

    #[test]
    fn small_machines_stay_within_what_patroni_takes() {
        let derived = derive(Machine { memory_bytes: 64 << 20, cpus: 1, nodes: 1 });
        assert_eq!(derived["max_connections"], "25");
        assert_eq!(derive(Machine { memory_bytes: 0, cpus: 0, nodes: 0 })["shared_buffers"], "128kB");
    }
}
