//! Delete is forgiving, and history: through the real program, on drivers of an in-memory world.

use pgmoor::model::Digest;
use serde_json::{Value, json};

use crate::daemon::{Daemon, Options, until};
use crate::start;

const DELETE: &str = r#"{"deleted": true}"#;
const SHOP: &str = r#"{"database_name": "shop"}"#;

/// Asks with plain MQTT, as anybody could, and gives the answer.
fn ask(daemon: &Daemon, database: &str, verb: &str, payload: &str) -> Value {
    let topic = format!("databases/{database}/commands/{verb}");
    let result = format!("{topic}/result");
    let answers = || {
        let all = daemon.wire.everything();
        all.into_iter().filter(|(topic, _)| topic.ends_with(&result)).map(|(_, text)| text).collect::<Vec<_>>()
    };
    let before = answers().len();
    daemon.wire.publish(&topic, payload, false);
    until("the request is answered", || answers().len() > before);
    serde_json::from_str(&answers()[before]).unwrap()
}

fn codes(answer: &Value) -> Vec<&str> {
    assert_eq!(answer["result"], "rejected", "{answer:#}");
    answer["faults"].as_array().unwrap().iter().map(|fault| fault["code"].as_str().unwrap()).collect()
}

fn accepted(answer: &Value) {
    assert_eq!(answer["result"], "accepted", "{answer:#}");
}

fn purged(daemon: &Daemon, database: &str) {
    let topic = format!("databases/{database}/events");
    until("the event of the purge is told", || {
        let all = daemon.wire.everything();
        all.iter().any(|(at, text)| at.ends_with(&topic) && text.contains("dev.pgmoor.database.purged"))
    });
}

fn is_held(status: &Value) -> bool {
    let conditions = status["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|condition| condition["type"] == "DeletionHeld" && condition["status"] == "true")
}

#[test]
fn a_deleted_database_is_told_of_and_comes_back() {
    let daemon = start();
    daemon.apply("shop", SHOP);
    assert_eq!(codes(&ask(&daemon, "shop", "undelete", "{}")), ["not-deleted"]);
    daemon.publish("shop", DELETE);
    daemon.wait_gone("shop");
    until("the host tells of its trash", || {
        daemon.wire.last("hosts/host-1/status").is_some_and(|text| text.contains("\"trash\":{\"shop\""))
    });
    let said = daemon.cli(&["explain", "shop"]);
    let text = String::from_utf8(said.stdout).unwrap();
    assert_eq!(said.status.code(), Some(0), "{text}");
    assert!(text.starts_with("database shop is deleted; its data is in the trash of host-1 until 20"), "{text}");
    assert!(text.contains("`pgmoor undelete shop`"), "{text}");
    let answer = ask(&daemon, "shop", "undelete", "{}");
    accepted(&answer);
    assert!(answer["message"].as_str().unwrap().starts_with("its spec is published again as generation"), "{answer:#}");
    let digest = answer["spec"]["digest"].as_str().unwrap().to_owned();
    let status = daemon.wait_status("shop", "it is back", |status| {
        status["state"] == "available" && status["observed"]["digest"] == digest.as_str()
    });
    assert_eq!(status["observed"]["generation"], answer["spec"]["generation"]);
    until("the topic carries the spec again", || {
        let spec = daemon.wire.last("databases/shop/spec").unwrap_or_default();
        Digest::of_bytes(spec.as_bytes()).as_str() == digest
    });
    let history = ask(&daemon, "shop", "history", "{}")["history"].clone();
    let specs: Vec<(&Value, &Value)> =
        history["specs"].as_array().unwrap().iter().map(|spec| (&spec["by"], &spec["deleted"])).collect();
    let (publish, undelete) = (json!("publish"), json!("undelete"));
    assert_eq!(specs, [(&publish, &json!(false)), (&publish, &json!(true)), (&undelete, &json!(false))]);
    assert!(history["plans"].as_array().unwrap().iter().all(|plan| plan["finished_at"].is_string()), "{history:#}");
    assert!(history.get("trash").is_none());
}

#[test]
fn a_purge_frees_the_id_at_once_and_never_takes_the_living() {
    let daemon = start();
    // A command that is published before the daemon listens is lost: the first one comes after a spec was applied.
    daemon.apply("shop", SHOP);
    assert_eq!(codes(&ask(&daemon, "other", "purge", "{}")), ["not-found"]);
    assert_eq!(codes(&ask(&daemon, "shop", "purge", "{}")), ["not-deleted"]);
    assert_eq!(codes(&ask(&daemon, "shop", "purge", r#"{"now": true}"#)), ["unknown-field"]);
    daemon.publish("shop", DELETE);
    daemon.wait_gone("shop");
    let told = ask(&daemon, "shop", "history", "{}");
    assert!(told["history"]["trash"]["keeps_for_s"].as_u64().is_some_and(|left| left > 250_000), "{told:#}");
    accepted(&ask(&daemon, "shop", "purge", "{}"));
    purged(&daemon, "shop");
    assert_eq!(codes(&ask(&daemon, "shop", "history", "{}")), ["not-found"]);
    assert_eq!(codes(&ask(&daemon, "shop", "undelete", "{}")), ["not-found"]);
    // Another database may have the id, with another name than the one before.
    let status = daemon.apply("shop", r#"{"database_name": "another"}"#);
    assert_eq!(status["connection"]["database"], "another");
    assert_eq!(ask(&daemon, "shop", "history", "{}")["history"]["specs"].as_array().unwrap().len(), 1);
}

#[test]
fn the_grace_period_ends_in_a_purge() {
    let options = Options { drivers: "fake", mosquitto: false, guarded: false };
    let daemon = Daemon::start_with(options, &["--deletion-grace-s", "3"]);
    daemon.apply("shop", SHOP);
    daemon.publish("shop", DELETE);
    daemon.wait_gone("shop");
    purged(&daemon, "shop");
}

#[test]
fn too_many_deletes_at_once_wait_for_a_person() {
    let mut daemon = start();
    // The in-memory world is lost with the program.
    daemon.expect_log(&["drift"]);
    let databases = ["one", "two", "three", "four", "five"];
    for database in databases {
        daemon.apply(database, r#"{"template": "postgres"}"#);
    }
    for database in databases {
        daemon.publish(database, DELETE);
    }
    let held = |daemon: &Daemon| {
        let held = databases.into_iter().filter(|id| daemon.status(id).is_some_and(|status| is_held(&status)));
        held.collect::<Vec<_>>()
    };
    until("three are gone", || databases.into_iter().filter(|id| daemon.status(id).is_none()).count() == 3);
    assert_eq!(held(&daemon).len(), 2, "the others are held: {:?}", databases.map(|id| daemon.status(id)));
    let [first, second] = held(&daemon)[..] else { panic!("two are held") };
    for gone in databases.into_iter().filter(|id| *id != first && *id != second) {
        daemon.wait_gone(gone);
    }
    // The hold is on the disk: a daemon that starts again has not forgotten it.
    let mut child = daemon.child.take().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    daemon.start_again();
    for id in [first, second] {
        daemon.wait_status(id, "it is up and its delete held", |status| {
            status["state"] == "available" && is_held(status) && status["epoch"] == 2
        });
    }
    // What is published before it listens again is lost, as commands are; asking for the history changes nothing.
    let result = format!("databases/{first}/commands/history/result");
    until("it hears commands again", || {
        daemon.wire.publish(&format!("databases/{first}/commands/history"), "{}", false);
        daemon.wire.last(&result).is_some()
    });
    accepted(&ask(&daemon, first, "confirm-delete", "{}"));
    daemon.wait_gone(first);
    assert_eq!(codes(&ask(&daemon, first, "confirm-delete", "{}")), ["not-found"]);
    // Publishing the spec again withdraws the other one.
    daemon.publish(second, r#"{"template": "postgres"}"#);
    daemon.wait_status(second, "its delete is withdrawn", |status| status["state"] == "available" && !is_held(status));
    assert_eq!(codes(&ask(&daemon, second, "confirm-delete", "{}")), ["not-found"]);
}

#[test]
fn a_rollback_publishes_an_old_spec_as_a_new_generation() {
    let daemon = start();
    // A password that a spec changes shows as drift.
    daemon.expect_log(&["/password_matches"]);
    let password = "given-by-hand";
    let first = format!(
        r#"{{"generation": 1, "database_users": [{{"username": "a", "password": "{password}"}}],
            "postgresql_conf": {{"work_mem": "8MB"}}}}"#
    );
    daemon.apply("shop", &first);
    let second =
        first.replace("8MB", "9MB").replace("\"generation\": 1", "\"generation\": 2").replace("hand", "hand-2");
    daemon.apply("shop", &second);
    let diff = ask(&daemon, "shop", "diff", r#"{"from": 1, "to": 2}"#);
    let changes = diff["diff"]["changes"].as_array().unwrap();
    let places: Vec<&str> = changes.iter().map(|change| change["pointer"].as_str().unwrap()).collect();
    assert_eq!(places, ["/database_users/0/password", "/generation", "/postgresql_conf/work_mem"]);
    assert!(!diff.to_string().contains(password), "{diff:#}");
    assert_eq!(codes(&ask(&daemon, "shop", "diff", r#"{"from": 7, "to": 2}"#)), ["not-found"]);
    assert_eq!(codes(&ask(&daemon, "shop", "rollback", "{}")), ["required"]);
    assert_eq!(codes(&ask(&daemon, "shop", "rollback", r#"{"to": 9}"#)), ["not-found"]);
    let answer = ask(&daemon, "shop", "rollback", r#"{"to": 1}"#);
    accepted(&answer);
    assert_eq!(answer["spec"]["generation"], 3);
    daemon.wait_status("shop", "it is rolled back", |status| {
        status["state"] == "available" && status["observed"]["generation"] == 3
    });
    until("the topic carries it", || {
        let spec: Value = daemon
            .wire
            .last("databases/shop/spec")
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_default();
        spec["generation"] == 3 && spec["postgresql_conf"]["work_mem"] == "8MB"
    });
    // What was rolled back from comes too late now.
    assert_eq!(daemon.refused("shop", &second), ["stale-generation"]);
}

#[test]
fn an_empty_message_that_nobody_retains_deletes_nothing() {
    let daemon = Daemon::start(Options { drivers: "fake", mosquitto: true, guarded: false });
    let status = daemon.apply("shop", SHOP);
    daemon.wire.publish("databases/shop/spec", "", false);
    // The answer comes after the empty message was taken in, since they come in one after another.
    accepted(&ask(&daemon, "shop", "history", "{}"));
    let after = daemon.status("shop").unwrap();
    assert_eq!((&after["state"], &after["observed"]), (&json!("available"), &status["observed"]));
}
