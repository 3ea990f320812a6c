//! A database on three hosts: its primary's host, which leads the fleet too, loses its power; the broker is away for a
//! while; the host comes back.

use std::collections::BTreeSet;

use crate::daemon::until;
use crate::site::Site;
use crate::testbed::Host;

/// Writes row after row until one is acknowledged after `from`, and gives all that were.
fn written(site: &Site, hosts: &[&Host], from: u32) -> BTreeSet<u32> {
    let (mut rows, mut next) = (BTreeSet::new(), from);
    until("a row is acknowledged", || {
        let row = next;
        next += 1;
        let written = site.psql("shop", hosts, &format!("INSERT INTO kept VALUES ({row})"));
        if written.is_ok() {
            rows.insert(row);
        }
        written.is_ok()
    });
    rows
}

fn rows(site: &Site, host: &Host) -> BTreeSet<u32> {
    let said = site.psql("shop", &[host], "SELECT n FROM kept").unwrap_or_default();
    said.lines().filter_map(|line| line.parse().ok()).collect()
}

#[test]
fn a_database_outlives_the_host_of_its_primary_and_of_the_leader() {
    let site = Site::up("outlive", 3);
    let leads = site.bed.leader().unwrap().clone();
    let others: Vec<&Host> = site.bed.others(&leads).collect();
    let all = [&leads, others[0], others[1]];
    // The first of the hosts gets the primary.
    site.publish("shop", 1, &all, &serde_json::json!({}));
    site.is("shop", 1, "available");
    assert_eq!(site.primary("shop").map(|host| &host.name), Some(&leads.name));
    let uri = site.status("shop")["connection"]["uri"].as_str().unwrap().to_owned();
    assert!(all.iter().all(|host| uri.contains(&host.address)) && uri.contains("target_session_attrs"), "{uri}");

    site.psql("shop", &[&leads], "CREATE TABLE kept (n int PRIMARY KEY)").unwrap();
    let mut kept = written(&site, &all, 1);
    for host in all {
        until("the row is on every host", || rows(&site, host) == kept);
    }
    let refused = site.psql("shop", &[others[0]], "INSERT INTO kept VALUES (0)").unwrap_err();
    assert!(refused.contains("read-only"), "{refused}");
    site.has_quorum_to_spare("shop");

    leads.crash();
    kept.extend(written(&site, &others, 1000));
    until("another pgmoor leads, and says what is missing", || {
        let status = site.status("shop");
        status["state"] == "degraded" && status.to_string().contains(&format!("bring host {} back", leads.name))
    });
    let now = site.primary("shop").unwrap();
    assert_ne!(now.name, leads.name);
    assert!(rows(&site, now).is_superset(&kept), "no acknowledged row is lost");
    let led = |host: &&&Host| site.logged(host).contains("this host leads the fleet");
    assert_eq!(others.iter().filter(led).count(), 1, "one of the others");

    // Without a broker databases go on, and what is to be said is said when it is back.
    site.lose_broker();
    kept.extend(written(&site, &others, 2000));
    leads.start();
    site.serve(&leads);
    site.wire.forget();
    site.start_broker();
    site.publish("shop", 1, &all, &serde_json::json!({}));
    site.is("shop", 1, "available");
    for host in all {
        until("every host has every row, also the one that came back", || rows(&site, host).is_superset(&kept));
    }
}
