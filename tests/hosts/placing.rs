//! Hosts that pgmoor chooses: two of three for a database, the third for the next one; a drained one is left with all rows,
//! and labels draw a database to the host that has them.

use std::path::Path;

use serde_json::{Value, json};

use crate::daemon::until;
use crate::site::Site;
use crate::testbed::{CONTROLLER, Host, Running};

const FLEET: &str = "placing";

fn publish(site: &Site, database: &str, generation: u64, port: u16, more: &Value) {
    let mut spec = json!({
        "generation": generation, "database_name": database, "port": port, "memory": "256MiB",
        "database_users": [{"username": "app", "password": "three-hosts-7", "db_owner": true, "attributes": ["LOGIN"]}],
    });
    for (field, value) in more.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    site.wire.publish(&format!("databases/{database}/spec"), &spec.to_string(), true);
}

/// The hosts that were chosen, in their order.
fn chosen<'a>(site: &'a Site, database: &str) -> Vec<&'a Host> {
    let status = site.status(database);
    let placed = status["placement"][0]["hosts"].as_array().cloned().unwrap_or_default();
    let host = |placed: &Value| site.bed.hosts().iter().find(|host| placed["host"] == host.name.as_str());
    placed.iter().map(|placed| host(placed).unwrap()).collect()
}

fn is_settled_on(site: &Site, database: &str, hosts: &[&Host]) -> bool {
    let status = site.status(database);
    let instances = status["instances"].as_array().map_or(0, Vec::len);
    status["state"] == "available" && chosen(site, database) == hosts && instances == hosts.len()
}

/// Starts the daemon of a host anew, with a label.
fn relabelled(site: &Site, host: &Host, label: &str, log: &Path) -> Running {
    host.exec(&["pkill", "-x", "pgmoor"]).unwrap();
    until("the daemon has ended", || host.exec(&["pgrep", "-x", "pgmoor"]).is_err());
    let url = format!("mqtt://{CONTROLLER}:1883");
    let serve = [env!("CARGO_BIN_EXE_pgmoor"), "serve", "--fleet", FLEET, "--broker-url", &url, "--host-labels", label];
    let running = host.spawn(&serve, log);
    until("the host says its label", || {
        let status = site.document(&format!("hosts/{}/status", host.name));
        status["inventory"]["labels"].to_string().contains("zone")
    });
    running
}

#[test]
fn hosts_are_chosen_kept_and_left() {
    let site = Site::up(FLEET, 3);
    publish(&site, "shop", 1, 6432, &json!({"replicas": 1}));
    until("the database is on two hosts", || chosen(&site, "shop").len() == 2);
    let first = chosen(&site, "shop");
    until("it serves there", || is_settled_on(&site, "shop", &first));
    let third = site.bed.hosts().iter().find(|host| !first.contains(host)).unwrap();
    let why = site.status("shop")["placement"][0]["hosts"][0]["reason"].to_string();
    assert!(why.contains("of 3 hosts that fit it has the fewest instances"), "{why}");
    publish(&site, "till", 1, 6433, &json!({}));
    until("the next one is on the third", || chosen(&site, "till") == [third]);

    let leaves = site.primary("shop").unwrap();
    let stays = first.iter().find(|host| **host != leaves).unwrap();
    site.psql("shop", &[leaves], "CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n").unwrap();
    site.wire.publish("commands/drain-host", &json!({"host": leaves.name}).to_string(), false);
    until("another host took its place", || is_settled_on(&site, "shop", &[stays, third]));
    assert_ne!(site.primary("shop"), Some(leaves));
    for host in [stays, third] {
        until("every row is there", || {
            site.psql("shop", &[host], "SELECT count(*) FROM kept").is_ok_and(|n| n == "1000")
        });
    }
    let services = leaves.docker(&["ps", "--format", "{{.Names}}"]).unwrap();
    assert!(!services.contains("shop"), "nothing of it runs there: {services}");
    let events = site.wire.everything();
    let moved = format!("n1 is on {}, {}, it was on {}, {}", stays.name, third.name, first[0].name, first[1].name);
    assert!(events.iter().any(|(_, text)| text.contains("placement.changed") && text.contains(&moved)), "{moved}");

    let directory = tempfile::tempdir().unwrap();
    let _labelled = relabelled(&site, third, "zone=b", &directory.path().join("log"));
    publish(&site, "shop", 2, 6432, &json!({"replicas": 0, "host_labels": {"zone": "b"}}));
    until("it is where the label is", || is_settled_on(&site, "shop", &[third]));
    assert_eq!(site.psql("shop", &[third], "SELECT count(*) FROM kept"), Ok("1000".to_owned()));
}
