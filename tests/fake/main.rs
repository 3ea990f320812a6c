//! The whole way without Docker: the real program with its own broker, on drivers of an in-memory world.

#![cfg(test)]

mod approve;
mod brokers;
mod crowd;
#[path = "../support/daemon.rs"]
mod daemon;
mod forgive;
mod pooler;
mod report;
#[path = "../support/wire.rs"]
mod wire;

use daemon::{Daemon, Options};
use serde_json::Value;

fn start() -> Daemon {
    Daemon::start(Options { drivers: "fake", mosquitto: false, guarded: false })
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
    let private = daemon.apply("shop", r#"{"database_name": "shop"}"#)["connection"].clone();
    let uri = private["uri"].as_str().unwrap();
    assert!(uri.starts_with("postgresql://shop-n1-") && uri.ends_with(":5432/shop?sslmode=require"), "{uri}");
    assert_eq!((&private["port"], &private["network"]), (&Value::Null, &Value::from("shop-database")));
    daemon.apply("shop", r#"{"database_name": "shop", "postgresql_conf": {"work_mem": "9MB"}}"#);
    daemon.apply("shop", r#"{"database_name": "shop", "postgresql_conf": {"max_connections": 60}}"#);
    let status = daemon.apply("shop", r#"{"database_name": "shop", "port": 15999.0, "extensions": ["vector"]}"#);
    assert_eq!(status["connection"]["port"], 15999, "a whole number, however it is written");
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

/// Memory is promised once: to the first of two specs that each ask for more than half of the host's 4 GiB.
#[test]
fn two_specs_of_one_moment_are_not_promised_the_same_memory() {
    let daemon = start();
    let names = ["one", "two"];
    let digests = names.map(|name| daemon.publish(name, r#"{"memory": "2500MiB"}"#));
    let verdicts = [0, 1].map(|at| {
        let judged = daemon.wait_status(names[at], "it is judged", |status| {
            status["verdict"]["digest"] == digests[at]
                && matches!(status["verdict"]["result"].as_str(), Some("accepted" | "rejected"))
        });
        let code = judged["verdict"]["faults"][0]["code"].as_str().map(str::to_owned);
        (judged["verdict"]["result"].as_str().map(str::to_owned), code)
    });
    let refused: Vec<_> = verdicts.iter().filter(|(result, _)| result.as_deref() == Some("rejected")).collect();
    assert_eq!(refused.len(), 1, "{verdicts:?}");
    assert_eq!(refused[0].1.as_deref(), Some("memory-overcommitted"));
    // The one that waits gets it when the other goes.
    let (goes, comes) = if verdicts[0].0.as_deref() == Some("accepted") { ("one", "two") } else { ("two", "one") };
    daemon.publish(goes, r#"{"deleted": true}"#);
    daemon.wait_status(comes, "there is memory", |status| status["state"] == "available");
}

#[test]
fn what_the_embedded_broker_forgot_is_said_again() {
    let mut daemon = start();
    // The in-memory world is lost with the program.
    daemon.expect_log(&["drift"]);
    let spec = r#"{"database_name": "shop"}"#;
    daemon.apply("shop", spec);
    let mut child = daemon.child.take().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    daemon.start_again();
    let newcomer = daemon.wire_as("newcomer");
    assert_eq!(newcomer.retained("databases/shop/spec"), spec);
    assert!(newcomer.retained("databases/shop/status").contains("shop"));
}

#[test]
fn a_warning_that_nobody_expects_fails_its_test() {
    let fails = |expected: bool| {
        let daemon = start();
        let log = daemon.directory.path().join("log");
        std::fs::write(log, "{\"level\":\"WARN\",\"message\":\"the hull leaks\"}\n").unwrap();
        if expected {
            daemon.expect_log(&["the hull leaks"]);
        }
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(daemon))).is_err()
    };
    assert!(fails(false));
    assert!(!fails(true));
}

#[test]
fn a_database_is_explained_also_when_the_daemon_is_gone() {
    let mut daemon = Daemon::start(Options { drivers: "fake", mosquitto: true, guarded: false });
    daemon.apply("shop", r#"{"database_name": "shop"}"#);
    let explain = |daemon: &Daemon| {
        let said = daemon.cli(&["explain", "shop"]);
        (said.status.code(), String::from_utf8(said.stdout).unwrap())
    };
    let (code, text) = explain(&daemon);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.starts_with("database shop is available"), "{text}");
    let mut child = daemon.child.take().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    daemon::until("the will says that it is lost", || {
        daemon.wire.last("controllers/host-1/availability").is_some_and(|text| text.contains("\"lost\""))
    });
    let (code, text) = explain(&daemon);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("controller host-1 is lost") && text.contains("untouched"), "{text}");
}
