//! The whole way without Docker: the real program with its own broker, on drivers of an in-memory world.

#![cfg(test)]

#[path = "../support/daemon.rs"]
mod daemon;
#[path = "../support/wire.rs"]
mod wire;

use daemon::{Daemon, Options};

fn start() -> Daemon {
    Daemon::start(Options { drivers: "fake", mosquitto: false })
}

#[test]
fn a_message_becomes_a_database_and_says_so_without_a_secret() {
    let daemon = start();
    let status = daemon.apply("small", r#"{"template": "postgres"}"#);
    assert_eq!(status["connection"]["database"], "small");
    assert_eq!(status["verdict"]["result"], "accepted");
    assert_eq!(status["instances"].as_array().unwrap().len(), 1);
    let password = "in-the-spec-by-choice";
    let spec =
        format!(r#"{{"database_name": "shop", "database_users": [{{"username": "a", "password": "{password}"}}]}}"#);
    let status = daemon.apply("shop", &spec);
    let conditions = status["conditions"].as_array().unwrap();
    assert!(conditions.iter().any(|condition| condition["type"] == "SecretInSpec"), "{conditions:?}");
    for (topic, payload) in daemon.wire.everything().iter().filter(|(topic, _)| !topic.ends_with("/spec")) {
        assert!(!payload.contains(password), "a password on {topic}");
    }
    assert!(!daemon.log().contains(password), "a password in the log");
}

#[test]
fn a_bad_spec_leaves_a_good_database_as_it_is() {
    let daemon = start();
    let good = daemon.apply("shop", r#"{"database_name": "shop"}"#);
    let codes = daemon.refused("shop", r#"{"database_name": "other", "port": 70000, "port": 1}"#);
    assert!(codes.len() >= 2, "all faults at once: {codes:?}");
    let after = daemon.status("shop").unwrap();
    assert_eq!((&after["state"], &after["observed"]), (&good["state"], &good["observed"]));
    let codes = daemon.refused("never", "{");
    assert_eq!(codes.len(), 1, "{codes:?}");
    assert_eq!(daemon.status("never").unwrap()["state"], "rejected");
}

#[test]
fn changes_are_applied_and_said() {
    let daemon = start();
    daemon.apply("shop", r#"{"database_name": "shop"}"#);
    daemon.apply("shop", r#"{"database_name": "shop", "postgresql_conf": {"work_mem": "9MB"}}"#);
    daemon.apply("shop", r#"{"database_name": "shop", "postgresql_conf": {"max_connections": 60}}"#);
    let status = daemon.apply("shop", r#"{"database_name": "shop", "port": 15999, "extensions": ["vector"]}"#);
    assert_eq!(status["connection"]["port"], 15999);
}

#[test]
fn a_delete_takes_everything_but_the_data_and_protection_refuses() {
    let daemon = start();
    daemon.apply("shop", r#"{"database_name": "shop", "deletion_protection": true}"#);
    let codes = daemon.refused("shop", r#"{"deleted": true}"#);
    assert_eq!(codes.len(), 1, "{codes:?}");
    assert_eq!(daemon.status("shop").unwrap()["state"], "available");
    daemon.apply("shop", r#"{"database_name": "shop"}"#);
    daemon.publish("shop", r#"{"deleted": true}"#);
    daemon.wait_gone("shop");
    daemon.apply("shop", r#"{"database_name": "shop"}"#);
}

#[test]
fn an_empty_payload_that_is_retained_nowhere_deletes() {
    let daemon = start();
    daemon.apply("shop", r#"{"database_name": "shop"}"#);
    daemon.wire.publish("databases/shop/spec", "", true);
    daemon.wait_gone("shop");
}
