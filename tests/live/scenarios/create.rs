//! One message, one running Postgres, by either broker; changed and deleted on a broker with the access list that we ship;
//! and no secret anywhere, also when a step fails.

use super::Site;
use super::secrets::Secrets;
use crate::daemon::until;

const SHOP: &str = include_str!("../../../schemas/v1/examples/valid/shop.json");

/// A password that its author put into a script, where no topic but the spec's may hold it.
const IN_SCRIPT: &str = "written-in-a-script";

#[test]
fn by_the_embedded_broker() {
    let site = Site::start(false);
    let status = site.apply("small", r#"{"template": "postgres"}"#);
    assert!(status["connection"]["port"].is_null(), "a template publishes no port: {status}");
    assert_eq!(site.psql("small", "CREATE TABLE t (x int); INSERT INTO t VALUES (41); SELECT x + 1 FROM t"), "42");
    site.apply("shop", SHOP);
    let version = site.psql("shop", "SHOW server_version");
    assert!(version.starts_with("17."), "{version}");
    assert_eq!(site.psql("shop", "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"), "t");
    let mut secrets = Secrets::of(&site);
    secrets.are_nowhere(&site, &[]);
    let failing = format!(
        r#"{{"database_users": [{{"username": "app", "password": "chosen by its author", "db_owner": true}}],
            "scripts": {{"post_database_create": ["SELECT '{IN_SCRIPT}'::int"]}}}}"#
    );
    site.daemon.expect_log(&["step failed"]);
    let failing_id = site.id("failing");
    site.daemon.publish(&failing_id, &failing);
    let status = site.daemon.wait_status(&failing_id, "the step has failed", |status| {
        let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|condition| condition["reason"] == "StepFailed")
    });
    assert!(status.to_string().contains("SecretInSpec"), "{status}");
    secrets.learn(&site);
    secrets.are_nowhere(&site, &["chosen by its author", IN_SCRIPT]);
}

#[test]
fn by_mosquitto() {
    let site = Site::start_guarded();
    let watcher = site.daemon.wire_as("watcher");
    site.apply("small", r#"{"template": "postgres"}"#);
    let started = site.postmaster("small");
    site.apply("small", r#"{"template": "postgres", "postgresql_conf": {"work_mem": "9MB"}}"#);
    assert_eq!(site.psql("small", "SHOW work_mem"), "9MB");
    assert_eq!(site.postmaster("small"), started);
    let (spec, status) =
        (format!("databases/{}/spec", site.id("small")), format!("databases/{}/status", site.id("small")));
    until("the watcher sees the status", || watcher.last(&status).is_some_and(|text| text.contains("available")));
    // What only a publisher may say, and what only the controller may: neither is heard from others.
    watcher.publish(&spec, r#"{"deleted": true}"#, true);
    site.daemon.wire.publish(&status, r#"{"forged": true}"#, true);
    site.apply("small", r#"{"template": "postgres", "postgresql_conf": {"work_mem": "7MB"}}"#);
    let said = site.daemon.wire.everything();
    assert!(
        said.iter().all(|(_, payload)| !payload.contains("forged") && !payload.contains("deleted\": true")),
        "{said:?}"
    );
    let secrets = Secrets::of(&site);
    site.daemon.publish(&site.id("small"), r#"{"deleted": true}"#);
    site.daemon.wait_gone(&site.id("small"));
    site.wait_only_etcd();
    secrets.are_nowhere(&site, &[]);
}
