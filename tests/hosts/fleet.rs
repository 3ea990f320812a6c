//! A database on three hosts: in the middle of an update of all its instances the host of its primary, which leads the
//! fleet too, loses its power; the broker is away for a while; the host comes back, and the update is finished by another.

use std::collections::BTreeMap;

use crate::daemon::until;
use crate::rows::{rows, written};
use crate::site::{Site, eventually};
use crate::testbed::Host;

/// The memory that the update gives, in MiB: any but the first.
const MORE: u64 = 288;

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
    let services = all.map(|host| site.service("shop", host));
    let containers = || [1, 2].map(|at| site.containers(all[at], &services[at]));
    assert_eq!((site.timeline("shop", &all), containers()), (1, [1, 1]));

    // One of three is updated when the leader's host, which is the primary's, loses its power.
    let more = serde_json::json!({ "memory": format!("{MORE}MiB") });
    site.publish("shop", 2, &all, &more);
    let updated = |asked: &Host| site.memory(asked, &services).values().filter(|memory| **memory == MORE).count();
    eventually("one is updated", || format!("{:#}", site.status("shop")), || updated(others[0]) > 0);
    leads.crash();
    assert!(updated_by_then(&site, &others, &services) < 3, "it is not finished");

    kept.extend(written(&site, &others, 1000));
    eventually(
        "another pgmoor leads, and says what is missing",
        || format!("{:#}", site.status("shop")),
        || {
            let status = site.status("shop");
            status["state"] == "degraded" && status.to_string().contains(&format!("bring host {} back", leads.name))
        },
    );
    let now = site.primary("shop").unwrap();
    assert_ne!(now.name, leads.name);
    assert!(rows(&site, now).is_superset(&kept), "no acknowledged row is lost");
    let led = |host: &&&Host| site.logged(host).contains("this host leads the fleet");
    assert_eq!(others.iter().filter(led).count(), 1, "one of the others");
    assert_eq!(site.timeline("shop", &others), 2, "the role moved once");
    // Where the one that was updated took over, nobody has to hand over any more.
    let service = site.service("shop", now);
    let hands_over = site.memory(now, std::slice::from_ref(&service)).values().any(|memory| *memory != MORE);

    // Without a broker databases go on, and what is to be said is said when it is back.
    site.lose_broker();
    kept.extend(written(&site, &others, 2000));
    leads.start();
    site.serve(&leads);
    site.wire.forget();
    site.start_broker();
    site.publish("shop", 2, &all, &more);
    site.is("shop", 2, "available");
    for host in all {
        until("every host has every row, also the one that came back", || rows(&site, host).is_superset(&kept));
    }

    // The update is finished, and nothing of it was done twice.
    assert_eq!(updated(others[0]), 3);
    assert_eq!(containers(), [2, 2], "each was replaced once");
    let moved = 2 + u32::from(hands_over);
    assert_eq!(site.timeline("shop", &all), moved, "who had taken over and was to be replaced handed over once");
    assert_eq!(site.logged(&leads).matches("this host leads the fleet").count(), 1, "by the one that took over");
}

/// How many are updated when the Swarm of the others answers again.
fn updated_by_then(site: &Site, others: &[&Host], services: &[String]) -> usize {
    let mut memory = BTreeMap::new();
    until("the others have a leader", || {
        memory = site.memory(others[0], services);
        memory.len() == services.len()
    });
    memory.values().filter(|memory| **memory == MORE).count()
}
