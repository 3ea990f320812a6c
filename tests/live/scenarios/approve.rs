//! A restart that a person must approve: not before, once after, and not forgotten by a daemon that dies in between.

use pgmoor::model::Digest;
use serde_json::Value;

use super::Site;
use crate::daemon::until;

fn shop(more: &str) -> String {
    format!(
        r#"{{"database_name": "shop", "port": 0, "approval": "manual",
            "database_users": [{{"username": "owner", "db_owner": true, "attributes": ["LOGIN"]}}]{more}}}"#
    )
}

/// The plan of the database.
fn plan(site: &Site) -> Value {
    let said = site.daemon.wire.last(&format!("databases/{}/plan", site.id("shop")));
    said.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

/// Approves of a digest, and waits for the answer.
fn approve(site: &Site, digest: &str) -> Value {
    let topic = format!("databases/{}/commands/apply", site.id("shop"));
    let payload = format!(r#"{{"digest": "{digest}"}}"#);
    let request = Digest::of_bytes(payload.as_bytes());
    site.daemon.wire.publish(&topic, &payload, false);
    let mut answer = Value::Null;
    until("the request is answered", || {
        let said = site.daemon.wire.last(&format!("{topic}/result"));
        answer = said.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        answer["request"] == request.as_str()
    });
    answer
}

#[test]
fn a_restart_waits_for_its_approval_and_survives_the_daemon() {
    let mut site = Site::start(true);
    site.daemon.expect_log(&["drift"]);
    site.apply("shop", &shop(""));
    let started = site.postmaster("shop");

    let more = r#", "postgresql_conf": {"max_connections": 60, "work_mem": "9MB"}"#;
    let digest = site.daemon.publish(&site.id("shop"), &shop(more));
    until("the plan waits for approval", || plan(&site)["state"] == "pending");
    std::thread::sleep(std::time::Duration::from_secs(5));
    assert_eq!(site.postmaster("shop"), started, "nothing restarts before");
    assert_ne!(site.psql("shop", "SHOW work_mem"), "9MB", "what comes with the restart waits with it");
    let pending = "SELECT count(*) FROM pg_settings WHERE pending_restart";
    assert_eq!(site.psql("shop", pending), "0", "no half of it is done, which a crash would complete");
    assert_eq!(approve(&site, &"0".repeat(64))["faults"][0]["code"], "stale-approval");

    let waits = plan(&site)["approval"]["digest"].as_str().unwrap().to_owned();
    assert_eq!(approve(&site, &waits)["result"], "accepted");
    site.kill();
    site.daemon.start_again();
    site.daemon.wait_status(&site.id("shop"), "what was approved is done", |status| {
        status["state"] == "available" && status["observed"]["digest"] == digest
    });
    assert_eq!(site.psql("shop", "SHOW max_connections"), "60");
    let restarted = site.postmaster("shop");
    assert_ne!(restarted, started);
    std::thread::sleep(std::time::Duration::from_secs(5));
    assert_eq!(site.postmaster("shop"), restarted, "once");

    // A service that somebody removed interrupts nobody any more: it comes back without a word.
    crate::docker::docker(&["service", "rm", &site.service("shop")]).unwrap();
    until("the database serves again", || {
        let user = site.credentials("shop").default_user.unwrap();
        site.container(&site.service("shop")).is_some() && site.psql_as("shop", &user, "SELECT 1").is_ok()
    });
}
