//! Poolers on three hosts: each leads to the primary, wherever that is, and goes on doing so when no pgmoor runs.

use std::process::Command;

use serde_json::json;

use crate::daemon::until;
use crate::site::{PASSWORD, Site};
use crate::testbed::{Host, said};

/// The port of the poolers on their hosts.
const PORT: u16 = 7432;

/// What Postgres says through the pooler of a host.
fn pooled(host: &Host, sql: &str) -> Result<String, String> {
    let uri = format!("postgresql://app@{}:{PORT}/shop?sslmode=require", host.address);
    let mut psql = Command::new("timeout");
    psql.args(["10", "psql", "-XqAt", "-d", &uri, "-c", sql]);
    psql.env("PGPASSWORD", PASSWORD).env("PGCONNECT_TIMEOUT", "3");
    said(&mut psql)
}

#[test]
fn poolers_follow_the_primary_with_no_pgmoor_running() {
    let site = Site::up("pooled", 3);
    let hosts: Vec<&Host> = site.bed.hosts().iter().collect();
    site.publish("shop", 1, &hosts, &json!({"pooler": {"port": PORT}}));
    site.is("shop", 1, "available");
    site.has_quorum_to_spare("shop");
    let uri = site.status("shop")["connection"]["uri_pooled"].as_str().unwrap().to_owned();
    assert!(hosts.iter().all(|host| uri.contains(&format!("{}:{PORT}", host.address))), "{uri}");
    for host in &hosts {
        until("the pooler of every host leads to Postgres", || pooled(host, "SELECT 1").as_deref() == Ok("1"));
    }
    pooled(hosts[0], "CREATE TABLE kept (n int PRIMARY KEY)").unwrap();
    for (row, host) in hosts.iter().enumerate() {
        pooled(host, &format!("INSERT INTO kept VALUES ({row})")).unwrap();
        assert_eq!(
            pooled(host, "SELECT pg_is_in_recovery()").as_deref(),
            Ok("f"),
            "to the primary, not to its neighbour"
        );
    }

    let lost = site.primary("shop").unwrap().clone();
    site.stop();
    lost.crash();
    for host in site.bed.others(&lost) {
        until("the pooler of a host that is left leads to the new primary", || {
            pooled(host, "SELECT pg_is_in_recovery()").as_deref() == Ok("f")
        });
    }
    let host = site.bed.others(&lost).next().unwrap();
    pooled(host, "INSERT INTO kept VALUES (100)").unwrap();
    assert_eq!(pooled(host, "SELECT count(*) FROM kept").as_deref(), Ok("4"), "no acknowledged row is lost");
}
