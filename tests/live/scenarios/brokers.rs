//! Who loses what: the store, the broker's memory, both, or the broker's last minutes. The databases go on as they are.

use std::time::Duration;

use super::Site;
use crate::daemon::{Daemon, until};

fn shop(work_mem: &str) -> String {
    format!(r#"{{"template": "postgres", "postgresql_conf": {{"work_mem": "{work_mem}"}}}}"#)
}

/// What must be the same afterwards.
#[derive(Debug, PartialEq)]
struct Kept {
    containers: Vec<String>,
    networks: Vec<String>,
    secrets: Vec<String>,
    postmaster: String,
    rows: String,
}

fn kept(site: &Site) -> Kept {
    let sorted = |mut list: Vec<String>| {
        list.sort();
        list
    };
    Kept {
        containers: sorted(site.objects("container")),
        networks: sorted(site.objects("network")),
        secrets: site.secrets(),
        postmaster: site.postmaster("shop"),
        rows: site.psql("shop", "SELECT x FROM kept"),
    }
}

fn lose_the_store(site: &Site) {
    std::fs::remove_file(site.data_dir().join("pgmoor.redb")).unwrap();
}

/// Waits until the database is told to be available with an empty plan, and stays as it was.
fn unharmed(site: &Site, before: &Kept) {
    let id = site.id("shop");
    site.daemon.wait_status(&id, "the database is available", |status| status["state"] == "available");
    until("the plan is empty", || {
        let plan = site.daemon.wire.last(&format!("databases/{id}/plan")).unwrap_or_default();
        serde_json::from_str::<serde_json::Value>(&plan).is_ok_and(|plan| plan["stages"] == serde_json::json!([]))
    });
    // Two ticks and more.
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(kept(site), *before, "{}", site.daemon.log());
}

fn wait_condition(site: &Site, kind: &str, reason: Option<&str>) -> serde_json::Value {
    let what = format!("{kind} is {reason:?}");
    site.daemon.wait_status(&site.id("shop"), &what, |status| Daemon::condition(status, kind).as_deref() == reason)
}

#[test]
fn the_disk_of_a_host_with_its_own_broker_is_lost() {
    let mut site = Site::start(false);
    site.apply("shop", &shop("5MB"));
    site.psql("shop", "CREATE TABLE kept (x int); INSERT INTO kept VALUES (7)");
    let before = kept(&site);
    site.kill();
    lose_the_store(&site);
    site.daemon.start_again();
    unharmed(&site, &before);
    let spec = format!("databases/{}/spec", site.id("shop"));
    until("the broker has the spec again", || site.daemon.wire.last(&spec) == Some(shop("5MB")));
}

#[test]
fn a_store_or_a_brokers_memory_is_lost() {
    let mut site = Site::start(true);
    site.apply("shop", &shop("5MB"));
    site.apply("gone", r#"{"template": "postgres"}"#);
    site.psql("shop", "CREATE TABLE kept (x int); INSERT INTO kept VALUES (7)");
    site.daemon.save_broker();
    site.apply("shop", &shop("6MB"));
    site.daemon.publish(&site.id("gone"), r#"{"deleted": true}"#);
    site.daemon.wait_gone(&site.id("gone"));
    until("the deleted database's container is gone", || site.objects("container").len() == 2);
    let before = kept(&site);

    // Killed without its last save, it comes back with the first spec and the deleted database.
    site.daemon.restart_broker(false);
    wait_condition(&site, "BrokerRewound", Some("SupersededSpecReplayed"));
    unharmed(&site, &before);
    site.daemon.wait_gone(&site.id("gone"));
    assert_eq!(site.psql("shop", "SHOW work_mem"), "6MB");
    site.apply("shop", &shop("6MB"));
    wait_condition(&site, "BrokerRewound", None);

    site.kill();
    site.daemon.restart_broker(true);
    site.daemon.start_again();
    wait_condition(&site, "BrokerAmnesia", Some("SpecNotRetained"));
    unharmed(&site, &before);
    site.apply("shop", &shop("6MB"));
    wait_condition(&site, "BrokerAmnesia", None);

    site.kill();
    lose_the_store(&site);
    site.daemon.start_again();
    unharmed(&site, &before);
    wait_condition(&site, "BrokerAmnesia", None);
}
